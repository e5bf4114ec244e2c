//! Connections: how requests arrive and responses leave, for each version of HTTP.

mod h1;

pub(in crate::session) use self::h1::Http;
