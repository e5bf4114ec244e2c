//! `receive` in a simulated world: a file is all that a client sent, or it is not there, whatever goes wrong.
//!
//! It has seeds of its own, so that those of the large scenario mean what they meant.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use xps::internals::config::Limits;
use xps::internals::core::{Core, ListenerId, LiveCounts};
use xps::internals::driver::sim::{Faults, PeerId, Sim, Step};
use xps::internals::driver::{Driver, Root};
use xps::internals::session::{Destination, Naming, Service as SessionService};

const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 5_000 };
const TURNS_MAX: usize = 500_000;

/// A client: what it sends, and whether it ends its side in order after that.
struct Client {
    payload: Vec<u8>,
    is_whole: bool,
    peer: PeerId,
}

/// Numbers that are different for each use and the same for each run.
fn draw(seed: u64, use_: u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ use_.wrapping_mul(0xd1b5_4a32_d192_ed03);
    state = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^ (state >> 29)
}

fn client(sim: &mut Sim, to: SocketAddr, seed: u64, number: u64) -> Client {
    let length = match draw(seed, 10 * number) % 4 {
        0 => 0,
        1 => draw(seed, 10 * number + 1) % 100,
        _ => draw(seed, 10 * number + 1) % 300_000,
    };
    // No two are the same, and none is a beginning of another.
    let payload: Vec<u8> = (0..length).map(|at| (draw(number + 1, at / 8) >> (8 * (at % 8))) as u8).collect();
    let is_whole = !draw(seed, 10 * number + 2).is_multiple_of(4);
    let mut steps = match draw(seed, 10 * number + 3) % 3 {
        0 => vec![Step::SendSlowly { bytes: payload.clone(), piece_bytes: 7_000, every: Duration::from_millis(20) }],
        _ => vec![Step::Send(payload.clone())],
    };
    steps.extend(if is_whole { vec![Step::ShutdownWrite, Step::ReadUntilEof] } else { vec![Step::Reset] });
    let after = Duration::from_millis(draw(seed, 10 * number + 4) % 500);
    Client { payload, is_whole, peer: sim.client(to, after, steps) }
}

/// Runs one seed; everything that should not be.
fn run(seed: u64) -> Vec<String> {
    let mut alarms = Vec::new();
    let faults = if seed.is_multiple_of(4) { Faults::none() } else { Faults::random(seed) };
    let slack_bytes = (faults.batch_max + 8) * faults.pool.large_bytes;
    let mut sim = Sim::new(seed, faults);
    let is_taken = draw(seed, 1).is_multiple_of(2);
    if is_taken {
        sim.file("in", b"from before".to_vec());
    }
    let naming = Naming { is_numbered: true, replaces: false };
    let root = Root::open(Path::new("/")).expect("there is always a root");
    let session_service = SessionService::Receive(Destination::new(root, c"in".to_owned(), naming));
    let pipe_bytes_max = 1 << (10 + draw(seed, 2) % 8);
    let limits = Limits { pipe_bytes_max, idle_timeout: Duration::from_secs(60), ..Limits::default() };
    let mut core = Core::new(limits);
    let address = SocketAddr::from(([127, 0, 0, 1], 8006));
    core.add_listener(ListenerId(0), sim.listener(address), session_service.into());
    let clients: Vec<Client> =
        (0..1 + draw(seed, 3) % 6).map(|number| client(&mut sim, address, seed, number)).collect();
    let mut done = Vec::new();
    let mut is_draining = false;
    for _ in 0..TURNS_MAX {
        let now = sim.now();
        if sim.peers_are_done() && !is_draining {
            is_draining = true;
            core.drain(now, Some(Duration::from_secs(5)));
        }
        if core.is_finished() {
            break;
        }
        let wait = core.wait(now);
        let turn = sim.turn(core.ops(), wait, &mut done).expect("the simulation never fails");
        core.on_turn(turn.now, &mut done);
        if let Err(violation) = core.check_invariants(slack_bytes) {
            return vec![violation.to_string()];
        }
    }
    alarms.extend(sim.violations().iter().map(ToString::to_string));
    if core.live_counts() != LiveCounts::default() || sim.in_flight() + sim.open_descriptors() > 0 {
        alarms.push(format!("left: {:?}, {} in the driver", core.live_counts(), sim.in_flight()));
    }
    judge(&sim, &clients, is_taken, &mut alarms);
    alarms
}

fn judge(sim: &Sim, clients: &[Client], is_taken: bool, alarms: &mut Vec<String>) {
    let mut received: Vec<&[u8]> = Vec::new();
    for (name, content) in sim.files() {
        match (name, is_taken) {
            (b"in", true) if content == b"from before" => {}
            (b"in", true) => alarms.push("what was there was overwritten".to_owned()),
            (name, _) if name.starts_with(b"in") => received.push(content),
            (name, _) => alarms.push(format!("a temporary file is left: {}", name.escape_ascii())),
        }
    }
    let mut whole: Vec<&[u8]> =
        clients.iter().filter(|client| client.is_whole).map(|client| &client.payload[..]).collect();
    for content in &received {
        match whole.iter().position(|payload| payload == content) {
            Some(at) => drop(whole.swap_remove(at)),
            None => alarms.push(format!("{} bytes that nobody sent as a whole", content.len())),
        }
    }
    // Where nothing was made to go wrong, nothing is missing.
    let is_calm = sim.injected().total() == 0 && clients.iter().all(|client| !sim.is_faulted(client.peer));
    if is_calm && !whole.is_empty() {
        alarms.push(format!("{} files are missing", whole.len()));
    }
}

#[test]
fn a_file_is_whole_or_not_there() {
    for seed in 0..SEEDS {
        let alarms = run(seed);
        assert!(alarms.is_empty(), "seed {seed}: {alarms:#?}");
    }
}
