//! Two workers that share their health checks. Each has a simulated world of its own with the same
//! upstreams, and the clocks of both go forward together.
//!
//! As a worker does, one takes over what the other has found only after its waker was used.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use xps::internals::config::{Limits, UpstreamAddress};
use xps::internals::core::{Core, ListenerId, LiveCounts};
use xps::internals::driver::sim::{Behaviour, Converse, Faults, Move, PeerId, Rng, Sim, Step};
use xps::internals::driver::{Completion, Driver, Time, Waker};
use xps::internals::session::Service;
use xps::internals::upstream::group::{CheckConfig, CheckKind, HttpCheck, PassiveHealth, QueueConfig, SlowStart};
use xps::internals::upstream::shared::planted_bug::{plant_secret_change, unplant_secret_change};
use xps::internals::upstream::{ConnectPolicy, GroupConfig, SharedEndpoints, UpstreamGroup, Upstreams};

const LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)), 80);
const REQUEST: &str = "GET / HTTP/1.1\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const WORKERS: usize = 2;

/// Of each other, the clocks are never further apart.
const STEP: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_millis(20);

/// Turns of one worker in one step, beyond any number that is needed.
const TURNS_MAX: usize = 10_000;

/// An upstream, the same in both worlds.
#[derive(Clone, Debug, Default)]
struct Server {
    is_well: Rc<Cell<bool>>,
    /// Checks by each worker so far.
    checks: Rc<RefCell<[u64; WORKERS]>>,
    /// Time until a request other than a check is answered.
    delay: Duration,
}

/// One connection to it.
#[derive(Clone, Debug)]
struct Visit {
    server: Server,
    worker: usize,
}

impl Server {
    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, number as u8 + 1], 3000))
    }
}

impl Converse for Visit {
    fn hear(&mut self, unread: &[u8], _: bool, _: &mut Rng) -> Option<Move> {
        let taken = unread.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let steps = if unread.starts_with(b"GET /health ") {
            self.server.checks.borrow_mut()[self.worker] += 1;
            let status = if self.server.is_well.get() { "204 No Content" } else { "503 Service Unavailable" };
            vec![Step::Send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into())]
        } else {
            vec![Step::Stall(self.server.delay), Step::Send(RESPONSE.into())]
        };
        Some(Move { taken, steps })
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(self.clone())
    }
}

/// One worker and its world.
struct Side {
    sim: Sim,
    core: Core,
    group: Rc<UpstreamGroup>,
    waker: Waker,
    done: Vec<Completion>,
}

impl Side {
    fn new(seed: u64, faults: Faults, worker: usize, servers: &[Server], endpoints: &Arc<SharedEndpoints>) -> Self {
        let mut sim = Sim::new(seed * WORKERS as u64 + worker as u64, faults);
        for (number, server) in servers.iter().enumerate() {
            let visit = Visit { server: server.clone(), worker };
            sim.upstream(Server::address(number), Behaviour::Serve(vec![Step::Converse(Box::new(visit))]));
        }
        let mut upstreams = Upstreams::default();
        upstreams.share(Arc::clone(endpoints));
        let group = UpstreamGroup::sharing(&mut upstreams, config(servers.len()), &[], seed ^ worker as u64);
        let mut core = Core::new(Limits::default());
        let connect_policy = ConnectPolicy { tries_max: 1, connect_timeout: Duration::from_secs(1) };
        let service = Service::Proxy(Rc::clone(&group), connect_policy);
        core.add_listener(ListenerId(0), sim.listener(LISTENER), service.into());
        let waker = Waker::new().expect("a descriptor");
        endpoints.register_waker(waker.clone());
        core.share_endpoints(Arc::clone(endpoints), worker);
        core.monitor_upstreams(&[Rc::clone(&group)], sim.now());
        Self { sim, core, group, waker, done: Vec::new() }
    }

    fn client(&mut self, after: Duration) -> PeerId {
        let steps = vec![Step::Send(REQUEST.into()), Step::Expect(RESPONSE.len()), Step::Close];
        self.sim.client(LISTENER, after, steps)
    }

