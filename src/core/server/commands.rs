//! The commands of operators, executed by the supervisor, which owns the server.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::changes::{self, Change};
use super::{Phase, Server, ServerHooks};
use crate::config::{ServerConfig, file};
use crate::core::supervised::Message;
use crate::driver::probe::Selection;
use crate::driver::{Address, signals, unix_seconds};
use crate::session::control::{Command, EndpointChange, Reply};
use crate::telemetry;
use crate::telemetry::metrics::{EndpointLabels, EndpointState};
use crate::upstream::shared::{NamedEndpoint, OperatorState};

/// The reloads so far.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    done: u64,
    refused: u64,
    last: Option<Reload>,
}

/// One reload: when it was, in seconds since 1970, and what came of it.
#[derive(Debug)]
struct Reload {
    at: u64,
    result: Result<Vec<Change>, String>,
}

impl Server {
    /// Executes the commands that have come, and has their requests answered.
    pub(super) fn execute_commands(&mut self, phase: Phase, hooks: &mut impl ServerHooks) {
        while let Some((waiter, command)) = self.operator.control.take_asked() {
            tracing::debug!(?command, "a command of an operator");
            let reply = self.execute(command, phase, hooks);
            self.operator.control.answer(waiter, reply);
            self.operator.resume(waiter);
        }
    }

    fn execute(&mut self, command: Command, phase: Phase, hooks: &mut impl ServerHooks) -> Reply {
        match command {
            Command::Status => Reply::Done(self.status(phase).to_string()),
            Command::Limits => Reply::Done(self.limits().to_string()),
            Command::Reload if phase != Phase::Serving => refused("the server is about to stop"),
            Command::Reload => match self.reload_by(hooks) {
                Ok(changes) => Reply::Done(json!({ "changes": listed(&changes) }).to_string()),
                Err(error) => refused(&error),
            },
            Command::LogLevel => log_level(),
            Command::SetLogLevel(directives) => match telemetry::set_filter(&directives) {
                Ok(()) => {
                    tracing::info!(directives, "an operator has set the level of the log");
                    log_level()
                }
                Err(error) => refused(&error.to_string()),
            },
            Command::Endpoints => Reply::Done(json!({ "endpoints": self.endpoints() }).to_string()),
            // It would be lost: the new process has got what was set before.
            Command::SetEndpoint(..) if self.replacement.is_underway.load(Ordering::Acquire) => {
                refused("a new process is taking over; try again once it serves")
            }
            Command::SetEndpoint(name, change) => self.set_endpoint(&name, change),
            Command::RotateLogs => {
                signals::request_reopening();
                Reply::Done(json!({}).to_string())
            }
        }
    }

    /// Reads the configuration again and applies it. Returns what it changes, or why it is refused.
    pub(super) fn reload_by(&mut self, hooks: &mut impl ServerHooks) -> Result<Vec<Change>, String> {
        let read = hooks.reload().unwrap_or_else(|| Err(NO_FILE.to_owned()));
        let result = read.and_then(|config| self.reload_to(config, hooks));
        self.metrics.count_reload(result.is_ok());
        *(if result.is_ok() { &mut self.reloads.done } else { &mut self.reloads.refused }) += 1;
        self.reloads.last = Some(Reload { at: unix_seconds(), result: result.clone() });
        result
    }

    fn reload_to(&mut self, config: ServerConfig, hooks: &mut impl ServerHooks) -> Result<Vec<Change>, String> {
        let changes = changes::between(&self.config, &config);
        let result = self.reload(&config);
        hooks.on_reloaded(result.map(|()| self.addresses.as_slice()))?;
        Ok(changes)
    }

