//! Syslog as the destination of a log: each line is a datagram in the format of RFC 5424.
//!
//! The socket is connected with the first line, and again after a failure, so that a daemon may be started
//! later than this program, and be restarted. What a line says does not matter here, but for its severity,
//! which a log whose lines differ in it puts before each, as in sd-daemon(3).

use std::fmt;
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::line_writer::Output;
use super::timestamp;
use crate::driver::datagram::{DatagramAddress, DatagramSocket, host_name};
use crate::driver::signals;

/// Begins the text form of a target.
pub(super) const SCHEME: &str = "syslog:";

/// The port of a target that names none (RFC 5426).
const PORT: u16 = 514;

/// Length of a tag at most, in bytes: that of APP-NAME (RFC 5424, 6).
const TAG_BYTES_MAX: usize = 48;

/// Length of a host name at most, in bytes: that of HOSTNAME (RFC 5424, 6).
const HOST_BYTES_MAX: usize = 255;

/// Time that a datagram waits for room at a daemon on a unix socket. 1 s.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between two attempts to connect. 1 s.
const CONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// Facilities by name, as in syslog(3) and in nginx; the codes are those of RFC 5424.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// The severity of a line (RFC 5424, 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Severity(u8);

impl Severity {
    pub(super) const INFO: Self = Self(6);

    /// That of a record of this level.
    pub(super) fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self(3),
            tracing::Level::WARN => Self(4),
            tracing::Level::INFO => Self::INFO,
            _ => Self(7),
        }
    }

    /// Takes the severity from the beginning of a line.
    fn take(line: &[u8]) -> Option<(Self, &[u8])> {
        match line {
            [b'<', code @ b'0'..=b'7', b'>', rest @ ..] => Some((Self(code - b'0'), rest)),
            _ => None,
        }
    }
}

/// As it stands before a line.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

/// A syslog daemon, and how lines are labelled for it. As text:
/// `syslog:unix:/dev/log,facility=local7,tag=xps`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyslogConfig {
    address: DatagramAddress,
    facility: u8,
    tag: String,
}

/// Why a text is no syslog target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSyslog {
    /// The address is malformed.
    #[error("write syslog:unix:/PATH or syslog:udp:HOST:PORT")]
    Address,
    /// There is no such facility.
    #[error("`{0}` is no facility: write user, daemon, local0 to local7, or another one of syslog(3)")]
    Facility(String),
    /// The tag is malformed.
    #[error("a tag has 1 to 48 visible ASCII characters")]
    Tag,
    /// There is no such option.
    #[error("`{0}` is no option of syslog: write facility=NAME or tag=TEXT")]
    Option(String),
}

impl FromStr for SyslogConfig {
    type Err = BadSyslog;

    fn from_str(text: &str) -> Result<Self, BadSyslog> {
        let mut parts = text.strip_prefix(SCHEME).ok_or(BadSyslog::Address)?.split(',');
        let address = parts.next().and_then(address).ok_or(BadSyslog::Address)?;
        let mut config = Self { address, facility: 23, tag: "xps".to_owned() };
        for part in parts {
            match part.split_once('=') {
                Some(("facility", name)) => {
                    let facility = FACILITIES.iter().find(|(known, _)| *known == name);
                    config.facility = facility.ok_or_else(|| BadSyslog::Facility(name.to_owned()))?.1;
                }
                Some(("tag", tag)) => {
                    let is_visible = tag.bytes().all(|byte| byte.is_ascii_graphic());
                    if tag.is_empty() || tag.len() > TAG_BYTES_MAX || !is_visible {
                        return Err(BadSyslog::Tag);
                    }
                    tag.clone_into(&mut config.tag);
                }
                _ => return Err(BadSyslog::Option(part.to_owned())),
            }
        }
        Ok(config)
    }
}

