//! Where and how a run was made.

use std::collections::BTreeMap;
use std::fs;

use super::plan::Plan;
use super::report::Manifest;
use crate::driver::{limits, unix_seconds};

impl Manifest {
    /// Of this host, and of this run.
    pub fn of(plan: &Plan, command: Vec<String>) -> Self {
        let mut known_limits = BTreeMap::new();
        let mut note = |name: &str, limit: Option<u64>| {
            // No number: unlimited.
            limit.map(|limit| known_limits.insert(name.to_owned(), limit));
        };
        note("descriptors", limits::descriptors().ok().and_then(|limit| limit.soft));
        note("locked_memory_bytes", limits::locked_memory().ok().and_then(|limit| limit.soft));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unix_seconds: unix_seconds(),
            command,
            kernel: limits::kernel_release(),
            processor: processor(),
            usable_processors: limits::usable_cpus(),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            mitigations: mitigations(),
            limits: known_limits,
            cgroup_processors: limits::cgroup_quota(),
            backend: plan.selection.backend.name().to_owned(),
            backend_reason: Some(plan.selection.reason.clone()),
        }
    }
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The processor's name: `model name`, or what other architectures have in its place.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    value("model name").or_else(|| value("CPU part")).or_else(|| value("uarch"))
}

/// What the kernel does about each fault of the processor that this one has.
fn mitigations() -> BTreeMap<String, String> {
    let Ok(folder) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return BTreeMap::new() };
    let read = folder.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let text = fs::read_to_string(entry.path()).ok()?;
        Some((name, text.trim().to_owned()))
    });
    read.filter(|(_, text)| text != "Not affected").collect()
}