    fn status(&self, phase: Phase) -> Value {
        let Selection { backend, reason, is_fallback, .. } = &self.selection;
        let state = match phase {
            Phase::Serving => "ready",
            Phase::Leaving { .. } => "leaving",
            Phase::Draining => "draining",
        };
        let listeners = self.config.listeners.iter().zip(&self.addresses);
        let listeners = listeners.map(|(listener, address)| (listener.service_name(), address.clone()));
        let operator = self.config.operator.listeners().zip(self.operator.listeners.addresses());
        let operator = operator.map(|((role, _), address)| (role, address));
        let shown = |(service, address): (&str, Address)| json!({ "service": service, "address": address.to_string() });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "process": std::process::id(),
            "state": state,
            "started": self.started,
            "uptime_seconds": unix_seconds().saturating_sub(self.started),
            "backend": backend.name(),
            "backend_reason": reason,
            "is_fallback": is_fallback,
            "workers": self.workers.len(),
            "connections": self.connections(),
            "file": self.config.operator.file.as_ref().map(|path| path.display().to_string()),
            "listeners": listeners.chain(operator).map(shown).collect::<Vec<_>>(),
            "log_level": telemetry::filter(),
            "reloads": { "done": self.reloads.done, "refused": self.reloads.refused },
            "differs": self.endpoints.iter().filter(|it| it.differs()).map(|it| self.endpoint(it)).collect::<Vec<_>>(),
            "last_reload": self.reloads.last.as_ref().map(Reload::json),
        })
    }

    fn endpoints(&self) -> Vec<Value> {
        self.endpoints.iter().map(|endpoint| self.endpoint(endpoint)).collect()
    }

    fn endpoint(&self, endpoint: &NamedEndpoint) -> Value {
        let NamedEndpoint { labels, weight, is_backup, setting } = endpoint;
        let EndpointState { workers_down, in_flight } = self.metrics.endpoint_state(labels);
        let EndpointLabels { group, address } = labels;
        let health = match workers_down {
            0 => "up",
            down if down < self.workers.len() as u64 => "down for some workers",
            _ => "down",
        };
        json!({
            "name": endpoint.name(),
            "group": group,
            "address": address,
            "health": health,
            "set": setting.state().name(),
            "weight": setting.weight().unwrap_or(*weight),
            "weight_in_file": weight,
            "is_backup": is_backup,
            "in_flight": in_flight,
            "differs": endpoint.differs(),
        })
    }

    fn set_endpoint(&self, name: &str, change: EndpointChange) -> Reply {
        let mut found = self.endpoints.named(name).peekable();
        if found.peek().is_none() {
            let known: Vec<String> = self.endpoints.iter().map(NamedEndpoint::name).collect();
            let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            return refused(&format!("there is no endpoint `{name}`; the endpoints: {known}"));
        }
        let mut changed = Vec::new();
        for endpoint in found {
            match change {
                EndpointChange::State(state) => {
                    endpoint.setting.set_state(state);
                    if state == OperatorState::Auto {
                        endpoint.setting.set_weight(None);
                    }
                }
                EndpointChange::Weight(weight) => endpoint.setting.set_weight(Some(weight)),
            }
            let (name, state) = (endpoint.name(), endpoint.setting.state().name());
            tracing::info!(
                endpoint = name,
                state,
                weight = endpoint.setting.weight(),
                "an operator has set an endpoint"
            );
            changed.push(self.endpoint(endpoint));
        }
        self.workers.iter().for_each(|worker| worker.tell(Message::Reconsider));
        Reply::Done(json!({ "endpoints": changed }).to_string())
    }

    fn limits(&self) -> Value {
        let ServerConfig { limits, admission, .. } = &self.config;
        // What a file can say, in its words; numbers and texts only, so that this cannot fail.
        let whole = serde_json::to_value(file::Limits::from(limits)).unwrap_or_default();
        json!({
            "max_connections": admission.connections_max,
            "connections_per_address": admission.connections_per_address,
            "requests_per_second": admission.rate.map(|rate| rate.per_second),
            "burst": admission.rate.map(|rate| rate.burst),
            "limits": whole,
        })
    }
}

impl Reload {
    fn json(&self) -> Value {
        match &self.result {
            Ok(changes) => json!({ "at": self.at, "is_done": true, "changes": listed(changes) }),
            Err(error) => json!({ "at": self.at, "is_done": false, "error": error }),
        }
    }
}

const NO_FILE: &str = "this server has no configuration file to read again";

fn listed(changes: &[Change]) -> Vec<Value> {
    changes.iter().map(Change::json).collect()
}

fn log_level() -> Reply {
    Reply::Done(json!({ "log_level": telemetry::filter() }).to_string())
}

fn refused(error: &str) -> Reply {
    Reply::Refused(json!({ "error": error }).to_string())
}
