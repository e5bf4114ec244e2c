//! Carries a scenario out and watches over it.

use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use xps::internals::buffer::SizeClass;
use xps::internals::config::{FileRouteConfig, ResponseConfig, UpstreamAddress};
use xps::internals::core::{Core, ListenerId, LiveCounts};
use xps::internals::driver::sim::{Behaviour, Injected, PeerEnd, PeerId, PlantedBug, Sim, Step};
use xps::internals::driver::{Completion, Counters, Driver, OpId, SymlinkPolicy, Time};
use xps::internals::file::store::RootPath;
use xps::internals::http::error_page::ErrorPages;
use xps::internals::http::forward::{Authority, RequestRules, ResponseRules};
use xps::internals::limit::{Admission, AdmissionConfig, Network};
use xps::internals::session::http::{
    ExchangeBug, FileRoute, Files, Http2Bug, Proxy, ProxyRoute as Route, Router, RouterCell, Source,
    plant_exchange_bug, plant_http2_bug, unplant_exchange_bug, unplant_http2_bug,
};
use xps::internals::session::{Content, ListenerContext, Service as SessionService};
use xps::internals::tls::planted_bug::{TlsBug, plant_tls_bug, unplant_tls_bug};
use xps::internals::tls::{ServerTls, seeded};
use xps::internals::upstream::{
    ConnectPolicy, GroupConfig, UpstreamGroup, Upstreams, plant_lost_wake_up, unplant_lost_wake_up,
};

use crate::forward::{PROXY_ADDRESS, origin_address};
use crate::gateway::Gateways;
use crate::h2::record::Counts;
use crate::h2::reference::{Answer, Reference, Server};
use crate::judge::judge;
use crate::scenario::{Client, FileCase, Scenario, Service, Stop, TEXT, UPSTREAM_PORT, Upstream, listener_address};
use crate::tls::{Flaw, Manner, Tls};

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Everything that should not be.
    pub alarms: Vec<String>,
    pub has_planted_bug: bool,
    pub fingerprint: u64,
    pub injected: Injected,
    pub counters: Counters,
    /// Clients of which everything could be demanded, and was there.
    pub whole: u64,
    /// How clients over TLS ended.
    pub tls_ends: Vec<PeerEnd>,
    /// Of all clients over HTTP/2.
    pub http2: Counts,
}

/// A bug, and where it is planted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bug {
    Driver(PlantedBug),
    Exchange(ExchangeBug),
    LostWakeUp,
    Tls(TlsBug),
    Http2(Http2Bug),
}

/// More turns than any run needs.
const TURNS_MAX: usize = 2_000_000;

/// Pieces that may still arrive on a socket after its pause was asked for, beyond those of one turn.
const PIECES_AFTER_PAUSE: usize = 8;

/// The most memory that one send may hold, beyond what one direction of a connection may: answers that wait to be sent, and
/// the last of them.
const SENDING_BYTES_MAX: usize = 512 << 10;

/// Runs a scenario, perhaps with a planted bug. A panic is an alarm like any other.
pub fn run(scenario: Scenario, planted_bug: Option<(Bug, u32)>) -> Report {
    let run = AssertUnwindSafe(|| World::new(&scenario, planted_bug).run(&scenario));
    panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of no known kind");
        Report { alarms: vec![format!("a panic: {text}")], has_planted_bug: planted_bug.is_some(), ..Report::default() }
    })
}

struct World {
    sim: Sim,
    core: Core,
    peers: Vec<PeerId>,
    slack_bytes: usize,
    alarms: Vec<String>,
}

