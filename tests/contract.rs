//! The contract of `xps::driver`, checked for every driver: io_uring, io_uring with each optional
//! feature switched off in turn and with all of them off, epoll, and the simulation with some seeds.
//!
//! A case is a function over a [`kind::Kind`] of driver, in the file of its subject; what is around
//! the driver is a [`world::World`]. The list below makes one test per case and driver:
//! `uring::send::…`, `without_recv_multishot::send::…`, `epoll::send::…`, `sim::send::…`.
//!
//! The cases in a `kernel` list are about what the simulation does not have:
//!
//! | file | what they need |
//! |---|---|
//! | `accept` | a listener that several drivers or processes share |
//! | `receive` | urgent data of TCP |
//! | `flush` | that a unix socket acknowledges at once; all simulated connections are like TCP |
//! | `send_file` | a page cache that a file is not in |
//! | `files` | a FIFO, a device |
//! | `connect` | a full backlog; a simulated address that never answers is in `src/driver/sim/tests.rs` |
//! | `limits` | a process with few descriptors, which the simulation sets as `Faults::descriptors_max`; a driver that keeps scarce buffers for others, which no guarantee asks for |
//! | `offload` | threads beside the loop |
//! | `turn` | a waker; threads beside the loop; peers that outlive the driver |

mod contract {
    pub mod accept;
    pub mod cancel;
    pub mod connect;
    pub mod files;
    pub mod flush;
    pub mod kind;
    pub mod limits;
    pub mod offload;
    pub mod pause;
    pub mod queues;
    pub mod receive;
    pub mod rig;
    pub mod send;
    pub mod send_file;
    pub mod simulated;
    pub mod storm;
    pub mod turn;
    pub mod world;
}
mod support;

use xps::internals::driver::{Feature, FeatureSet};

use contract::kind::{OnEpoll, OnSim, OnUring};
use contract::{
    accept, cancel, connect, files, flush, kind, limits, offload, pause, receive, rig, send, send_file, simulated,
    storm, turn, world,
};

/// The cases. The compiler warns of dead code if a case is missing here.
macro_rules! suite {
    ($driver:ident, $world:ident, $kind:expr, thorough: $is_thorough:expr) => {
        mod $driver {
            use super::*;

            tests! {
                $world, $kind, $is_thorough;
                accept: [
                    every_connection_is_delivered_with_its_peer,
                    a_connection_has_an_address_of_its_own,
                    a_cancelled_listener_can_be_used_again,
                    no_more_connections_come_than_were_asked_for,
                    thousands_of_sockets_are_served,
                ]
                kernel: [
                    several_drivers_accept_from_one_unix_socket,
                    a_driver_that_is_gone_keeps_no_connection_of_a_shared_socket,
                    a_connection_that_woke_one_who_was_just_stopping_is_not_forgotten,
                    a_listener_stays_non_blocking_for_those_who_share_it,
                    drivers_of_both_kinds_share_a_listener_and_lose_nothing,
                    a_listener_that_listens_no_more_is_a_fault,
                ];
                receive: [
                    bytes_come_back_from_an_echo,
                    the_end_comes_after_every_byte_and_sending_goes_on,
                    an_end_that_arrives_with_the_last_bytes_is_not_missed,
                    bulk_and_messages_in_turn_keep_their_order,
                    an_idle_connection_holds_no_buffer,
                    a_reset_fails_a_receive,
                    a_socket_that_is_always_ready_does_not_hold_up_another,
                ]
                kernel: [
                    urgent_data_does_not_hide_what_follows_it,
                ];
                pause: [
                    a_paused_receive_goes_on_where_it_was,
                    a_reset_is_told_while_nothing_is_received,
                    a_reset_before_the_pause_is_told,
                    an_end_waits_for_the_receive_to_go_on,
                    pauses_against_arrivals_lose_no_byte,
                    a_short_pause_of_bulk_asks_nothing_of_the_kernel,
                ]
                kernel: [];
                send: [
                    a_big_send_reaches_a_slow_reader_byte_for_byte,
                    a_chain_of_many_chunks_arrives_in_order,
                    received_buffers_can_be_sent_on,
                    both_directions_at_once,
                    a_reset_during_a_send_fails_it,
                    after_a_shutdown_the_peer_sees_the_end_and_can_still_talk,
                    our_reset_reaches_the_peer,
                ]
                kernel: [];
                flush: [
                    what_has_arrived_needs_no_waiting,
                    a_flush_waits_for_a_peer_to_read_and_a_reset_after_it_destroys_nothing,
                    a_flush_ends_with_the_connection,
                    a_reset_tells_what_it_destroys,
                    a_send_that_is_cancelled_at_once_was_tried,
                ]
                kernel: [
                    what_was_sent_on_a_unix_socket_is_the_peer_s,
                ];
                send_file: [
                    a_file_and_what_goes_before_it_arrive_whole,
                    a_range_is_a_range,
                    a_stalled_peer_gets_the_rest_when_it_reads_again,
                    a_stalled_transfer_can_be_cancelled,
                    a_file_that_became_shorter_is_a_fault,
                    a_range_beyond_all_offsets_is_a_fault,
                    a_reset_during_a_transfer_fails_it,
                    a_socket_goes_on_receiving_during_a_transfer,
                ]
                kernel: [
                    a_file_that_is_not_in_the_cache_arrives_whole,
                ];
                files: [
                    a_file_is_opened_with_what_it_is,
                    nothing_outside_the_root_is_opened,
                    what_is_not_a_file_does_no_harm,
                    what_is_known_to_be_a_regular_file_is_opened,
                    a_root_is_the_folder_that_its_path_leads_to_now,
                    a_read_gives_what_the_file_has,
                    what_was_read_stays_while_it_is_held,
                    a_folder_is_listed,
                    a_new_file_is_written_and_gets_its_name_in_one_step,
                    a_name_that_is_taken_is_replaced_only_when_that_is_asked_for,
                    a_new_file_has_a_name_and_no_path,
                    a_computation_comes_back,
                ]
                kernel: [
                    nothing_but_a_regular_file_is_opened,
                    a_write_that_the_kernel_refuses_is_a_fault,
                ];
                connect: [
                    a_connection_carries_bytes,
                    a_refused_connection_is_a_fault,
                    a_path_is_connected_to,
                    a_path_where_nobody_listens_is_a_fault,
                    names_are_resolved_or_not,
                ]
                kernel: [
                    a_connect_that_hangs_can_be_cancelled,
                    a_full_backlog_of_a_path_is_waited_for,
                    a_wait_for_a_full_backlog_can_be_cancelled,
                ];
                cancel: [
                    cancels_at_once_end_everything,
                    cancels_later_end_everything,
                    a_cancel_that_comes_too_late_does_nothing,
                    a_stale_cancel_does_not_hit_the_next_of_the_same_index,
                    what_ends_soon_ends_once_whichever_way_the_race_goes,
                    a_cancel_does_not_undo_a_close,
                    what_comes_after_a_cancel_waits_for_the_next_receive,
                    cancels_against_arrivals_lose_no_byte,
                    cancels_against_sends_leave_a_beginning_of_the_bytes,
                ]
                kernel: [];
                limits: [
                    receivers_without_a_buffer_wait_without_spinning_and_get_theirs,
                    a_receiver_that_waits_for_a_buffer_can_be_cancelled,
                    scarce_buffers_bring_every_byte,
                    without_large_buffers_small_ones_do,
                    bulk_goes_on_when_large_buffers_are_held,
                ]
                kernel: [
                    of_scarce_buffers_a_receiver_that_is_paused_holds_one,
                    without_descriptors_accepting_pauses_and_recovers,
                    a_paused_accept_can_be_cancelled,
                    a_connect_without_descriptors_is_a_fault,
                ];
                offload: []
                kernel: [
                    no_kind_of_work_holds_up_another,
                    look_ups_of_one_name_are_one,
                    a_look_up_that_was_given_up_serves_the_next,
                    what_is_cancelled_leaves_the_queue,
                    a_full_queue_refuses_and_recovers,
                    small_computations_do_not_wait_for_large_ones,
                    threads_without_work_end,
                ];
                turn: [
                    an_idle_turn_lasts_as_long_as_asked,
                    more_operations_than_a_turn_hands_out_all_end,
                ]
                kernel: [
                    a_waker_ends_an_endless_wait,
                    a_wake_before_the_wait_counts,
                    work_off_the_loop_does_not_look_like_a_message,
                    a_driver_dropped_in_the_middle_leaves_nothing,
                ];
                storm: [
                    every_byte_comes_back_whatever_is_cancelled_and_however_few_buffers_there_are,
                ]
                kernel: [];
            }
        }
    };
}

