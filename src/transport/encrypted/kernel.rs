//! The sending direction of a connection, handed to the kernel (kTLS).
//!
//! ```text
//!           a file > 64 KiB          what TLS itself had to send is sent       Done
//!   Rustls ────────────────► Wanted ─────────────────────────────────► Asked ──────► Encrypts
//!      ▲                                                                 │ Failed
//!      └─────────────────────────────────────────────────────────────────┘ never asked again
//! ```
//!
//! From then on plaintext goes to the socket as it was given: bytes by `Send`, a file by `SendFile`. An
//! alert goes with an operation of its own, as the type of its record has to be named. After each send
//! TCP must have all of it before anything counts as sent: what is still in the kernel's TLS layer when
//! the connection ends is lost.

use super::{Encrypted, Life};
use crate::driver::{Ops, Outcome};
use crate::tcp::CloseKind;

/// Files up to this length are encrypted here, in bytes: setting the kernel up costs more than copying
/// them.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The most records that are made with one key (RFC 8446, 5.5), as for rustls.
const RECORDS_MAX: u64 = 1 << 24;

/// After this many records the connection ends when its response is complete.
const RECORDS_ENOUGH: u64 = RECORDS_MAX / 2;

/// How far handing over is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Kernel {
    /// It was not asked.
    #[default]
    Unasked,
    /// It refused, or lacks the cipher.
    Refused,
    /// It is asked as soon as nothing is being sent.
    Wanted,
    Asked {
        /// Made with the key so far.
        records: u64,
    },
    Encrypts {
        progress: Progress,
        /// About how many records were made with the key. Never fewer than that.
        records: u64,
        /// The end of the connection was asked for.
        is_ending: bool,
    },
}

/// Where the latest bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// TCP has everything.
    Settled,
    /// They are being sent, or the kernel's TLS layer has taken them.
    Sent,
    /// TCP takes what is left.
    Settling,
}

impl Kernel {
    pub(super) const fn encrypts(self) -> bool {
        matches!(self, Self::Encrypts { .. })
    }

    /// Whether bytes may be left in the kernel's TLS layer.
    pub(super) const fn is_unsettled(self) -> bool {
        matches!(self, Self::Encrypts { progress: Progress::Sent | Progress::Settling, .. })
    }

    const fn set(&mut self, to: Progress) {
        if let Self::Encrypts { progress, .. } = self {
            *progress = to;
        }
    }
}

/// About how many records this many bytes become, rather more than fewer: the kernel makes records of
/// 16 KiB, and one that is shorter where a call ends.
const fn records_of(bytes: u64) -> u64 {
    bytes / 4096 + 2
}

impl Encrypted {
    /// Notes what an outcome of the writer's means for the kernel's part. What the writer gets is
    /// returned.
    pub(super) fn note_kernel(&mut self, outcome: Outcome) -> Outcome {
        match (self.kernel, outcome) {
            (Kernel::Asked { records }, Outcome::Done) => {
                tracing::debug!("the kernel encrypts what is sent");
                self.kernel = Kernel::Encrypts { progress: Progress::Settled, records, is_ending: false };
                Outcome::Done
            }
            (Kernel::Asked { .. }, Outcome::Failed(fault)) => {
                tracing::debug!(%fault, "the kernel does not encrypt");
                self.kernel = Kernel::Refused;
                self.stream.take_back();
                // The connection itself is intact.
                Outcome::Done
            }
            (Kernel::Encrypts { progress: Progress::Settling, .. }, outcome @ Outcome::Done) => {
                self.kernel.set(Progress::Settled);
                outcome
            }
            (_, outcome) => outcome,
        }
    }

