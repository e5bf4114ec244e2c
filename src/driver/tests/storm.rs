//! Many connections at once, few buffers, receives cancelled at every turn of fortune: each byte
//! must still come back once and in order.

use std::collections::VecDeque;

use super::*;
use crate::buffer::Buffer;

const CONNECTIONS: usize = 12;
const BYTES: usize = 600_000;

/// One connection that is echoed to its end.
struct Echo {
    socket: Socket,
    recv: Option<OpId>,
    send: Option<OpId>,
    is_cancelled: bool,
    held: VecDeque<Buffer>,
    has_ended: bool,
    is_closed: bool,
}

impl Echo {
    fn on_outcome(&mut self, completion: Completion) {
        match completion.outcome {
            Outcome::Received(buffer) => self.held.push_back(buffer),
            Outcome::Progress(_) => {}
            Outcome::Sent => self.send = None,
            Outcome::Eof => (self.recv, self.has_ended) = (None, true),
            Outcome::Cancelled => (self.recv, self.is_cancelled) = (None, false),
            other => panic!("{other:?}"),
        }
    }

    fn pump(&mut self, rig: &mut Rig, dice: &mut Dice) {
        match self.recv {
            None if !self.has_ended => self.recv = Some(rig.submit(Op::Recv { socket: self.socket })),
            Some(recv) if !self.is_cancelled && dice.roll(4) == 0 => {
                rig.ops.cancel(recv);
                self.is_cancelled = true;
            }
            None | Some(_) => {}
        }
        if self.send.is_none() && !self.held.is_empty() {
            let mut chain = Chain::new();
            self.held.drain(..).for_each(|buffer| chain.push(buffer));
            self.send = Some(rig.submit(Op::Send { socket: self.socket, chain }));
        }
        if self.has_ended && self.send.is_none() && !self.is_closed {
            rig.submit(Op::Close { socket: self.socket });
            self.is_closed = true;
        }
    }
}

/// A small generator, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn storm(kind: Kind, seed: u64) {
    let pool = PoolConfig { small_bytes: 4096, large_bytes: 16 << 10, small_max: 5, large_max: 2 };
    let mut rig = Rig::with_pool(kind, pool);
    let mut dice = Dice(seed);
    let mut peers = Vec::new();
    let mut echoes: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (socket, far) = rig.connection();
            peers.push(peer(far, dice.roll(u64::MAX)));
            let held = VecDeque::new();
            Echo { socket, recv: None, send: None, is_cancelled: false, held, has_ended: false, is_closed: false }
        })
        .collect();
    rig.until(|rig| {
        for completion in std::mem::take(&mut rig.done) {
            let owner = echoes.iter_mut().find(|echo| [echo.recv, echo.send].contains(&Some(completion.id)));
            match owner {
                Some(echo) => echo.on_outcome(completion),
                None => assert!(matches!(completion.outcome, Outcome::Done), "{completion:?} has no owner"),
            }
        }
        echoes.iter_mut().for_each(|echo| echo.pump(rig, &mut dice));
        echoes.iter().all(|echo| echo.is_closed)
    });
    // The last of the closes is still in the queue.
    rig.turn(Duration::ZERO);
    for peer in peers {
        assert!(peer.join().unwrap() == pattern(BYTES), "seed {seed}");
    }
    assert!(rig.driver.counters().buffers_exhausted > 0);
    rig.assert_at_rest();
}

/// Writes the pattern in pieces of all sizes from one thread, while another reads what comes back.
fn peer(far: TcpStream, seed: u64) -> std::thread::JoinHandle<Vec<u8>> {
    let back = reader(far.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut far = far;
        let mut dice = Dice(seed | 1);
        let bytes = pattern(BYTES);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = rest.len().min(1 << dice.roll(17));
            far.write_all(&rest[..count]).unwrap();
            rest = &rest[count..];
        }
        far.shutdown(std::net::Shutdown::Write).unwrap();
        back.join().unwrap()
    })
}

pub(super) fn every_byte_comes_back_whatever_is_cancelled_and_however_few_buffers_there_are(kind: Kind) {
    for seed in 1..=6 {
        storm(kind, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
    }
}
