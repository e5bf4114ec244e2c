//! Certificates from an authority by ACME (RFC 8555): obtained, stored and renewed by a thread of its
//! own, while the workers serve.
//!
//! ```text
//!   Acme::manage ──► thread ──► order: the protocol ──► http: one request after the other
//!                      │  ▲          │
//!                      │  └ schedule └──► challenges, in tls::Issued and tls::ChallengeTokens
//!                      ▼
//!                    storage ──► tls::Issued: the certificate of the next handshake
//! ```
//!
//! * `schedule.rs` says when a certificate is obtained or renewed, and when after a failure. Pure.
//! * `storage.rs` keeps the account's key and the certificates in files. A lock lets one process at a
//!   time deal with a directory; the others find what it has stored.
//! * `jws.rs` signs requests, `protocol.rs` sends them and understands the answers, `order.rs` gets one
//!   certificate.
//! * `http.rs` is the transport: blocking sockets, rustls, and the state machine of `src/client/`. Only
//!   this thread waits for it.
//!
//! Nothing here is on the path of a request. A worker sees a certificate as an [`Issued`], and a
//! challenge as one of the [`ChallengeTokens`].

#![forbid(unsafe_code)]

mod http;
mod jws;
mod order;
mod protocol;
mod schedule;
mod stop;
mod storage;
mod thread;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use self::stop::StopFlag;
use self::thread::{Message, Obtainer};
use crate::telemetry::metrics::Metrics;
use crate::tls::{ChallengeTokens, Issued};

/// How long a stop waits for the thread. It is longer only while a name is looked up or a connection is
/// being opened, which cannot be interrupted; the thread then ends by itself soon after, having done
/// nothing more.
const STOP_WAIT: Duration = Duration::from_millis(300);

/// The certificates of a server that are obtained by ACME, and the thread that does it. There is no
/// thread as long as there are none.
#[derive(Debug)]
pub struct Acme {
    tokens: Arc<ChallengeTokens>,
    metrics: Arc<Metrics>,
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    messages: mpsc::Sender<Message>,
    stop: Arc<StopFlag>,
    /// Disconnected when the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Acme {
    /// Obtains nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { tokens: Arc::default(), metrics, thread: None }
    }

    /// The pending validations over HTTP.
    pub const fn tokens(&self) -> &Arc<ChallengeTokens> {
        &self.tokens
    }

    /// Obtains and renews these certificates from now on, and no others. What failed before is tried
    /// again at once. `answers_http`: requests over plain HTTP reach this server.
    pub fn manage(&mut self, issued: Vec<Arc<Issued>>, answers_http: bool) {
        if issued.is_empty() && self.thread.is_none() {
            return;
        }
        let thread = match &self.thread {
            Some(thread) => thread,
            None => match Thread::start(Arc::clone(&self.tokens), Arc::clone(&self.metrics)) {
                Ok(thread) => self.thread.insert(thread),
                Err(error) => {
                    return tracing::error!(%error, "cannot start the thread that obtains certificates");
                }
            },
        };
        // The thread ends only after a stop.
        let _ = thread.messages.send(Message::Manage { issued, answers_http });
    }

    /// Ends the thread, without waiting for the network.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        thread.stop.stop();
        drop(thread.messages);
        if thread.ended.recv_timeout(STOP_WAIT) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!(
                "the thread that obtains certificates is looking up a name or connecting; it ends after that"
            );
        }
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Thread {
    fn start(tokens: Arc<ChallengeTokens>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (messages, inbox) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let stop = Arc::new(StopFlag::default());
        let obtainer = Obtainer::new(inbox, Arc::clone(&stop), tokens, metrics);
        std::thread::Builder::new().name("xps-acme".to_owned()).spawn(move || {
            let _alive: mpsc::Sender<()> = alive;
            obtainer.run();
        })?;
        Ok(Self { messages, stop, ended })
    }
}
