//! Bytes through the TCP proxy, on both drivers: from an upstream, through a worker, to a client.

mod in_process;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xps::internals::config::{ServiceConfig, UpstreamAddress};
use xps::internals::upstream::{ConnectPolicy, GroupConfig};

use in_process::{BACKENDS, InProcess, exchange};

criterion_group!(benches, relay);
criterion_main!(benches);

const CONNECT_POLICY: ConnectPolicy = ConnectPolicy { tries_max: 0, connect_timeout: Duration::from_secs(5) };

/// Bytes that the upstream is asked for: a small body, a buffer, bulk.
const SIZES: [usize; 4] = [612, 16 << 10, 1 << 20, 16 << 20];

fn relay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay, one connection");
    let upstream = start_upstream().expect("a port of the loopback is free");
    let upstream = UpstreamAddress::tcp(upstream.ip().to_string(), upstream.port());
    for (name, backend) in BACKENDS {
        let service = ServiceConfig::TcpProxy(GroupConfig::of([upstream.clone()]), CONNECT_POLICY);
        let Some(server) = InProcess::start(backend, service) else { continue };
        let mut socket = server.connect();
        for size in SIZES {
            let request = (size as u64).to_be_bytes();
            let mut reply = vec![0; size];
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| exchange(&mut socket, &request, &mut reply));
            });
            assert!(reply.iter().all(|byte| *byte == FILL), "the relay changes bytes");
        }
    }
    group.finish();
}

/// What the upstream sends.
const FILL: u8 = b'u';

/// An upstream that is asked for a number of bytes, eight bytes big-endian, and sends so many. Its
/// threads end with their connections, the listener's with the process.
fn start_upstream() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(socket));
        }
    });
    Ok(address)
}

fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let bytes = vec![FILL; SIZES[SIZES.len() - 1]];
    let mut request = [0; 8];
    loop {
        socket.read_exact(&mut request)?;
        let wanted = usize::try_from(u64::from_be_bytes(request)).unwrap_or(usize::MAX);
        socket.write_all(&bytes[..wanted.min(bytes.len())])?;
    }
}
