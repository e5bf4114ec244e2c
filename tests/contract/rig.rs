//! The fixture of a case: a driver, its queue, and checks of every outcome against the contract.

use std::any::Any;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use xps::internals::buffer::{Chain, Chunk, Pool, PoolUsage, SizeClass};
use xps::internals::driver::{
    Address, Completion, Counters, KernelDriver, Op, OpId, Ops, Outcome, Socket, TURN_COMPLETIONS_MAX, Time, Token,
    Turn, Waker,
};
use xps::internals::table::RawKey;

use crate::support::patience;
use crate::world::{End, Folder, Heard, World, tcp_pair};

/// One wait of the many that an event may take.
const STEP: Duration = Duration::from_millis(50);

/// A driver and its queue, for one case.
pub struct Rig<D> {
    driver: D,
    ops: Ops,
    /// The outcomes that were not taken yet, oldest first.
    done: Vec<Completion>,
    /// The kind of each operation in flight.
    names: HashMap<OpId, &'static str>,
}

/// What a `Recv` delivered.
#[derive(Debug, Default)]
pub struct Delivery {
    pub bytes: Vec<u8>,
    /// The final outcome, if it was among them.
    pub end: Option<Outcome>,
}

/// What only a kernel driver has.
impl<D: KernelDriver> Rig<D> {
    pub fn waker(&self) -> Waker {
        self.driver.waker()
    }

    /// Passes a socket to the driver.
    pub fn adopt(&mut self, socket: impl Into<OwnedFd>) -> Socket {
        self.driver.adopt(socket.into())
    }

    /// A connection: one end for the driver, one for the case, as a socket.
    pub fn tcp_connection(&mut self) -> (Socket, TcpStream) {
        let (near, far) = tcp_pair();
        (self.adopt(near), far)
    }
}

impl<D: World> Rig<D> {
    pub fn new(driver: D) -> Self {
        Self { driver, ops: Ops::new(), done: Vec::new(), names: HashMap::new() }
    }

    pub fn counters(&self) -> Counters {
        self.driver.counters()
    }

    pub fn usage(&self, class: SizeClass) -> PoolUsage {
        self.driver.pool().usage(class)
    }

    pub fn pool(&self) -> Pool {
        self.driver.pool().clone()
    }

    /// The time of the driver's clock.
    pub fn now(&self) -> Time {
        self.driver.now()
    }

    pub fn open_descriptors(&self) -> usize {
        self.driver.open_descriptors()
    }

    /// Queues an operation.
    pub fn submit(&mut self, op: Op) -> OpId {
        let name = op.name();
        let id = self.ops.submit(Token { machine: RawKey::from_parts(0, 0), kind: 0, slot: 0 }, op);
        assert!(self.names.insert(id, name).is_none(), "{id} is given out twice");
        id
    }

    /// Queues a cancel.
    pub fn ask_to_cancel(&mut self, id: OpId) {
        self.ops.cancel(id);
    }

    /// Queues a pause.
    pub fn pause(&mut self, id: OpId) {
        self.ops.pause(id);
    }

    /// Queues the end of a pause.
    pub fn resume(&mut self, id: OpId) {
        self.ops.resume(id);
    }

    /// Turns for this duration, with any outcomes.
    #[track_caller]
    pub fn watch(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while self.now() < end {
            self.turn(Some(end.since(self.now())));
        }
    }

    pub fn is_over(&self, id: OpId) -> bool {
        self.ops.owner(id).is_none()
    }

    /// One turn. Checks every outcome.
    #[track_caller]
    pub fn turn(&mut self, wait: Option<Duration>) -> Turn {
        let before = self.done.len();
        let turn = self.driver.turn(&mut self.ops, wait, &mut self.done).expect("the driver works");
        let news = &self.done[before..];
        assert!(news.len() <= TURN_COMPLETIONS_MAX, "{} completions in one turn", news.len());
        assert!(!self.ops.has_requests(), "requests are left in the queue");
        for Completion { id, outcome } in news {
            let name = *self.names.get(id).unwrap_or_else(|| panic!("{id} has ended, and now this: {outcome:?}"));
            assert!(is_legal(name, outcome), "{name} has no outcome {outcome:?}");
            assert!(self.ops.settle(*id, outcome.is_final()).is_some(), "{name} {id} ended before {outcome:?}");
            if outcome.is_final() {
                self.names.remove(id);
            }
        }
        turn
    }

