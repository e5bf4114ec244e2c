//! Properties of the io_uring driver only: small queues, and optional features.

use std::io::Write;
use std::time::Duration;

use xps::internals::buffer::PoolConfig;
use xps::internals::driver::{Feature, FeatureSet, Op, Outcome, RingSize, Uring, UringConfig, kernel_features};

use crate::kind::{self, Case, OnUring};
use crate::rig::Rig;

const URING: OnUring = OnUring { off: FeatureSet::NONE };

#[test]
fn queues_that_are_far_too_small_lose_nothing() {
    kind::run(module_path!(), "queues_that_are_far_too_small_lose_nothing", URING, true, tiny_queues);
}

fn tiny_queues(_: &Case<OnUring>) {
    const SOCKETS: usize = 200;
    const ROUNDS: usize = 20;
    for off in [FeatureSet::NONE, FeatureSet::ALL] {
        let size = RingSize { submissions: 4, completions: 8, ..RingSize::FULL };
        let config = UringConfig { off, size, ..UringConfig::new(PoolConfig::default()) };
        let mut rig = Rig::new(Uring::new(config).expect("a small ring"));
        let mut peers = Vec::new();
        for _ in 0..SOCKETS {
            let (socket, far) = rig.tcp_connection();
            peers.push((rig.submit(Op::Recv { socket }), socket, far));
        }
        rig.turn(Some(Duration::ZERO));
        for round in 0..ROUNDS {
            for (_, _, far) in &mut peers {
                far.write_all(&[round as u8; 10]).expect("room");
            }
            for (recv, ..) in &peers {
                assert_eq!(rig.receive(*recv, 10), [round as u8; 10]);
            }
        }
        assert!(rig.counters().overflows > 0, "{:?}", rig.counters());
        for (recv, socket, far) in peers {
            drop(far);
            assert!(matches!(rig.end_of(recv), Outcome::Eof));
            rig.close(socket);
        }
        rig.finish();
    }
}

#[test]
fn a_feature_is_in_use_unless_it_is_missing_or_switched_off() {
    kind::run(module_path!(), "a_feature_is_in_use_unless_it_is_missing_or_switched_off", URING, true, features);
}

fn features(_: &Case<OnUring>) {
    let has = kernel_features();
    let with = |off| Uring::new(UringConfig { off, ..UringConfig::new(PoolConfig::default()) }).expect("a ring");
    assert_eq!(with(FeatureSet::NONE).features(), has);
    assert_eq!(with(FeatureSet::ALL).features(), FeatureSet::NONE);
    for feature in Feature::ALL {
        let mut expected = has.without(feature);
        if feature == Feature::AcceptPollFirst {
            expected = expected.without(Feature::AcceptMultishot);
        }
        if feature == Feature::BufferRing {
            // Both features require it.
            expected = expected.without(Feature::RecvMultishot).without(Feature::LargeBuffers);
        }
        assert_eq!(with(FeatureSet::NONE.with(feature)).features(), expected, "without {feature}");
    }
}
