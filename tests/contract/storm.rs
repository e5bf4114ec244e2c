//! Many connections, few buffers, and receives cancelled at random: each byte must come back once,
//! in order.

use std::collections::VecDeque;

use xps::internals::buffer::{Buffer, Chain, PoolConfig};
use xps::internals::driver::{Completion, Op, OpId, Outcome, Socket};

use crate::kind::{Case, Kind};
use crate::rig::Rig;
use crate::world::World;

const CONNECTIONS: usize = 12;
const SEEDS: u64 = 6;

/// The whole pool: fewer buffers than the connections could use.
const POOL: PoolConfig = PoolConfig { small_bytes: 4096, large_bytes: 16 << 10, small_max: 5, large_max: 2 };

pub fn every_byte_comes_back_whatever_is_cancelled_and_however_few_buffers_there_are<K: Kind>(case: &Case<K>) {
    let bytes = case.plenty(600_000);
    for number in 1..=SEEDS {
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number);
        let mut rig = case.rig_with(POOL);
        let mut dice = Dice(seed);
        let mut peers = Vec::new();
        let mut echoes: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (socket, mut far) = rig.connection();
                talk(&mut rig, &mut far, dice.roll(u64::MAX), bytes);
                peers.push(far);
                Echo::new(socket)
            })
            .collect();
        rig.until("the end of every echo", |rig| {
            for completion in rig.take_all() {
                let owner = echoes.iter_mut().find(|echo| [echo.recv, echo.send].contains(&Some(completion.id)));
                match owner {
                    Some(echo) => echo.on_outcome(completion),
                    None => assert!(matches!(completion.outcome, Outcome::Done), "{completion:?} has no owner"),
                }
            }
            echoes.iter_mut().for_each(|echo| echo.pump(rig, &mut dice));
            echoes.iter().all(|echo| echo.is_closed)
        });
        rig.until("the last close", |rig| rig.open_descriptors() == 0);
        for mut peer in peers {
            assert!(rig.read_rest(&mut peer) == pattern(bytes), "seed {seed}");
        }
        rig.finish();
    }
}

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
    fn new(socket: Socket) -> Self {
        let held = VecDeque::new();
        Self { socket, recv: None, send: None, is_cancelled: false, held, has_ended: false, is_closed: false }
    }

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

    fn pump<D: World>(&mut self, rig: &mut Rig<D>, dice: &mut Dice) {
        match self.recv {
            None if !self.has_ended => self.recv = Some(rig.submit(Op::Recv { socket: self.socket })),
            Some(recv) if !self.is_cancelled && dice.roll(4) == 0 => {
                rig.ask_to_cancel(recv);
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

/// The far end writes the pattern in pieces of all sizes, and reads what comes back meanwhile.
fn talk<D: World>(rig: &mut Rig<D>, far: &mut D::Far, seed: u64, bytes: usize) {
    rig.listen(far);
    let mut dice = Dice(seed | 1);
    let bytes = pattern(bytes);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let count = rest.len().min(1 << dice.roll(17));
        rig.pour(far, rest[..count].to_vec());
        rest = &rest[count..];
    }
    rig.end_sending(far);
}

/// Bytes in which a lost, duplicated or moved piece is detected.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