impl fmt::Display for SyslogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FACILITIES.iter().find(|(_, code)| *code == self.facility).map_or("", |(name, _)| name);
        write!(f, "{SCHEME}{},facility={name},tag={}", self.address, self.tag)
    }
}

/// The address of a target.
fn address(text: &str) -> Option<DatagramAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        // The folder that the program is in must not matter.
        return path.starts_with('/').then(|| DatagramAddress::Unix(PathBuf::from(path)));
    }
    let text = text.strip_prefix("udp:")?;
    let (host, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    is_host.then(|| DatagramAddress::Udp { host: host.to_owned(), port })
}

/// Sends lines to a syslog daemon.
pub(super) struct Syslog {
    config: SyslogConfig,
    lines: Lines,
    host: String,
    socket: Option<DatagramSocket>,
    /// After a failure: when, and what it was.
    failed: Option<(Instant, io::ErrorKind)>,
    /// The count of SIGUSR1 when the socket was connected.
    opened_at: u32,
    message: Vec<u8>,
}

/// What lines are, and how they are told apart in the daemon's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// Records of the server, each behind its severity.
    Server,
    /// Lines of an access log.
    Access,
}

impl Lines {
    /// MSGID, which names the kind of a message.
    const fn id(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Access => "access",
        }
    }

    fn severity(self, line: &[u8]) -> (Severity, &[u8]) {
        match self {
            Self::Server => Severity::take(line).unwrap_or((Severity::INFO, line)),
            // It begins with what a client has sent, perhaps.
            Self::Access => (Severity::INFO, line),
        }
    }
}

impl Syslog {
    pub(super) fn new(config: SyslogConfig, lines: Lines) -> Self {
        let is_sent = |name: &String| name.len() <= HOST_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
        // `-`: not known.
        let host = host_name().filter(is_sent).unwrap_or_else(|| "-".to_owned());
        let opened_at = signals::reopen_requests();
        Self { config, lines, host, socket: None, failed: None, opened_at, message: Vec::new() }
    }

    /// Writes the datagram of a line without its newline.
    fn write_message(&mut self, line: &[u8], time: &str) {
        let (severity, text) = self.lines.severity(line);
        let priority = u16::from(self.config.facility) * 8 + u16::from(severity.0);
        let (host, tag, process, id) = (&self.host, &self.config.tag, std::process::id(), self.lines.id());
        self.message.clear();
        // Writing to a vector cannot fail.
        let _ = write!(self.message, "<{priority}>1 {time} {host} {tag} {process} {id} - ");
        self.message.extend_from_slice(text);
    }

    /// Sends the message. The socket is kept unless it is of no more use.
    fn send(&mut self) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => DatagramSocket::connect(&self.config.address, SEND_TIMEOUT)?,
        };
        let sent = socket.send(&self.message);
        let keeps = match (&socket, &sent) {
            (_, Ok(())) => true,
            (DatagramSocket::Udp(_), Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // An earlier datagram was refused, and counts as lost now; this one was not sent.
                let _ = socket.send(&self.message);
                true
            }
            (DatagramSocket::Unix(_), Err(error)) if is_gone(error) => {
                // The daemon was restarted: there may be another socket at the path.
                let socket = DatagramSocket::connect(&self.config.address, SEND_TIMEOUT)?;
                socket.send(&self.message)?;
                self.socket = Some(socket);
                return Ok(());
            }
            // Only this line is too long, or too late.
            (_, Err(error)) => {
                error.raw_os_error() == Some(libc::EMSGSIZE) || error.kind() == io::ErrorKind::WouldBlock
            }
        };
        self.socket = keeps.then_some(socket);
        sent
    }
}

/// Whether the peer of a unix socket has closed it.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

impl Output for Syslog {
    const IS_BY_LINE: bool = true;

    fn renew(&mut self) -> bool {
        let is_asked = self.opened_at != signals::reopen_requests();
        if is_asked {
            // Its name may have another address now.
            (self.socket, self.failed, self.opened_at) = (None, None, signals::reopen_requests());
        }
        is_asked
    }

