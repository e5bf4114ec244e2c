//! `xps probe`: shows what this kernel and this process allow, which back-end is chosen, and how to
//! lift each limit.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::ProbeOptions;
use super::failure::Failure;
use crate::driver::limits::{self, ResourceLimit};
use crate::driver::probe::{self, Available, Environment, Selection, Unavailable};
use crate::driver::{Feature, FeatureSet, RingSize};

/// A lower hard limit of descriptors causes advice. A proxied connection takes two.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// A shorter accept queue causes advice: it loses connections in bursts.
const BACKLOG_WANTED: u64 = 4096;

/// Fewer local ports cause advice: they run out with many connections to one upstream.
const PORTS_WANTED: usize = 20_000;

/// The results of the probe.
struct Report {
    kernel: String,
    environment: Environment,
    workers: usize,
    io_uring: Result<Available, Unavailable>,
    choice: Result<Selection, Unavailable>,
    cpus: usize,
    cgroup_quota: Option<f64>,
    descriptors: Option<ResourceLimit>,
    locked_memory: Option<ResourceLimit>,
    backlog_max: Option<u64>,
    ports: Option<(u16, u16)>,
}

/// A limit that is low, and the command that raises it.
struct Advice {
    what: String,
    fix: String,
}

/// Prints the report.
pub fn run(options: &ProbeOptions) -> Result<(), Failure> {
    let workers = options.workers.map_or_else(limits::usable_cpus, usize::from);
    let report = Report::collect(options.uring.uring_off.iter().flatten().copied().collect(), workers);
    super::print(if options.json { format!("{:#}\n", report.to_json()) } else { report.to_text() }.as_bytes())
}

impl Report {
    fn collect(off: FeatureSet, workers: usize) -> Self {
        // Probed once, so that all parts of the report agree.
        let io_uring = probe::availability(off, workers);
        Self {
            kernel: limits::kernel_release(),
            environment: Environment::observe(),
            workers,
            choice: probe::choose_by(io_uring.clone(), off, workers),
            io_uring,
            cpus: limits::usable_cpus(),
            cgroup_quota: limits::cgroup_quota(),
            descriptors: limits::descriptors().ok(),
            locked_memory: limits::locked_memory().ok(),
            backlog_max: limits::backlog_max(),
            ports: limits::port_range().map(|ports| (*ports.start(), *ports.end())),
        }
    }

