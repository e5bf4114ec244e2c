//! What a client of HTTP/2 keeps of its connection: for the judge, and as its model of the streams.

use std::cell::RefCell;
use std::rc::Rc;

use super::client::abuse::Abuse;
use super::frame::WINDOW_MAX;

/// Shared by the client and the judge.
pub type Log = Rc<RefCell<Record>>;

#[derive(Debug, Default)]
pub struct Record {
    /// What the server must not do.
    pub alarms: Vec<String>,
    /// One for each call that was made, in their order.
    pub streams: Vec<Stream>,
    /// Streams that were begun to misuse them.
    pub extras: Vec<Extra>,
    /// What it should not have done, and has.
    pub abuse: Option<Abuse>,
    /// The code with which the server has to end the connection for it.
    pub must_end: Option<u32>,
    /// The last that the server said: its last stream, and the code.
    pub goaway: Option<(u32, u32)>,
    pub counts: Counts,
    /// Where the client is: for reports.
    pub place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub moves: usize,
    pub window: i64,
    pub send_window: i64,
    /// Settings and pings that wait for an acknowledgement.
    pub unacknowledged: (usize, usize),
    pub calls_left: usize,
    /// Bytes that came and are not looked at yet.
    pub unread: usize,
}

/// One call and its answer.
#[derive(Debug)]
pub struct Stream {
    pub id: u32,
    pub is_head: bool,
    pub is_tunnel: bool,
    pub status: Option<u16>,
    /// Of the final head.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Option<Vec<(String, String)>>,
    /// With END_STREAM.
    pub has_ended: bool,
    /// By the server, with this code.
    pub reset: Option<u32>,
    /// The client reset it.
    pub gave_up: bool,
    /// The server has said that it will not be looked at.
    pub is_gone: bool,
    /// Bytes of the request's body that were sent.
    pub sent: usize,
    /// With END_STREAM.
    pub has_sent_all: bool,
    pub has_body: bool,
    pub send_window: i64,
    pub window: i64,
    /// It loses interest after so many bytes of the body.
    pub gives_up_at: Option<usize>,
}

/// A stream of which nothing is demanded but how it is reset.
#[derive(Debug)]
pub struct Extra {
    pub id: u32,
    /// Codes with which it may be reset.
    pub allowed: Vec<u32>,
    /// The one with which it has to be.
    pub must: Option<u32>,
    pub resets: Vec<u32>,
    pub has_ended: bool,
    /// The server has said that it will not be looked at, or the client has reset it.
    pub is_gone: bool,
}

impl Extra {
    /// Whether the server owes it nothing.
    pub fn is_over(&self) -> bool {
        self.is_gone
            || match self.must {
                Some(code) => self.resets.contains(&code),
                None => self.has_ended || !self.resets.is_empty(),
            }
    }
}

/// How often things happened, so that a test can see that they do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub streams: u64,
    pub answered: u64,
    /// Times at which a window of the client was used up to its last byte.
    pub used_up: u64,
    /// Times at which a window of the server was.
    pub blocked: u64,
    pub given_up: u64,
    pub reset: u64,
    pub settings: u64,
    pub pings: u64,
    pub interim: u64,
    pub most_at_once: u64,
    pub goaways: u64,
    pub abuses: u64,
    /// Connections that the server has ended since it had to.
    pub dismissed: u64,
    /// Streams that it has reset since it had to.
    pub chastised: u64,
    /// Extended CONNECTs whose tunnels have ended both ways.
    pub tunnels: u64,
}

impl Counts {
    /// Sums, and the greatest of what is a maximum.
    pub fn add(&mut self, other: &Self) {
        self.streams += other.streams;
        self.answered += other.answered;
        self.used_up += other.used_up;
        self.blocked += other.blocked;
        self.given_up += other.given_up;
        self.reset += other.reset;
        self.settings += other.settings;
        self.pings += other.pings;
        self.interim += other.interim;
        self.most_at_once = self.most_at_once.max(other.most_at_once);
        self.goaways += other.goaways;
        self.abuses += other.abuses;
        self.dismissed += other.dismissed;
        self.chastised += other.chastised;
        self.tunnels += other.tunnels;
    }
}

