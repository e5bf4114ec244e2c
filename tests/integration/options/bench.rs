//! Options of `xps bench`. What its figures mean is in `tests/integration/bench.rs`.

use std::fs;

use serde_json::Value;

use super::target::Case;
use crate::bench::report_of;
use crate::support::tls::Authority;
use crate::support::{Backend, Launch, Upstream, Xps};

/// A folder with `/page`, served by xps.
fn server(case: &Case, flags: &[&str]) -> Xps {
    let words = ["serve", "public", "--listen", "127.0.0.1:0"];
    Launch::new(case.backend, words).flags(flags.iter().copied()).in_folder(case.folder.path()).start()
}

fn report(case: &Case, words: &[&str]) -> Value {
    report_of(&Launch::new(case.backend, ["bench", "--json"]).flags(words.iter().copied()).run(b""))
}

/// A report of requests for the page.
fn of_page(case: &Case, xps: &Xps, words: &[&str]) -> Value {
    let url = format!("http://{}/page", xps.address());
    report(case, &[&[url.as_str()], words].concat())
}

pub fn load(case: &Case) {
    let xps = server(case, &[]);
    let counted = of_page(case, &xps, &["--connections", "3", "--threads", "2", "--requests", "30", "--pipeline", "2"]);
    assert_eq!((counted["requests"].as_u64(), counted["connections"].as_u64()), (Some(30), Some(3)));
    assert_eq!((counted["threads"].as_u64(), counted["requests_per_connection_max"].as_u64()), (Some(2), Some(2)));
    let timed = of_page(case, &xps, &["--duration", "300ms", "--warmup", "100ms", "--rate", "100", "--timeout", "9s"]);
    let seconds = timed["seconds"].as_f64().expect("a number");
    assert!((0.3..0.4).contains(&seconds), "{timed}");
    assert_eq!((timed["requests"].as_u64(), timed["rate"].as_f64()), (Some(30), Some(100.0)), "{timed}");
    for flags in [&["--no-keepalive"][..], &["--requests-per-connection", "1"]] {
        let closing = of_page(case, &xps, &[&["-n", "10", "-c", "2"], flags].concat());
        assert_eq!((closing["requests"].as_u64(), closing["errors"]["reset"].as_u64()), (Some(10), Some(0)));
        assert!(closing["connects"].as_u64() >= Some(8), "{closing}");
    }
    let others = of_page(case, &xps, &["-n", "10", "-c", "2", "--idle", "2", "--slow", "2"]);
    assert_eq!(others["requests"], 10);
    let pid = xps.pid().to_string();
    assert_eq!(of_page(case, &xps, &["-n", "10", "--pid", &pid])["server"]["pid"], xps.pid());
}

pub fn requests(case: &Case) {
    let xps = server(case, &[]);
    let address = xps.address().to_string();
    let names = case.path("urls");
    fs::write(&names, format!("http://{address}/page\n")).expect("a file");
    assert_eq!(report(case, &["--urls", &names.display().to_string(), "-n", "4"])["requests"], 4);
    let elsewhere = report(case, &["http://example.org/page", "--connect-to", &address, "-n", "4"]);
    assert_eq!(elsewhere["requests"], 4);
    // Files are not written to.
    let posted = of_page(case, &xps, &["-n", "4", "--method", "PUT", "--body", "text", "--header", "X: y"]);
    assert_eq!(posted["statuses"]["405"], 4, "{posted}");
    let h2c = server(case, &["--h2c"]);
    assert_eq!(of_page(case, &h2c, &["-n", "4"])["protocol"], "HTTP/1.1");
    let many =
        of_page(case, &h2c, &["-n", "40", "-c", "2", "--http2-prior-knowledge", "--streams", "5", "--body", "text"]);
    assert_eq!((many["protocol"].as_str(), many["requests_per_connection_max"].as_u64()), (Some("HTTP/2"), Some(5)));
    assert_eq!(many["statuses"]["405"], 40, "{many}");
    let echo = Upstream::echo();
    let url = format!("tcp://{}", echo.address());
    assert_eq!(report(case, &[&url, "--mode", "connect", "-n", "4"])["sent_bytes"], 0);
}

pub fn expectations(case: &Case) {
    let xps = server(case, &[]);
    // The page is the word `page`.
    let sum = "90ee1dd83d07b78b5b4da4f5d7a3d7b7ab3d7b3b3f1a5fd5ef32a93ad7b5b0d1";
    for (flags, kind) in [
        (&["--expect-status", "404"][..], "status"),
        (&["--expect-length", "3"], "wrong_body"),
        (&["--expect-length", "5"], "short_body"),
        (&["--expect-sha256", sum], "wrong_body"),
    ] {
        assert_eq!(of_page(case, &xps, &[&["-n", "4"], flags].concat())["errors"][kind], 4, "{flags:?}");
    }
    let right = ["-n", "4", "--expect-status", "200", "--expect-length", "4", "--expect-same"];
    assert_eq!(of_page(case, &xps, &right)["requests"], 4);
}

