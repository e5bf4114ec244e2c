//! `xps ctl`: asks a running server, or tells it to do something, by its admin socket.
//!
//! A command is one request of HTTP/1.1 (`src/session/http/handler/operator.rs`) and its reply is JSON,
//! which is printed as it is or as text.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::args::{CtlCommand, CtlOptions};
use super::failure::Failure;
use super::operator_request::{self, RequestError};
use super::run::{place, read};
use crate::config::file::Profile;
use crate::config::units::Period;

/// The admin socket of a server that is run by the shipped unit, if its file names this one.
pub const DEFAULT_SOCKET: &str = "/run/xps/admin.sock";

/// How long a reply may take. A reload opens files and sockets, which a slow disk may delay.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The server refuses it.
    #[error("{reason}")]
    Refused { reason: String },
    /// No server can be reached there.
    #[error("no server answers at {}: {error}", socket.display())]
    Unreachable { socket: PathBuf, error: io::Error },
    /// What answers is no xps, or it takes too long.
    #[error("no reply of a server at {}: {reason}", socket.display())]
    NoReply { socket: PathBuf, reason: String },
}

impl ControlError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        let Self::Unreachable { error, .. } = self else { return None };
        Some(match error.kind() {
            io::ErrorKind::NotFound => {
                "the server needs `\"admin\": { \"unix\": PATH }` in its file; name the socket with --socket, or the \
                 file with --config"
            }
            io::ErrorKind::ConnectionRefused => "the server that made this socket has ended; start it",
            io::ErrorKind::PermissionDenied => {
                "only the user of the server may use it: run this as that user, or set `admin.mode`"
            }
            _ => return None,
        }
        .to_owned())
    }
}

/// Executes the command, and prints the reply.
pub fn run(options: &CtlOptions) -> Result<(), Failure> {
    let socket = match &options.socket {
        Some(socket) => socket.clone(),
        None => match &options.config {
            Some(file) => socket_of(file)?.ok_or_else(|| no_admin(file))?,
            None => PathBuf::from(DEFAULT_SOCKET),
        },
    };
    let reply = ask(&socket, &options.command)?;
    if options.json {
        super::print(format!("{:#}\n", reply.value()).as_bytes())?;
    }
    match reply {
        Reply::Done(value) if !options.json => super::print(text(&options.command, &value).as_bytes()),
        Reply::Done(_) => Ok(()),
        Reply::Refused(value) => Err(refusal(&value).into()),
    }
}

/// Has the server reload its configuration, and prints what has changed.
pub fn reload(socket: &Path) -> Result<(), Failure> {
    match ask(socket, &CtlCommand::Reload)? {
        Reply::Done(value) => super::print(text(&CtlCommand::Reload, &value).as_bytes()),
        Reply::Refused(value) => Err(refusal(&value).into()),
    }
}

/// The admin socket that a configuration file names.
pub fn socket_of(file: &Path) -> Result<Option<PathBuf>, Failure> {
    let (folder, _) = place(file)?;
    Ok(read(file, Profile::Xps)?.admin.map(|admin| folder.join(admin.unix)))
}

fn no_admin(file: &Path) -> Failure {
    Failure::Usage(format!("{} has no `admin`, so its server cannot be asked", file.display()))
}

/// The reply to a command.
#[derive(Debug)]
enum Reply {
    Done(Value),
    Refused(Value),
}

impl Reply {
    const fn value(&self) -> &Value {
        match self {
            Self::Done(value) | Self::Refused(value) => value,
        }
    }
}

fn refusal(value: &Value) -> ControlError {
    let reason = value["error"].as_str().or_else(|| value["detail"].as_str());
    ControlError::Refused { reason: reason.unwrap_or("the server refuses it, and does not say why").to_owned() }
}

/// Sends a command, and waits for the reply.
fn ask(socket: &Path, command: &CtlCommand) -> Result<Reply, ControlError> {
    let unreachable = |error| ControlError::Unreachable { socket: socket.to_owned(), error };
    let no_reply = |reason: String| ControlError::NoReply { socket: socket.to_owned(), reason };
    let stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(unreachable)?;
    let (method, target) = request(command);
    let response = operator_request::send(stream, (method, &target), "xps");
    let (status, body) = response.map_err(|error| match error {
        RequestError::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            no_reply(format!("none came within {}", Period(REPLY_TIMEOUT)))
        }
        error => no_reply(error.to_string()),
    })?;
    let value = serde_json::from_slice(&body).map_err(|error| no_reply(format!("it is no JSON: {error}")))?;
    Ok(if status.is_error() { Reply::Refused(value) } else { Reply::Done(value) })
}

/// The method and target of a command.
fn request(command: &CtlCommand) -> (&'static str, String) {
    match command {
        CtlCommand::Status => ("GET", "/status".to_owned()),
        CtlCommand::Reload => ("POST", "/reload".to_owned()),
        CtlCommand::Limits => ("GET", "/limits".to_owned()),
        CtlCommand::LogLevel { filter: None } => ("GET", "/log-level".to_owned()),
        CtlCommand::LogLevel { filter: Some(filter) } => ("POST", format!("/log-level?filter={}", encoded(filter))),
        CtlCommand::RotateLogs => ("POST", "/rotate-logs".to_owned()),
        CtlCommand::Endpoints => ("GET", "/endpoints".to_owned()),
        CtlCommand::Drain { endpoint } => ("POST", set(endpoint, "drain")),
        CtlCommand::Up { endpoint } => ("POST", set(endpoint, "up")),
        CtlCommand::Down { endpoint } => ("POST", set(endpoint, "down")),
        CtlCommand::Auto { endpoint } => ("POST", set(endpoint, "auto")),
        CtlCommand::Weight { endpoint, weight } => ("POST", set(endpoint, &format!("weight&weight={weight}"))),
    }
}

