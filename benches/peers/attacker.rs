//! The attacker: connections of HTTP/2 that send what costs the server much, in pieces as they come over a network, and read
//! what comes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::abuse::{ATTACKS, Attack, Manner};
use crate::clocks::{Groups, Sample};
use crate::h2::attack;
use crate::h2::frame::{Frame, PREFACE, flag, kind};
use crate::run::ns;

/// What an attack cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The server's processor time.
    server: Duration,
    /// Bytes that the attacker sent.
    bytes: u64,
    connections: u64,
    /// Bytes by which the server's memory grew at most.
    grown: u64,
    /// Whether connections stayed open.
    holds: bool,
    /// How most connections ended.
    end: String,
}

/// Bytes that are sent at a time: a segment of Ethernet.
const PIECE_BYTES: usize = 1400;

/// Pause after a piece, in which the server can react.
const PAUSE: Duration = Duration::from_micros(100);

/// How long to go on reading on a connection on which all is sent.
const AFTER: Duration = Duration::from_millis(20);

/// A server that takes nothing for so long, or does not answer, is left.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of an attack on one connection, at most: what is not stopped by then is not stopped at all.
const BYTES_MAX: usize = 256 << 10;

/// Ordinary connections before the measurement.
const WARM_UP: usize = 200;

/// Attacks, and prints what it cost.
pub fn run(name: &str, task: &str) -> io::Result<()> {
    let attack = ATTACKS.iter().find(|attack| attack.name == name).ok_or_else(|| io::Error::other("no such attack"))?;
    let task: Value = serde_json::from_str(task)?;
    let port = task["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let pids = task["pids"].as_array().map(|pids| pids.iter().filter_map(|pid| u32::try_from(pid.as_u64()?).ok()));
    let (Some(port), Some(pids)) = (port, pids) else { return Err(io::Error::other("the task is not understood")) };
    let groups = Groups { server: pids.collect(), peers: Vec::new() };
    let measured = Duration::from_nanos(task["measured_ns"].as_u64().unwrap_or_default());
    for _ in 0..WARM_UP {
        request(port)?;
    }
    println!("{}", attacked(attack, port, &groups, measured)?.to_json());
    Ok(())
}

fn attacked(attack: &Attack, port: u16, groups: &Groups, measured: Duration) -> io::Result<Cost> {
    let mut bytes = (attack.bytes)();
    bytes.truncate(BYTES_MAX);
    let memory_before = memory(groups)?;
    let before = Sample::take(groups)?;
    let (mut sent, mut connections, mut grown, mut ends) = (0, 0, 0, BTreeMap::<String, u64>::new());
    let mut grow = || memory(groups).map(|now| grown = grown.max(now.saturating_sub(memory_before)));
    let mut held = Vec::new();
    let since = Instant::now();
    loop {
        let is_over = match attack.manner {
            Manner::Flood => since.elapsed() >= measured,
            Manner::Hold(count) => held.len() >= count,
        };
        if is_over {
            break;
        }
        let mut connection = Connection::open(port)?;
        connection.send(&bytes)?;
        grow()?;
        sent += connection.sent;
        connections += 1;
        *ends.entry(connection.end()).or_default() += 1;
        if attack.manner != Manner::Flood {
            held.push(connection);
        }
    }
    if attack.manner != Manner::Flood {
        // What is sent late counts too.
        for connection in &mut held {
            connection.read()?;
        }
        thread::sleep(AFTER * 10);
        grow()?;
    }
    let server = Sample::take(groups)?.since(&before).server;
    let end = ends.into_iter().max_by_key(|(_, count)| *count).map(|(end, _)| end).unwrap_or_default();
    let holds = attack.manner != Manner::Flood;
    Ok(Cost { server, bytes: sent, connections, grown, holds, end })
}

/// One ordinary request on a connection of its own.
pub fn request(port: u16) -> io::Result<()> {
    let mut connection = Connection::open(port)?;
    connection.send(&attack::get(1, attack::PAGE))?;
    let since = Instant::now();
    while !connection.is_answered {
        if connection.is_over || since.elapsed() > PATIENCE {
            return Err(io::Error::other("no answer"));
        }
        thread::sleep(PAUSE);
        connection.read()?;
    }
    Ok(())
}

/// Resident memory of all processes that does not belong to files, in bytes.
fn memory(groups: &Groups) -> io::Result<u64> {
    let mut sum = 0;
    for pid in &groups.server {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        sum += kibibytes.ok_or_else(|| io::Error::other("no RssAnon"))? << 10;
    }
    Ok(sum)
}

/// A connection after its preface.
struct Connection {
    socket: TcpStream,
    sent: u64,
    inbox: Vec<u8>,
    is_answered: bool,
    goaway: Option<u32>,
    is_over: bool,
}

impl Connection {
    fn open(port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let connection = Self { socket, sent: 0, inbox: Vec::new(), is_answered: false, goaway: None, is_over: false };
        let start = [PREFACE, &Frame::settings(&[]).bytes(), &Frame::settings_ack().bytes()].concat();
        // A new connection has room for it.
        (&connection.socket).write_all(&start)?;
        Ok(Self { sent: start.len() as u64, ..connection })
    }

    /// Sends it while the server takes it.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut since) = (0, Instant::now());
        while at < bytes.len() && !self.is_over && since.elapsed() < PATIENCE {
            match self.socket.write(&bytes[at..bytes.len().min(at + PIECE_BYTES)]) {
                Ok(count) => {
                    at += count;
                    since = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_over = true,
            }
            thread::sleep(PAUSE);
            self.read()?;
        }
        self.sent += at as u64;
        let since = Instant::now();
        // Until all is acted on, for all that is known.
        while !self.is_over && !self.is_answered && since.elapsed() < AFTER {
            thread::sleep(PAUSE);
            self.read()?;
        }
        Ok(())
    }

    /// Reads what has come.
    fn read(&mut self) -> io::Result<()> {
        let mut memory = [0; 16 << 10];
        while !self.is_over {
            match self.socket.read(&mut memory) {
                Ok(0) => self.is_over = true,
                Ok(count) => self.inbox.extend_from_slice(&memory[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_over = true,
            }
        }
        let mut at = 0;
        while let Some((frame, length)) = Frame::parse(&self.inbox[at..]) {
            at += length;
            match frame.kind {
                kind::GOAWAY if frame.payload.len() >= 8 => self.goaway = Some(frame.number(4)),
                kind::HEADERS | kind::DATA if frame.has(flag::END_STREAM) => self.is_answered = true,
                _ => {}
            }
        }
        self.inbox.drain(..at);
        Ok(())
    }

    fn end(&self) -> String {
        match (self.goaway, self.is_over) {
            (Some(code), _) => format!("GOAWAY {code}"),
            (None, true) => "closed".to_owned(),
            (None, false) => "open".to_owned(),
        }
    }
}

impl Cost {
    /// Nanoseconds of the server for each byte of the attacker.
    pub fn ns_per_byte(&self) -> f64 {
        self.server.as_secs_f64() * 1e9 / self.bytes as f64
    }

    /// Memory: for each connection, if connections stay open.
    pub fn kibibytes(&self) -> f64 {
        let share = if self.holds { self.connections } else { 1 };
        self.grown as f64 / 1024.0 / share as f64
    }

    /// Bytes of the attacker on each connection.
    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.connections as f64
    }

    /// How most connections ended.
    pub fn end(&self) -> &str {
        &self.end
    }

    fn to_json(&self) -> Value {
        json!({
            "server_ns": ns(self.server),
            "bytes": self.bytes,
            "connections": self.connections,
            "grown": self.grown,
            "holds": self.holds,
            "end": self.end,
        })
    }

    /// What the attacker printed.
    pub fn of_json(value: &Value) -> Option<Self> {
        Some(Self {
            server: Duration::from_nanos(value["server_ns"].as_u64()?),
            bytes: value["bytes"].as_u64()?,
            connections: value["connections"].as_u64()?,
            grown: value["grown"].as_u64()?,
            holds: value["holds"].as_bool()?,
            end: value["end"].as_str()?.to_owned(),
        })
    }
}
