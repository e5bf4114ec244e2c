//! An exchange whose protocol was switched: bytes are relayed between the client and the upstream.
//!
//! What the client's side is, a connection or one of its streams, is not known here.

use crate::buffer::Chain;
use crate::session::http::exchange::Record;
use crate::session::tunnel::Tunnel;
use crate::upstream::UpstreamLease;

/// What an upgraded exchange holds.
#[derive(Debug)]
pub(super) struct Upgraded {
    pub(super) record: Record,
    pub(super) lease: UpstreamLease,
    pub(super) tunnel: Tunnel,
    /// Bytes that the client has sent into the tunnel.
    pub(super) client_bytes: u64,
}

impl Upgraded {
    /// `unsent`: bytes for the client that precede those of the upstream.
    pub(super) fn new(record: Record, lease: UpstreamLease, unsent: Chain) -> Self {
        let mut tunnel = Tunnel::new();
        unsent.into_chunks().for_each(|chunk| tunnel.push_to_client(chunk));
        Self { record, lease, tunnel, client_bytes: 0 }
    }

    /// The record, to end the exchange with.
    pub(super) fn into_record(self) -> Record {
        let Self { mut record, client_bytes, .. } = self;
        record.note_tunnelled(client_bytes);
        record
    }
}
