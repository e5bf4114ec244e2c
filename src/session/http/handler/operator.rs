//! Answers to those who operate the server: whether it lives and is ready, a page of links, and, on the
//! admin socket, commands.
//!
//! `GET` asks, and `POST` changes something. Parameters are in the query. The reply to a command is JSON:
//! 200 if it is done, 409 with `error` if the server refuses it.

use std::sync::Arc;

use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::buffer::Chunk;
use crate::http::{ErrorResponse, Method, Status, path};
use crate::session::control::{Command, Control, EndpointChange, Reply};
use crate::session::http::response::{Body, Response};
use crate::session::http::stream::ResponseEncoder;
use crate::upstream::shared::OperatorState;

/// Answers on the listeners of the operators' worker.
#[derive(Debug)]
pub struct Operator {
    /// The state of the server.
    pub control: Arc<Control>,
    /// Whether there are commands beside the state.
    pub has_commands: bool,
}

/// The page at `/`.
const PAGE: &str = include_str!("operator/index.html");

const TEXT: &str = "text/plain; charset=utf-8";

/// The response of `/readyz` once the server drains or is about to.
const LEAVING: ErrorResponse = ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "the server is about to stop");

const NOTHING: ErrorResponse = ErrorResponse::new(Status::NOT_FOUND, "there is nothing at this path");

impl Operator {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "operator";
}

impl Handler for Operator {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        if self.has_commands { AllowedMethods::Commands } else { AllowedMethods::Reading }
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        let decoded = builder.head.target.path().map(path::decode);
        let path = match &decoded {
            Some(Ok(path)) => path.as_bytes(),
            Some(Err(error)) => return Answer::Response(builder.respond_error(*error, sink)),
            None => b"*",
        };
        if let Some(response) = builder.early_response(sink) {
            return Answer::Response(response);
        }
        let is_reading = builder.head.method != Method::Post;
        let query = builder.head.target.query().and_then(|query| std::str::from_utf8(query).ok());
        let command = if self.has_commands { command(path, is_reading, query.unwrap_or_default()) } else { Ok(None) };
        let response = match (command, path) {
            (Ok(Some(command)), _) => match self.control.ask(builder.inquiry.waiter, command) {
                Some(reply) => builder.reply(reply, sink),
                None => return Answer::LookUp,
            },
            (Err(error), _) => builder.respond_error(error, sink),
            (Ok(None), b"" | b"*") if is_reading => builder.text("text/html; charset=utf-8", || PAGE.to_owned(), sink),
            (Ok(None), b"livez") if is_reading => builder.text(TEXT, || "live\n".to_owned(), sink),
            (Ok(None), b"readyz") if is_reading && self.control.is_ready() => {
                builder.text(TEXT, || "ready\n".to_owned(), sink)
            }
            (Ok(None), b"readyz") if is_reading => builder.respond_error(LEAVING, sink),
            (Ok(None), _) => builder.respond_error(NOTHING, sink),
        };
        Answer::Response(response)
    }
}

impl ResponseBuilder<'_> {
    /// The response with the reply to a command.
    fn reply(&self, reply: Reply, sink: &mut ResponseEncoder) -> Response {
        let (status, text) = match reply {
            Reply::Done(text) => (Status::OK, text),
            Reply::Refused(text) => (Status::CONFLICT, text),
        };
        let head = self
            .begin(sink, status)
            .field("Content-Type", "application/json")
            .field("X-Content-Type-Options", "nosniff")
            .field("Cache-Control", "no-store");
        self.extend(head);
        Response::new(status, Body::Memory(Chunk::shared(text.into_bytes())))
    }
}