    fn ups(&self) -> Vec<bool> {
        let status = |endpoint| self.group.status(endpoint, self.sim.now()).expect("an endpoint of its own");
        self.group.ids().map(|endpoint| status(endpoint).is_up).collect()
    }

    /// Takes its turns until then. A turn without a reason is none: what it would find by chance is not
    /// what a worker would.
    fn run_until(&mut self, end: Time) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            let now = self.sim.now();
            if now >= end || self.core.is_finished() {
                return Ok(());
            }
            let due = self.core.wait(now).map(|wait| now + wait);
            let until = due.map_or(end, |due| due.min(end));
            let turn = self.sim.turn(self.core.ops(), Some(until.since(now)), &mut self.done);
            let now = turn.expect("the simulation never fails").now;
            if !self.done.is_empty() || due.is_some_and(|due| due <= now) {
                self.turn(now)?;
            }
        }
        Err(format!("too many turns at {:?}", self.sim.now()))
    }

    /// Takes a turn if it was woken. Returns whether it was.
    fn heed(&mut self) -> Result<bool, String> {
        let is_woken = self.waker.clear() && !self.core.is_finished();
        if is_woken {
            let now = self.sim.now();
            self.core.on_wake(now);
            self.turn(now)?;
        }
        Ok(is_woken)
    }

    fn turn(&mut self, now: Time) -> Result<(), String> {
        self.core.set_share(self.sim.pool().share());
        self.core.on_turn(now, &mut self.done);
        self.core.check_invariants(usize::MAX / 4).map_err(|violation| violation.to_string())
    }

    fn drain(&mut self) {
        self.core.drain(self.sim.now(), Some(Duration::from_secs(5)));
    }
}

fn config(servers: usize) -> GroupConfig {
    let address = |number| {
        let address = Server::address(number);
        UpstreamAddress::tcp(address.ip().to_string(), address.port())
    };
    let kind = CheckKind::Http(Box::new(HttpCheck::get("/health")));
    let mut config = GroupConfig {
        // What is up is then only the checks' affair.
        passive: PassiveHealth { failures: 0, ..PassiveHealth::default() },
        slow_start: SlowStart(Duration::ZERO),
        queue: QueueConfig { timeout: Duration::ZERO, ..QueueConfig::default() },
        checks: Some(CheckConfig { kind, interval: INTERVAL, timeout: TIMEOUT, rise: 2, fall: 2 }),
        ..GroupConfig::of((0..servers).map(address))
    };
    config.endpoints.iter_mut().for_each(|endpoint| endpoint.connections_max = 1);
    config
}

struct World {
    servers: Vec<Server>,
    sides: Vec<Side>,
    /// The worker that takes no turn.
    stalled: Option<usize>,
    now: Time,
}

impl World {
    fn new(seed: u64, faults: &Faults, servers: Vec<Server>) -> Self {
        let endpoints = SharedEndpoints::succeeding(&SharedEndpoints::default(), WORKERS, &[config(servers.len())]);
        let side = |worker| Side::new(seed, faults.clone(), worker, &servers, &endpoints);
        let sides = (0..WORKERS).map(side).collect();
        Self { servers, sides, stalled: None, now: Time::ZERO }
    }

    /// One step of both clocks.
    fn step(&mut self) -> Result<(), String> {
        self.now = self.now + STEP;
        let (now, stalled) = (self.now, self.stalled);
        let runs = move |(worker, _): &(usize, &mut Side)| Some(*worker) != stalled;
        for (_, side) in self.sides.iter_mut().enumerate().filter(runs) {
            side.run_until(now)?;
        }
        let mut is_woken = true;
        while is_woken {
            is_woken = false;
            for (_, side) in self.sides.iter_mut().enumerate().filter(runs) {
                is_woken |= side.heed()?;
            }
        }
        Ok(())
    }

    /// One step after another, for this long.
    fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now + time;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    /// The upstreams that each worker has up.
    fn ups(&self) -> Vec<Vec<bool>> {
        self.sides.iter().map(Side::ups).collect()
    }

