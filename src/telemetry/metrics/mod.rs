//! Metrics of a server: one registry, which every worker counts in and which renders them all.
//!
//! ```text
//!   worker ──► its own cells ──┐
//!   worker ──► its own cells ──┼─► summed when asked ─► families ─► text
//!   server ──► facts, locked ──┘
//! ```
//!
//! Only its own worker writes to a cell, so counting costs one addition and no locked instruction. A
//! scrape sums the cells; the values of the workers are read at slightly different moments. What
//! belongs to the whole server changes seldom and stands behind locks, which no request takes.
//!
//! The files of `families/` say what each family counts, by subject; `text.rs` how it is written.

mod count;
mod endpoints;
mod expserver;
mod families;
mod histogram;
mod http2_limit;
mod listeners;
mod proc;
mod process;
mod routes;
mod text;
mod timeout_kind;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::count::Count;
use self::endpoints::EndpointSeries;
pub use self::endpoints::{EndpointCounters, EndpointFailure, EndpointLabels, EndpointState};
pub use self::expserver::API_CONTENT_TYPE;
use self::expserver::{CpuMeter, Retired};
pub use self::http2_limit::Http2Limit;
pub use self::listeners::{CLOSE_REASONS, ListenerCounters, ListenerSeries, RefusalKind};
use self::process::ProcessFacts;
pub use self::routes::{ExchangeFacts, MethodClass, RouteCounters, RouteLabels, RouteSeries};
use self::text::Text;
pub use self::text::{CONTENT_TYPE, FamilyInfo};
pub use self::timeout_kind::TimeoutKind;
use self::worker::WorkerCells;
pub use self::worker::{Gauges, WorkerCounters};

/// The metrics of all workers of a server.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[Arc<WorkerCells>]>,
    /// The routes of the configuration. Locked only by a reload and a scrape.
    routes: Series<RouteLabels, RouteSeries>,
    /// The listeners of the configuration, by address. Locked as seldom.
    listeners: Series<String, ListenerSeries>,
    /// The endpoints of the configuration. Locked as seldom.
    endpoints: Series<EndpointLabels, EndpointSeries>,
    /// Certificates of the listeners. Locked only by a reload, a renewal and a scrape.
    certificates: Mutex<Vec<CertificateExpiry>>,
    /// Locked as seldom.
    acme: Mutex<AcmeMetrics>,
    process: Mutex<ProcessFacts>,
    retired: Mutex<Retired>,
    cpu: Mutex<CpuMeter>,
}

/// Certificates that are obtained by ACME.
#[derive(Debug, Default)]
struct AcmeMetrics {
    obtained: u64,
    failed: u64,
    /// Host names, and when the next attempt for each is, in seconds since 1970.
    attempts: Vec<(String, i64)>,
}