impl Record {
    /// Where it is, and what it waits for.
    pub fn unfinished(&self) -> String {
        let streams = self.streams.iter().filter(|stream| !stream.is_finished()).map(|stream| {
            let Stream { id, status, sent, has_sent_all, has_ended, window, send_window, .. } = stream;
            let got = stream.body.len();
            format!("{id}: sent {sent} (all: {has_sent_all}), {status:?}, got {got} (all: {has_ended}), windows {window} and {send_window}")
        });
        let Place { moves, window, send_window, unacknowledged: (settings, pings), calls_left, unread } = self.place;
        let extras = self.extras.iter().filter(|extra| !extra.is_over()).collect::<Vec<_>>();
        format!(
            "after {moves} moves, windows {window} and {send_window}, {settings} settings and {pings} pings not \
             acknowledged, {calls_left} calls left, {unread} bytes unread, {:?}, {:?}, {extras:?}, {:#?}",
            self.goaway,
            self.abuse,
            streams.collect::<Vec<_>>()
        )
    }
}

impl Stream {
    /// Whether nothing more is sent on it by either side.
    pub const fn is_finished(&self) -> bool {
        (self.has_ended && self.has_sent_all) || self.reset.is_some() || self.gave_up || self.is_gone
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
    }

    /// A head: an interim one, the final one, or trailers. Returns whether it is an interim one.
    pub fn on_fields(&mut self, fields: Vec<(String, String)>, is_end: bool) -> Result<bool, String> {
        let pseudo = fields.iter().filter(|(name, _)| name.starts_with(':')).count();
        if self.status.is_some() {
            if !is_end || pseudo > 0 {
                return Err(format!("trailers that are none: {fields:?}"));
            }
            self.trailers = Some(fields);
            self.end()?;
            return Ok(false);
        }
        let status = fields.first().filter(|(name, _)| name == ":status" && pseudo == 1);
        let status = status.ok_or_else(|| format!("no status first, or more than that: {fields:?}"))?;
        let status: u16 = status.1.parse().map_err(|_| format!("a status of {:?}", status.1))?;
        match status {
            100..200 if is_end || status == 101 => return Err(format!("{status}, and the end: {is_end}")),
            100..200 => return Ok(true),
            200..600 => {}
            _ => return Err(format!("a status of {status}")),
        }
        if fields.iter().filter(|(name, _)| name == "content-length").count() > 1 {
            return Err("more than one content-length".to_owned());
        }
        (self.status, self.fields) = (Some(status), fields);
        if is_end {
            self.end()?;
        }
        Ok(false)
    }

    pub fn on_data(&mut self, data: &[u8], is_end: bool) -> Result<(), String> {
        if self.status.is_none() {
            return Err("a body before its head".to_owned());
        }
        self.body.extend_from_slice(data);
        if is_end { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), String> {
        self.has_ended = true;
        let length = self.field("content-length").map(str::parse::<usize>).transpose();
        let length = length.map_err(|_| format!("a content-length of {:?}", self.field("content-length")))?;
        let has_none = self.is_head || matches!(self.status, Some(204 | 304));
        match length {
            _ if has_none && !self.body.is_empty() => Err(format!("{} bytes where none are", self.body.len())),
            Some(length) if !has_none && length != self.body.len() => {
                Err(format!("ended after {} of {length} bytes", self.body.len()))
            }
            _ => Ok(()),
        }
    }

    /// The server has opened its window.
    pub fn on_window_update(&mut self, increment: i64) -> Result<(), String> {
        self.send_window += increment;
        if self.send_window > WINDOW_MAX { Err("its window overflows".to_owned()) } else { Ok(()) }
    }
}

/// Fields as text, and nothing among them that HTTP/2 does not allow (RFC 9113, 8.2).
pub fn checked(fields: Vec<super::hpack::Field>) -> Result<Vec<(String, String)>, String> {
    const OF_THE_CONNECTION: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "fields that are not text".to_owned());
    let mut has_plain = false;
    let mut checked = Vec::new();
    for (name, value) in fields {
        let (name, value) = (text(name)?, text(value)?);
        let token = name.strip_prefix(':').unwrap_or(&name);
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        let is_clean = value.trim() == value && !value.contains(['\r', '\n', '\0']);
        if !is_token || name.bytes().any(|byte| byte.is_ascii_uppercase()) || !is_clean {
            return Err(format!("no field of HTTP/2: {name:?}: {value:?}"));
        }
        if OF_THE_CONNECTION.contains(&&name[..]) || (has_plain && name.starts_with(':')) {
            return Err(format!("{name:?}, which has no place there"));
        }
        has_plain |= !name.starts_with(':');
        checked.push((name, value));
    }
    Ok(checked)
}
