//! The rules of this repository that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Each line with its number, code only: what follows `//` is cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    /// The same, up to the tests, which stand last in a file.
    fn code_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take_while(|(_, line)| line.trim() != "#[cfg(test)]")
    }
}

/// Paths are relative to the repository.
fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                let path = path.strip_prefix(root).expect("it was found below").to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(!sources.is_empty());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Shows every offence at once.
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

/// Denied for all targets in `Cargo.toml`. In two parts, so that this file does not find itself.
const LINT: &str = concat!("unsafe", "_code");

/// Where that may be lifted.
const UNCHECKED: [&str; 3] = ["src/driver/mod.rs", "src/buffer/mod.rs", "benches/peers/main.rs"];

#[test]
fn the_kernel_and_raw_memory_are_touched_in_two_folders_only() {
    let mut offences = Vec::new();
    for source in sources(&["src", "tests", "benches", "examples"]) {
        if UNCHECKED.iter().any(|path| source.path == Path::new(path)) {
            continue;
        }
        for (number, line) in source.code().filter(|(_, line)| line.contains(LINT) && !line.contains("forbid(")) {
            offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
        }
    }
    assert_none("only src/driver, src/buffer and the load generator may use what the compiler cannot check", &offences);
}

#[test]
fn each_file_begins_with_what_it_is() {
    let mut offences = Vec::new();
    for source in sources(&["src", "tests", "benches", "examples"]) {
        if !source.text.starts_with("//!") {
            offences.push(source.path.display().to_string());
        }
    }
    assert_none("files that do not begin with a `//!` comment", &offences);
}

/// What each folder of `src/` may use of the others. The arrows run one way, so each part can be read, tested and replaced with
/// what is below it.
const ARROWS: &[(&str, &[&str])] = &[
    ("table", &[]),
    ("waiter", &["table"]),
    ("planted", &[]),
    ("nearest", &[]),
    ("buffer", &[]),
    ("calendar", &[]),
    ("http", &["calendar"]),
    ("driver", &["buffer", "table"]),
    ("limit", &["driver"]),
    ("tcp", &["buffer", "driver"]),
    ("tls", &["buffer", "calendar", "driver", "http", "planted"]),
    ("transport", &["buffer", "driver", "tcp", "tls"]),
    ("telemetry", &["driver", "http", "tls"]),
    ("file", &["calendar", "driver", "http", "table", "tcp", "waiter"]),
    ("client", &["buffer", "http"]),
    ("acme", &["buffer", "client", "http", "telemetry", "tls"]),
    (
        "upstream",
        &["buffer", "client", "driver", "http", "planted", "table", "tcp", "telemetry", "tls", "transport", "waiter"],
    ),
    (
        "session",
        &[
            "buffer",
            "client",
            "driver",
            "file",
            "http",
            "limit",
            "planted",
            "table",
            "tcp",
            "telemetry",
            "tls",
            "transport",
            "upstream",
            "waiter",
        ],
    ),
    (
        "config",
        &["buffer", "driver", "file", "http", "limit", "nearest", "session", "tcp", "telemetry", "tls", "upstream"],
    ),
    (
        "core",
        &[
            "acme",
            "buffer",
            "config",
            "driver",
            "file",
            "http",
            "limit",
            "session",
            "table",
            "tcp",
            "telemetry",
            "tls",
            "transport",
            "upstream",
            "waiter",
        ],
    ),
    (
        "load",
        &[
            "buffer",
            "calendar",
            "client",
            "core",
            "driver",
            "http",
            "nearest",
            "table",
            "tcp",
            "telemetry",
            "tls",
            "transport",
            "upstream",
        ],
    ),
    (
        "cli",
        &[
            "buffer",
            "config",
            "core",
            "driver",
            "file",
            "http",
            "limit",
            "load",
            "session",
            "telemetry",
            "tls",
            "upstream",
        ],
    ),
];