    fn advice(&self) -> Vec<Advice> {
        let mut advice = Vec::new();
        if let Err(unavailable) = &self.io_uring {
            advice.push(Advice { what: unavailable.to_string(), fix: unavailable.remedy().to_owned() });
        }
        if let Ok(Available { size, .. }) = self.io_uring
            && size != RingSize::FULL
        {
            let (is, wanted) = (size.completions, RingSize::FULL.completions);
            advice.push(Advice {
                what: format!("rings of {is} completions instead of {wanted}: the limit of locked memory is low"),
                fix: Unavailable::LockedMemory.remedy().to_owned(),
            });
        }
        if let Some(hard) = self.descriptors.and_then(|limit| limit.hard)
            && hard < DESCRIPTORS_WANTED
        {
            advice.push(Advice {
                what: format!("at most {hard} descriptors, so about {} proxied connections", hard / 2),
                fix: format!(
                    "ulimit -Hn {DESCRIPTORS_WANTED} as root, or LimitNOFILE={DESCRIPTORS_WANTED} in the unit"
                ),
            });
        }
        if let Some(backlog) = self.backlog_max.filter(|backlog| *backlog < BACKLOG_WANTED) {
            advice.push(Advice {
                what: format!("at most {backlog} connections can wait to be accepted"),
                fix: format!("sysctl net.core.somaxconn={BACKLOG_WANTED}"),
            });
        }
        if let Some((first, last)) = self.ports
            && usize::from(last.saturating_sub(first)) < PORTS_WANTED
        {
            advice.push(Advice {
                what: format!("only ports {first} to {last} for connections to upstreams"),
                fix: "sysctl net.ipv4.ip_local_port_range='1024 65535'".to_owned(),
            });
        }
        advice
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        match &self.choice {
            Ok(selection) => writeln!(text, "back-end      {}: {}", selection.backend.name(), selection.reason)?,
            Err(unavailable) => writeln!(text, "back-end      none: {unavailable}")?,
        }
        writeln!(text, "kernel        {}", self.kernel)?;
        match &self.io_uring {
            Err(unavailable) => writeln!(text, "io_uring      unavailable: {unavailable}")?,
            Ok(Available { features, size }) => {
                let (workers, each) = (self.workers, size.locked_bytes() >> 10);
                writeln!(text, "io_uring      available")?;
                writeln!(text, "  rings              {workers}, of {} completions, {each} KiB each", size.completions)?;
                for feature in Feature::ALL {
                    writeln!(text, "  {:<18} {}", feature.name(), if features.has(feature) { "yes" } else { "no" })?;
                }
            }
        }
        writeln!(text, "  sysctl setting     {}", disabled_text(self.environment.io_uring_disabled))?;
        writeln!(text, "  seccomp            {}", seccomp_text(self.environment.seccomp_mode))?;
        writeln!(text, "epoll         available")?;
        let quota = self.cgroup_quota.map_or(String::new(), |cpus| format!(" (control group's quota: {cpus:.2})"));
        writeln!(text, "processors    {}{quota}", self.cpus)?;
        writeln!(text, "descriptors   {}", limit_text(self.descriptors, "a server raises it to"))?;
        writeln!(text, "locked memory {} (bytes)", limit_text(self.locked_memory, "may be raised to"))?;
        writeln!(text, "backlog       {}", self.backlog_max.map_or("unknown".into(), |backlog| backlog.to_string()))?;
        if let Some((first, last)) = self.ports {
            writeln!(text, "ports         {first} to {last}")?;
        }
        for Advice { what, fix } in self.advice() {
            writeln!(text, "\n{what}\n  {fix}")?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let io_uring = match &self.io_uring {
            Ok(Available { features, size }) => json!({
                "available": true,
                "rings": {
                    "number": self.workers,
                    "submissions": size.submissions,
                    "completions": size.completions,
                    "locked_bytes_each": size.locked_bytes(),
                },
                "features": Feature::ALL.map(|feature| (feature.name().to_owned(), json!(features.has(feature))))
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>(),
            }),
            Err(unavailable) => {
                json!({ "available": false, "reason": unavailable.to_string(), "remedy": unavailable.remedy() })
            }
        };
        let choice = match &self.choice {
            Ok(selection) => json!({
                "backend": selection.backend.name(),
                "reason": selection.reason,
                "fallback": selection.is_fallback,
                "remedy": selection.remedy,
            }),
            Err(unavailable) => json!({ "backend": null, "reason": unavailable.to_string(), "fallback": false }),
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": self.kernel,
            "auto": choice,
            "io_uring_disabled": self.environment.io_uring_disabled,
            "seccomp_mode": self.environment.seccomp_mode,
            "io_uring": io_uring,
            "epoll": { "available": true },
            "limits": {
                "processors": self.cpus,
                "cgroup_quota": self.cgroup_quota,
                "descriptors": limit_json(self.descriptors),
                "locked_memory_bytes": limit_json(self.locked_memory),
                "backlog_max": self.backlog_max,
                "ports": self.ports.map(|(first, last)| [first, last]),
            },
            "advice": self.advice().iter()
                .map(|Advice { what, fix }| json!({ "what": what, "fix": fix }))
                .collect::<Vec<_>>(),
        })
    }
}

fn limit_text(limit: Option<ResourceLimit>, raised: &str) -> String {
    let text = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    match limit {
        None => "unknown".to_owned(),
        Some(ResourceLimit { soft, hard }) if soft == hard => text(soft),
        Some(ResourceLimit { soft, hard }) => format!("{}, {raised} {}", text(soft), text(hard)),
    }
}

fn disabled_text(setting: Option<u32>) -> String {
    match setting {
        None => "none (kernel.io_uring_disabled exists since Linux 6.6)".to_owned(),
        Some(0) => "kernel.io_uring_disabled = 0: enabled for all processes".to_owned(),
        Some(1) => "kernel.io_uring_disabled = 1: only for kernel.io_uring_group and CAP_SYS_ADMIN".to_owned(),
        Some(setting) => format!("kernel.io_uring_disabled = {setting}: disabled for all processes"),
    }
}

const fn seccomp_text(mode: Option<u32>) -> &'static str {
    match mode {
        Some(0) => "no filter",
        Some(1) => "strict",
        Some(2) => "a filter is in force",
        Some(_) | None => "unknown",
    }
}

fn limit_json(limit: Option<ResourceLimit>) -> Value {
    limit.map_or(Value::Null, |limit| json!({ "soft": limit.soft, "hard": limit.hard }))
}
