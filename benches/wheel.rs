//! The timer wheel: what arming, disarming and expiring cost, with few timers and with many.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use xps::internals::core::TimerWheel;
use xps::internals::driver::Time;

/// A keep-alive time-out: armed far ahead, nearly always taken back.
const FAR: Duration = Duration::from_secs(60);

fn arm_and_disarm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel/arm_and_disarm");
    for others in [0_u64, 10_000, 1_000_000] {
        let mut wheel = TimerWheel::new();
        for number in 0..others {
            wheel.arm(Time::ZERO + FAR + Duration::from_micros(number * 37), number);
        }
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| {
                let timer = wheel.arm(black_box(Time::ZERO + FAR), 0);
                wheel.disarm(timer);
            });
        });
    }
    group.finish();
}

fn arm_and_expire(criterion: &mut Criterion) {
    let mut now = Time::ZERO;
    let mut wheel = TimerWheel::new();
    criterion.bench_function("wheel/arm_and_expire_after_a_second", |bencher| {
        bencher.iter(|| {
            wheel.arm(now + Duration::from_secs(1), ());
            now = now + Duration::from_micros(100);
            while wheel.expire(black_box(now)).is_some() {}
        });
    });
}

criterion_group!(benches, arm_and_disarm, arm_and_expire);
criterion_main!(benches);
