//! The page of the listener for metrics, in a browser.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::json;

use crate::browser;
use crate::support::{Launch, backends, connect};

/// What the page waits for in the browser's own time: some readings.
const READINGS: &str = "--virtual-time-budget=6000";

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server takes it");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response of text");
    response
}

/// The cells of the row of a table that begins with this text.
fn row(document: &str, first: &str) -> Vec<String> {
    let row = document.split("<tr>").find(|row| row.starts_with(&format!("<th scope=\"row\">{first}</th>")));
    let row = row.unwrap_or_else(|| panic!("no row of {first:?} in\n{document}"));
    let row = row.split("</tr>").next().unwrap_or_default();
    let cell = |cell: &str| cell.split_once('>').map(|(_, text)| text.split('<').next().unwrap_or_default().to_owned());
    row.split("<t").filter_map(cell).collect()
}

backends! {
    fn a_browser_shows_what_the_server_does(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("site")).expect("a folder in it");
        std::fs::write(folder.path().join("site/page"), "x").expect("a file");
        let config = json!({
            "workers": 1,
            "access_log": "off",
            "metrics": { "port": 0 },
            "servers": [{
                "listeners": [{ "host": "127.0.0.1", "port": 0 }],
                "hostnames": ["example.org"],
                "routes": [
                    { "req_path": "/", "type": "file_serve", "dir_path": "site" },
                    { "req_path": "/up", "type": "reverse_proxy", "upstreams": ["127.0.0.1:9"] },
                ],
            }],
        });
        std::fs::write(folder.path().join("xps_config.json"), config.to_string()).expect("a file");
        let xps = Launch::new(backend, ["run"]).in_folder(folder.path()).start();
        let record = xps.log().wait_for("a listener for metrics", |record| {
            record.message() == "listening for operators"
        });
        let operators = record.text("address").expect("its address");
        assert!(get(xps.address(), "/page").starts_with("HTTP/1.1 200 "));
        assert!(get(xps.address(), "/up").starts_with("HTTP/1.1 502 "));

        let url = format!("http://{operators}/");
        let Some(document) = browser::document(module_path!(), &url, &[READINGS]) else { return };
        assert!(document.contains("role=\"status\">serving</span>"), "{document}");
        let routes: Vec<&str> = document.split("id=\"hosts\"").nth(1).into_iter().collect();
        assert_eq!(row(routes[0], "example.org")[3..7], ["1", "0", "0", "0"], "{document}");
        for title in ["Requests a second", "Latency, 99 of 100 within", "Memory"] {
            assert!(document.contains(title), "{title} is missing in\n{document}");
        }

        // For the documents: XPS_SCREENSHOTS=docs/images cargo test --test real page::
        let Ok(screenshots) = std::env::var("XPS_SCREENSHOTS") else { return };
        for (name, size, scheme) in
            [("metrics", "1280,1500", "1"), ("metrics-dark", "1280,1500", "0"), ("metrics-phone", "390,1500", "1")]
        {
            let options = [
                READINGS.to_owned(),
                "--hide-scrollbars".to_owned(),
                format!("--window-size={size}"),
                format!("--blink-settings=preferredColorScheme={scheme}"),
                format!("--screenshot={screenshots}/{name}.png"),
            ];
            browser::document(module_path!(), &url, &options.each_ref().map(String::as_str));
        }
    }
}
