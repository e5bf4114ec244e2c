//! `openssl s_client` in front of a server: versions, resumption, names, certificates of clients, and what is
//! refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::date_time_ymd;
use serde_json::{Value, json};

use crate::place::{Place, Service};
use crate::support::environment::require_program;
use crate::support::process::{Finished, run_to_end};
use crate::support::tls::{Authority, Signed};
use crate::support::{Backend, backends};

const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A server of a page for `localhost`, and the program.
struct Case {
    openssl: PathBuf,
    authority: Authority,
    place: Place,
    service: Service,
}

impl Case {
    /// With these options of `tls`. `None`, visibly, without the program.
    fn new(test: &str, backend: Backend, options: Value) -> Option<Self> {
        let openssl = require_program(test, "openssl", "openssl")?;
        let (authority, place) = (Authority::new(), Place::new(backend));
        place.page("files", "a page");
        let Signed { cert, key, .. } = authority.signed(&["localhost"]);
        let mut tls = options;
        tls["certificates"] = json!([{ "cert": cert, "key": key }]);
        if tls.get("client_auth").is_some() {
            tls["client_auth"]["ca"] = json!(authority.ca());
        }
        place.configure([json!({
            "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": tls }],
            "routes": [{ "req_path": "/", "type": "file_serve", "dir_path": "files" }],
        })]);
        let service = place.start();
        Some(Self { openssl, authority, place, service })
    }

    fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// Runs `openssl s_client` with these words and this input. It verifies the server for `localhost`.
    fn run(&self, words: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new(&self.openssl);
        command.args(["s_client", "-connect", &self.address().to_string(), "-CAfile"]).arg(self.authority.ca());
        command.args(["-verify_return_error", "-verify_hostname", "localhost"]).args(words);
        run_to_end(&mut command, input)
    }

    /// The same with a request, to the end of the connection; the answer with what the program says of it.
    #[track_caller]
    fn get(&self, words: &[&str]) -> String {
        let finished = self.run(&[&["-ign_eof"], words].concat(), REQUEST);
        let output = String::from_utf8_lossy(&finished.output).into_owned();
        assert!(finished.status.success(), "{words:?}: {}\n{output}\n{}", finished.status, finished.errors);
        assert!(output.contains("HTTP/1.1 200 OK\r\n") && output.contains("\r\n\r\na page"), "{words:?}: {output}");
        output
    }

    /// The same where no answer comes: what the program says of that.
    #[track_caller]
    fn get_nothing(&self, words: &[&str]) -> String {
        let finished = self.run(&[&["-ign_eof"], words].concat(), REQUEST);
        let output = String::from_utf8_lossy(&finished.output).into_owned();
        assert!(!output.contains("HTTP/1.1"), "{words:?}: {output}");
        finished.errors
    }
}

/// The words with which the program shows this certificate.
fn show(signed: &Signed) -> [&str; 4] {
    ["-cert", text(&signed.cert), "-key", text(&signed.key)]
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

backends! {
    fn both_versions_are_spoken_and_resumed(backend) {
        let Some(case) = Case::new("both_versions_are_spoken_and_resumed", backend, json!({})) else { return };
        let session = case.place.path("session");
        for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let first = case.get(&[flag, "-servername", "localhost", "-sess_out", text(&session)]);
            assert!(first.contains(&format!("New, {version}, ")), "{first}");
            let second = case.get(&[flag, "-servername", "localhost", "-sess_in", text(&session)]);
            assert!(second.contains(&format!("Reused, {version}, ")), "{second}");
        }
    }

    fn older_versions_are_refused(backend) {
        let Some(case) = Case::new("older_versions_are_refused", backend, json!({})) else { return };
        for version in ["-tls1", "-tls1_1"] {
            let errors = case.get_nothing(&[version, "-cipher", "ALL@SECLEVEL=0"]);
            assert!(errors.contains(" alert "), "{version}: {errors}");
        }
    }

    fn a_renegotiation_is_refused(backend) {
        let Some(case) = Case::new("a_renegotiation_is_refused", backend, json!({})) else { return };
        // A line that begins with R asks the program for one.
        let finished = case.run(&["-tls1_2"], b"R\n");
        let output = String::from_utf8_lossy(&finished.output).into_owned();
        assert!(output.contains("Secure Renegotiation IS supported"), "{output}");
        assert!(finished.errors.contains("RENEGOTIATING"), "{}", finished.errors);
        assert!(finished.errors.contains("no renegotiation"), "{}", finished.errors);
        case.get(&["-tls1_2"]);
    }

    fn early_data_are_not_invited(backend) {
        let Some(case) = Case::new("early_data_are_not_invited", backend, json!({})) else { return };
        let (session, early) = (case.place.path("session"), case.place.path("early"));
        std::fs::write(&early, REQUEST).expect("a temporary file");
        case.get(&["-tls1_3", "-sess_out", text(&session)]);
        let output = case.get(&["-tls1_3", "-sess_in", text(&session), "-early_data", text(&early)]);
        assert!(output.contains("Reused, TLSv1.3, "), "{output}");
        assert!(output.contains("Early data was not sent") && output.contains("Max Early Data: 0"), "{output}");
    }

    fn a_name_that_no_certificate_has_is_answered_as_configured(backend) {
        const NAME: &str = "a_name_that_no_certificate_has_is_answered_as_configured";
        let Some(open) = Case::new(NAME, backend, json!({})) else { return };
        open.get(&["-servername", "other.org"]);
        let Some(strict) = Case::new(NAME, backend, json!({ "unknown_name": "refuse" })) else { return };
        strict.get(&["-servername", "localhost"]);
        let errors = strict.get_nothing(&["-servername", "other.org"]);
        assert!(errors.contains(" alert "), "{errors}");
    }

    fn the_certificate_of_a_client_is_verified(backend) {
        const NAME: &str = "the_certificate_of_a_client_is_verified";
        let Some(case) = Case::new(NAME, backend, json!({ "client_auth": { "mode": "require" } })) else { return };
        let stranger = Authority::new();
        let (good, other) = (case.authority.signed(&["client"]), stranger.signed(&["client"]));
        let expired =
            case.authority.signed_with(&["expired"], |parameters| parameters.not_after = date_time_ymd(2020, 1, 2));
        for version in ["-tls1_2", "-tls1_3"] {
            case.get(&[&[version], show(&good).as_slice()].concat());
            for (flags, alert) in [
                (&[][..], "certificate required"),
                (show(&expired).as_slice(), "certificate expired"),
                // The authorities of tests have one name, and this one has another key.
                (show(&other).as_slice(), "decrypt error"),
            ] {
                let errors = case.get_nothing(&[&[version], flags].concat());
                assert!(errors.contains(alert), "{version} {flags:?}: {errors}");
            }
        }
    }
}