impl World {
    /// Each client gets a listener of its own, so that who gets what is plain; only the proxy is one for all.
    fn new(scenario: &Scenario, planted_bug: Option<(Bug, u32)>) -> Self {
        let mut sim = Sim::new(scenario.seed, scenario.faults.clone());
        // Of an earlier run.
        unplant_exchange_bug();
        unplant_lost_wake_up();
        unplant_tls_bug();
        unplant_http2_bug();
        match planted_bug {
            Some((Bug::Driver(planted_bug), occasions)) => sim.plant_bug(planted_bug, occasions),
            Some((Bug::Exchange(bug), occasions)) => plant_exchange_bug(bug, occasions),
            Some((Bug::LostWakeUp, occasions)) => plant_lost_wake_up(occasions),
            Some((Bug::Tls(bug), occasions)) => plant_tls_bug(bug, occasions),
            Some((Bug::Http2(bug), occasions)) => plant_http2_bug(bug, occasions),
            None => {}
        }
        for case in [FileCase::Large, FileCase::Small, FileCase::Empty] {
            let path = case.path().to_str().expect("plain text").replace("./", "");
            sim.file(&path, case.bytes());
        }
        let mut core = Core::new(scenario.limits.clone());
        let gateways = scenario.gateways();
        let tls = scenario.tls.as_ref();
        let tls = tls.map(|encryption| (encryption, Tls::new(scenario.seed, scenario.has_http2(), gateways)));
        if gateways.is_some_and(|gateways| gateways.are_trusted) {
            let trusted = Network::around([192, 0, 2, 0].into(), 24).into_iter().collect();
            let config = AdmissionConfig { trusted, ..AdmissionConfig::default() };
            core.admit_by(Admission::succeeding(&Admission::default(), &config));
        }
        let context = |service: SessionService, has_tls: bool, expects_proxy_header: bool| {
            let tls = tls.as_ref().filter(|_| has_tls).map(|(_, tls)| {
                // Every other seed signs away from the loop.
                let signs_slowly = scenario.seed.is_multiple_of(2);
                Arc::new(ServerTls { signs_slowly, ..ServerTls::from(Arc::clone(&tls.listener)) })
            });
            let h2c = scenario.has_http2() && tls.is_none() && matches!(service, SessionService::Http(_));
            ListenerContext { h2c, tls, expects_proxy_header, ..service.into() }
        };
        let has_gateway = |number: usize| scenario.manner_of(number).is_some_and(|manner| manner.ends.is_some());
        let (proxy, group) = forwarding_service(scenario, tls.as_ref().map(|(_, tls)| tls), &mut sim);
        let has_tls = tls.as_ref().is_some_and(|(encryption, _)| encryption.proxy);
        let is_shared = |client: &Client| matches!(client.service, Service::Forward(_));
        let proxy_has_gateway =
            scenario.clients.iter().enumerate().any(|(number, client)| is_shared(client) && has_gateway(number));
        core.add_listener(ListenerId(0), sim.listener(PROXY_ADDRESS), context(proxy, has_tls, proxy_has_gateway));
        if gateways.is_some_and(|gateways| gateways.checks.is_some()) {
            core.monitor_upstreams(&[group], sim.now());
        }
        let mut peers = Vec::new();
        for (number, client) in scenario.clients.iter().enumerate() {
            let (manner, upstream_manner) = (scenario.manner_of(number), scenario.upstream_manner(number));
            let service = match &client.service {
                service if let (Some(reference), Some(_)) = (&scenario.reference, &client.http2) => {
                    Some(reference_service(*reference, service, number, scenario, &mut sim))
                }
                Service::Proxy(upstream) => {
                    let tls = tls.as_ref().zip(upstream_manner).map(|((_, tls), manner)| (tls, manner));
                    let connect_timeout = scenario.limits.connect_timeout;
                    Some(proxy_service(upstream, number, connect_timeout, tls, gateways, &mut sim))
                }
                service => session_service(service),
            };
            let address = match service {
                Some(service) => {
                    let address = listener_address(number);
                    let context = context(service, manner.is_some(), has_gateway(number));
                    core.add_listener(ListenerId(0), sim.listener(address), context);
                    address
                }
                None => PROXY_ADDRESS,
            };
            let layer =
                tls.as_ref().zip(manner).and_then(|((_, tls), manner)| tls.client(manner, client.http2.is_some()));
            peers.push(sim.client_over(layer, address, client.after, client.steps.clone()));
        }
        let pieces = scenario.faults.batch_max + PIECES_AFTER_PAUSE;
        let slack_bytes = pieces * scenario.faults.pool.large_bytes;
        Self { sim, core, peers, slack_bytes, alarms: Vec::new() }
    }

    fn run(mut self, scenario: &Scenario) -> Report {
        self.serve(scenario);
        let whole = judge(scenario, &self.sim, &self.peers, &mut self.alarms);
        self.alarms.extend(self.sim.violations().iter().map(ToString::to_string));
        self.find_leftovers();
        let tls_peers = self.peers.iter().enumerate().filter(|(number, _)| scenario.manner_of(*number).is_some());
        let tls_ends = tls_peers.filter_map(|(_, peer)| self.sim.peer(*peer).end()).collect();
        let mut http2 = Counts::default();
        scenario
            .clients
            .iter()
            .filter_map(|client| client.http2.as_ref())
            .for_each(|log| http2.add(&log.borrow().counts));
        Report {
            alarms: self.alarms,
            has_planted_bug: self.sim.has_planted_bug()
                | unplant_exchange_bug()
                | unplant_lost_wake_up()
                | unplant_tls_bug()
                | unplant_http2_bug(),
            fingerprint: self.sim.fingerprint(),
            injected: self.sim.injected(),
            counters: self.sim.counters(),
            whole,
            tls_ends,
            http2,
        }
    }

