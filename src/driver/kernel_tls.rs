//! TLS by the kernel (kTLS, Linux 4.13), for what a connection sends.
//!
//! Once the kernel has the keys, everything that is sent on the socket becomes records: the bytes of
//! `Send`, and files without a copy through user memory. Receiving is not changed.
//!
//! The kernel's TLS layer stands before TCP. What it has taken and TCP has no room for waits in it, and
//! is lost if the sending half is shut down or the socket is closed. TCP has all of it once the socket
//! is writable: at least a third of its send buffer is free then, and what waits is at most one record
//! and the piece that follows it (`tls_sw_sendmsg` begins nothing while the buffer is full).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Socket, Type};
use zeroize::Zeroize;

use super::sys;

/// What the kernel needs to continue the records of a connection in TLS 1.3 with AES-GCM.
pub struct SendKeys {
    key: [u8; KEY_BYTES_MAX],
    key_bytes: usize,
    nonce: [u8; NONCE_BYTES],
    sequence: u64,
}

/// The length of a key of AES-256, in bytes.
const KEY_BYTES_MAX: usize = 32;

/// The length of a nonce of AES-GCM, in bytes (RFC 5116, 5.1).
pub const NONCE_BYTES: usize = 12;

/// The bytes of the nonce that the kernel calls the salt.
const SALT_BYTES: usize = 4;

/// An alert: its level and its description (RFC 8446, 6).
pub type Alert = [u8; 2];

impl SendKeys {
    /// The write key, its static nonce, and the sequence number of the next record (RFC 8446, 5.3). `None`: the key is
    /// neither of AES-128 nor of AES-256.
    pub fn aes_gcm(key: &[u8], nonce: [u8; NONCE_BYTES], sequence: u64) -> Option<Self> {
        if !matches!(key.len(), 16 | KEY_BYTES_MAX) {
            return None;
        }
        let mut keys = Self { key: [0; KEY_BYTES_MAX], key_bytes: key.len(), nonce, sequence };
        keys.key[..key.len()].copy_from_slice(key);
        Some(keys)
    }

    /// The number of records that were made with the key.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Key, nonce and sequence number, for the kernels of tests.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&[u8], [u8; NONCE_BYTES], u64) {
        (&self.key[..self.key_bytes], self.nonce, self.sequence)
    }

    /// The argument of `TLS_TX`: `struct tls12_crypto_info_aes_gcm_128` or `…_256` of linux/tls.h. Returns its length.
    fn write(&self, out: &mut [u8; CRYPTO_INFO_BYTES_MAX]) -> usize {
        let cipher = if self.key_bytes == KEY_BYTES_MAX { AES_GCM_256 } else { AES_GCM_128 };
        let (salt, rest) = self.nonce.split_at(SALT_BYTES);
        let key = &self.key[..self.key_bytes];
        let (version, cipher, sequence) = (TLS_1_3.to_ne_bytes(), cipher.to_ne_bytes(), self.sequence.to_be_bytes());
        let parts = [&version[..], &cipher, rest, key, salt, &sequence];
        let mut length = 0;
        for part in parts {
            out[length..][..part.len()].copy_from_slice(part);
            length += part.len();
        }
        length
    }
}

impl Drop for SendKeys {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Without the key.
impl std::fmt::Debug for SendKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendKeys").field("key_bytes", &self.key_bytes).field("sequence", &self.sequence).finish()
    }
}

/// `TLS_1_3_VERSION`, `TLS_CIPHER_AES_GCM_128` and `TLS_CIPHER_AES_GCM_256` of linux/tls.h.
const TLS_1_3: u16 = 0x0304;
const AES_GCM_128: u16 = 51;
const AES_GCM_256: u16 = 52;

/// The length of `struct tls12_crypto_info_aes_gcm_256`, in bytes.
const CRYPTO_INFO_BYTES_MAX: usize = 56;

/// `TLS_SET_RECORD_TYPE` of linux/tls.h, and the type of an alert (RFC 8446, 5.1).
const SET_RECORD_TYPE: libc::c_int = 1;
const ALERT: u8 = 21;

