//! Whom to send to first.

use std::io;
use std::os::fd::AsRawFd;

use super::CPU;
use crate::crowd;
use crate::fan::{self, Fan};
use crate::lab::{Lab, Variant};
use crate::shuffle::Shuffler;
use crate::uring::{SERVERS, Uring};

/// Subscribers, and rounds of a full sample.
const CROWDS: [(u32, u64); 2] = [(1000, 20), (10_000, 6)];

/// Decides whether the order of subscribers in a topic's list is worth anything: the kernel's structures of connections
/// that were accepted one after the other lie beside each other, for its caches and its TLB. What is between the two
/// rows is the most that any order of the server's tables could win.
pub fn order(lab: &mut Lab) -> io::Result<()> {
    CROWDS.into_iter().try_for_each(|(size, rounds)| compare(lab, size, rounds))
}

fn compare(lab: &mut Lab, size: u32, rounds: u64) -> io::Result<()> {
    let rounds = lab.scale(rounds);
    let in_order: Vec<u32> = (0..size).collect();
    let mut shuffled = in_order.clone();
    Shuffler::default().shuffle(&mut shuffled);
    // Sockets that are in the ring's table only: with both ends in the process's there would be too many descriptors.
    let ring = Uring::with_files(SERVERS, std::iter::repeat_n(-1, size as usize))?;
    let mut slot = 0..;
    let peers = crowd::connect(size as usize, lab.cpus, |server| {
        let slot = slot.next().expect("there is no last number");
        ring.raw().submitter().register_files_update(slot, &[server.as_raw_fd()]).map(drop)
    })?;
    let fan = std::cell::RefCell::new(Fan::new(ring, fan::SERVERS, &[7; 64], &in_order, &[])?);
    let variants = [("in the order of accept", &in_order), ("shuffled", &shuffled)].map(|(name, slots)| {
        let (fan, peers) = (&fan, &peers);
        let sample = move || Ok(vec![fan.borrow_mut().in_order(slots).measure(rounds, peers)?[0]]);
        Variant::new(name, sample).base(name != "shuffled")
    });
    lab.compare(&format!("a delivery of 64 B, to {size}"), &[CPU], variants.into())
}