    /// Runs until then. After each step both workers have the same upstreams up.
    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while self.now < Time::ZERO + end {
            self.step()?;
            let ups = self.ups();
            if ups.iter().any(|up| *up != ups[0]) {
                return Err(format!("at {:?} the workers have these up: {ups:?}", self.now));
            }
        }
        Ok(())
    }

    /// Ends both workers. Nothing may be left.
    fn end(mut self) -> Result<(), String> {
        self.sides.iter_mut().for_each(Side::drain);
        let end = self.now + Duration::from_secs(60);
        while self.sides.iter().any(|side| !side.core.is_finished()) {
            if self.now >= end {
                let left: Vec<_> = self.sides.iter().map(|side| side.core.live_counts()).collect();
                return Err(format!("no end: {left:?}"));
            }
            self.step()?;
        }
        for side in &self.sides {
            let left = (side.core.live_counts(), side.sim.in_flight(), side.sim.open_descriptors());
            if left != (LiveCounts::default(), 0, 0) {
                return Err(format!("left: {left:?}"));
            }
            if let Some(violation) = side.sim.violations().first() {
                return Err(violation.to_string());
            }
        }
        Ok(())
    }
}

/// Upstreams fall ill and recover while clients of both workers come and go.
fn run(seed: u64, faults: &Faults, is_calm: bool) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let servers = (0..rng.range(1, 5)).map(|_| {
        let server = Server { delay: Duration::from_millis(rng.below(30)), ..Server::default() };
        server.is_well.set(true);
        server
    });
    let servers: Vec<Server> = servers.collect();
    let mut world = World::new(seed, faults, servers);
    let mut clients = Vec::new();
    for (worker, side) in world.sides.iter_mut().enumerate() {
        for _ in 0..20 {
            clients.push((worker, side.client(Duration::from_millis(rng.below(2000)))));
        }
    }
    for _ in 0..8 {
        let end = world.now.since(Time::ZERO) + Duration::from_millis(rng.below(400));
        world.run_until(end)?;
        let server = &world.servers[rng.below(world.servers.len() as u64) as usize];
        server.is_well.set(!server.is_well.get());
    }
    // Time for the rest of a check, and for two more of each.
    let end = world.now.since(Time::ZERO).max(Duration::from_secs(2)) + 4 * (INTERVAL + TIMEOUT);
    world.run_until(end)?;
    let well: Vec<bool> = world.servers.iter().map(|server| server.is_well.get()).collect();
    if is_calm && world.sides[0].ups() != well {
        return Err(format!("well are {well:?}, up are {:?}", world.sides[0].ups()));
    }
    for (number, server) in world.servers.iter().enumerate() {
        let checks = *server.checks.borrow();
        if checks.iter().filter(|checks| **checks > 0).count() > 1 || is_calm && checks == [0; WORKERS] {
            return Err(format!("server {number} was checked by the workers {checks:?} times"));
        }
    }
    if is_calm {
        for (worker, client) in clients {
            let received = world.sides[worker].sim.peer(client).received();
            // Without an upstream that is up, its connection ends.
            if !received.is_empty() && received != RESPONSE.as_bytes() {
                return Err(format!("a client got {:?}", String::from_utf8_lossy(received)));
            }
        }
    }
    world.end()
}

const SEEDS: u64 = if cfg!(debug_assertions) { 40 } else { 1000 };

#[test]
fn two_workers_always_have_the_same_upstreams_up() {
    unplant_secret_change();
    for seed in 0..SEEDS {
        for (faults, is_calm) in [(Faults::none(), true), (Faults::random(seed), false)] {
            let result = run(seed, &faults, is_calm);
            assert_eq!(result, Ok(()), "seed {seed}, calm: {is_calm}");
        }
    }
}

#[test]
fn a_change_that_is_kept_secret_is_noticed() {
    let mut noticed = 0;
    for seed in 0..10 {
        plant_secret_change(u32::try_from(seed % 3).expect("a small number"));
        let result = run(seed, &Faults::none(), true);
        let was_kept = unplant_secret_change();
        assert_eq!(result.is_err(), was_kept, "seed {seed}: {result:?}");
        noticed += usize::from(was_kept);
    }
    assert!(noticed > 5, "{noticed}");
}