/// What is known of the kernel: [`UNKNOWN`], [`PRESENT`] or [`ABSENT`].
static SUPPORT: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const PRESENT: u8 = 1;
const ABSENT: u8 = 2;

/// Whether the kernel offers TLS, by asking it once a process. If a connection finds out later that it
/// lacks the cipher, it is not asked again either.
pub fn is_supported() -> bool {
    if SUPPORT.load(Ordering::Relaxed) == UNKNOWN {
        let known = match ask() {
            Ok(()) => PRESENT,
            Err(error) => note_absence(&error),
        };
        SUPPORT.store(known, Ordering::Relaxed);
    }
    SUPPORT.load(Ordering::Relaxed) == PRESENT
}

/// A socket that is not connected is refused for that (`ENOTCONN`) only after the layer was found.
fn ask() -> io::Result<()> {
    let socket: OwnedFd = Socket::new(Domain::IPV4, Type::STREAM, None)?.into();
    match set_layer(std::os::fd::AsFd::as_fd(&socket)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
        result => result,
    }
}

fn note_absence(error: &io::Error) -> u8 {
    tracing::debug!(%error, "this kernel has no TLS, or not with this cipher: the program encrypts");
    ABSENT
}

fn set_layer(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls")
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: pointer and length are those of a live slice.
    sys::check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) })?;
    Ok(())
}

/// Hands the sending direction of a connection to the kernel. After an error the socket sends as before.
pub(super) fn begin(socket: BorrowedFd<'_>, keys: &SendKeys) -> io::Result<()> {
    let mut info = [0; CRYPTO_INFO_BYTES_MAX];
    let length = keys.write(&mut info);
    let result = set_layer(socket).and_then(|()| set_option(socket, libc::SOL_TLS, libc::TLS_TX, &info[..length]));
    info.zeroize();
    if let Err(error) = &result
        && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT))
    {
        SUPPORT.store(note_absence(error), Ordering::Relaxed);
    }
    result
}

/// Tries to settle: `WouldBlock` until TCP has everything that was sent and the alert.
pub(super) fn settle(socket: BorrowedFd<'_>, alert: Option<Alert>) -> io::Result<()> {
    if !is_writable(socket)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    match alert {
        Some(alert) => send_alert(socket, alert),
        None => Ok(()),
    }
}

/// Whether there is room, or an error that the next call reports. If there is none, the kernel announces it.
fn is_writable(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = [PollFd::new(&socket, PollFlags::OUT)];
    let without_waiting = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::event::poll(&mut poll, Some(&without_waiting))? > 0)
}

/// `sendmsg(2)` with the type of the record as control data.
fn send_alert(socket: BorrowedFd<'_>, mut alert: Alert) -> io::Result<()> {
    // Room for a header and one byte, aligned as a header has to be.
    let mut control = [0_u64; 4];
    let mut pieces = [libc::iovec { iov_base: alert.as_mut_ptr().cast(), iov_len: alert.len() }];
    let mut message = sys::message_of(&mut pieces);
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: a computation.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as _;
    // SAFETY: the control data are large enough for a header and one byte, aligned and initialised; the header that the
    // macro returns is in them, because their length was set.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as _;
        libc::CMSG_DATA(header).write(ALERT);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message points to the pieces and the control data, which outlive the call.
    let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gets_salt_and_nonce_apart_and_the_sequence_in_network_order() {
        let nonce = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let mut info = [0; CRYPTO_INFO_BYTES_MAX];
        let length = SendKeys::aes_gcm(&[7; 16], nonce, 0x0102).unwrap().write(&mut info);
        let mut expected = vec![4, 3, 51, 0, 5, 6, 7, 8, 9, 10, 11, 12];
        expected.extend([7; 16]);
        expected.extend([1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 1, 2]);
        if cfg!(target_endian = "little") {
            assert_eq!(info[..length], expected);
        }
        let long = SendKeys::aes_gcm(&[7; 32], nonce, 0).unwrap();
        assert_eq!(long.write(&mut info), CRYPTO_INFO_BYTES_MAX);
        assert!(!format!("{long:?}").contains('['), "{long:?}");
        assert!(SendKeys::aes_gcm(&[7; 24], nonce, 0).is_none());
    }
}