    fn put(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some((at, error)) = self.failed
            && self.socket.is_none()
            && at.elapsed() < CONNECT_INTERVAL
        {
            return Err(error.into());
        }
        self.write_message(line.strip_suffix(b"\n").unwrap_or(line), &timestamp());
        let sent = self.send();
        self.failed = sent.as_ref().err().map(|error| (Instant::now(), error.kind()));
        sent.map(|()| line.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn shown(text: &str) -> Result<String, BadSyslog> {
        text.parse::<SyslogConfig>().map(|config| config.to_string())
    }

    #[test]
    fn a_target_has_an_address_a_facility_and_a_tag() {
        for (text, expected) in [
            ("syslog:unix:/dev/log", "syslog:unix:/dev/log,facility=local7,tag=xps"),
            ("syslog:udp:log.example.org", "syslog:udp:log.example.org:514,facility=local7,tag=xps"),
            ("syslog:udp:192.0.2.1:1514,tag=a.b,facility=daemon", "syslog:udp:192.0.2.1:1514,facility=daemon,tag=a.b"),
            ("syslog:udp:[2001:db8::1]:514", "syslog:udp:[2001:db8::1]:514,facility=local7,tag=xps"),
            ("syslog:udp:[::1],facility=user", "syslog:udp:[::1]:514,facility=user,tag=xps"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected));
            assert_eq!(shown(expected).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "syslog",
            "syslog:",
            "syslog:/dev/log",
            "syslog:unix:",
            "syslog:unix:dev/log",
            "syslog:udp:",
            "syslog:udp::514",
            "syslog:udp:h:0",
            "syslog:udp:h:65536",
            "syslog:udp:2001:db8::1",
            "syslog:udp:[h]:514",
            "syslog:udp:[::1]514",
            "syslog:tcp:h:514",
        ] {
            assert_eq!(shown(text), Err(BadSyslog::Address), "{text}");
        }
        let with = |options: &str| shown(&format!("syslog:unix:/dev/log,{options}"));
        assert_eq!(with("facility=local8"), Err(BadSyslog::Facility("local8".to_owned())));
        assert_eq!(with("level=3"), Err(BadSyslog::Option("level=3".to_owned())));
        assert_eq!(with(""), Err(BadSyslog::Option(String::new())));
        for tag in ["", "a b", "ü", &"x".repeat(49)] {
            assert_eq!(with(&format!("tag={tag}")), Err(BadSyslog::Tag), "{tag}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_does_not_hold_up_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let config = format!("syslog:unix:{}", path.display()).parse().unwrap();
        let mut syslog = Syslog::new(config, Lines::Access);
        assert_eq!(syslog.put(&vec![b'x'; 8 << 20]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(syslog.put(b"short\n").unwrap(), 6);
        let mut bytes = [0; 1000];
        let count = daemon.recv(&mut bytes).unwrap();
        assert!(bytes[..count].ends_with(b" access - short"));
    }

    #[test]
    fn a_message_has_the_form_of_rfc_5424() {
        let message = |lines, line: &[u8]| {
            let config = "syslog:unix:/dev/log,facility=daemon,tag=t".parse().unwrap();
            let mut syslog = Syslog { host: "h".to_owned(), ..Syslog::new(config, lines) };
            syslog.write_message(line, "2026-11-23T18:57:50.000001Z");
            String::from_utf8(syslog.message).unwrap()
        };
        let process = std::process::id();
        let server = format!("1 2026-11-23T18:57:50.000001Z h t {process} server - ");
        assert_eq!(message(Lines::Server, b"<3>it failed"), format!("<27>{server}it failed"));
        assert_eq!(message(Lines::Server, b"<9>x"), format!("<30>{server}<9>x"));
        let access = server.replace("server", "access");
        assert_eq!(message(Lines::Access, b"<0>forged"), format!("<30>{access}<0>forged"));
    }
}
