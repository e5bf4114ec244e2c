//! Options that lead to a running server: by its admin socket, or by the file with its process ID.

use serde_json::{Value, json};

use super::target::Case;
use crate::support::process::Finished;
use crate::support::{Launch, Xps};

/// A server with an admin socket.
pub fn server(case: &Case) -> Xps {
    case.configure(|document| document["admin"] = json!({ "unix": "admin.sock" }));
    Launch::new(case.backend, ["run"]).in_folder(case.folder.path()).listening_on(4).start()
}

fn run(case: &Case, words: &[&str]) -> Finished {
    Launch::new(case.backend, words.iter().copied()).in_folder(case.folder.path()).run(b"")
}

pub fn reload(case: &Case) {
    let xps = server(case);
    for words in [["--socket", "admin.sock"], ["--config", "xps_config.json"]] {
        let finished = run(case, &["reload", words[0], words[1]]);
        assert_eq!(finished.status.code(), Some(0), "{words:?}: {}", finished.errors);
    }
    assert_eq!(run(case, &["reload", "--socket", "other.sock"]).status.code(), Some(3));
    drop(xps);
}

pub fn ctl(case: &Case) {
    let xps = server(case);
    for words in [["--socket", "admin.sock"], ["--config", "xps_config.json"]] {
        let text = run(case, &["ctl", words[0], words[1], "status"]);
        assert!(String::from_utf8_lossy(&text.output).contains(": ready\n"), "{words:?}: {}", text.errors);
        // They may also follow the command.
        let json = run(case, &["ctl", "status", "--json", words[0], words[1]]);
        let status: Value = serde_json::from_slice(&json.output).expect("JSON");
        assert_eq!(status["process"], xps.pid());
    }
    assert_eq!(run(case, &["ctl", "status", "--socket", "other.sock"]).status.code(), Some(3));
}

pub fn pid_file(case: &Case) {
    case.configure(|_| {});
    let launch = Launch::new(case.backend, ["run", "--pid-file", "its.pid"]);
    let xps = launch.in_folder(case.folder.path()).listening_on(4).start();
    let path = case.folder.path().join("its.pid");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), format!("{}\n", xps.pid()));
    xps.finish();
    assert!(!path.exists());
    let refusal = Launch::new(case.backend, ["run", "--pid-file", "no/folder/its.pid"]);
    let refusal = refusal.in_folder(case.folder.path()).run(b"");
    assert_eq!(refusal.status.code(), Some(1), "{}", refusal.errors);
    assert!(refusal.errors.contains("pid file"), "{}", refusal.errors);
}
