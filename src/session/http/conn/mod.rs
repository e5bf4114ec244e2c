//! Connections: how requests arrive and responses leave, for each version of HTTP.

mod deadlines;
mod h1;
mod h2;
mod linger;
mod request;
mod upgraded;

pub(in crate::session) use self::h1::Http;
pub(in crate::session) use self::h2::Http2;