macro_rules! tests {
    (kernel, $kind:expr, $is_thorough:expr; $($module:ident: [$($case:ident,)*] kernel: [$($other:ident,)*];)*) => {
        $(
            mod $module {
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        kind::run(module_path!(), stringify!($case), $kind, $is_thorough, crate::$module::$case);
                    }
                )*
                $(
                    #[test]
                    fn $other() {
                        kind::run(module_path!(), stringify!($other), $kind, $is_thorough, crate::$module::$other);
                    }
                )*
            }
        )*
    };
    (simulation, $kind:expr, $is_thorough:expr; $($module:ident: [$($case:ident,)*] kernel: [$($other:ident,)*];)*) => {
        $(
            mod $module {
                #[allow(unused_imports, reason = "a file may have cases for the kernel only")]
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        kind::run(module_path!(), stringify!($case), $kind, $is_thorough, crate::$module::$case);
                    }
                )*
            }
        )*
    };
}

suite!(uring, kernel, OnUring { off: FeatureSet::NONE }, thorough: true);
suite!(epoll, kernel, OnEpoll, thorough: true);
suite!(sim, simulation, OnSim { seed: 1 }, thorough: false);

suite!(without_defer_taskrun, kernel, OnUring::without(Feature::DeferTaskrun), thorough: false);
suite!(without_no_sqarray, kernel, OnUring::without(Feature::NoSqArray), thorough: false);
suite!(without_registered_ring, kernel, OnUring::without(Feature::RegisteredRing), thorough: false);
suite!(without_accept_poll_first, kernel, OnUring::without(Feature::AcceptPollFirst), thorough: false);
suite!(without_accept_multishot, kernel, OnUring::without(Feature::AcceptMultishot), thorough: false);
suite!(without_recv_multishot, kernel, OnUring::without(Feature::RecvMultishot), thorough: false);
suite!(without_buffer_ring, kernel, OnUring::without(Feature::BufferRing), thorough: false);
suite!(without_large_buffers, kernel, OnUring::without(Feature::LargeBuffers), thorough: false);
suite!(without_ring_open, kernel, OnUring::without(Feature::RingOpen), thorough: false);
suite!(without_ring_close, kernel, OnUring::without(Feature::RingClose), thorough: false);
suite!(without_ring_connect, kernel, OnUring::without(Feature::RingConnect), thorough: false);
suite!(without_any_feature, kernel, OnUring { off: FeatureSet::ALL }, thorough: false);
