//! Round trips through the echo service, on both drivers: the whole way of a message through a
//! worker, with nothing behind it.

mod in_process;

use std::io::{Read, Write};
use std::net::TcpStream;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xps::internals::config::ServiceConfig;

use in_process::{BACKENDS, InProcess, exchange};

criterion_group!(benches, one_connection, many_connections);
criterion_main!(benches);

/// Bytes of a message: a line, a small body, a buffer, several buffers.
const SIZES: [usize; 4] = [64, 612, 16 << 10, 64 << 10];

/// Connections whose messages a worker finds waiting at the same time.
const CONNECTIONS: usize = 64;

/// Bytes of each of their messages.
const BATCH_BYTES: usize = 612;

/// One message at a time: what a round trip takes, waking both threads included.
fn one_connection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo, one connection");
    for (name, backend) in BACKENDS {
        let Some(server) = InProcess::start(backend, ServiceConfig::Echo) else { continue };
        let mut socket = server.connect();
        for size in SIZES {
            let message = vec![b'x'; size];
            let mut reply = vec![0; size];
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| exchange(&mut socket, &message, &mut reply));
            });
            assert!(reply == message, "the echo differs");
        }
    }
    group.finish();
}

/// A message on every connection at once: what batches are worth.
fn many_connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo, 64 connections");
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    for (name, backend) in BACKENDS {
        let Some(server) = InProcess::start(backend, ServiceConfig::Echo) else { continue };
        let mut sockets: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.connect()).collect();
        let message = [b'x'; BATCH_BYTES];
        let mut reply = [0; BATCH_BYTES];
        group.bench_function(BenchmarkId::new(name, BATCH_BYTES), |bencher| {
            bencher.iter(|| {
                for socket in &mut sockets {
                    socket.write_all(&message).expect("the server receives");
                }
                for socket in &mut sockets {
                    socket.read_exact(&mut reply).expect("the server echoes");
                }
            });
        });
        assert_eq!(reply, message, "the echo differs");
    }
    group.finish();
}