    /// A file of this length is about to be sent.
    pub(super) fn consider_kernel(&mut self, length: u64) {
        let is_worth_it = length > FILE_BYTES_MAX && records_of(length) < RECORDS_ENOUGH;
        if matches!(self.kernel, Kernel::Unasked) && is_worth_it && self.read_token.is_some() {
            // The kernel of the tests is their own.
            let is_there = cfg!(test) || crate::driver::has_kernel_tls();
            let is_possible = is_there && self.stream.can_be_handed_over();
            self.kernel = if is_possible { Kernel::Wanted } else { Kernel::Refused };
        }
    }

    /// `true`: the kernel encrypts, or is being asked to. What there is to do was done.
    pub(super) fn drive_kernel(&mut self, ops: &mut Ops) -> bool {
        match self.kernel {
            Kernel::Unasked | Kernel::Refused => return false,
            Kernel::Asked { .. } => return true,
            Kernel::Wanted | Kernel::Encrypts { .. } if !self.is_ready_for_kernel() => return true,
            Kernel::Wanted => {
                // It has to be encrypted with the sequence numbers before.
                let output = self.stream.take_output();
                if !output.is_empty() {
                    self.begin_batch(0, output.len() as u64);
                    self.connection.writer.send(output, ops);
                    return true;
                }
                let Some(keys) = self.stream.hand_over() else {
                    self.kernel = Kernel::Refused;
                    return false;
                };
                self.kernel = Kernel::Asked { records: keys.sequence() };
                self.connection.writer.begin_kernel_tls(Box::new(keys), ops);
            }
            Kernel::Encrypts { progress: Progress::Sent, .. } => {
                self.kernel.set(Progress::Settling);
                self.connection.writer.settle_kernel_tls(None, ops);
            }
            Kernel::Encrypts { .. } => self.send_by_kernel(ops),
        }
        true
    }

    /// Whether nothing is being sent. After a file that was too short only the end may follow.
    fn is_ready_for_kernel(&self) -> bool {
        let writer = &self.connection.writer;
        writer.is_idle() || self.wants_shutdown && writer.lacks_file()
    }

    /// Sends the next of what was given.
    fn send_by_kernel(&mut self, ops: &mut Ops) {
        if let Some(alert) = self.stream.take_alert() {
            self.begin_batch(0, 0);
            return self.connection.writer.settle_kernel_tls(Some(alert), ops);
        }
        if self.stream.fault().is_some() {
            return;
        }
        let bytes = self.pending.len() as u64 + self.file.as_ref().map_or(0, |source| source.left);
        if bytes > 0 {
            if let Kernel::Encrypts { records, .. } = &mut self.kernel {
                *records += records_of(bytes);
                if *records > RECORDS_MAX {
                    return self.stream.exhaust();
                }
            }
            self.begin_batch(bytes, bytes);
            self.kernel.set(Progress::Sent);
            let head = self.pending.take();
            match self.file.take() {
                Some(source) => {
                    self.connection.writer.send_file(head, source.file, source.offset, source.left, ops);
                }
                None => self.connection.writer.send(head, ops),
            }
        } else if self.wants_shutdown {
            self.connection.writer.finish(ops);
        }
    }

    /// The `close_notify` of a connection that the kernel encrypts for. What was sent before is with TCP.
    pub(super) fn send_close_notify_by_kernel(&mut self, ops: &mut Ops) -> Option<Life> {
        if !self.kernel.encrypts() {
            return None;
        }
        let Some(alert) = self.stream.take_alert().filter(|_| self.connection.writer.is_idle()) else {
            return Some(Life::Over(CloseKind::Fin));
        };
        self.connection.send_alert_at_once(alert, ops);
        Some(Life::Notifying)
    }

    /// Whether the connection has to end once its response is complete, as the keys with which the kernel
    /// encrypts cannot be changed. `true` once.
    pub(in crate::transport) fn take_ending(&mut self) -> bool {
        let Kernel::Encrypts { records, is_ending: is_ending @ false, .. } = &mut self.kernel else { return false };
        *is_ending = *records > RECORDS_ENOUGH || self.stream.is_outdated();
        *is_ending
    }
}
