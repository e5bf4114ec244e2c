//! The documents say what the code says.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The machines, in the order in which a connection meets them.
const MACHINES: [(&str, &str); 27] = [
    ("Listener", "src/tcp/listener.rs"),
    ("Session", "src/session/mod.rs"),
    ("Setup", "src/session/setup.rs"),
    ("Connection", "src/tcp/connection.rs"),
    ("Reader", "src/tcp/reader.rs"),
    ("Writer", "src/tcp/writer.rs"),
    ("TLS stream", "src/tls/stream.rs"),
    ("TLS connection", "src/transport/encrypted.rs"),
    ("Connector", "src/upstream/connector.rs"),
    ("Outbound connection", "src/upstream/outbound.rs"),
    ("Upstream connection", "src/upstream/pool.rs"),
    ("Upstream lease", "src/upstream/lease.rs"),
    ("Client session", "src/core/client.rs"),
    ("Client connection", "src/client/connection.rs"),
    ("Health check", "src/upstream/health_check.rs"),
    ("Endpoint health", "src/upstream/group/health.rs"),
    ("Proxy", "src/session/proxy.rs"),
    ("FileSender", "src/session/file_sender.rs"),
    ("Receive", "src/session/receive.rs"),
    ("Http", "src/session/http/conn/h1/mod.rs"),
    ("Exchange", "src/session/http/conn/h1/state.rs"),
    ("HTTP/2 connection", "src/session/http/conn/h2/mod.rs"),
    ("HTTP/2 stream", "src/session/http/conn/h2/stream.rs"),
    ("Forward", "src/session/http/handler/proxy/forward.rs"),
    ("Store", "src/file/store.rs"),
    ("RootPath", "src/file/store/root_path.rs"),
    ("FileHandle", "src/file/handle.rs"),
];

const CONFIGURATION: &str = "docs/configuration.md";
const LIFECYCLES: &str = "docs/lifecycles.md";
const METRICS: &str = "docs/metrics.md";

/// `XPS_UPDATE=1 cargo test --test docs` writes the document anew.
#[test]
fn the_life_cycles_in_the_documents_are_those_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut expected = String::from(
        "# Life cycles\n\nOne diagram for each machine, as it stands in its module. Written by `XPS_UPDATE=1 cargo test --test docs`.\n",
    );
    for (name, path) in MACHINES {
        let source = fs::read_to_string(root.join(path)).unwrap();
        let diagram = diagram_of(&source).unwrap_or_else(|| panic!("{path} has no diagram in its module comment"));
        write!(expected, "\n## {name}\n\n[`{path}`](../{path})\n\n```text\n{diagram}```\n").unwrap();
    }
    if std::env::var_os("XPS_UPDATE").is_some() {
        fs::write(root.join(LIFECYCLES), &expected).unwrap();
    }
    let found = fs::read_to_string(root.join(LIFECYCLES)).unwrap_or_default();
    assert!(found == expected, "{LIFECYCLES} is out of date: run `XPS_UPDATE=1 cargo test --test docs`");
}

/// `XPS_UPDATE=1 cargo test --test docs` writes the document anew.
#[test]
fn the_configuration_reference_is_that_of_the_model() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(CONFIGURATION);
    let expected = xps::internals::config::file::reference();
    if std::env::var_os("XPS_UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{CONFIGURATION} is out of date: run `XPS_UPDATE=1 cargo test --test docs`");
}

/// `XPS_UPDATE=1 cargo test --test docs` writes the document anew.
#[test]
fn the_metrics_in_the_documents_are_those_that_are_rendered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(METRICS);
    let mut expected = String::from(
        "# Metrics\n\nEvery family of the metrics, in the order of the text. Written by `XPS_UPDATE=1 cargo test --test docs`.\n\n\
         Sums are over all workers. Series exist for what the configuration names; no client can add one. A label\n\
         `host` is the first name of a virtual host (`*`: one without a name), `route` the `name` of a route, else its\n\
         prefix, `listener` an address, `group` the name that `xps ctl endpoints` shows. They go on counting over a\n\
         reload that keeps the name, and begin at 0 with the process. Figures that come from `/proc` are left out without it.\n\n| metric | type | meaning |\n|---|---|---|\n",
    );
    for family in xps::internals::telemetry::metrics::Metrics::families() {
        writeln!(expected, "| `{}` | {} | {} |", family.name, family.kind, family.help).unwrap();
    }
    if std::env::var_os("XPS_UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{METRICS} is out of date: run `XPS_UPDATE=1 cargo test --test docs`");
}

#[test]
fn the_configurations_in_the_documents_are_well() {
    let mut count = 0;
    for document in ["README.md", CONFIGURATION, "docs/operation.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
        for block in text.split("```jsonc\n").skip(1) {
            let configuration = block.split("```").next().unwrap_or_default();
            assert!(xps::internals::config::file::parse(configuration).is_ok(), "{document}: {configuration}");
            count += 1;
        }
    }
    assert!(count >= 2, "{count} configurations found");
}

/// The first drawing of the module's comment.
fn diagram_of(source: &str) -> Option<String> {
    let mut lines = source.lines().map_while(|line| line.strip_prefix("//!")).skip_while(|line| *line != " ```text");
    lines.next()?;
    let drawing = lines.take_while(|line| *line != " ```");
    Some(drawing.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect())
}

#[test]
fn every_dependency_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let explained = fs::read_to_string(root.join("docs/dependencies.md")).unwrap();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies
            && let Some((name, _)) = line.split_once(" = ")
            // For the feature of its own tests.
            && name != "xps"
        {
            assert!(explained.contains(&format!("| `{name}` |")), "docs/dependencies.md says nothing of {name}");
        }
    }
}

#[test]
fn every_close_reason_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("src/session/close_reason.rs")).unwrap();
    let explained = fs::read_to_string(root.join("docs/operation.md")).unwrap();
    let (_, codes) = source.split_once("fn code(self)").unwrap();
    let (codes, _) = codes.split_once("\n    }").unwrap();
    let codes: Vec<_> = codes.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 15, "{codes:?}");
    for code in codes {
        assert!(explained.contains(&format!("| `{code}` |")), "docs/operation.md says nothing of {code}");
    }
}