    /// Serves until everybody is done, then drains; stops at the first alarm.
    fn serve(&mut self, scenario: &Scenario) {
        let mut done = Vec::new();
        let mut is_draining = false;
        for _ in 0..TURNS_MAX {
            let now = self.sim.now();
            let until_stop = self.until_stop(scenario.stop);
            if until_stop == Some(Duration::ZERO) && !is_draining {
                is_draining = true;
                // Where nobody is stuck, everything comes to its end without a deadline.
                let timeout = scenario.limits.drain_timeout;
                self.core.drain(now, (scenario.stop != Stop::WhenDone).then_some(timeout));
            }
            if self.core.is_finished() {
                if scenario.has_http2() {
                    self.settle();
                }
                return;
            }
            let until_stop = until_stop.filter(|_| !is_draining);
            let wait = [self.core.wait(now), until_stop].into_iter().flatten().min();
            let turn = self.sim.turn(self.core.ops(), wait, &mut done).expect("the simulation never fails");
            seeded::set_time(turn.now.since(Time::ZERO));
            // Quiet with every peer done is as it should be.
            if self.sim.is_stalled() && (is_draining || self.until_stop(scenario.stop).is_none()) {
                return self.alarms.push(format!("a stall at {now:?}: {:?}", self.core.live_counts()));
            }
            if let Some(id) = self.unknown(&done) {
                return self.alarms.push(format!("an outcome of {id}, which has ended"));
            }
            // As a worker does: while buffers are scarce, a connection may hold less.
            self.core.set_share(self.sim.pool().share());
            self.core.on_turn(turn.now, &mut done);
            if let Err(violation) = self.core.check_invariants(self.slack_bytes) {
                return self.alarms.push(violation.to_string());
            }
            let sending = self.sim.sending_memory_max();
            if sending > SENDING_BYTES_MAX + scenario.limits.pipe_bytes_max + self.slack_bytes {
                return self.alarms.push(format!("a send holds {sending} bytes"));
            }
        }
        self.alarms.push("it does not come to an end".to_owned());
    }

    /// Lets the peers see the ends of their connections. A client of HTTP/2 may have waited for that.
    fn settle(&mut self) {
        let mut done = Vec::new();
        for _ in 0..TURNS_MAX {
            self.sim.turn(self.core.ops(), None, &mut done).expect("the simulation never fails");
            if self.sim.is_stalled() {
                return;
            }
        }
    }

    /// How long it is until the worker is told to stop, if that is known.
    fn until_stop(&self, stop: Stop) -> Option<Duration> {
        match stop {
            Stop::At(moment) => Some((Time::ZERO + moment).since(self.sim.now())),
            Stop::WhenDone | Stop::WhenDoneOrStuck => self.sim.peers_are_done().then_some(Duration::ZERO),
        }
    }

    /// The first outcome here that nobody waits for.
    fn unknown(&mut self, done: &[Completion]) -> Option<OpId> {
        let mut ended = HashSet::new();
        let ops = self.core.ops();
        done.iter()
            .find(|completion| {
                let is_known = ops.owner(completion.id).is_some() && !ended.contains(&completion.id);
                if completion.outcome.is_final() {
                    ended.insert(completion.id);
                }
                !is_known
            })
            .map(|completion| completion.id)
    }

    /// At rest there is nothing left of anything.
    fn find_leftovers(&mut self) {
        let live_counts = self.core.live_counts();
        if live_counts != LiveCounts::default() {
            self.alarms.push(format!("left in the core: {live_counts:?}"));
        }
        let (in_flight, descriptors) = (self.sim.in_flight(), self.sim.open_descriptors());
        if (in_flight, descriptors) != (0, 0) {
            self.alarms.push(format!("left in the driver: {in_flight} operations, {descriptors} descriptors"));
        }
        for class in [SizeClass::Small, SizeClass::Large] {
            let usage = self.sim.pool().usage(class);
            if usage.free != usage.made {
                self.alarms.push(format!("buffers left: {usage:?}"));
            }
        }
    }
}

/// The simulated files lie beneath any root.
fn root() -> RootPath {
    RootPath::new(Path::new("/").into(), SymlinkPolicy::Follow)
}

/// The simulated files over HTTP.
pub fn files() -> SessionService {
    let (config, responses) = (FileRouteConfig::default(), ResponseConfig::default());
    let file_route = FileRoute::new(Source::Folder(root()), config, responses, ErrorPages::default(), b"");
    SessionService::Http(RouterCell::new(Router::of(Box::new(Files), Rc::new(file_route))))
}

