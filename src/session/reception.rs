//! How connections to one listener are received.

use super::Template;
use crate::admission::Access;

/// Who may connect to a listener, and what a connection is for.
#[derive(Clone, Debug)]
pub struct Reception {
    /// Who may connect.
    pub access: Access,
    /// A connection begins with a header of the PROXY protocol.
    pub expects_proxy_header: bool,
    /// What for.
    pub template: Template,
}

impl From<Template> for Reception {
    /// For everybody.
    fn from(template: Template) -> Self {
        Self { access: Access::default(), expects_proxy_header: false, template }
    }
}

impl Reception {
    /// Puts `newer` in its place, for sessions to come and, where they look it up anew, for those that are there.
    pub fn replaced_by(&self, newer: Self) -> Self {
        Self { template: self.template.replaced_by(newer.template), ..newer }
    }
}
