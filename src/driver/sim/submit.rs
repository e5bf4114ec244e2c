//! Accepts operations from state machines: checks each against the contract and schedules it.

use std::fmt;
use std::time::Duration;

use super::{Descriptor, Event, OpState, Sim, Stream};
use crate::driver::{Address, Fault, Op, OpId, Socket};
use crate::table::Key;

/// How an operation continues after it was submitted.
enum Way {
    /// It ends soon, at a random moment.
    Soon,
    /// It ends after this delay.
    Later(Duration),
    /// It continues with the events of its socket.
    Flow,
}

/// How an operation continues, or the breach of the contract and the error that a kernel would
/// return.
type SubmitResult = Result<Way, (&'static str, i32)>;

impl Sim {
    /// Accepts an operation.
    pub(super) fn submit(&mut self, id: OpId, op: Op) {
        self.counters.submissions += 1;
        self.trace.op(self.now, "submit", op.name(), id, size(&op), format_args!("{}", Subject(&op)));
        let mut doom = None;
        let way = match self.admit(id, &op, &mut doom) {
            Ok(way) => way,
            Err((breach, errno)) => {
                self.violate(format!("{breach}: {} of {} as {id}", op.name(), Subject(&op)));
                doom = Some(Fault::Os(errno));
                Way::Soon
            }
        };
        if self.in_flight.len() <= id.index() {
            self.in_flight.resize_with(id.index() + 1, || None);
        }
        if let Some(previous) = self.in_flight[id.index()].replace(OpState { id, op, doom, is_tried: false }) {
            self.violate(format!("{id} is submitted while {} is in flight", previous.id));
        }
        match way {
            Way::Soon => self.schedule_soon(Event::Finish(id)),
            Way::Later(delay) => self.schedule_at(self.now + delay, Event::Finish(id)),
            Way::Flow => {}
        }
    }

    /// A cancel takes effect soon, at a random moment; until then the operation continues.
    pub(super) fn cancel(&mut self, id: OpId) {
        if let Some(op_state) = self.op_state(id) {
            let name = op_state.op.name();
            self.trace.op(self.now, "cancel", name, id, 0, format_args!(""));
            self.schedule_soon(Event::Cancel(id));
        }
    }

    /// A pause takes effect soon, at a random moment; until then bytes are delivered.
    pub(super) fn pause(&mut self, id: OpId) {
        if let Some(stream) = self.receiving(id) {
            stream.pause_is_wanted = true;
            self.trace.op(self.now, "pause", "recv", id, 0, format_args!(""));
            self.schedule_soon(Event::Pause(id));
        }
    }

    pub(super) fn resume(&mut self, id: OpId) {
        if let Some(stream) = self.receiving(id) {
            (stream.pause_is_wanted, stream.is_paused) = (false, false);
            self.trace.op(self.now, "resume", "recv", id, 0, format_args!(""));
            if let Some(OpState { op: Op::Recv { socket }, .. }) = self.op_state(id) {
                self.look_at_recv(socket.0);
            }
        }
    }

    /// The stream of a receive in flight.
    pub(super) fn receiving(&mut self, id: OpId) -> Option<&mut Stream> {
        let Op::Recv { socket } = self.op_state(id)?.op else { return None };
        match self.sockets.get_mut(socket.0) {
            Some(Descriptor::Stream(stream)) => Some(stream),
            Some(Descriptor::Listener(_)) | None => None,
        }
    }

    fn admit(&mut self, id: OpId, op: &Op, doom: &mut Option<Fault>) -> SubmitResult {
        match *op {
            Op::Accept { listener, most } => self.admit_accept(id, listener.0, most),
            Op::Recv { socket } => self.admit_recv(id, socket.0),
            Op::Send { socket, ref chain } => {
                if chain.is_empty() {
                    return Err(("nothing to send", libc::EINVAL));
                }
                self.admit_send(id, socket.0)
            }
            Op::SendFile { socket, file, length, .. } => {
                if length == 0 {
                    return Err(("nothing to send", libc::EINVAL));
                }
                match self.open_files.get_mut(file.0) {
                    None => return Err(("no such file", libc::EBADF)),
                    Some(file) if file.is_closing => return Err(("the file is being closed", libc::EBADF)),
                    Some(_) => {}
                }
                let way = self.admit_send(id, socket.0)?;
                if let Some(file) = self.open_files.get_mut(file.0) {
                    file.users += 1;
                }
                if self.rng.chance(self.faults.truncations) {
                    self.schedule_soon(Event::Truncate(file.0));
                }
                Ok(way)
            }
            Op::Shutdown { socket } => self.admit_send(id, socket.0).map(|_| Way::Soon),
            Op::Flush { socket } => self.admit_send(id, socket.0),
            // The simulated kernel has no TLS, so that nothing is ever settled.
            #[cfg(feature = "ktls-tx")]
            Op::BeginKernelTls { .. } => {
                *doom = Some(Fault::Os(libc::ENOPROTOOPT));
                Ok(Way::Soon)
            }
            #[cfg(feature = "ktls-tx")]
            Op::SettleKernelTls { .. } => Err(("the kernel does not encrypt", libc::EINVAL)),
            Op::Connect { ref address } => Ok(self.draw_connect(address, doom)),
            Op::Resolve { .. } => Ok(self.draw_resolve(doom)),
            Op::Open { .. } | Op::FindRoot { .. } => {
                if self.rng.chance(self.faults.open_failures) {
                    self.injected.opens += 1;
                    *doom = Some(Fault::Os(if self.rng.coin() { libc::EACCES } else { libc::EIO }));
                }
                Ok(Way::Soon)
            }
            Op::Read { file, .. } | Op::Write { file, .. } | Op::Publish { file, .. } => {
                match self.open_files.get_mut(file.0) {
                    None => return Err(("no such file", libc::EBADF)),
                    Some(file) if file.is_closing => return Err(("the file is being closed", libc::EBADF)),
                    Some(file) => file.users += 1,
                }
                if self.rng.chance(self.faults.open_failures) {
                    self.injected.opens += 1;
                    *doom = Some(Fault::Os(if matches!(op, Op::Write { .. }) { libc::ENOSPC } else { libc::EIO }));
                }
                Ok(Way::Soon)
            }
            Op::Create { .. } => {
                if self.rng.chance(self.faults.open_failures) {
                    self.injected.opens += 1;
                    *doom = Some(Fault::Os(libc::EACCES));
                }
                Ok(Way::Soon)
            }
            Op::Remove { .. } | Op::List { .. } | Op::Compute(_) | Op::LocalAddress { .. } => Ok(Way::Soon),
            Op::Close { socket } | Op::Reset { socket } => self.admit_close(socket.0),
            Op::CloseFile { file } => match self.open_files.get_mut(file.0) {
                None => Err(("no such file", libc::EBADF)),
                Some(file) if file.is_closing => Err(("the file is being closed", libc::EBADF)),
                Some(file) if file.users > 0 => Err(("the file is in use", libc::EBUSY)),
                Some(file) => {
                    file.is_closing = true;
                    Ok(Way::Soon)
                }
            },
        }
    }

    fn admit_accept(&mut self, id: OpId, key: Key<Socket>, most: u32) -> SubmitResult {
        match self.sockets.get_mut(key) {
            Some(Descriptor::Listener(listening)) if listening.is_closing => Err(("being closed", libc::EBADF)),
            Some(Descriptor::Listener(listening)) if listening.accept.is_some() => {
                Err(("a second accept", libc::EBUSY))
            }
            Some(Descriptor::Listener(listening)) => {
                listening.accept = Some(id);
                listening.left = most;
                self.look_at_accept(key);
                Ok(Way::Flow)
            }
            Some(Descriptor::Stream(_)) => Err(("not a listener", libc::EINVAL)),
            None => Err(("no such socket", libc::EBADF)),
        }
    }

    fn admit_recv(&mut self, id: OpId, key: Key<Socket>) -> SubmitResult {
        match self.sockets.get_mut(key) {
            Some(Descriptor::Stream(stream)) if stream.is_closing => Err(("the socket is being closed", libc::EBADF)),
            Some(Descriptor::Stream(stream)) if stream.recv.is_some() => Err(("a second recv", libc::EBUSY)),
            Some(Descriptor::Stream(stream)) => {
                stream.recv = Some(id);
                (stream.pause_is_wanted, stream.is_paused) = (false, false);
                self.look_at_recv(key);
                Ok(Way::Flow)
            }
            Some(Descriptor::Listener(_)) => Err(("not a connection", libc::ENOTCONN)),
            None => Err(("no such socket", libc::EBADF)),
        }
    }

    fn admit_send(&mut self, id: OpId, key: Key<Socket>) -> SubmitResult {
        match self.sockets.get_mut(key) {
            Some(Descriptor::Stream(stream)) if stream.is_closing => Err(("the socket is being closed", libc::EBADF)),
            Some(Descriptor::Stream(stream)) if stream.send.is_some() => Err(("a send is in flight", libc::EBUSY)),
            Some(Descriptor::Stream(stream)) => {
                stream.send = Some(id);
                self.look_at_send(key);
                Ok(Way::Flow)
            }
            Some(Descriptor::Listener(_)) => Err(("not a connection", libc::ENOTCONN)),
            None => Err(("no such socket", libc::EBADF)),
        }
    }

    fn admit_close(&mut self, key: Key<Socket>) -> SubmitResult {
        let (is_closing, is_busy) = match self.sockets.get_mut(key) {
            Some(Descriptor::Stream(stream)) => {
                (&mut stream.is_closing, stream.recv.is_some() || stream.send.is_some())
            }
            Some(Descriptor::Listener(listening)) => (&mut listening.is_closing, listening.accept.is_some()),
            None => return Err(("no such socket", libc::EBADF)),
        };
        if is_busy {
            return Err(("closed with operations in flight", libc::EBUSY));
        }
        if std::mem::replace(is_closing, true) {
            return Err(("closed twice", libc::EBADF));
        }
        Ok(Way::Soon)
    }

    fn draw_connect(&mut self, address: &Address, doom: &mut Option<Fault>) -> Way {
        if self.vanishes(address) {
            *doom = Some(Fault::Os(libc::ETIMEDOUT));
            return Way::Later(KERNEL_CONNECT_TIMEOUT);
        }
        if self.rng.chance(self.faults.connect_failures) {
            self.injected.connects += 1;
            let errnos = match address {
                Address::Inet(_) => [libc::ECONNREFUSED, libc::ENETUNREACH, libc::ETIMEDOUT],
                Address::Unix(_) => [libc::ECONNREFUSED, libc::ENOENT, libc::EACCES],
            };
            let errno = errnos[self.rng.below(errnos.len() as u64) as usize];
            *doom = Some(Fault::Os(errno));
            return if errno == libc::ETIMEDOUT { Way::Later(KERNEL_CONNECT_TIMEOUT) } else { Way::Soon };
        }
        if self.rng.chance(self.faults.connect_delays) {
            return Way::Later(Duration::from_millis(self.rng.range(1, 3000)));
        }
        Way::Soon
    }

    fn draw_resolve(&mut self, doom: &mut Option<Fault>) -> Way {
        if !self.rng.chance(self.faults.resolver_failures) {
            return Way::Soon;
        }
        if self.rng.coin() {
            self.injected.resolves += 1;
            *doom = Some(Fault::Resolver(libc::EAI_AGAIN));
        }
        Way::Later(Duration::from_millis(self.rng.range(1, 8000)))
    }
}

/// Prints the objects of an operation in short form.
struct Subject<'a>(&'a Op);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Op::Accept { listener, .. } => write!(f, "{listener:?}"),
            Op::Recv { socket }
            | Op::Send { socket, .. }
            | Op::LocalAddress { socket }
            | Op::Shutdown { socket }
            | Op::Flush { socket }
            | Op::Close { socket }
            | Op::Reset { socket } => write!(f, "{socket:?}"),
            #[cfg(feature = "ktls-tx")]
            Op::BeginKernelTls { socket, .. } | Op::SettleKernelTls { socket, .. } => write!(f, "{socket:?}"),
            Op::SendFile { socket, file, offset, .. } => write!(f, "{socket:?} {file:?} from {offset}"),
            Op::Connect { address } => write!(f, "{address}"),
            Op::Resolve { host, port } => write!(f, "{host}:{port}"),
            Op::Open { path, .. } | Op::List { path, .. } => write!(f, "{path:?}"),
            Op::FindRoot { path, .. } => write!(f, "{}", path.display()),
            Op::Create { name, .. } | Op::Remove { name, .. } => write!(f, "{name:?}"),
            Op::Publish { from, to, .. } => write!(f, "{from:?} as {to:?}"),
            Op::Read { file, offset, .. } | Op::Write { file, offset, .. } => write!(f, "{file:?} from {offset}"),
            Op::Compute(computation) => write!(f, "{computation:?}"),
            Op::CloseFile { file } => write!(f, "{file:?}"),
        }
    }
}

/// The size of an operation in bytes; zero if it has none.
fn size(op: &Op) -> u64 {
    match op {
        Op::Send { chain, .. } => chain.len() as u64,
        Op::SendFile { head, length, .. } => head.len() as u64 + *length,
        Op::Read { length, .. } => *length as u64,
        Op::Write { bytes, .. } => bytes.len() as u64,
        #[cfg(feature = "ktls-tx")]
        Op::BeginKernelTls { .. } | Op::SettleKernelTls { .. } => 0,
        Op::Accept { .. }
        | Op::Recv { .. }
        | Op::Connect { .. }
        | Op::Resolve { .. }
        | Op::FindRoot { .. }
        | Op::Open { .. }
        | Op::Create { .. }
        | Op::Publish { .. }
        | Op::Remove { .. }
        | Op::List { .. }
        | Op::Compute(_)
        | Op::LocalAddress { .. }
        | Op::Shutdown { .. }
        | Op::Flush { .. }
        | Op::Close { .. }
        | Op::Reset { .. }
        | Op::CloseFile { .. } => 0,
    }
}

/// About how long Linux tries to connect (tcp(7), `tcp_syn_retries` of 6).
const KERNEL_CONNECT_TIMEOUT: Duration = Duration::from_secs(127);
