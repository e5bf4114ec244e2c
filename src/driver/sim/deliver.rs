//! Carries out scheduled events, and delivers the outcomes to the state machines.

use std::net::SocketAddr;
use std::time::Duration;

use super::network::{Owner, Readable, Side, WireId, Writable};
use super::{Descriptor, Event, LOOPBACK, OpState, PlantedBug, Sim, Stream};
use crate::buffer::{Buffer, Chunk, SizeClass};
use crate::driver::{Completion, Fault, Op, OpId, Outcome, Peer, Socket, find_root};
use crate::table::Key;

impl Sim {
    pub(super) fn happen(&mut self, event: Event, done: &mut Vec<Completion>) {
        match event {
            Event::Peer(peer) => self.on_peer(peer),
            Event::Recv(key) => self.on_recv(key, done),
            Event::Send(key) => self.on_send(key, done),
            Event::Accept(key) => self.on_accept(key, done),
            Event::Finish(id) => self.on_finish(id, done),
            Event::Cancel(id) => self.on_cancel(id, done),
            Event::Pause(id) => self.on_pause(id),
            Event::Reset(wire, side) => self.on_reset(wire, side),
            Event::Truncate(key) => {
                if let Some(file) = self.open_files.get_mut(key) {
                    file.truncate(self.rng.below(file.len() as u64 + 1) as usize);
                    self.injected.truncations += 1;
                }
            }
        }
    }

    /// All outcomes are emitted here. The operation of a final one is no longer in flight.
    fn emit(&mut self, id: OpId, outcome: Outcome, done: &mut Vec<Completion>) {
        let size = match &outcome {
            Outcome::Received(buffer) => buffer.len() as u64,
            Outcome::Progress(bytes) | Outcome::Reset { lost: bytes } => *bytes,
            Outcome::Broken(Fault::Os(code) | Fault::RootLost(code) | Fault::Resolver(code))
            | Outcome::Failed(Fault::Os(code) | Fault::RootLost(code) | Fault::Resolver(code)) => {
                u64::from(code.unsigned_abs())
            }
            Outcome::Accepted { .. }
            | Outcome::Eof
            | Outcome::Sent
            | Outcome::Connected(_)
            | Outcome::Resolved(_)
            | Outcome::Root(_)
            | Outcome::Opened(..)
            | Outcome::Read(_)
            | Outcome::Written
            | Outcome::Listed(_)
            | Outcome::Computed(_)
            | Outcome::Local(_)
            | Outcome::Done
            | Outcome::Cancelled
            | Outcome::Broken(Fault::FileTruncated | Fault::Tls(_))
            | Outcome::Failed(Fault::FileTruncated | Fault::Tls(_)) => 0,
        };
        self.trace.op(self.now, "deliver", outcome.name(), id, size, format_args!("{outcome:?}"));
        self.counters.completions += 1;
        self.bug_injector.pass(id, outcome, done);
    }

