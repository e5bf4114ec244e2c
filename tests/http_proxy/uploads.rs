//! Requests' bodies on their way to the upstream.
