//! The endpoints of upstream groups.

use std::sync::Arc;

use super::super::endpoints::{EndpointFailure, EndpointLabels, EndpointSums};
use super::super::text::{Kind, Text};
use super::super::{Metrics, locked};

type Labels<'l> = [(&'static str, &'l str); 2];

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let endpoints: Vec<_> =
        locked(&metrics.endpoints).iter().map(|(labels, series)| (labels.clone(), Arc::clone(series))).collect();
    let all: Vec<(Labels<'_>, EndpointSums)> = (endpoints.iter())
        .map(|(EndpointLabels { group, address }, series)| {
            ([("group", group.as_str()), ("address", address.as_str())], series.sums())
        })
        .collect();
    let workers = metrics.workers.len() as u64;
    let help = "1 for the state of an endpoint: up or down for all workers, or mixed.";
    let mut states = text.family("xps_upstream_state", Kind::Gauge, help);
    for ([group, address], sums) in &all {
        for (state, is_it) in
            [("up", sums.down == 0), ("mixed", sums.down > 0 && sums.down < workers), ("down", sums.down >= workers)]
        {
            states.sample(&[*group, *address, ("state", state)], u8::from(is_it));
        }
    }
    let help = "Requests and TCP connections that were given to an endpoint, those that were tried again included.";
    let mut requests = text.family("xps_upstream_requests_total", Kind::Counter, help);
    all.iter().for_each(|(labels, sums)| requests.sample(labels, sums.requests));
    let help = "Requests and TCP connections in progress, by endpoint.";
    let mut in_flight = text.family("xps_upstream_in_flight", Kind::Gauge, help);
    all.iter().for_each(|(labels, sums)| in_flight.sample(labels, sums.in_flight));
    write_queues(&all, text);
    let help = "Idle connections to the address of an endpoint, which groups with the same address share.";
    let mut idle = text.family("xps_upstream_idle_connections", Kind::Gauge, help);
    all.iter().for_each(|(labels, sums)| idle.sample(labels, sums.idle));
    let help = "Requests that were tried again after this endpoint.";
    let mut retries = text.family("xps_upstream_retries_total", Kind::Counter, help);
    all.iter().for_each(|(labels, sums)| retries.sample(labels, sums.retries));
    let help = "Attempts that failed, by reason (response: after the connection was there).";
    let mut failures = text.family("xps_upstream_failures_total", Kind::Counter, help);
    for ([group, address], sums) in &all {
        for (failure, count) in EndpointFailure::ALL.into_iter().zip(&sums.failures) {
            failures.sample(&[*group, *address, ("reason", failure.name())], count);
        }
    }
    let help = "Health checks of an endpoint. One that several groups share is counted in the first of them.";
    let mut checks = text.family("xps_upstream_checks_total", Kind::Counter, help);
    for ([group, address], sums) in &all {
        checks.sample(&[*group, *address, ("result", "passed")], sums.checks_passed);
        checks.sample(&[*group, *address, ("result", "failed")], sums.checks_failed);
    }
    let help = "How long new connections took, with the look-up of the name and the TLS handshake.";
    let mut connect = text.family("xps_upstream_connect_seconds", Kind::Histogram, help);
    all.iter().for_each(|(labels, sums)| connect.distribution(labels, &sums.connect));
    let help = "From the connection to the head of the response.";
    let mut response = text.family("xps_upstream_response_seconds", Kind::Histogram, help);
    all.iter().for_each(|(labels, sums)| response.distribution(labels, &sums.response));
}

/// The series are in the order of their groups.
fn write_queues(all: &[(Labels<'_>, EndpointSums)], text: &mut Text) {
    let mut queues =
        text.family("xps_upstream_queued", Kind::Gauge, "Requests that wait for a free endpoint of a group.");
    for of_group in all.chunk_by(|([group, _], _), ([other, _], _)| group == other) {
        let queued = of_group.iter().fold(0, |sum: u64, (_, sums)| sum.wrapping_add(sums.queued));
        if let Some(([group, _], _)) = of_group.first() {
            queues.sample(&[*group], queued);
        }
    }
}