#[test]
fn folders_use_only_what_is_below_them() {
    for (at, (folder, below)) in ARROWS.iter().enumerate() {
        let earlier: Vec<&str> = ARROWS[..at].iter().map(|(folder, _)| *folder).collect();
        assert!(below.iter().all(|used| earlier.contains(used)), "the arrows from {folder} make a cycle");
    }
    let mut offences = Vec::new();
    for source in sources(&["src"]) {
        let parts: Vec<_> = source.path.iter().skip(1).map(|part| part.to_string_lossy()).collect();
        let folder = parts[0].trim_end_matches(".rs");
        let is_test = source.path.ends_with("tests.rs") || parts.iter().any(|part| part == "tests");
        let Some((_, below)) = ARROWS.iter().find(|(name, _)| *name == folder).filter(|_| !is_test) else { continue };
        for (number, line) in source.code_before_tests() {
            let used =
                line.split("crate::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
            for used in used.flatten().filter(|used| ARROWS.iter().any(|(name, _)| name == used)) {
                if used != folder && !below.contains(&used) {
                    offences.push(format!("{}:{number}: {folder} may not use {used}", source.path.display()));
                }
            }
        }
    }
    assert_none("uses across folders that the table of arrows does not allow", &offences);
}

/// The same inside of `src/session/http/`: what a part may use of the parts below it.
const HTTP_ARROWS: &[(&str, &[&str])] = &[
    ("exchange", &[]),
    ("response", &[]),
    ("stream", &["response"]),
    ("response_body", &["response", "stream"]),
    ("handler", &["exchange", "response", "stream"]),
    ("router", &["handler"]),
    ("dispatch", &["exchange", "router"]),
    ("conn", &["dispatch", "exchange", "handler", "response", "response_body", "router", "stream"]),
];

#[test]
fn the_parts_of_http_use_only_what_is_below_them() {
    let root = Path::new("src/session/http");
    let mut offences = Vec::new();
    for (at, (part, below)) in HTTP_ARROWS.iter().enumerate() {
        let earlier: Vec<&str> = HTTP_ARROWS[..at].iter().map(|(part, _)| *part).collect();
        assert!(below.iter().all(|used| earlier.contains(used)), "the arrows from {part} make a cycle");
    }
    for source in sources(&["src/session/http"]) {
        let inner = source.path.strip_prefix(root).expect("it was found there");
        let part = inner.iter().next().expect("a file").to_string_lossy();
        let part = part.trim_end_matches(".rs");
        let Some((_, below)) = HTTP_ARROWS.iter().find(|(name, _)| *name == part) else {
            assert_eq!(part, "mod", "{} has no arrows", source.path.display());
            continue;
        };
        // A file of a part that is not a folder names the others by `super`.
        let is_alone = inner.iter().count() == 1;
        for (number, line) in source.code_before_tests() {
            let line = line.trim();
            let rest = line
                .split("session::http::")
                .nth(1)
                .or_else(|| is_alone.then(|| line.split("super::").nth(1)).flatten());
            let used = rest.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
            if let Some(used) = used.filter(|used| HTTP_ARROWS.iter().any(|(name, _)| name == used))
                && used != part
                && !below.contains(&used)
            {
                offences.push(format!("{}:{number}: {part} may not use {used}", source.path.display()));
            }
        }
    }
    assert_none("uses inside src/session/http that the table of arrows does not allow", &offences);
}

/// A handler speaks to streams, whatever carries them: HTTP/2 can then be added without touching it.
#[test]
fn handlers_know_no_connection() {
    let mut offences = Vec::new();
    for source in sources(&["src/session/http/handler"]) {
        for (number, line) in source.code_before_tests() {
            for word in ["crate::transport", "Inbox", "BodyWriter", ".bytes(cx."] {
                if line.contains(word) {
                    offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert_none("handlers that know what a stream is on", &offences);
}

/// What carries the bytes can then change in one file. A service that took a connection apart would
/// have to know whether the bytes of its socket are plaintext.
#[test]
fn only_the_transport_knows_a_connection() {
    let mut offences = Vec::new();
    for source in sources(&["src"]) {
        if ["src/tcp", "src/transport", "src/transport.rs"].iter().any(|above| source.path.starts_with(above)) {
            continue;
        }
        let code: String = source.code().flat_map(|(_, line)| [line, "\n"]).collect();
        let names_it = code.split("tcp::").skip(1).any(|rest| {
            let named = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default(),
                None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default(),
            };
            named.split(|c: char| !c.is_alphanumeric() && c != '_').any(|name| name == "Connection")
        });
        if names_it {
            offences.push(source.path.display().to_string());
        }
    }
    assert_none("`tcp::Connection` is named outside of src/tcp and the transport", &offences);
}

#[test]
fn machines_know_no_driver_by_name() {
    let mut offences = Vec::new();
    for source in
        sources(&["src/tcp", "src/tls", "src/session", "src/upstream", "src/client", "src/file", "src/buffer"])
    {
        // The second is a part of the simulation.
        if source.path.ends_with("tests.rs") || source.path.ends_with("tls/seeded.rs") {
            continue;
        }
        for (number, line) in source.code_before_tests() {
            for kernel in ["driver::uring", "driver::epoll", "driver::sim", "io_uring::", "std::net::Tcp"] {
                if line.contains(kernel) {
                    offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert_none("nothing above the contract knows which driver runs", &offences);
}

/// The compiler allows `unsafe`, and with it the calls of `libc`, nowhere else; those of rustix are
/// safe.
#[test]
fn system_calls_are_in_the_driver() {
    let mut offences = Vec::new();
    for source in sources(&["src"]).into_iter().filter(|source| !source.path.starts_with("src/driver")) {
        for (number, line) in source.code_before_tests() {
            if line.contains("rustix::") {
                offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
            }
        }
    }
    assert_none("system calls outside of src/driver", &offences);
}

/// What begins and ends exchanges: their log entries and their counters.
const EXCHANGE_WORDS: [&str; 6] =
    ["AccessLogEntry", "log.begin(", "log.begin_malformed(", "begin_exchange", "end_exchange", "count_error"];

/// An exchange ends once, in one place, where also what is measured of it later belongs.
#[test]
fn log_entries_and_counters_of_exchanges_are_in_one_file() {
    let owner = Path::new("src/session/http/exchange.rs");
    let mut found = Vec::new();
    let mut offences = Vec::new();
    for source in sources(&["src"]).into_iter().filter(|source| !source.path.starts_with("src/telemetry")) {
        for (number, line) in source.code_before_tests() {
            for word in EXCHANGE_WORDS.into_iter().filter(|word| line.contains(word)) {
                if source.path == owner {
                    found.push(word);
                } else {
                    offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert_none("only src/session/http/exchange.rs begins and ends exchanges", &offences);
    let missing: Vec<String> =
        EXCHANGE_WORDS.into_iter().filter(|word| !found.contains(word)).map(str::to_owned).collect();
    assert_none("words that src/session/http/exchange.rs no longer uses, so that nothing is checked", &missing);
}

#[test]
fn the_readme_shows_every_command() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let missing: Vec<String> = ["proxy", "echo", "reverse", "send", "connect", "probe"]
        .iter()
        .filter(|command| !readme.contains(&format!("xps {command}")))
        .map(|command| (*command).to_owned())
        .collect();
    assert_none("README.md does not show these commands of `xps`", &missing);
    assert!(readme.contains("cargo test"), "README.md does not say how to run the tests");
}

/// The tests that do not run over HTTP/2 (`http1_only!`), for each file that has some. What one of them protects in HTTP/2 has a test
/// in `tests/integration/http2`.
const HTTP1_ONLY: &[(&str, usize)] = &[
    ("http/access_log.rs", 3),
    ("http/connection.rs", 8),
    ("http/framing.rs", 14),
    ("http/pressure.rs", 1),
    ("http_proxy/clients.rs", 4),
    ("http_proxy/fields.rs", 4),
    ("http_proxy/responses.rs", 4),
    ("http_proxy/trailers.rs", 5),
    ("http_proxy/upgrades.rs", 9),
    ("http_proxy/uploads.rs", 3),
    ("http_proxy/upstreams.rs", 1),
];

#[test]
fn tests_that_skip_http_2_are_counted() {
    let counts: Vec<(String, usize)> = sources(&["tests/integration"])
        .into_iter()
        .map(|source| {
            (source.path.display().to_string(), source.code().filter(|(_, line)| line.contains("http1_only!(")).count())
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let expected: Vec<(String, usize)> =
        HTTP1_ONLY.iter().map(|(path, count)| (format!("tests/integration/{path}"), *count)).collect();
    assert_eq!(counts, expected, "a test that skips HTTP/2 is to be said here too");
}

/// Words of stories, for which technical English has better ones.
const STORY_WORDS: [&str; 6] = ["nobody", "whoever", "so many", "somebody", "anew", "is told"];

#[test]
fn prose_is_plain() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("a readable folder").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut texts: Vec<(PathBuf, String)> = pages
        .chain([root.join("README.md")])
        .map(|path| (path.clone(), fs::read_to_string(path).expect("a page is text")))
        .collect();
    texts.extend(sources(&["src"]).into_iter().map(|source| (source.path, source.text)));
    let mut offences = Vec::new();
    for (path, text) in &texts {
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let line = format!(" {} ", words.collect::<Vec<_>>().join(" ").to_lowercase());
            if let Some(word) = STORY_WORDS.into_iter().find(|word| line.contains(&format!(" {word} "))) {
                offences.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert_none("words that docs/ and src/ do without", &offences);
}
