//! What a listener would offer, without a server.

use std::rc::Rc;

use super::blueprint::{Blueprint, Builder};
use super::server::StartError;
use crate::config::Service;
use crate::session::Template;
use crate::session::http::Front;

/// What an HTTP service offers; `None` for others. Its folders are opened, its upstreams are not contacted.
///
/// # Errors
/// A folder cannot be opened.
pub fn front_of(service: &Service) -> Result<Option<Rc<Front>>, StartError> {
    Ok(match Builder::default().template(Blueprint::new(service)?) {
        Template::Http(door) => Some(door.front()),
        Template::Echo | Template::Reverse | Template::Proxy(..) | Template::Deliver(_) => None,
    })
}