/// Whether a client of worker 1 is served by an upstream that worker 0 finds up, while the only other
/// one is busy with another client.
fn resumes(seed: u64) -> bool {
    let servers = [(false, Duration::ZERO), (true, Duration::from_secs(10))].map(|(is_well, delay)| {
        let server = Server { delay, ..Server::default() };
        server.is_well.set(is_well);
        server
    });
    let mut world = World::new(seed, &Faults::none(), servers.to_vec());
    let clients: Vec<PeerId> = [500, 600].map(|millis| world.sides[1].client(Duration::from_millis(millis))).to_vec();
    let has_response = |world: &World, client: PeerId| !world.sides[1].sim.peer(client).received().is_empty();
    let run = |world: &mut World, millis| {
        while world.now < Time::ZERO + Duration::from_millis(millis) {
            world.step().expect("the workers go on");
        }
    };
    run(&mut world, 900);
    assert!(clients.iter().all(|client| !has_response(&world, *client)), "seed {seed}: one was served");
    world.servers[0].is_well.set(true);
    run(&mut world, 1500);
    assert!(!has_response(&world, clients[0]), "seed {seed}: its upstream takes longer");
    assert_eq!(world.servers[0].checks.borrow()[1], 0, "seed {seed}: worker 1 has checked it");
    has_response(&world, clients[1])
}

#[test]
fn a_client_that_waits_is_resumed_by_what_the_other_worker_finds() {
    unplant_secret_change();
    for seed in 0..20 {
        assert!(resumes(seed), "seed {seed}");
        // The second change, after that to down.
        plant_secret_change(1);
        assert!(!resumes(seed), "seed {seed}");
        assert!(unplant_secret_change());
    }
}

/// The checks of a worker that stalls are made by the other one after the term of its lease.
fn is_taken_over(seed: u64) -> Result<(), String> {
    let well = |_| {
        let server = Server::default();
        server.is_well.set(true);
        server
    };
    let servers: Vec<Server> = (0..WORKERS).map(well).collect();
    let mut world = World::new(seed, &Faults::none(), servers.clone());
    world.run_until(4 * INTERVAL)?;
    let checks = || -> Vec<[u64; WORKERS]> { servers.iter().map(|server| *server.checks.borrow()).collect() };
    let stalled = (seed % WORKERS as u64) as usize;
    let other = 1 - stalled;
    let of_stalled = checks().iter().position(|checks| checks[stalled] > 0).ok_or("it checks nothing")?;
    if checks()[of_stalled][other] > 0 {
        return Err(format!("both check: {:?}", checks()));
    }
    world.stalled = Some(stalled);
    servers.iter().for_each(|server| server.is_well.set(false));
    // Time for three checks, the first of which may have begun before: the lease goes on meanwhile.
    let term = 3 * (INTERVAL + TIMEOUT);
    world.run_for(term - 2 * (INTERVAL + TIMEOUT))?;
    if checks()[of_stalled][other] > 0 {
        return Err("the lease was not respected".to_owned());
    }
    world.run_for(term + 3 * (INTERVAL + TIMEOUT))?;
    if world.ups()[other] != [false; WORKERS] {
        return Err(format!("no worker took over: {:?}", world.ups()));
    }
    // It goes on, learns what was found, and leaves the check to the other one.
    world.stalled = None;
    world.run_for(2 * (INTERVAL + TIMEOUT))?;
    let of_both = checks()[of_stalled];
    world.run_until(world.now.since(Time::ZERO) + 2 * term)?;
    if world.ups()[0] != [false; WORKERS] || checks()[of_stalled][stalled] != of_both[stalled] {
        return Err(format!("up are {:?}, checks before {of_both:?} and after {:?}", world.ups(), checks()));
    }
    servers.iter().for_each(|server| server.is_well.set(true));
    world.run_until(world.now.since(Time::ZERO) + 4 * (INTERVAL + TIMEOUT))?;
    if world.ups()[0] != [true; WORKERS] {
        return Err(format!("up are {:?}", world.ups()));
    }
    world.end()
}

#[test]
fn the_checks_of_a_worker_that_stalls_are_taken_over() {
    unplant_secret_change();
    for seed in 0..20 {
        assert_eq!(is_taken_over(seed), Ok(()), "seed {seed}");
    }
}