pub fn tls(case: &Case) {
    let authority = Authority::new();
    let site = authority.signed(&["localhost"]);
    let (cert, key) = (site.cert.display().to_string(), site.key.display().to_string());
    let xps = server(case, &["--tls-cert", &cert, "--tls-key", &key]);
    let (port, ca) = (xps.address().port(), authority.ca().display().to_string());
    let report = |host: &str, flags: &[&str]| {
        let url = format!("https://{host}:{port}/page");
        let words = [&[url.as_str(), "-n", "4", "-c", "2"], flags].concat();
        let finished = Launch::new(case.backend, ["bench", "--json"]).flags(words).run(b"");
        serde_json::from_slice::<Value>(&finished.output).ok()
    };
    let requests = |host: &str, flags: &[&str]| report(host, flags).and_then(|report| report["requests"].as_u64());
    let protocol = |flags: &[&str]| report("localhost", flags).map(|report| report["protocol"].clone());
    assert_eq!(protocol(&["--ca", &ca]), Some("HTTP/2".into()));
    assert_eq!(protocol(&["--ca", &ca, "--no-http2"]), Some("HTTP/1.1".into()));
    assert_eq!(requests("localhost", &["--ca", &ca]), Some(4));
    assert_eq!(requests("localhost", &[]), None, "the system does not trust the authority of a test");
    assert_eq!(requests("127.0.0.1", &["--insecure"]), Some(4));
    assert_eq!(requests("127.0.0.1", &["--ca", &ca]), None, "the certificate is for another name");
    // Without `Host`, the server would refuse a name that its certificate does not have.
    let named = ["--ca", &ca, "--sni", "localhost", "-H", "Host: localhost"];
    assert_eq!(requests("127.0.0.1", &named), Some(4));
}

pub fn starts_with(case: &Case) {
    let xps = server(case, &[]);
    let url = format!("http://{}/page", xps.address());
    let words = ["bench", &url, "-n", "4", "--uring-off", "accept-multishot", "--log-level", "debug", "--json"];
    let finished = Launch::new(case.backend, words).flags(["--log-format", "json"]).run(b"");
    let report: Value = serde_json::from_slice(&finished.output).expect("a report");
    assert_eq!(report["manifest"]["backend"], if case.backend == Backend::Epoll { "epoll" } else { "io_uring" });
    let records = finished.errors.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let measuring = records.map(|mut record| record["fields"].take()).find(|fields| fields["message"] == "measuring");
    let fields = measuring.expect("a record of the level that was asked for");
    assert!(fields["uring_off"].as_str().is_some_and(|off| off.contains("accept-multishot")), "{fields}");
}

/// A run with its report in a file.
fn report_file(case: &Case, xps: &Xps, name: &str) -> (Value, String) {
    let url = format!("http://{}/page", xps.address());
    let finished = Launch::new(case.backend, ["bench", &url, "--json", "-n", "40", "-c", "2"]).run(b"");
    let report: Value = serde_json::from_slice(&finished.output).expect("a report");
    let path = case.path(name);
    fs::write(&path, report.to_string()).expect("a file");
    (report, path.display().to_string())
}

pub fn files(case: &Case) {
    let xps = server(case, &[]);
    let (csv, hdr) = (case.path("series.csv"), case.path("times.hgrm"));
    let (csv_path, hdr_path) = (csv.display().to_string(), hdr.display().to_string());
    let page = case.path("page.html");
    let page_path = page.display().to_string();
    of_page(case, &xps, &["-n", "40", "--csv", &csv_path, "--hdr", &hdr_path, "--html", &page_path]);
    let page = fs::read_to_string(page).expect("it was written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"), "{page}");
    let csv = fs::read_to_string(csv).expect("it was written");
    assert!(csv.lines().count() >= 2 && csv.starts_with("start_seconds,"), "{csv}");
    let hdr = fs::read_to_string(hdr).expect("it was written");
    assert!(hdr.contains("TotalCount"), "{hdr}");
    let nowhere = Launch::new(case.backend, ["bench", "--csv", "/no/such/folder/x", "-n", "4"]);
    let finished = nowhere.flag(format!("http://{}/page", xps.address())).run(b"");
    assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
}

