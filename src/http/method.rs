//! Request methods: the registered ones, and any other token.
//!
//! Methods are case-sensitive (RFC 9110, 9.1): `get` is not `GET`. The effects of methods are not
//! known here.

macro_rules! registry {
    ($($name:ident $text:literal)+) => {
        /// A request method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method<'b> {
            $(
                #[doc = concat!("`", $text, "`")]
                $name,
            )+
            /// A token that is not registered.
            Other(&'b str),
        }

        impl<'b> Method<'b> {
            /// The method that `token` names; `None` if it is no text, and so no token.
            pub fn from_token(token: &'b [u8]) -> Option<Self> {
                $(if token == $text.as_bytes() {
                    return Some(Self::$name);
                })+
                str::from_utf8(token).ok().map(Self::Other)
            }

            /// The name in the request line.
            pub const fn as_str(self) -> &'b str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(token) => token,
                }
            }
        }
    };
}

// The IANA registry of methods, the frequent ones first.
registry! {
    Get "GET"
    Head "HEAD"
    Post "POST"
    Put "PUT"
    Delete "DELETE"
    Options "OPTIONS"
    Patch "PATCH"
    Connect "CONNECT"
    Trace "TRACE"
    Acl "ACL"
    BaselineControl "BASELINE-CONTROL"
    Bind "BIND"
    Checkin "CHECKIN"
    Checkout "CHECKOUT"
    Copy "COPY"
    Label "LABEL"
    Link "LINK"
    Lock "LOCK"
    Merge "MERGE"
    MkActivity "MKACTIVITY"
    MkCalendar "MKCALENDAR"
    MkCol "MKCOL"
    MkRedirectRef "MKREDIRECTREF"
    MkWorkspace "MKWORKSPACE"
    Move "MOVE"
    OrderPatch "ORDERPATCH"
    Pri "PRI"
    PropFind "PROPFIND"
    PropPatch "PROPPATCH"
    Query "QUERY"
    Rebind "REBIND"
    Report "REPORT"
    Search "SEARCH"
    Unbind "UNBIND"
    Uncheckout "UNCHECKOUT"
    Unlink "UNLINK"
    Unlock "UNLOCK"
    Update "UPDATE"
    UpdateRedirectRef "UPDATEREDIRECTREF"
    VersionControl "VERSION-CONTROL"
}

impl Method<'_> {
    /// Whether the method is registered.
    pub const fn is_registered(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Whether a repeated request has no more effect than one (RFC 9110, 9.2.2). Methods that are
    /// not defined in that RFC count as not idempotent.
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 26 and 27.
    #[test]
    fn row_26_27_registered_methods_are_told_from_others_and_case_matters() {
        let method = |token: &'static str| Method::from_token(token.as_bytes()).unwrap();
        assert_eq!(method("PROPFIND"), Method::PropFind);
        assert_eq!(method("get"), Method::Other("get"));
        assert!(!method("BREW").is_registered());
        assert_eq!(method("VERSION-CONTROL").as_str(), "VERSION-CONTROL");
        assert_eq!(method("BREW").as_str(), "BREW");
    }
}