/// What serves a client on a listener of its own, if it needs nothing else for that.
fn session_service(service: &Service) -> Option<SessionService> {
    Some(match service {
        Service::Echo => SessionService::Echo,
        Service::Reverse => SessionService::Reverse,
        Service::Text => SessionService::Send(Content::Text(TEXT)),
        Service::File(case) => SessionService::Send(Content::File { root_path: root(), path: case.path().to_owned() }),
        Service::Http(_) => files(),
        Service::Proxy(_) | Service::Forward(_) => return None,
    })
}

/// A tunnel to a reference server of HTTP/2 of its own.
fn reference_service(
    reference: Reference,
    service: &Service,
    number: usize,
    scenario: &Scenario,
    sim: &mut Sim,
) -> SessionService {
    let address = Reference::address(number);
    let server = Server::new(scenario.seed + number as u64, Answer::all(service), reference.wrong);
    sim.upstream(address, Behaviour::Serve(vec![Step::Converse(Box::new(server))]));
    let config = GroupConfig::of([upstream_address(address.ip().to_string(), address.port(), false)]);
    let connect_policy = ConnectPolicy { tries_max: 0, connect_timeout: scenario.limits.connect_timeout };
    SessionService::Proxy(UpstreamGroup::sharing(&mut Upstreams::default(), config, &[None], 0), connect_policy)
}

/// A tunnel to an upstream of its own.
fn proxy_service(
    upstream: &Upstream,
    number: usize,
    connect_timeout: Duration,
    tls: Option<(&Tls, &Manner)>,
    gateways: Option<&Gateways>,
    sim: &mut Sim,
) -> SessionService {
    let host = format!("upstream-{number}");
    sim.host(&host, upstream.addresses.clone());
    let layers = tls.map(|(tls, manner)| tls.server(manner));
    sim.upstream_over(layers, upstream.address(), upstream.behaviour.clone());
    let announce = gateways.filter(|_| tls.is_some()).and_then(|gateways| gateways.announce);
    let config = GroupConfig { announce, ..GroupConfig::of([upstream_address(host, UPSTREAM_PORT, tls.is_some())]) };
    let peers = [tls.map(|(tls, _)| tls.peer.clone())];
    let connect_policy = ConnectPolicy { tries_max: 0, connect_timeout };
    SessionService::Proxy(UpstreamGroup::sharing(&mut Upstreams::default(), config, &peers, 0), connect_policy)
}

fn upstream_address(host: String, port: u16, is_tls: bool) -> UpstreamAddress {
    if is_tls { UpstreamAddress::Tcp { host: host.into(), port, is_tls } } else { UpstreamAddress::tcp(host, port) }
}

/// The service, and its group of servers.
fn forwarding_service(scenario: &Scenario, tls: Option<&Tls>, sim: &mut Sim) -> (SessionService, Rc<UpstreamGroup>) {
    let forwarding = &scenario.forwarding;
    let (mut addresses, mut peers) = (Vec::new(), Vec::new());
    for (number, server) in forwarding.origins.iter().enumerate() {
        let address = origin_address(number);
        let tls = tls.zip(forwarding.manner_of(number));
        let says_end = tls.is_none_or(|(_, manner)| manner.flaw != Flaw::NoEnd);
        let layers = tls.map(|(tls, manner)| tls.server(manner));
        sim.upstream_over(layers, address, server.behaviour(&forwarding.log, says_end));
        addresses.push(upstream_address(address.ip().to_string(), address.port(), tls.is_some()));
        peers.push(tls.map(|(tls, _)| tls.peer.clone()));
    }
    let gateways = scenario.gateways();
    let mut config = GroupConfig {
        queue: forwarding.queue,
        announce: gateways.filter(|_| forwarding.expect_headers()).and_then(|gateways| gateways.announce),
        checks: gateways.and_then(|gateways| gateways.checks.clone()),
        ..GroupConfig::of(addresses)
    };
    config.endpoints.iter_mut().for_each(|endpoint| endpoint.connections_max = forwarding.places);
    let file_route = Rc::new(FileRoute::nothing(ResponseConfig::default(), ErrorPages::default()));
    let group = UpstreamGroup::sharing(&mut Upstreams::default(), config, &peers, 0);
    let route = Route {
        name: "/".into(),
        group: Rc::clone(&group),
        connect_policy: ConnectPolicy { tries_max: forwarding.tries_max, connect_timeout: Duration::from_secs(10) },
        request: RequestRules::default(),
        response: ResponseRules::default(),
        authority: Authority::new("origin").expect("it is one"),
        keep_alive: forwarding.keep_alive,
        response_timeout: forwarding.response_timeout,
        upgrades: true,
        body_bytes_max: 0,
        file_route: Rc::clone(&file_route),
    };
    (SessionService::Http(RouterCell::new(Router::of(Box::new(Proxy(Rc::new(route))), file_route))), group)
}
