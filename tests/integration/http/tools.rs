//! Other people's clients.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::http::site::Site;
use crate::support::environment::find_program;
use crate::support::{Content, assert_same_bytes, backends, skip};

/// The program, or a visible skip.
fn tool(test: &str, name: &str) -> Option<PathBuf> {
    let path = find_program(name);
    if path.is_none() {
        skip(test, &format!("{name} is not installed"));
    }
    path
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.env("LC_ALL", "C").env_remove("http_proxy").output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

backends! {
    fn curl_gets_resumes_and_is_answered_while_it_uploads(backend) {
        let Some(curl) = tool("curl", "curl") else { return };
        let site = Site::new(backend, &[]);
        let content = Content::bytes(1, 3_000_000);
        site.write("file.bin", &content);
        site.write("page.html", "<p>text</p>".repeat(1000));
        let url = |target: &str| site.url(target);
        let trust = site.trust_flag("cacert");
        let trust = trust.iter().flat_map(|flag| flag.split('='));
        let curl = |words: &[&str]| {
            run(Command::new(&curl).args(["-q", "-sS", "--noproxy", "*", "--max-time", "30"]).args(trust.clone()).args(words)).stdout
        };
        assert_same_bytes(&curl(&[&url("/file.bin")]), &content);
        assert_same_bytes(&curl(&["--http1.0", &url("/file.bin")]), &content);
        assert_same_bytes(&curl(&["-r", "1000-2000", &url("/file.bin")]), &content[1000..=2000]);
        assert_same_bytes(&curl(&["--compressed", &url("/page.html")]), "<p>text</p>".repeat(1000).as_bytes());
        let folder = tempfile::tempdir().expect("a folder");
        let part = folder.path().join("part");
        fs::write(&part, &content[..1_234_567]).expect("a file");
        curl(&["-C", "-", "-o", part.to_str().expect("text"), &url("/file.bin")]);
        assert_same_bytes(&fs::read(&part).expect("it is there"), &content);
        let twice = curl(&["-w", "%{num_connects} ", "-o", "/dev/null", "-o", "/dev/null", &url("/file.bin"), &url("/file.bin")]);
        assert_eq!(twice, b"1 0 ", "the second request goes over the first one's connection");
        // An upload that nobody wants: curl waits for a go-ahead, and gets the final answer.
        let upload = curl(&["-w", "%{http_code}", "-o", "/dev/null", "--data-binary", &format!("@{}", part.display()), &url("/file.bin")]);
        assert_eq!(upload, b"405");
        let upload = curl(&["-w", "%{http_code}", "-o", "/dev/null", "-H", "Expect:", "-T", part.to_str().expect("text"), &url("/file.bin")]);
        assert_eq!(upload, b"405");
    }

    fn wget_gets_and_resumes(backend) {
        let Some(wget) = tool("wget", "wget") else { return };
        let site = Site::new(backend, &[]);
        let content = Content::bytes(2, 3_000_000);
        site.write("file.bin", &content);
        let folder = tempfile::tempdir().expect("a folder");
        let part = folder.path().join("file.bin");
        fs::write(&part, &content[..2_000_001]).expect("a file");
        let (url, trust) = (site.url("/file.bin"), site.trust_flag("ca-certificate"));
        let wget = || {
            run(Command::new(&wget).args(["--no-proxy", "--no-config", "-T", "30", "-t", "1", "-c", &url]).args(&trust).current_dir(folder.path()))
        };
        let told = String::from_utf8_lossy(&wget().stderr).into_owned();
        assert!(told.contains("206"), "{told}");
        assert_same_bytes(&fs::read(&part).expect("it is there"), &content);
        let again = wget();
        assert!(String::from_utf8_lossy(&again.stderr).contains("416"), "nothing is left to be had");
        assert_same_bytes(&fs::read(&part).expect("it is there"), &content);
    }
}
