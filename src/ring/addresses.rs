//! Where accepts put the addresses of those who have connected.

use std::cell::UnsafeCell;
use std::net::{IpAddr, Ipv4Addr};
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

/// What the kernel writes when an accept succeeds.
struct Entry {
    storage: SockAddrStorage,
    len: libc::socklen_t,
}

/// An address for each seat. An accept outlives the enter that submits it, so this memory is the kernel's while it is armed: it
/// stays where it is as long as the ring lives, and is written in an enter of the ring's own thread only (`DEFER_TASKRUN`).
pub(super) struct Addresses(Box<[UnsafeCell<Entry>]>);

impl Addresses {
    pub(super) fn new(seats: usize) -> Addresses {
        // Zeroed, its family is AF_UNSPEC.
        Addresses((0..seats).map(|_| UnsafeCell::new(Entry { storage: SockAddrStorage::zeroed(), len: 0 })).collect())
    }

    /// Where the next accept of a seat writes to: address, and length.
    ///
    /// # Panics
    /// If there is no such seat.
    pub(super) fn prepare(&mut self, seat: u16) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let entry = self.0[usize::from(seat)].get();
        // SAFETY: the entry is ours, and no accept of this seat is armed: nobody else writes to it now.
        unsafe {
            (*entry).len = (*entry).storage.size_of();
            (ptr::addr_of_mut!((*entry).storage).cast(), ptr::addr_of_mut!((*entry).len))
        }
    }

    /// The address that the last accept of a seat has brought, an IPv4 one as such even where the listener is IPv6;
    /// unspecified if it has brought none.
    pub(super) fn get(&self, seat: u16) -> IpAddr {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let Some(entry) = self.0.get(usize::from(seat)) else { return unknown };
        // SAFETY: the accept is over, and the next one of this seat is not yet submitted; so the kernel has written the
        // entry, in an enter of this thread, and nobody writes to it now. It is plain bytes.
        let Entry { storage, len } = unsafe { ptr::read(entry.get()) };
        // SAFETY: the kernel has written a socket address of that length, or nothing, which leaves an AF_UNSPEC.
        let address = unsafe { SockAddr::new(storage, len) };
        address.as_socket().map_or(unknown, |address| address.ip().to_canonical())
    }
}
