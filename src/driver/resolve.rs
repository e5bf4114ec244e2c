//! Resolves host names with the system's resolver (`getaddrinfo(3)`).
//!
//! It blocks on files and name servers, so it runs off the loop. It keeps the resolver's error
//! code, which the standard library's lookup drops. It has no cache: the caller decides how long a
//! result is valid.

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

use super::Fault;

/// The most addresses of one name; the rest is ignored.
const ADDRESSES_MAX: usize = 64;

/// The address, if `host` is an address in text form, which needs no lookup.
pub(super) fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port))
}

/// Sets the port of each address.
pub(super) fn with_port(mut addresses: Vec<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.iter_mut().for_each(|address| address.set_port(port));
    addresses
}

/// Every address of `host`, at least one, with port 0, in the order in which to try them (RFC 6724
/// and the system's configuration).
pub(super) fn resolve(host: &str) -> Result<Vec<SocketAddr>, Fault> {
    let name = CString::new(host).map_err(|_| Fault::Resolver(libc::EAI_NONAME))?;
    let list = AddrInfoList::ask(&name)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in list.addresses() {
        // An address that several lines of /etc/hosts give to a host is returned several times.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(Fault::Resolver(libc::EAI_NODATA)) } else { Ok(addresses) }
}

/// The list that `getaddrinfo(3)` allocated, freed when dropped.
struct AddrInfoList(ptr::NonNull<libc::addrinfo>);

impl AddrInfoList {
    fn ask(name: &CString) -> Result<Self, Fault> {
        // SAFETY: all zeroes are valid hints: any family, no flags, null pointers.
        let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
        hints.ai_socktype = libc::SOCK_STREAM;
        let mut list = ptr::null_mut();
        // SAFETY: name and hints are live, a null service is allowed, and the list is a live local.
        let code = unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list) };
        match code {
            0 => ptr::NonNull::new(list).map(Self).ok_or(Fault::Resolver(libc::EAI_NODATA)),
            libc::EAI_SYSTEM => Err(Fault::from_io(&std::io::Error::last_os_error())),
            code => Err(Fault::Resolver(code)),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let mut next = Some(self.0);
        std::iter::from_fn(move || {
            let entry = next?;
            // SAFETY: every entry of the list lives until `freeaddrinfo`, called in the drop of
            // `self`, and nothing changes it.
            let entry = unsafe { entry.as_ref() };
            next = ptr::NonNull::new(entry.ai_next);
            Some(socket_address(entry))
        })
        .flatten()
        .take(ADDRESSES_MAX)
    }
}

impl Drop for AddrInfoList {
    fn drop(&mut self) {
        // SAFETY: `getaddrinfo` made the list, and nothing else refers to it.
        unsafe { libc::freeaddrinfo(self.0.as_ptr()) };
    }
}

fn socket_address(entry: &libc::addrinfo) -> Option<SocketAddr> {
    let mut storage = SockAddrStorage::zeroed();
    if entry.ai_addr.is_null() || entry.ai_addrlen > storage.size_of() {
        return None;
    }
    // SAFETY: the resolver returned `ai_addrlen` bytes at `ai_addr`. They fit into the storage and
    // initialise it as an address of that length.
    let address = unsafe {
        let target = (&raw mut storage).cast::<u8>();
        ptr::copy_nonoverlapping(entry.ai_addr.cast::<u8>(), target, entry.ai_addrlen as usize);
        SockAddr::new(storage, entry.ai_addrlen)
    };
    address.as_socket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_text_is_itself() {
        assert_eq!(literal("127.0.0.1", 80), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(literal("::1", 81), Some("[::1]:81".parse().unwrap()));
        assert_eq!(literal("localhost", 81), None);
    }

    #[test]
    fn localhost_is_a_loopback_address_with_the_port_asked_for() {
        let addresses = with_port(resolve("localhost").unwrap(), 8080);
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 8080), "{addresses:?}");
    }

    #[test]
    fn names_that_cannot_be_are_faults_of_the_resolver() {
        assert_eq!(resolve("nul\0byte"), Err(Fault::Resolver(libc::EAI_NONAME)));
        assert!(matches!(resolve(""), Err(Fault::Resolver(_) | Fault::Os(_))));
    }
}