/// When a certificate expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// Its file.
    pub certificate: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Metrics {
    /// Metrics for this number of workers, at least one.
    pub fn new(workers: usize) -> Arc<Self> {
        let workers = (0..workers.max(1)).map(|_| Arc::default()).collect();
        Arc::new(Self {
            workers,
            routes: Mutex::default(),
            listeners: Mutex::default(),
            endpoints: Mutex::default(),
            certificates: Mutex::default(),
            acme: Mutex::default(),
            process: Mutex::new(ProcessFacts::new()),
            retired: Mutex::default(),
            cpu: Mutex::new(CpuMeter::new()),
        })
    }

    /// Sets the back-end in use, and why it is not the preferred one, if it is not.
    pub fn set_backend(&self, backend: &'static str, fallback_reason: Option<&str>) {
        let mut process = locked(&self.process);
        process.backend = backend;
        process.reason = fallback_reason.unwrap_or_default().to_owned();
    }

    /// Sets the name of the server, for eXpServer's JSON.
    pub fn set_server_name(&self, name: &str) {
        locked(&self.process).server_name = name.to_owned();
    }

    /// Counts a reload of the configuration, applied or refused.
    pub fn count_reload(&self, is_applied: bool) {
        locked(&self.process).reload(is_applied);
    }

    /// Sets the routes that are counted from now on, and returns the series of each in the same order.
    /// One that was there already goes on counting; the others are forgotten.
    pub fn set_routes(&self, labels: Vec<RouteLabels>) -> Vec<Arc<RouteSeries>> {
        let workers = self.workers.len();
        let (series, gone) = replace(&self.routes, labels, |labels| RouteSeries::new(labels, workers));
        let mut retired = locked(&self.retired);
        gone.iter().for_each(|series| retired.add(series.labels.handler, &series.sums()));
        series
    }

    /// Sets the addresses of the listeners from now on, and returns the series of each, as
    /// [`Metrics::set_routes`] does.
    pub fn set_listeners(&self, addresses: Vec<String>) -> Vec<Arc<ListenerSeries>> {
        let workers = self.workers.len();
        replace(&self.listeners, addresses, |address| ListenerSeries::new(address, workers)).0
    }

    /// Sets the endpoints that are counted from now on. One that was there already goes on counting; the
    /// others are forgotten.
    pub fn set_endpoints(&self, labels: Vec<EndpointLabels>) {
        let workers = self.workers.len();
        replace(&self.endpoints, labels, |_| EndpointSeries::new(workers));
    }

    /// What all workers say of an endpoint at present.
    pub fn endpoint_state(&self, labels: &EndpointLabels) -> EndpointState {
        let series = locked(&self.endpoints).get(labels).map(Arc::clone);
        series.map(|series| series.state()).unwrap_or_default()
    }

    /// What a worker counts of an endpoint. What is counted of one that was not set is not rendered.
    pub fn endpoint(&self, labels: &EndpointLabels, worker: usize) -> EndpointCounters {
        let endpoints = locked(&self.endpoints);
        endpoints.get(labels).and_then(|series| series.of_worker(worker)).unwrap_or_default()
    }

    /// Sets the certificates that the listeners serve from now on.
    pub fn set_certificates(&self, mut certificates: Vec<CertificateExpiry>) {
        // A file that several listeners name is one sample: a scraper refuses two with the same label.
        certificates.sort_by(|a, b| a.certificate.cmp(&b.certificate).then(a.not_after.cmp(&b.not_after)));
        certificates.dedup_by(|a, b| a.certificate == b.certificate);
        *locked(&self.certificates) = certificates;
    }

    /// Adds a certificate that the listeners serve from now on, or replaces the one of this name.
    pub fn set_certificate(&self, expiry: CertificateExpiry) {
        let mut certificates = locked(&self.certificates);
        certificates.retain(|known| known.certificate != expiry.certificate);
        certificates.push(expiry);
        certificates.sort_by(|a, b| a.certificate.cmp(&b.certificate));
    }

    /// Counts an attempt to obtain a certificate by ACME.
    pub fn count_acme(&self, is_obtained: bool) {
        let mut acme = locked(&self.acme);
        *(if is_obtained { &mut acme.obtained } else { &mut acme.failed }) += 1;
    }

    /// Sets the host names whose certificates are obtained by ACME, and when the next attempt for each is,
    /// in seconds since 1970.
    pub fn set_acme_attempts(&self, mut attempts: Vec<(String, i64)>) {
        // A name that several authorities certify is one sample: the one that is due first.
        attempts.sort();
        attempts.dedup_by(|a, b| a.0 == b.0);
        locked(&self.acme).attempts = attempts;
    }

    /// Open client connections of all workers.
    pub fn connections(&self) -> u64 {
        self.sum(|cells| &cells.connections)
    }

    /// All metrics, in the text format of Prometheus.
    pub fn text(&self) -> String {
        self.rendered().into_text()
    }

    /// All families, also those without samples, in the order of the text.
    pub fn families() -> Vec<FamilyInfo> {
        Self::new(1).rendered().into_families()
    }

    fn rendered(&self) -> Text {
        let mut text = Text::default();
        families::write(self, &mut text);
        text
    }

    /// The processor time of each worker's thread, in seconds; `None`: not known.
    fn worker_cpu_seconds(&self) -> Vec<Option<f64>> {
        let seconds = |cells: &Arc<WorkerCells>| proc::thread_cpu_seconds(cells.thread.get()?);
        self.workers.iter().map(seconds).collect()
    }

    /// Connections that have ended for one of these reasons.
    fn ended(&self, is_counted: impl Fn(&str) -> bool) -> u64 {
        let reasons = CLOSE_REASONS.iter().enumerate().filter(|(_, reason)| is_counted(reason));
        reasons.map(|(at, _)| self.sum(|cells| &cells.ended[at])).sum()
    }

    /// The sum of a cell over all workers.
    fn sum(&self, cell: impl Fn(&WorkerCells) -> &Count) -> u64 {
        self.workers.iter().fold(0, |sum, cells| sum.wrapping_add(cell(cells).get()))
    }
}

/// Series by what names them.
type Series<K, S> = Mutex<BTreeMap<K, Arc<S>>>;

/// Replaces the series by those of these names, and returns them in the same order, and those that are
/// gone. Those that are there already stay.
fn replace<K: Ord + Clone, S>(
    series: &Series<K, S>,
    names: Vec<K>,
    new: impl Fn(K) -> S,
) -> (Vec<Arc<S>>, Vec<Arc<S>>) {
    let mut series = locked(series);
    let earlier = std::mem::take(&mut *series);
    let of_name = |name: K| {
        let of_name = series.entry(name.clone());
        Arc::clone(of_name.or_insert_with(|| earlier.get(&name).map_or_else(|| Arc::new(new(name)), Arc::clone)))
    };
    let in_order = names.into_iter().map(of_name).collect();
    let gone = earlier.into_iter().filter(|(name, _)| !series.contains_key(name)).map(|(_, series)| series);
    (in_order, gone.collect())
}

/// What a panic elsewhere has left is still good: each value is changed at once.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