/// The command at a path. `None`: there is none.
///
/// # Errors
/// The method is not that of the command, or a parameter is missing.
fn command(path: &[u8], is_reading: bool, query: &str) -> Result<Option<Command>, ErrorResponse> {
    let reads = |command| if is_reading { Ok(Some(command)) } else { Err(ONLY_GET) };
    let changes = |command| if is_reading { Err(ONLY_POST) } else { Ok(Some(command)) };
    match path {
        b"status" => reads(Command::Status),
        b"limits" => reads(Command::Limits),
        b"log-level" if is_reading => Ok(Some(Command::LogLevel)),
        b"log-level" => {
            let filter = parameter(query, "filter").ok_or(ErrorResponse::bad_request("the query has no `filter`"))?;
            Ok(Some(Command::SetLogLevel(filter)))
        }
        b"endpoints" => reads(Command::Endpoints),
        b"endpoint" if is_reading => Err(ONLY_POST),
        b"endpoint" => set_endpoint(query).map(Some),
        b"reload" => changes(Command::Reload),
        b"rotate-logs" => changes(Command::RotateLogs),
        _ => Ok(None),
    }
}

/// The change of an endpoint: `name`, and `set` to a state, or to `weight` with the parameter `weight`.
fn set_endpoint(query: &str) -> Result<Command, ErrorResponse> {
    let name = parameter(query, "name").ok_or(ErrorResponse::bad_request("the query has no `name`"))?;
    let change = match parameter(query, "set").as_deref() {
        Some("auto") => EndpointChange::State(OperatorState::Auto),
        Some("up") => EndpointChange::State(OperatorState::Up),
        Some("down") => EndpointChange::State(OperatorState::Down),
        Some("drain") => EndpointChange::State(OperatorState::Drain),
        Some("weight") => {
            let weight = parameter(query, "weight").and_then(|weight| weight.parse().ok());
            let weight = weight.filter(|weight| *weight <= WEIGHT_MAX);
            EndpointChange::Weight(weight.ok_or(ErrorResponse::bad_request("`weight` is a number from 0 to 65535"))?)
        }
        Some(_) | None => return Err(ErrorResponse::bad_request("`set` is auto, up, down, drain or weight")),
    };
    Ok(Command::SetEndpoint(name, change))
}

/// The largest weight that a configuration can have.
const WEIGHT_MAX: u32 = 65_535;

const ONLY_GET: ErrorResponse = ErrorResponse::new(Status::METHOD_NOT_ALLOWED, "this changes nothing: use GET");
const ONLY_POST: ErrorResponse = ErrorResponse::new(Status::METHOD_NOT_ALLOWED, "this is a command: use POST");

/// The value of a parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))?;
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        rest = others;
        if first != b'%' {
            decoded.push(first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_one_method_and_its_parameters() {
        let command = |path: &str, is_reading, query| super::command(path.as_bytes(), is_reading, query);
        assert_eq!(command("status", true, ""), Ok(Some(Command::Status)));
        assert_eq!(command("status", false, ""), Err(ONLY_GET));
        assert_eq!(command("reload", true, ""), Err(ONLY_POST));
        assert_eq!(command("log-level", true, "filter=debug"), Ok(Some(Command::LogLevel)));
        let set = Command::SetLogLevel("xps::tcp=trace,info".to_owned());
        assert_eq!(command("log-level", false, "a=b&filter=xps%3A%3atcp%3Dtrace,info"), Ok(Some(set)));
        for query in ["", "filter", "filter=%", "filter=%zz", "filter=%ff"] {
            assert!(command("log-level", false, query).is_err(), "{query}");
        }
        assert_eq!(command("nothing", true, ""), Ok(None));
        let set = |query| super::command(b"endpoint", false, query);
        let name = || "*/a/h:1".to_owned();
        let drain = EndpointChange::State(OperatorState::Drain);
        assert_eq!(set("name=*/a/h:1&set=drain"), Ok(Some(Command::SetEndpoint(name(), drain))));
        let weight = EndpointChange::Weight(65_535);
        assert_eq!(set("name=*%2Fa%2Fh%3A1&set=weight&weight=65535"), Ok(Some(Command::SetEndpoint(name(), weight))));
        for query in ["set=up", "name=a", "name=a&set=x", "name=a&set=weight", "name=a&set=weight&weight=65536"] {
            assert!(set(query).is_err(), "{query}");
        }
    }
}
