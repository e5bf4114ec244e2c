//! The epoll driver on real sockets and files: what its own mechanisms (edges, quotas, pauses,
//! hunger, offloading) could get wrong.

mod files;
mod limits;
mod sockets;
mod storm;

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::buffer::{Chain, SizeClass};
use crate::driver::{Root, Token};

/// Longer than anything here takes, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// A driver, its queue, and everything that came out of it.
struct Rig {
    driver: Epoll,
    ops: Ops,
    done: Vec<Completion>,
}

/// What became of a receive: all bytes, and the final outcome if there was one.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    end: Option<Outcome>,
}

impl Rig {
    fn new() -> Self {
        Self::with_pool(PoolConfig::default())
    }

    fn with_pool(pool: PoolConfig) -> Self {
        let driver = Epoll::new(EpollConfig { pool }).unwrap();
        Self { driver, ops: Ops::new(), done: Vec::new() }
    }

    fn submit(&mut self, op: Op) -> OpId {
        self.ops.submit(Token { machine: Key::from_parts(0, 0), kind: 0, slot: 0 }, op)
    }

    /// One turn, with its outcomes booked as the worker does.
    fn turn(&mut self, wait: Duration) -> Turn {
        let start = self.done.len();
        let turn = self.driver.turn(&mut self.ops, Some(wait), &mut self.done).unwrap();
        for completion in &self.done[start..] {
            let settled = self.ops.settle(completion.id, completion.outcome.is_final());
            assert!(settled.is_some(), "{completion:?} after its operation's end");
        }
        turn
    }

    /// Turns until `is_enough`.
    #[track_caller]
    fn until(&mut self, mut is_enough: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !is_enough(self) {
            assert!(start.elapsed() < PATIENCE, "still waiting; so far: {:?}", self.done);
            self.turn(Duration::from_millis(20));
        }
    }

    /// Turns until the operation has ended; its final outcome.
    #[track_caller]
    fn end_of(&mut self, id: OpId) -> Outcome {
        self.until(|rig| rig.ops.owner(id).is_none());
        let last = self.done.iter().rposition(|completion| completion.id == id && completion.outcome.is_final());
        self.done.remove(last.unwrap()).outcome
    }

    #[track_caller]
    fn run(&mut self, op: Op) -> Outcome {
        let id = self.submit(op);
        self.end_of(id)
    }

    /// What an accept delivered so far.
    fn accepted(&self, id: OpId) -> Vec<Socket> {
        let of_accept = self.done.iter().filter(|completion| completion.id == id);
        let sockets = of_accept.filter_map(|completion| match completion.outcome {
            Outcome::Accepted { socket, .. } => Some(socket),
            _ => None,
        });
        sockets.collect()
    }

    /// Takes what a receive delivered since it was last asked.
    fn take_received(&mut self, id: OpId) -> Received {
        let mut received = Received::default();
        let mut others = Vec::new();
        for completion in self.done.drain(..) {
            match completion {
                Completion { id: of, outcome: Outcome::Received(buffer) } if of == id => {
                    assert!(!buffer.is_empty() && received.end.is_none());
                    received.bytes.extend_from_slice(&buffer);
                }
                Completion { id: of, outcome } if of == id => received.end = Some(outcome),
                other => others.push(other),
            }
        }
        self.done = others;
        received
    }

    /// Receives until so many bytes are there, dropping each buffer at once.
    #[track_caller]
    fn receive(&mut self, id: OpId, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until(|rig| {
            bytes.extend(rig.take_received(id).bytes);
            bytes.len() >= count
        });
        bytes
    }

    /// A connection whose one end the driver has.
    fn connection(&mut self) -> (Socket, TcpStream) {
        let (near, far) = tcp_pair();
        (self.driver.adopt(near.into()), far)
    }

    fn listener(&mut self) -> (Socket, SocketAddr) {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1024).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        (self.driver.adopt(listener.into()), address)
    }

    #[track_caller]
    fn close(&mut self, socket: Socket) {
        assert!(matches!(self.run(Op::Close { socket }), Outcome::Done));
    }

    #[track_caller]
    fn cancel(&mut self, id: OpId) -> Outcome {
        self.ops.cancel(id);
        self.end_of(id)
    }

    /// Nothing in flight, nothing open, no buffer away.
    #[track_caller]
    fn assert_at_rest(&mut self) {
        self.done.clear();
        self.turn(Duration::ZERO);
        assert_eq!(self.ops.in_flight(), 0);
        assert_eq!(self.driver.open_descriptors(), 0);
        assert!(self.driver.outbox.is_empty() && self.done.is_empty());
        for class in [SizeClass::Small, SizeClass::Large] {
            let usage = self.driver.pool.usage(class);
            assert_eq!((usage.with_driver, usage.leased, usage.free), (0, 0, usage.made), "{class:?}");
        }
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    far.set_write_timeout(Some(PATIENCE)).unwrap();
    (near, far)
}

/// Bytes that a lost, doubled or moved piece would change.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A thread that reads everything until the end.
fn reader(mut stream: TcpStream) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}
