//! The core behaviour on io_uring with each optional feature switched off in turn, and with all of them.
//!
//! A fuller sweep, the whole suite for each feature, is `.ci/run`'s.

use crate::support::{Backend, backend, cases};
use xps::internals::driver::Feature;

macro_rules! without {
    ($($name:ident: $feature:ident,)*) => {
        $(
            #[test]
            fn $name() {
                everything(concat!("without ", stringify!($name)), Backend::IoUringWithout(Feature::$feature));
            }
        )*

        #[test]
        fn every_feature_has_its_test() {
            let mut tested = vec![$(Feature::$feature),*];
            tested.sort();
            let mut all = Feature::ALL.to_vec();
            all.sort();
            assert_eq!(tested, all);
        }
    };
}

without! {
    defer_taskrun: DeferTaskrun,
    no_sqarray: NoSqArray,
    registered_ring: RegisteredRing,
    accept_poll_first: AcceptPollFirst,
    accept_multishot: AcceptMultishot,
    recv_multishot: RecvMultishot,
    buffer_ring: BufferRing,
    large_buffers: LargeBuffers,
    ring_open: RingOpen,
    ring_close: RingClose,
    ring_connect: RingConnect,
}

#[test]
fn no_feature_at_all() {
    everything("without any feature", Backend::IoUringBare);
}

fn everything(test: &str, chosen: Backend) {
    backend::run(test, chosen, |chosen| {
        cases::echo(chosen);
        cases::reverse(chosen);
        cases::proxy(chosen);
        cases::send(chosen);
        cases::connect_client(chosen);
    });
}