pub fn verdicts(case: &Case) {
    let xps = server(case, &[]);
    let url = format!("http://{}/page", xps.address());
    let run = |flags: &[&str]| {
        let finished =
            Launch::new(case.backend, ["bench", &url, "-n", "40", "-c", "2"]).flags(flags.iter().copied()).run(b"");
        (finished.status.code(), finished.errors)
    };
    assert_eq!(run(&["--slo", "p50<60s,errors<=0%"]).0, Some(0));
    let (code, errors) = run(&["--slo", "p50<60s,max<1us"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("max<1us") && !errors.contains("p50"), "{errors}");
    assert_eq!(run(&["--slo", "p51"]).0, Some(2));

    let (mut report, path) = report_file(case, &xps, "baseline.json");
    // Slower by far than any run here.
    report["requests_per_second"] = 1.into();
    for time in ["mean", "max", "min"] {
        report["service_time"][time] = 1e9.into();
    }
    report["service_time"]["percentiles"] = serde_json::json!([{ "percent": 50.0, "value": 1e9 }]);
    fs::write(&path, report.to_string()).expect("a file");
    assert_eq!(run(&["--baseline", &path, "--max-regression", "50%"]), (Some(0), String::new()));
    report["requests_per_second"] = 1e12.into();
    fs::write(&path, report.to_string()).expect("a file");
    let (code, errors) = run(&["--baseline", &path]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("regressed"), "{errors}");
    report["manifest"]["kernel"] = "another".into();
    fs::write(&path, report.to_string()).expect("a file");
    let (code, errors) = run(&["--baseline", &path]);
    assert!(code == Some(2) && errors.contains("kernel"), "{code:?}: {errors}");
    assert_eq!(run(&["--baseline", &path, "--any-environment"]).0, Some(3));

    let words = ["bench", &url, "--json", "--find-max", "--slo", "rate>=90%", "-d", "1s"];
    assert_eq!(Launch::new(case.backend, words).run(b"").status.code(), Some(2), "a rate is no share");
    // Half a request a second and more cannot be met within a microsecond.
    let words = ["bench", &url, "--find-max", "--slo", "max<1us", "-R", "4", "-d", "300ms"];
    let finished = Launch::new(case.backend, words).run(b"");
    assert_eq!(finished.status.code(), Some(3), "{}", finished.errors);
    assert!(finished.errors.contains("4 requests/s: missed"), "{}", finished.errors);
}

pub fn compare(case: &Case) {
    let xps = server(case, &[]);
    let (mut report, first) = report_file(case, &xps, "first.json");
    let second = case.path("second.json").display().to_string();
    let compared = |flags: &[&str]| {
        let launch = Launch::new(case.backend, ["compare", &first, &second]).flags(flags.iter().copied());
        let finished = launch.run(b"");
        (finished.status.code(), String::from_utf8(finished.output).expect("text"), finished.errors)
    };
    fs::write(&second, report.to_string()).expect("a file");
    let (code, text, errors) = compared(&[]);
    assert!(code == Some(0) && text.contains("second.json"), "{text}{errors}");
    let page = case.path("page.html");
    assert_eq!(compared(&["--html", &page.display().to_string()]).0, Some(0));
    assert!(fs::read_to_string(page).expect("it was written").contains("second.json"));
    report["manifest"]["processor"] = "another".into();
    fs::write(&second, report.to_string()).expect("a file");
    let (code, _, errors) = compared(&[]);
    assert!(code == Some(2) && errors.contains("--any-environment"), "{errors}");
    assert_eq!(compared(&["--any-environment"]).0, Some(0));
    report["version"] = 1000.into();
    fs::write(&second, report.to_string()).expect("a file");
    assert_eq!(compared(&[]).0, Some(2));
}

pub fn server_metrics(case: &Case) {
    let xps = super::operator::server(case);
    let (socket, pid) = (format!("unix:{}", case.path("admin.sock").display()), xps.pid().to_string());
    let measured = of_page(case, &xps, &["-n", "400", "-c", "4", "--pid", &pid, "--server-metrics", &socket]);
    assert!(measured["server"]["ring"]["completions_per_request"].as_f64() >= Some(0.0), "{measured}");
    let url = format!("http://{}/page", xps.address());
    let alone = Launch::new(case.backend, ["bench", &url, "--server-metrics", &socket]).run(b"");
    assert_eq!(alone.status.code(), Some(2), "{}", alone.errors);
}

pub fn contest(case: &Case) {
    // A path that is short enough for a socket.
    let socket = format!("unix:{}", case.path("xps.sock").display());
    let folder = case.path("public").display().to_string();
    let words = ["bench", "http://localhost/page", "--connect-to", &socket, "-n", "20", "-c", "2", "--json"];
    let rivals = ["--rounds", "2", "--ab", "workers=1,2", "--", env!("CARGO_BIN_EXE_xps"), "serve", &folder];
    let listen = ["--listen", &socket];
    let finished = Launch::new(case.backend, words).flags([&rivals[..], &listen].concat()).run(b"");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    let result: Value = serde_json::from_slice(&finished.output).expect("JSON");
    let command = result["b"].as_array().expect("words");
    assert_eq!(command[command.len() - 2..], ["--workers", "2"]);
    for pair in result["pairs"].as_array().expect("pairs") {
        assert_eq!((pair["a"]["requests"].as_u64(), pair["b"]["requests"].as_u64()), (Some(20), Some(20)));
        assert_ne!(pair["a"]["server"]["pid"], pair["b"]["server"]["pid"]);
    }
    let missing = Launch::new(case.backend, words).flags(["--ab", "/no/such/program", "--", "/no/such/program"]);
    let finished = missing.run(b"");
    assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
    assert!(finished.errors.contains("/no/such/program"), "{}", finished.errors);
}
