//! The banner that a server prints to standard error when it is ready.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::core::Server;
use crate::driver::Address;
use crate::driver::limits::kernel_release;

/// The text of the banner: version, driver and the reason for it, addresses, hints.
pub fn banner(server: &Server, services: &[&str], hints: &[String]) -> String {
    let bold = if colours(&io::stderr()) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    text(server, services, hints, bold)
}

fn text(server: &Server, services: &[&str], hints: &[String], (bold, plain): (&str, &str)) -> String {
    let selection = server.selection();
    let workers = server.workers();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{bold}xps {}{plain} on Linux {}: {workers} worker{}\n  {}{} {}",
        env!("CARGO_PKG_VERSION"),
        kernel_release(),
        if workers == 1 { "" } else { "s" },
        selection.backend.name(),
        if selection.is_fallback { ", since" } else { ":" },
        selection.reason,
    );
    if let Some(remedy) = selection.remedy {
        let _ = writeln!(text, "  help: {remedy}");
    }
    for (address, service) in server.addresses().iter().zip(services) {
        let (place, remark) = place(address, service);
        let _ = writeln!(text, "  {bold}{place}{plain}  {service}{remark}");
    }
    for hint in hints {
        let _ = writeln!(text, "{hint}");
    }
    text
}

/// The address of a service in the form that a browser or client can open, and a remark.
fn place(address: &Address, service: &str) -> (String, &'static str) {
    match address {
        Address::Inet(address) if URL_SCHEMES.contains(&service) => {
            let (shown, remark) = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => (IpAddr::V4(Ipv4Addr::LOCALHOST), EVERY_ADDRESS),
                IpAddr::V6(ip) if ip.is_unspecified() => (IpAddr::V6(Ipv6Addr::LOCALHOST), EVERY_ADDRESS),
                ip => (ip, ""),
            };
            (format!("{service}://{}/", SocketAddr::new(shown, address.port())), remark)
        }
        Address::Inet(_) | Address::Unix(_) => (address.to_string(), ""),
    }
}

/// The names of the services that browsers can open, as in `ListenerConfig::service_name`.
const URL_SCHEMES: [&str; 2] = ["http", "https"];

const EVERY_ADDRESS: &str = ", on every address";

/// The command that starts this program: its name if the shell found it in `PATH`, else its absolute
/// path, because another terminal may be in another folder.
pub fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if !called.is_empty() && !called.contains('/') {
        return called;
    }
    let path = std::env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    path.map_or_else(|| "xps".to_owned(), |path| quoted(&path))
}

/// Quotes text as one word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn colours(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{place, quoted};
    use crate::driver::Address;

    #[test]
    fn what_a_browser_can_open_is_shown_so() {
        let shown = |text: &str, service| {
            let (place, remark) = place(&Address::Inet(text.parse().unwrap()), service);
            place + remark
        };
        assert_eq!(shown("127.0.0.1:8001", "http"), "http://127.0.0.1:8001/");
        assert_eq!(shown("0.0.0.0:80", "http"), "http://127.0.0.1:80/, on every address");
        assert_eq!(shown("[::]:80", "http"), "http://[::1]:80/, on every address");
        assert_eq!(shown("127.0.0.1:8443", "https"), "https://127.0.0.1:8443/");
        assert_eq!(shown("127.0.0.1:8004", "echo over TLS"), "127.0.0.1:8004");
        assert_eq!(shown("127.0.0.1:8004", "echo"), "127.0.0.1:8004");
        let unix = Address::from(crate::driver::UnixPath::new("/run/xps.sock").unwrap());
        assert_eq!(place(&unix, "http"), (unix.to_string(), ""));
    }

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("/usr/bin/xps"), "/usr/bin/xps");
        assert_eq!(quoted("/home/a b/xps"), "'/home/a b/xps'");
        assert_eq!(quoted("/it's/xps"), r"'/it'\''s/xps'");
    }
}