    fn on_recv(&mut self, key: Key<Socket>, done: &mut Vec<Completion>) {
        let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) else { return };
        stream.recv_is_due = false;
        let Some(id) = stream.recv else { return };
        if stream.is_paused {
            return self.report_broken(key, id, done);
        }
        // Guarantee 11. The state machines may have paused or cancelled the receive.
        if self.pool.is_scarce() {
            if stream.pause_is_wanted {
                return;
            }
            if stream.received_in == self.counters.enters {
                return self.retry_recv(key);
            }
        }
        if self.bug_injector.deaf == Some(id) {
            return;
        }
        if self.rng.chance(self.faults.buffer_shortages) {
            self.counters.buffers_exhausted += 1;
            return self.retry_recv(key);
        }
        if self.receive(key, id, done) {
            self.look_at_recv(key);
        }
    }

    fn on_pause(&mut self, id: OpId) {
        let Some(stream) = self.receiving(id) else { return };
        stream.is_paused = stream.pause_is_wanted;
        if let Some(OpState { op: Op::Recv { socket }, .. }) = self.op_state(id) {
            self.look_at_recv(socket.0);
        }
    }

    /// Reports to a paused receive that its connection broke, once.
    fn report_broken(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) {
        let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) else { return };
        if stream.is_told {
            return;
        }
        if let Some(errno) = self.wires[stream.wire.0].error(stream.side) {
            stream.is_told = true;
            self.wires[stream.wire.0].report_reset(stream.side);
            self.emit(id, Outcome::Broken(Fault::Os(errno)), done);
        }
    }

    fn retry_recv(&mut self, key: Key<Socket>) {
        let delay = Duration::from_micros(self.rng.range(1, 5000));
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) {
            stream.recv_is_due = true;
            self.schedule_at(self.now + delay, Event::Recv(key));
        }
    }

    /// Delivers one piece of the bytes that have arrived, or the end. True if there may be more.
    fn receive(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) -> bool {
        let Some(Descriptor::Stream(stream)) = self.sockets.get(key) else { return false };
        let (wire, side) = (stream.wire, stream.side);
        let outcome = match self.wires[wire.0].readable(side) {
            Readable::Nothing => return false,
            Readable::Bytes(available) => {
                let Some(buffer) = self.fill(wire, side, available) else {
                    self.counters.buffers_exhausted += 1;
                    self.starved.push(key);
                    return false;
                };
                if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) {
                    stream.received_in = self.counters.enters;
                }
                self.notify(wire, side.other());
                if available > buffer.len()
                    && self.bug_injector.strikes(PlantedBug::SwapReceived)
                    && let Some(next) = self.fill(wire, side, available - buffer.len())
                {
                    self.emit(id, Outcome::Received(next), done);
                }
                self.emit(id, Outcome::Received(buffer), done);
                return true;
            }
            Readable::Eof => Outcome::Eof,
            Readable::Reset => Outcome::Failed(Fault::Os(libc::ECONNRESET)),
        };
        self.wires[wire.0].report_reset(side);
        self.end_recv(key, id, outcome, done);
        false
    }

    /// Ends a `Recv`.
    fn end_recv(&mut self, key: Key<Socket>, id: OpId, outcome: Outcome, done: &mut Vec<Completion>) {
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) {
            stream.recv = None;
        }
        self.starved.retain(|starved| *starved != key);
        self.land(id);
        self.emit(id, outcome, done);
    }

    /// Reads into a buffer of either size; `None` if none is free.
    fn fill(&mut self, wire: WireId, side: Side, available: usize) -> Option<Buffer> {
        let mut classes = [SizeClass::Small, SizeClass::Large];
        if self.rng.below(4) == 0 {
            classes.reverse();
        }
        let (class, buffer) = classes.into_iter().find_map(|class| Some((class, self.pool.take(class)?)))?;
        let most = available.min(self.pool.size(class));
        let length = if self.rng.chance(self.faults.short_reads) { self.rng.length(most) } else { most };
        // SAFETY: this driver owns the buffer, which is at least this long; its memory was zeroed
        // when it was mapped; the reference ends before the buffer is leased.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.pool.address(buffer).as_ptr(), length) };
        self.wires[wire.0].read(side, memory);
        let lease = self.pool.lease(buffer, length);
        self.bug_injector.on_lease(&self.pool, buffer, length);
        Some(lease)
    }

    fn on_send(&mut self, key: Key<Socket>, done: &mut Vec<Completion>) {
        let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) else { return };
        stream.send_is_due = false;
        if let Some(id) = stream.send
            && self.send(key, id, done)
        {
            self.look_at_send(key);
        }
    }

    /// Sends one piece. True if the socket may take more.
    fn send(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) -> bool {
        let Some(Descriptor::Stream(stream)) = self.sockets.get(key) else { return false };
        let (wire_id, side) = (stream.wire, stream.side);
        let Some(Some(op_state)) = self.in_flight.get_mut(id.index()) else { return false };
        op_state.is_tried = true;
        if let Op::Flush { .. } = op_state.op {
            return self.flush(key, id, done);
        }
        let wire = &mut self.wires[wire_id.0];
        let room = match wire.writable(side) {
            Writable::Room(0) => return false,
            Writable::Room(room) if self.rng.chance(self.faults.short_writes) => self.rng.length(room),
            Writable::Room(room) => room,
            Writable::Reset => {
                wire.report_reset(side);
                self.end_send(key, id, Outcome::Failed(Fault::Os(libc::ECONNRESET)), done);
                return false;
            }
            Writable::Broken => {
                self.end_send(key, id, Outcome::Failed(Fault::Os(libc::EPIPE)), done);
                return false;
            }
        };
        let mut bounced = false;
        let (sent, left) = match &mut op_state.op {
            Op::Send { chain, .. } => {
                let sent = room.min(chain.len());
                let mut rest = sent;
                for chunk in chain.chunks() {
                    let piece = rest.min(chunk.len());
                    if piece > 0 && !bounced {
                        bounced = wire.write(side, &chunk[..piece], &mut self.rng);
                    }
                    rest -= piece;
                }
                chain.advance(sent);
                (sent, chain.len() as u64)
            }
            Op::SendFile { head, length, .. } if !head.is_empty() => {
                let sent = room.min(head.len());
                let mut rest = sent;
                for chunk in head.chunks() {
                    let piece = rest.min(chunk.len());
                    if piece > 0 && !bounced {
                        bounced = wire.write(side, &chunk[..piece], &mut self.rng);
                    }
                    rest -= piece;
                }
                head.advance(sent);
                (sent, head.len() as u64 + *length)
            }
            Op::SendFile { file, offset, length, .. } => {
                let bytes = self.open_files.get(file.0).map_or(&[][..], |open| open.read(*offset, *length));
                let bytes = &bytes[..room.min(bytes.len())];
                if bytes.is_empty() {
                    wire.faulted = true;
                    self.end_send(key, id, Outcome::Failed(Fault::FileTruncated), done);
                    return false;
                }
                bounced = wire.write(side, bytes, &mut self.rng);
                *offset += bytes.len() as u64;
                *length -= bytes.len() as u64;
                (bytes.len(), *length)
            }
            // A shutdown waits for its scheduled event, not for buffer space.
            Op::Shutdown { .. } | Op::Flush { .. } => return false,
            #[cfg(feature = "ktls-tx")]
            Op::BeginKernelTls { .. } | Op::SettleKernelTls { .. } => return false,
            Op::Accept { .. }
            | Op::LocalAddress { .. }
            | Op::Recv { .. }
            | Op::Connect { .. }
            | Op::Resolve { .. }
            | Op::FindRoot { .. }
            | Op::Open { .. }
            | Op::Read { .. }
            | Op::Create { .. }
            | Op::Write { .. }
            | Op::Publish { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Compute(_)
            | Op::Close { .. }
            | Op::Reset { .. }
            | Op::CloseFile { .. } => return false,
        };
        self.notify(wire_id, if bounced { side } else { side.other() });
        if left == 0 {
            self.end_send(key, id, Outcome::Sent, done);
        } else {
            self.counters.short_sends += 1;
            self.emit(id, Outcome::Progress(sent as u64), done);
        }
        left > 0
    }

    /// Reports how many of the sent bytes have arrived. True if more may arrive though the peer
    /// reads nothing.
    fn flush(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) -> bool {
        let Some(Descriptor::Stream(stream)) = self.sockets.get(key) else { return false };
        let (wire, side) = (&mut self.wires[stream.wire.0], stream.side);
        let arrived = wire.arrive(side, &mut self.rng);
        let outcome = match wire.writable(side) {
            _ if wire.unacknowledged(side) == 0 || self.bug_injector.strikes(PlantedBug::HastyFlush) => Outcome::Done,
            Writable::Reset => Outcome::Failed(Fault::Os(libc::ECONNRESET)),
            Writable::Broken if wire.is_reset(side) => Outcome::Failed(Fault::Os(libc::EPIPE)),
            Writable::Broken | Writable::Room(_) => {
                let more_may_arrive = wire.may_arrive(side);
                if arrived > 0 {
                    self.emit(id, Outcome::Progress(arrived as u64), done);
                }
                return more_may_arrive;
            }
        };
        wire.report_reset(side);
        self.end_send(key, id, outcome, done);
        false
    }

    /// Ends a `Send`, `SendFile` or `Flush`.
    fn end_send(&mut self, key: Key<Socket>, id: OpId, outcome: Outcome, done: &mut Vec<Completion>) {
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) {
            stream.send = None;
        }
        if let Some(OpState { op: Op::SendFile { file, .. }, .. }) = self.land(id)
            && let Some(file) = self.open_files.get_mut(file.0)
        {
            file.users -= 1;
        }
        self.emit(id, outcome, done);
    }

    fn on_accept(&mut self, key: Key<Socket>, done: &mut Vec<Completion>) {
        let has_free_descriptor = self.has_free_descriptor();
        let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(key) else { return };
        listening.is_due = false;
        let Some(id) = listening.accept else { return };
        if listening.unix_connect_retry.is_empty() {
            return;
        }
        if !has_free_descriptor {
            // Tried again when a descriptor is closed.
            self.counters.accept_pauses += 1;
            return;
        }
        if self.rng.chance(self.faults.accept_pauses) {
            self.counters.accept_pauses += 1;
            listening.is_due = true;
            let delay = Duration::from_millis(self.rng.range(1, 100));
            return self.schedule_at(self.now + delay, Event::Accept(key));
        }
        if self.accept(key, id, done) {
            self.look_at_accept(key);
        }
    }

    /// Delivers the oldest connection of the backlog, if any.
    fn accept(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) -> bool {
        if !self.has_free_descriptor() {
            return false;
        }
        let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(key) else { return false };
        let Some(wire) = listening.unix_connect_retry.pop_front() else { return false };
        let address = listening.address;
        let socket = self.open_stream(wire, Side::Callee, Some(address));
        self.wires[wire.0].accept(socket.0);
        let is_gone = self.wires[wire.0].is_reset(Side::Callee);
        let peer = match self.wires[wire.0].owner(Side::Caller) {
            _ if is_gone => Peer::Gone,
            Owner::Peer(peer) => self.peers[peer.0].name,
            Owner::Socket(_) | Owner::Backlog => Peer::Inet(LOOPBACK),
        };
        self.emit(id, Outcome::Accepted { socket, peer }, done);
        let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(key) else { return false };
        listening.left = listening.left.saturating_sub(1);
        if listening.left == 0 {
            self.end_accept(key, id, done);
            return false;
        }
        true
    }

    fn end_accept(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) {
        if let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(key) {
            listening.accept = None;
        }
        self.land(id);
        self.emit(id, Outcome::Cancelled, done);
    }

    pub(super) fn open_stream(&mut self, wire: WireId, side: Side, local: Option<SocketAddr>) -> Socket {
        let stream = Stream {
            wire,
            side,
            local,
            recv: None,
            send: None,
            pause_is_wanted: false,
            is_paused: false,
            received_in: 0,
            is_told: false,
            recv_is_due: false,
            send_is_due: false,
            is_closing: false,
        };
        Socket(self.sockets.insert(Descriptor::Stream(stream)))
    }

    fn on_cancel(&mut self, id: OpId, done: &mut Vec<Completion>) {
        let Some(op_state) = self.op_state(id) else { return };
        match op_state.op {
            // It fails already, because of a breach of the contract or an injected fault.
            _ if op_state.doom.is_some_and(|doom| !matches!(doom, Fault::Os(libc::ETIMEDOUT) | Fault::Resolver(_))) => {
            }
            Op::Recv { socket } => self.cancel_recv(socket.0, id, done),
            Op::Send { socket, .. } | Op::SendFile { socket, .. } => {
                if !op_state.is_tried || self.rng.coin() {
                    self.send(socket.0, id, done);
                }
                if self.op_state(id).is_some() {
                    self.end_send(socket.0, id, Outcome::Cancelled, done);
                }
            }
            Op::Flush { socket } => self.end_send(socket.0, id, Outcome::Cancelled, done),
            Op::Accept { listener, .. } => {
                let key = listener.0;
                for _ in 0..self.rng.below(4) {
                    if self.op_state(id).is_none() || !self.accept(key, id, done) {
                        break;
                    }
                }
                if self.op_state(id).is_some() {
                    self.end_accept(key, id, done);
                }
            }
            Op::Connect { .. }
            | Op::Resolve { .. }
            | Op::FindRoot { .. }
            | Op::Open { .. }
            | Op::Read { .. }
            | Op::Create { .. }
            | Op::Write { .. }
            | Op::Publish { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Compute(_) => {
                if op_state.doom.is_none() && self.rng.coin() {
                    self.on_finish(id, done);
                } else {
                    if let Some(OpState {
                        op: Op::Read { file, .. } | Op::Write { file, .. } | Op::Publish { file, .. },
                        ..
                    }) = self.land(id)
                    {
                        self.put_down(file);
                    }
                    self.emit(id, Outcome::Cancelled, done);
                }
            }
            #[cfg(feature = "ktls-tx")]
            Op::BeginKernelTls { .. } | Op::SettleKernelTls { .. } => {}
            // These end soon anyway.
            Op::LocalAddress { .. }
            | Op::Shutdown { .. }
            | Op::Close { .. }
            | Op::Reset { .. }
            | Op::CloseFile { .. } => {}
        }
    }

    fn cancel_recv(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) {
        let is_paused = self.receiving(id).is_some_and(|stream| stream.is_paused);
        if self.bug_injector.deaf != Some(id) && !is_paused {
            for _ in 0..self.rng.below(4) {
                if !self.receive(key, id, done) {
                    break;
                }
            }
        }
        if self.op_state(id).is_some() {
            self.end_recv(key, id, Outcome::Cancelled, done);
        }
    }

    fn on_finish(&mut self, id: OpId, done: &mut Vec<Completion>) {
        let Some(OpState { op, doom, .. }) = self.land(id) else { return };
        if let Op::Read { file, .. } | Op::Write { file, .. } | Op::Publish { file, .. } = op {
            self.put_down(file);
        }
        let outcome = match (op, doom) {
            (Op::Close { .. } | Op::CloseFile { .. }, Some(_)) => Outcome::Done,
            (Op::Reset { .. }, Some(_)) => Outcome::Reset { lost: 0 },
            (_, Some(fault)) => Outcome::Failed(fault),
            (Op::Shutdown { socket }, None) => return self.finish_shutdown(socket.0, id, done),
            (Op::Close { socket }, None) => {
                self.close(socket.0, false);
                Outcome::Done
            }
            (Op::Reset { socket }, None) => Outcome::Reset { lost: self.close(socket.0, true) },
            (Op::CloseFile { file }, None) => {
                self.open_files.remove(file.0);
                self.descriptor_is_free();
                Outcome::Done
            }
            (Op::Connect { address }, None) => self.finish_connect(&address),
            (Op::Resolve { host, port }, None) => self.finish_resolve(&host, port),
            (Op::FindRoot { path, symlinks, present }, None) => match find_root::find(&path, symlinks, present) {
                Ok(root) => Outcome::Root(root),
                Err(error) => Outcome::Failed(Fault::from_io(&error)),
            },
            (Op::Open { path, .. }, None) => self.finish_open(&path),
            (Op::Read { file, offset, length }, None) => match self.open_files.get(file.0) {
                Some(open) => Outcome::Read(Chunk::shared(open.read(offset, length as u64))),
                None => Outcome::Failed(Fault::Os(libc::EBADF)),
            },
            (Op::Create { name, .. }, None) => self.finish_create(&name),
            (Op::Write { file, offset, bytes }, None) => match self.open_files.get_mut(file.0) {
                Some(open) => {
                    self.files.write(open, offset, &bytes).map_or_else(Outcome::Failed, |()| Outcome::Written)
                }
                None => Outcome::Failed(Fault::Os(libc::EBADF)),
            },
            (Op::Publish { file, from, to, replaces, .. }, None) => match self.open_files.get_mut(file.0) {
                Some(open) => {
                    let renamed = self.files.rename(open, (&from, &to), replaces);
                    renamed.map_or_else(Outcome::Failed, |()| Outcome::Done)
                }
                None => Outcome::Failed(Fault::Os(libc::EBADF)),
            },
            (Op::Remove { name, .. }, None) => {
                self.files.remove(&name).map_or_else(Outcome::Failed, |()| Outcome::Done)
            }
            (Op::List { path, .. }, None) => self.files.list(&path).map_or_else(Outcome::Failed, Outcome::Listed),
            (Op::LocalAddress { socket }, None) => match self.sockets.get(socket.0) {
                Some(Descriptor::Stream(stream)) => Outcome::Local(stream.local),
                Some(Descriptor::Listener(_)) | None => Outcome::Failed(Fault::Os(libc::EBADF)),
            },
            (Op::Compute(computation), None) => Outcome::Computed(computation.run()),
            // They have always failed by now.
            #[cfg(feature = "ktls-tx")]
            (Op::BeginKernelTls { .. } | Op::SettleKernelTls { .. }, None) => return,
            (Op::Accept { .. } | Op::Recv { .. } | Op::Send { .. } | Op::SendFile { .. } | Op::Flush { .. }, None) => {
                return;
            }
        };
        self.emit(id, outcome, done);
    }

    /// A read, a write or a rename no longer uses the file.
    fn put_down(&mut self, file: crate::driver::File) {
        if let Some(open) = self.open_files.get_mut(file.0) {
            open.users = open.users.saturating_sub(1);
        }
    }

    fn finish_shutdown(&mut self, key: Key<Socket>, id: OpId, done: &mut Vec<Completion>) {
        let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key) else { return };
        stream.send = None;
        let (wire, side) = (stream.wire, stream.side);
        if self.wires[wire.0].is_reset(side) {
            return self.emit(id, Outcome::Failed(Fault::Os(libc::ENOTCONN)), done);
        }
        self.drop_last_if_planted(wire, side);
        self.wires[wire.0].finish(side);
        self.notify(wire, side.other());
        self.emit(id, Outcome::Done, done);
    }

    /// An occasion for [`PlantedBug::DropLastByte`]: `side` ends in order, and something that it sent
    /// is still on its way.
    fn drop_last_if_planted(&mut self, wire: WireId, side: Side) {
        let wire = &mut self.wires[wire.0];
        if wire.unread_by(side.other()) > 0 && self.bug_injector.strikes(PlantedBug::DropLastByte) {
            wire.drop_last(side);
        }
    }

    /// Closes a socket. Returns the number of bytes that had not arrived.
    fn close(&mut self, key: Key<Socket>, reset: bool) -> u64 {
        let mut lost = 0;
        match self.sockets.remove(key) {
            Some(Descriptor::Stream(Stream { wire, side, .. })) => {
                if !reset {
                    self.drop_last_if_planted(wire, side);
                }
                lost = self.wires[wire.0].unacknowledged(side) as u64;
                self.wires[wire.0].close(side, reset, &mut self.rng);
                self.notify(wire, side.other());
            }
            Some(Descriptor::Listener(listening)) => {
                for wire in listening.unix_connect_retry {
                    self.wires[wire.0].close(Side::Callee, true, &mut self.rng);
                    self.notify(wire, Side::Caller);
                }
            }
            None => {}
        }
        self.descriptor_is_free();
        lost
    }

    /// A descriptor was closed: accepts that wait for one continue.
    fn descriptor_is_free(&mut self) {
        let waiting: Vec<Key<Socket>> = self
            .sockets
            .iter()
            .filter(
                |(_, descriptor)| matches!(descriptor, Descriptor::Listener(listening) if listening.accept.is_some()),
            )
            .map(|(key, _)| key)
            .collect();
        for key in waiting {
            self.look_at_accept(key);
        }
    }
}