    /// Turns until `is_enough`.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_enough: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now() + patience();
        while !is_enough(self) {
            assert!(self.now() < deadline, "in vain: {what}; in flight: {:?}", self.names);
            self.turn(Some(STEP));
        }
    }

    /// Turns until the operation has ended; its final outcome.
    #[track_caller]
    pub fn end_of(&mut self, id: OpId) -> Outcome {
        self.until("the end of an operation", |rig| rig.is_over(id));
        let place = self.done.iter().rposition(|completion| completion.id == id && completion.outcome.is_final());
        self.done.remove(place.expect("it was not taken before")).outcome
    }

    /// Runs one operation to its end.
    #[track_caller]
    pub fn run(&mut self, op: Op) -> Outcome {
        let id = self.submit(op);
        self.end_of(id)
    }

    /// Cancels, and waits for the final outcome.
    #[track_caller]
    pub fn cancel(&mut self, id: OpId) -> Outcome {
        self.ask_to_cancel(id);
        self.end_of(id)
    }

    /// Moves out everything that any operation delivered so far.
    pub fn take_all(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.done)
    }

    /// Moves out everything that an operation delivered so far.
    pub fn take(&mut self, id: OpId) -> Vec<Outcome> {
        self.done.extract_if(.., |completion| completion.id == id).map(|completion| completion.outcome).collect()
    }

    /// Moves out what a `Recv` delivered so far.
    #[track_caller]
    pub fn take_bytes(&mut self, id: OpId) -> Delivery {
        let mut delivery = Delivery::default();
        for outcome in self.take(id) {
            assert!(delivery.end.is_none(), "{outcome:?} after {:?}", delivery.end);
            match outcome {
                Outcome::Received(buffer) => {
                    assert!(!buffer.is_empty(), "an empty buffer");
                    delivery.bytes.extend_from_slice(&buffer);
                }
                end => delivery.end = Some(end),
            }
        }
        delivery
    }

    /// Receives exactly `count` bytes; each buffer is dropped at once.
    #[track_caller]
    pub fn receive(&mut self, id: OpId, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes", |rig| {
            let delivery = rig.take_bytes(id);
            assert!(delivery.end.is_none(), "{:?} after {} of {count} bytes", delivery.end, bytes.len());
            bytes.extend(delivery.bytes);
            bytes.len() >= count
        });
        assert_eq!(bytes.len(), count);
        bytes
    }

    /// The connections that an `Accept` delivered since the last call.
    pub fn take_accepted(&mut self, id: OpId) -> Vec<Socket> {
        let sockets = self.take(id).into_iter().map(|outcome| match outcome {
            Outcome::Accepted { socket, .. } => socket,
            other => panic!("accept: {other:?}"),
        });
        sockets.collect()
    }

    /// [`World::connection`].
    pub fn connection(&mut self) -> (Socket, D::Far) {
        self.driver.connection()
    }

    /// [`World::listener`].
    pub fn listener(&mut self) -> (Socket, SocketAddr) {
        self.driver.listener()
    }

    /// [`World::client`].
    pub fn client(&mut self, to: SocketAddr) -> D::Far {
        self.driver.client(to)
    }

    /// [`World::client_address`].
    pub fn client_address(&self, client: &D::Far) -> SocketAddr {
        self.driver.client_address(client)
    }

    /// [`World::servers`].
    pub fn servers(&mut self) -> Vec<(Address, D::Server)> {
        self.driver.servers()
    }

    /// [`World::accepted`].
    pub fn accepted(&mut self, server: &mut D::Server) -> D::Far {
        self.driver.accepted(server)
    }

    /// [`World::dead_addresses`].
    pub fn dead_addresses(&mut self) -> (Vec<(Address, i32)>, Box<dyn Any>) {
        self.driver.dead_addresses()
    }

    /// [`World::write`].
    #[track_caller]
    pub fn write(&mut self, far: &mut D::Far, bytes: &[u8]) {
        self.driver.write(far, bytes);
    }

    /// [`World::pour`].
    pub fn pour(&mut self, far: &mut D::Far, bytes: Vec<u8>) {
        self.driver.pour(far, bytes);
    }

    /// [`World::end_sending`].
    pub fn end_sending(&mut self, far: &mut D::Far) {
        self.driver.end_sending(far);
    }

    /// [`World::listen`].
    pub fn listen(&mut self, far: &mut D::Far) {
        self.driver.listen(far);
    }

    /// [`World::close`].
    pub fn close_far(&mut self, far: D::Far) {
        self.driver.close(far);
    }

    /// [`World::reset`].
    pub fn reset_far(&mut self, far: D::Far) {
        self.driver.reset(far);
    }

    /// What the far end reads: exactly `count` bytes.
    #[track_caller]
    pub fn read(&mut self, far: &mut D::Far, count: usize) -> Vec<u8> {
        let mut bytes = None;
        self.until("bytes at the far end", |rig| {
            bytes = rig.driver.try_read(far, count);
            bytes.is_some()
        });
        bytes.expect("it was waited for")
    }

    /// What the far end reads until the end.
    #[track_caller]
    pub fn heard(&mut self, far: &mut D::Far) -> Heard {
        let mut heard = None;
        self.until("the end at the far end", |rig| {
            heard = rig.driver.try_read_rest(far);
            heard.is_some()
        });
        heard.expect("it was waited for")
    }

    /// What the far end reads until the end, which must be an orderly one.
    #[track_caller]
    pub fn read_rest(&mut self, far: &mut D::Far) -> Vec<u8> {
        let (bytes, end) = self.heard(far);
        assert_eq!(end, End::Orderly, "after {} bytes", bytes.len());
        bytes
    }

    /// A folder with a file of this name and these bytes.
    pub fn folder(&mut self, name: &str, bytes: &[u8]) -> Folder {
        let folder = Folder::new();
        self.driver.put(folder.path(), name, bytes);
        folder
    }

    /// [`World::put`].
    pub fn put(&mut self, folder: &Path, name: &str, bytes: &[u8]) {
        self.driver.put(folder, name, bytes);
    }

    /// [`World::file`].
    pub fn file(&self, folder: &Path, name: &str) -> Option<Vec<u8>> {
        self.driver.file(folder, name)
    }

    #[track_caller]
    pub fn close(&mut self, socket: Socket) {
        let outcome = self.run(Op::Close { socket });
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    }

    #[track_caller]
    pub fn cancel_and_close(&mut self, id: OpId, socket: Socket) {
        let outcome = self.cancel(id);
        assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
        self.close(socket);
    }

    /// Drops the driver with its operations in flight.
    pub fn abandon(self) {
        drop(self);
    }

    /// The end of every case: nothing is in flight or open, and every buffer is back in the pool.
    #[track_caller]
    pub fn finish(mut self) {
        self.turn(Some(Duration::ZERO));
        assert_eq!(self.ops.in_flight(), 0, "in flight: {:?}", self.names);
        assert_eq!(self.driver.open_descriptors(), 0);
        assert_eq!(self.driver.breaches(), [""; 0]);
        self.done.clear();
        let pool = self.pool();
        for class in [SizeClass::Small, SizeClass::Large] {
            assert_eq!(pool.usage(class).leased, 0, "{class:?}: {:?}", pool.usage(class));
        }
        drop(self);
        assert_all_free(&pool);
    }
}