fn set(endpoint: &str, what: &str) -> String {
    format!("/endpoint?name={}&set={what}", encoded(endpoint))
}

/// A value of a query.
fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A reply for people.
fn text(command: &CtlCommand, reply: &Value) -> String {
    match command {
        CtlCommand::Status => status(reply),
        CtlCommand::Reload => changes(&reply["changes"]),
        CtlCommand::Limits => {
            let mut lines = String::new();
            flatten("", reply, &mut lines);
            lines
        }
        CtlCommand::LogLevel { .. } => format!("{}\n", shown(&reply["log_level"])),
        CtlCommand::Endpoints
        | CtlCommand::Drain { .. }
        | CtlCommand::Up { .. }
        | CtlCommand::Down { .. }
        | CtlCommand::Auto { .. }
        | CtlCommand::Weight { .. } => endpoints(&reply["endpoints"]),
        CtlCommand::RotateLogs => "each log file is reopened with its next line\n".to_owned(),
    }
}

fn status(reply: &Value) -> String {
    let [version, process, state, backend, reason] =
        ["version", "process", "state", "backend", "backend_reason"].map(|key| shown(&reply[key]));
    let [workers, connections, file, log_level] =
        ["workers", "connections", "file", "log_level"].map(|key| shown(&reply[key]));
    let uptime = Period(Duration::from_secs(reply["uptime_seconds"].as_u64().unwrap_or_default()));
    let since = if reply["is_fallback"] == true { ", since" } else { ":" };
    let mut text = format!(
        "xps {version}, process {process}, up {uptime}: {state}\n  {backend}{since} {reason}\n  \
         workers: {workers}\n  connections: {connections}\n  file: {file}\n  log level: {log_level}\n"
    );
    for listener in reply["listeners"].as_array().into_iter().flatten() {
        let (address, service) = (shown(&listener["address"]), shown(&listener["service"]));
        text.push_str(&format!("  {address}  {service}\n"));
    }
    let (done, refused) = (shown(&reply["reloads"]["done"]), shown(&reply["reloads"]["refused"]));
    text.push_str(&format!("  reloads: {done} done, {refused} refused\n"));
    if reply["differs"].as_array().is_some_and(|differs| !differs.is_empty()) {
        text.push_str("  what differs from the file:\n");
        endpoints(&reply["differs"]).lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    let last = &reply["last_reload"];
    if let Some(at) = last["at"].as_u64() {
        let now = reply["started"].as_u64().unwrap_or_default() + reply["uptime_seconds"].as_u64().unwrap_or_default();
        let ago = Period(Duration::from_secs(now.saturating_sub(at)));
        let what = if last["is_done"] == true { "done" } else { "refused" };
        let lines = if last["is_done"] == true { changes(&last["changes"]) } else { shown(&last["error"]) };
        text.push_str(&format!("  last reload, {ago} ago: {what}\n"));
        lines.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

/// Endpoints, one a line.
fn endpoints(list: &Value) -> String {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return "there are no endpoints\n".to_owned();
    }
    let width = list.iter().map(|endpoint| shown(&endpoint["name"]).len()).max().unwrap_or_default();
    let line = |endpoint: &Value| {
        let [name, health, set, weight, in_file, in_flight] =
            ["name", "health", "set", "weight", "weight_in_file", "in_flight"].map(|key| shown(&endpoint[key]));
        let set = if set == "auto" { String::new() } else { format!(", set to {set}") };
        let in_file = if weight == in_file { String::new() } else { format!(" (in the file {in_file})") };
        let backup = if endpoint["is_backup"] == true { ", backup" } else { "" };
        format!("{name:width$}  {health}{set}, weight {weight}{in_file}{backup}, {in_flight} in flight\n")
    };
    list.iter().map(line).collect()
}

/// The changes of a reload, one a line.
fn changes(list: &Value) -> String {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return "reloaded; the file says what it said before\n".to_owned();
    }
    let line = |change: &Value| {
        let [what, kind, name] = ["change", "kind", "name"].map(|key| shown(&change[key]));
        if kind == name { format!("{what} {kind}\n") } else { format!("{what} {kind} {name}\n") }
    };
    list.iter().map(line).collect()
}

/// One line for each value, with the path of its keys.
fn flatten(path: &str, value: &Value, lines: &mut String) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, lines);
            }
        }
        other => lines.push_str(&format!("{path} = {}\n", shown(other))),
    }
}

/// A value without the quotes of JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_is_one_parameter() {
        let filter = Some("xps::tcp=trace,info&x=1".to_owned());
        let (_, target) = request(&CtlCommand::LogLevel { filter });
        assert_eq!(target, "/log-level?filter=xps%3A%3Atcp%3Dtrace%2Cinfo%26x%3D1");
    }

    #[test]
    fn replies_are_readable() {
        let limits = text(&CtlCommand::Limits, &json!({ "a": { "b": "30s", "c": 1 }, "d": null }));
        assert_eq!(limits, "a.b = 30s\na.c = 1\nd = none\n");
        let change = |what: &str, kind: &str, name: &str| json!({ "change": what, "kind": kind, "name": name });
        let list = json!([change("added", "listener", "127.0.0.1:80"), change("changed", "limits", "limits")]);
        assert_eq!(changes(&list), "added listener 127.0.0.1:80\nchanged limits\n");
        assert!(changes(&json!([])).contains("what it said before"));
    }
}
