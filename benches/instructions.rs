//! `cargo bench --bench instructions`: how many instructions a request costs, counted by valgrind.
//!
//! Unlike processor time, the count is the same on a busy machine as on a quiet one, so it can be compared with a bound. One
//! client asks one thing at a time; each path is measured with few and with many requests, and the difference is divided by
//! that of their numbers, so that starting and ending cost nothing. On epoll, since valgrind does not see what the kernel writes
//! through a ring. The kernel's part, most of a request's time, is not in it.
//!
//! `-- --check` compares with the bounds in `benches/instructions.txt`, and fails above them. `-- --xps PATH` counts another build.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

/// Counts the instructions of xps's hot paths.
#[derive(Parser)]
#[command(name = "cargo bench --bench instructions --")]
struct Options {
    /// Compare with the stored bounds; fail where a path costs more.
    #[arg(long)]
    check: bool,
    /// The xps binary to measure, instead of the one that cargo built with the benchmark.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_xps"))]
    xps: PathBuf,
    /// What `cargo bench` adds, and `cargo test` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Requests of the short and of the long run.
const REQUESTS: [u64; 2] = [500, 2500];

/// How much more than the stored figure a path may cost, in percent.
const TOLERANCE_PERCENT: u64 = 3;

/// For valgrind to start the program, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const BOUNDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// The size of the file, and of the upstream's answer.
const BODY_BYTES: usize = 612;

/// One path through the server.
struct HotPath {
    name: &'static str,
    arguments: fn(&Place) -> Vec<String>,
    request: fn(&Place) -> String,
    /// How the response begins.
    status: &'static str,
}

/// What the server works with.
struct Place {
    folder: tempfile::TempDir,
    origin: SocketAddr,
}

const HOT_PATHS: &[HotPath] = &[
    HotPath { name: "file", arguments: serve, request: |_| request(""), status: "HTTP/1.1 200 OK" },
    HotPath { name: "not-modified", arguments: serve, request: conditional, status: "HTTP/1.1 304 Not Modified" },
    HotPath {
        name: "forwarded",
        arguments: |place| proxy(place, &["--http", "--access-log", "off"]),
        request: |_| request(""),
        status: "HTTP/1.1 200 OK",
    },
    HotPath {
        name: "relay",
        arguments: |place| proxy(place, &[]),
        request: |_| request(""),
        status: "HTTP/1.1 200 OK",
    },
];

fn serve(place: &Place) -> Vec<String> {
    let folder = place.folder.path().join("files").display().to_string();
    ["serve".to_owned(), folder].into_iter().chain(["--access-log", "off"].map(str::to_owned)).collect()
}

fn proxy(place: &Place, more: &[&str]) -> Vec<String> {
    let upstream = place.origin.to_string();
    ["proxy", "--upstream", &upstream].iter().chain(more).map(|word| (*word).to_owned()).collect()
}

fn request(fields: &str) -> String {
    format!("GET /page HTTP/1.1\r\nHost: localhost\r\nUser-Agent: instructions\r\nAccept: */*\r\n{fields}\r\n")
}

fn conditional(place: &Place) -> String {
    let modified = fs::metadata(place.folder.path().join("files/page")).and_then(|metadata| metadata.modified());
    let date = httpdate::fmt_http_date(modified.expect("it was written"));
    request(&format!("If-Modified-Since: {date}\r\n"))
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        println!("a benchmark: run it with `cargo bench --bench instructions`");
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: valgrind is not installed; Debian: apt-get install valgrind");
        return ExitCode::SUCCESS;
    }
    match compare(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts every path; whether all are within their bounds.
fn compare(options: &Options) -> io::Result<bool> {
    let bounds = fs::read_to_string(BOUNDS)?;
    let place = Place::new()?;
    let mut is_well = true;
    println!("{:<14}{:>14}{:>10}", "path", "instructions", "stored");
    for path in HOT_PATHS {
        let [few, many] = REQUESTS;
        let counts = (path.count(&options.xps, &place, few)?, path.count(&options.xps, &place, many)?);
        let each = counts.1.saturating_sub(counts.0) / (many - few);
        let stored = bounds.lines().find_map(|line| line.strip_prefix(path.name)?.trim().parse::<u64>().ok());
        let is_above = stored.is_none_or(|stored| each * 100 > stored * (100 + TOLERANCE_PERCENT));
        let remark = if options.check && is_above { "  too many" } else { "" };
        println!(
            "{:<14}{each:>14}{:>10}{remark}",
            path.name,
            stored.map_or_else(String::new, |stored| stored.to_string())
        );
        is_well &= !(options.check && is_above);
    }
    Ok(is_well)
}

impl Place {
    fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("files"))?;
        fs::write(folder.path().join("files/page"), vec![b'x'; BODY_BYTES])?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let origin = listener.local_addr()?;
        // It ends with the process.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| answer(stream)))));
        Ok(Self { folder, origin })
    }
}

/// The origin: a fixed answer to each head.
fn answer(mut stream: TcpStream) {
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n{}", "x".repeat(BODY_BYTES));
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        head.extend_from_slice(&piece[..count]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    }
}

impl HotPath {
    /// The instructions of a server's whole life in which it answers so many requests.
    fn count(&self, xps: &Path, place: &Place, requests: u64) -> io::Result<u64> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let report = place.folder.path().join("report");
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(format!("--log-file={}", report.display()))
            .arg(xps)
            .args((self.arguments)(place))
            .args([
                "--listen",
                &address.to_string(),
                "--workers",
                "1",
                "--backend",
                "epoll",
                "--log-level",
                "error",
                "-q",
            ]);
        let mut server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        self.ask(&mut connect(address)?, place, requests)?;
        server.finish()?;
        let text = fs::read_to_string(&report)?;
        let total = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
        total.ok_or_else(|| io::Error::other(format!("valgrind's report has no total:\n{text}")))
    }

    fn ask(&self, stream: &mut TcpStream, place: &Place, requests: u64) -> io::Result<()> {
        let request = (self.request)(place);
        let mut response = Vec::new();
        let mut piece = [0; 4096];
        for _ in 0..requests {
            stream.write_all(request.as_bytes())?;
            response.clear();
            while !is_whole(&response) {
                match stream.read(&mut piece)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => response.extend_from_slice(&piece[..count]),
                }
            }
            if !response.starts_with(self.status.as_bytes()) {
                let text = String::from_utf8_lossy(&response);
                return Err(io::Error::other(format!("{}: {:?}", self.name, text.lines().next())));
            }
        }
        Ok(())
    }
}

/// Whether a response has come to its end: all of ours have [`BODY_BYTES`], or no body.
fn is_whole(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    response.starts_with(b"HTTP/1.1 304") || response.len() >= end + 4 + BODY_BYTES
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            // Nothing tells when a foreign process listens.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A server that does not outlive its measurement.
struct Server(Child);

impl Server {
    /// Has it end in order, so that valgrind reports.
    fn finish(&mut self) -> io::Result<()> {
        Command::new("kill").arg(self.0.id().to_string()).status()?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the server ended with {status}"))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
