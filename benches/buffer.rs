//! The memory that received bytes travel in: the pool's life cycle of a buffer, and chains.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xps::internals::buffer::{Buffer, Chain, Pool, PoolConfig, SizeClass};

criterion_group!(benches, pool, chain);
criterion_main!(benches);

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    let pool = warm_pool();
    group.bench_function("take, lease, drop", |bencher| bencher.iter(|| drop(black_box(leased(&pool)))));
    group.bench_function("take, give back", |bencher| {
        bencher.iter(|| {
            if let Some(id) = pool.take(SizeClass::Small) {
                pool.give_back(black_box(id));
            }
        });
    });
    group.bench_function("clone, drop", |bencher| {
        let buffer = leased(&pool);
        bencher.iter(|| drop(black_box(buffer.clone())));
    });
    group.bench_function("take 64, lease, drop in order of taking", |bencher| {
        let mut held = Vec::with_capacity(MANY);
        bencher.iter(|| {
            held.extend((0..MANY).map(|_| leased(&pool)));
            black_box(&mut held).drain(..).for_each(drop);
        });
    });
    group.throughput(Throughput::Bytes(MESSAGE.len() as u64));
    group.bench_function("fill with a message, drop", |bencher| {
        bencher.iter(|| {
            let fill = |memory: &mut [u8]| {
                memory[..MESSAGE.len()].copy_from_slice(&MESSAGE);
                Ok::<_, ()>(MESSAGE.len())
            };
            black_box(pool.filled(SizeClass::Small, fill))
        });
    });
    group.finish();
}

fn chain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    let pool = warm_pool();
    group.bench_function("lease, chain of it, drop", |bencher| {
        bencher.iter(|| drop(black_box(Chain::from(leased(&pool)))));
    });
    group.bench_function("head and body in, advance over both", |bencher| {
        bencher.iter(|| {
            let mut chain = Chain::new();
            chain.push(&MESSAGE[..100]);
            chain.push(&MESSAGE[100..]);
            chain.advance(black_box(50));
            chain.advance(black_box(MESSAGE.len() - 50));
            chain
        });
    });
    group.bench_function("64 chunks in, advance by pieces", |bencher| {
        bencher.iter(|| {
            let mut chain = Chain::new();
            (0..MANY).for_each(|_| chain.push(&MESSAGE[..]));
            // Pieces that end within chunks, as short sends do.
            while chain.len() > PIECE {
                chain.advance(black_box(PIECE));
            }
            chain
        });
    });
    group.finish();
}

/// A message of the size that the comparison with other servers uses.
static MESSAGE: [u8; 612] = [b'x'; 612];

/// Buffers or chunks held at a time, where there are many.
const MANY: usize = 64;

/// Bytes of one short send: not a multiple of a chunk.
const PIECE: usize = 1000;

/// A pool that has its memory already, as after the first moments of a server.
fn warm_pool() -> Pool {
    let pool = Pool::new(PoolConfig::default());
    let held: Vec<_> = (0..MANY).map(|_| leased(&pool)).collect();
    drop(held);
    pool
}

/// A buffer that came with a message in it.
fn leased(pool: &Pool) -> Buffer {
    let id = pool.take(SizeClass::Small).expect("the pool is far from its limit");
    pool.lease(id, MESSAGE.len())
}
