//! What a server says when it is ready, on standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crate::core::Server;
use crate::driver::limits::kernel_release;

/// Writes the banner: version, driver and why, addresses, hints.
pub fn show(server: &Server, services: &[&str], hints: &[String]) {
    let mut output = io::stderr().lock();
    let bold = if colours(&output) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    // A banner that nobody can read is no failure.
    let _ = output.write_all(text(server, services, hints, bold).as_bytes());
}

fn text(server: &Server, services: &[&str], hints: &[String], (bold, plain): (&str, &str)) -> String {
    let selection = server.selection();
    let workers = server.workers();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{bold}xps {}{plain} on Linux {}: {}{}, {workers} worker{}",
        env!("CARGO_PKG_VERSION"),
        kernel_release(),
        selection.backend.name(),
        if selection.is_fallback { format!(", since {}", selection.reason) } else { String::new() },
        if workers == 1 { "" } else { "s" },
    );
    for (address, service) in server.addresses().iter().zip(services) {
        let _ = writeln!(text, "  {bold}{address}{plain}  {service}");
    }
    for hint in hints {
        let _ = writeln!(text, "{hint}");
    }
    text
}

fn colours(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
