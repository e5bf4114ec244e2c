//! The promises of the contract, held against each driver that stands on a kernel, on real sockets and files.
//!
//! Every case is a function of the [`Kind`] of driver; the list at the end makes a test of it for epoll, for io_uring,
//! and for io_uring without each optional feature in turn.

mod epoll_only;
mod files;
mod limits;
mod sockets;
mod storm;

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::buffer::{Chain, PoolConfig, SizeClass};
use crate::table::Key;

/// Longer than anything here takes, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which driver, and how.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Epoll,
    /// Without these optional features.
    Uring(FeatureSet),
}

impl Kind {
    /// Whether such a driver is to be had here. A gate that must not skip io_uring sets `XPS_REQUIRE_IO_URING=1`.
    fn is_available(self) -> bool {
        match (self, probe::availability()) {
            (Self::Uring(_), Err(unavailable)) => {
                assert!(std::env::var_os("XPS_REQUIRE_IO_URING").is_none(), "{unavailable}");
                eprintln!("SKIPPED: {unavailable}");
                false
            }
            (Self::Epoll | Self::Uring(_), _) => true,
        }
    }
}

/// A driver, its queue, and everything that came out of it.
pub(super) struct Rig {
    pub(super) driver: Box<dyn KernelDriver>,
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
    fn new(kind: Kind) -> Self {
        Self::with_pool(kind, PoolConfig::default())
    }

    fn with_pool(kind: Kind, pool: PoolConfig) -> Self {
        let driver: Box<dyn KernelDriver> = match kind {
            Kind::Epoll => Box::new(Epoll::new(EpollConfig { pool }).unwrap()),
            Kind::Uring(off) => Box::new(Uring::new(UringConfig { off, ..UringConfig::new(pool) }).unwrap()),
        };
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

    /// Turns until the operation makes no progress any more, since its peer reads nothing.
    fn until_no_progress(&mut self, id: OpId) {
        let of = |rig: &Self| rig.done.iter().filter(|completion| completion.id == id).count();
        self.until(|rig| {
            let before = of(rig);
            rig.turn(Duration::from_millis(100));
            before > 0 && of(rig) == before
        });
        self.done.retain(|completion| completion.id != id);
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
        assert!(self.done.is_empty());
        for class in [SizeClass::Small, SizeClass::Large] {
            let usage = self.driver.pool().usage(class);
            // The kernel may hold some to receive into.
            assert_eq!((usage.leased, usage.free + usage.with_driver), (0, usage.made), "{class:?}");
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

macro_rules! contract {
    ($($module:ident: $($case:ident),+;)+) => {
        mod epoll {
            use super::*;
            $($(#[test]
            fn $case() {
                $module::$case(Kind::Epoll);
            })+)+
        }

        mod uring {
            use super::*;
            $($(#[test]
            fn $case() {
                let kind = Kind::Uring(FeatureSet::NONE);
                if kind.is_available() {
                    $module::$case(kind);
                }
            })+)+
        }

        mod uring_without_each_feature {
            use super::*;
            $($(#[test]
            fn $case() {
                for off in Feature::ALL.map(|feature| FeatureSet::NONE.with(feature)).into_iter().chain([FeatureSet::ALL]) {
                    let kind = Kind::Uring(off);
                    if kind.is_available() {
                        eprintln!("without {:?}", off.iter().map(Feature::name).collect::<Vec<_>>());
                        $module::$case(kind);
                    }
                }
            })+)+
        }
    };
}

contract! {
    files: files_beneath_the_root_open_and_others_do_not, an_open_that_was_cancelled_leaves_no_file, a_range_of_a_file_arrives_byte_for_byte_hot_or_cold, a_stalled_peer_holds_its_file_up_and_nobody_else, a_file_that_is_shorter_than_promised_is_a_fault, a_transfer_can_be_cancelled_while_it_stalls_and_while_it_warms;
    limits: a_waker_ends_an_endless_wait_once, offloaded_work_does_not_look_like_a_message, a_resolve_that_was_cancelled_answers_nobody, receivers_without_a_buffer_wait_and_get_theirs_in_turn, a_socket_that_is_always_ready_does_not_hold_up_another, without_descriptors_accepting_pauses_and_recovers,
        an_idle_turn_lasts_as_long_as_asked_and_enters_the_kernel_once,
        one_turn_hands_out_no_more_than_the_limit;
    sockets: bytes_come_back_from_an_echo, more_connections_than_one_quota_are_all_accepted, the_end_of_input_comes_after_every_byte_and_sending_goes_on, an_end_that_arrives_with_the_last_bytes_is_not_missed, urgent_data_does_not_hide_what_follows_it, a_big_send_reaches_a_slow_reader_byte_for_byte, a_chain_of_many_chunks_arrives_in_order, cancelled_operations_end_once_and_leave_nothing, what_arrives_after_a_cancel_waits_for_the_next_receive, a_reset_fails_both_directions_and_ours_reaches_the_peer, connects_succeed_fail_and_can_be_cancelled, a_connect_that_hangs_can_be_cancelled, a_socket_pair_serves_as_well,
        an_event_of_a_closed_socket_never_reaches_the_next_owner_of_its_place;
    storm: every_byte_comes_back_whatever_is_cancelled_and_however_few_buffers_there_are;
}