/// Without a driver, every buffer is in the pool.
#[track_caller]
pub fn assert_all_free(pool: &Pool) {
    for class in [SizeClass::Small, SizeClass::Large] {
        let usage = pool.usage(class);
        assert_eq!((usage.with_driver, usage.leased, usage.free), (0, 0, usage.made), "{class:?}");
    }
}

/// Bytes as a chain of one chunk.
pub fn chain_of(bytes: impl Into<std::sync::Arc<[u8]>>) -> Chain {
    Chain::from(Chunk::shared(bytes))
}

/// The result of a computation.
#[track_caller]
pub fn computed<T: 'static>(outcome: Outcome) -> T {
    match outcome {
        Outcome::Computed(computed) => computed.take().expect("the type that was returned"),
        other => panic!("compute: {other:?}"),
    }
}

/// The sum of all `Progress`.
#[track_caller]
pub fn progress(outcomes: &[Outcome]) -> u64 {
    let counts = outcomes.iter().map(|outcome| match outcome {
        Outcome::Progress(count) => *count,
        other => panic!("{other:?} instead of progress"),
    });
    counts.sum()
}

/// The table in `xps::driver`.
fn is_legal(name: &str, outcome: &Outcome) -> bool {
    let (own, may_be_cancelled, may_fail) = match name {
        "accept" => (matches!(outcome, Outcome::Accepted { .. }), true, true),
        "recv" => (matches!(outcome, Outcome::Received(_) | Outcome::Broken(_) | Outcome::Eof), true, true),
        "send" | "send_file" => (matches!(outcome, Outcome::Progress(1..) | Outcome::Sent), true, true),
        "connect" => (matches!(outcome, Outcome::Connected(_)), true, true),
        "resolve" => (matches!(outcome, Outcome::Resolved(_)), true, true),
        "find_root" => (matches!(outcome, Outcome::Root(_)), true, true),
        "open" => (matches!(outcome, Outcome::Opened(..)), true, true),
        "read" => (matches!(outcome, Outcome::Read(_)), true, true),
        "create" => (matches!(outcome, Outcome::Opened(..)), true, true),
        "write" => (matches!(outcome, Outcome::Written), true, true),
        "publish" | "remove" => (matches!(outcome, Outcome::Done), true, true),
        "list" => (matches!(outcome, Outcome::Listed(_)), true, true),
        "compute" => (matches!(outcome, Outcome::Computed(_)), true, true),
        "local_address" => (matches!(outcome, Outcome::Local(_)), false, true),
        "shutdown" => (matches!(outcome, Outcome::Done), false, true),
        "flush" => (matches!(outcome, Outcome::Progress(1..) | Outcome::Done), true, true),
        "reset" => (matches!(outcome, Outcome::Reset { .. }), false, false),
        "close" | "close_file" => (matches!(outcome, Outcome::Done), false, false),
        other => panic!("the contract has a new operation, {other}: give it a row here"),
    };
    own || match outcome {
        Outcome::Cancelled => may_be_cancelled,
        Outcome::Failed(_) => may_fail,
        _ => false,
    }
}
