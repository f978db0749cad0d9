//! How to set the ring up.

use std::io;

use io_uring::opcode;

use super::CPU;
use crate::crowd::Crowd;
use crate::fan::{self, Fan};
use crate::lab::{Lab, Variant};
use crate::peer::{MESSAGE, Task};
use crate::polled;
use crate::serve::{Served, Work};
use crate::uring::{IndexArray, SERVERS, Setup, Uring, Wait};

const CONNECTIONS: usize = 1000;
const FEW_CONNECTIONS: usize = 16;
const ROUNDS: u64 = 20;
const ECHOES: u64 = 24_000;
const NO_OPS: u64 = 100_000;

/// Decides the flags of `probe::set_up` and how `Ring::enter_kernel` names the ring.
///
/// COOP_TASKRUN needs 5.19, DEFER_TASKRUN 6.1, NO_SQARRAY 6.6, a registered ring 5.18. SQPOLL is as old as io_uring. Its
/// thread wants a CPU of its own, and shares that of the peers where there are only two.
pub fn setup(lab: &mut Lab) -> io::Result<()> {
    use crate::uring::Work::*;
    let flags = [
        ("DEFER_TASKRUN, SINGLE_ISSUER", "", SERVERS),
        ("COOP_TASKRUN, SINGLE_ISSUER", "", Setup { work: Cooperative, ..SERVERS }),
        ("SINGLE_ISSUER", "", Setup { work: Interrupting, ..SERVERS }),
        ("SQPOLL", "", Setup { work: Polled { cpu: lab.cpus.poller }, ..SERVERS }),
    ];
    let arrays = [
        ("NO_SQARRAY", "6.6", Setup { index_array: IndexArray::Never, ..SERVERS }),
        ("an index array", "", Setup { index_array: IndexArray::Always, ..SERVERS }),
    ];
    let names = [("ring by descriptor", "", SERVERS), ("registered ring", "", Setup { registered: true, ..SERVERS })];

    let many = Crowd::connect(CONNECTIONS, lab.cpus)?;
    let few = Crowd::connect(FEW_CONNECTIONS, lab.cpus)?;
    sends(lab, &many, &flags)?;
    echoes(lab, &many, &flags)?;
    sends(lab, &many, &arrays)?;
    no_ops(lab, 128, &arrays)?;
    no_ops(lab, 1, &names)?;
    echoes(lab, &few, &names)?;
    echoes(lab, &many, &names)
}

type Named = (&'static str, &'static str, Setup);

fn variants<'a>(setups: &'a [Named], sample: impl Fn(Setup) -> io::Result<Vec<f64>> + Copy + 'a) -> Vec<Variant<'a>> {
    let variant = |(place, &(name, since, setup)): (usize, &Named)| {
        Variant::new(name, move || sample(setup)).since(since).base(place == 0)
    };
    setups.iter().enumerate().map(variant).collect()
}

fn sends(lab: &mut Lab, crowd: &Crowd, setups: &[Named]) -> io::Result<()> {
    let rounds = lab.scale(ROUNDS);
    let slots: Vec<u32> = (0..crowd.size()).collect();
    let sample = |setup| {
        let ring = Uring::with_files(setup, crowd.files())?;
        let mut fan = Fan::new(ring, fan::SERVERS, &[7; MESSAGE], &slots, &[])?;
        Ok(fan.measure(rounds, crowd.peers())?.to_vec())
    };
    let title = format!("a delivery of {MESSAGE} B, to {}", crowd.size());
    lab.compare(&title, &[CPU, "poller ns"], variants(setups, sample))
}

fn echoes(lab: &mut Lab, crowd: &Crowd, setups: &[Named]) -> io::Result<()> {
    let messages = lab.scale(ECHOES);
    let sample = |setup| {
        let ring = Uring::with_files(setup, crowd.files())?;
        let served = echo(crowd, messages, |work| polled::serve(ring, crowd.size(), polled::SERVERS, work))?;
        let [own, poller] = served.cost(MESSAGE);
        Ok(vec![own, poller, served.batch(MESSAGE)])
    };
    let title = format!("an echo of {MESSAGE} B, {} connections", crowd.size());
    lab.compare(&title, &[CPU, "poller ns", "messages/enter"], variants(setups, sample))
}

/// What the ring costs without a network.
fn no_ops(lab: &mut Lab, batch: u64, setups: &[Named]) -> io::Result<()> {
    let enters = lab.scale(NO_OPS) / batch;
    let sample = |setup| {
        let mut ring = Uring::new(setup)?;
        let mut completions = Vec::new();
        let [before, _] = ring.cpu()?;
        for _ in 0..enters {
            for _ in 0..batch {
                push_no_op(&mut ring)?;
            }
            ring.enter(Wait::No)?;
            ring.drain(&mut completions);
        }
        let [after, _] = ring.cpu()?;
        Ok(vec![(after - before).as_nanos() as f64 / (enters * batch) as f64])
    };
    lab.compare(&format!("a NOP, {batch} a submission"), &[CPU], variants(setups, sample))
}

#[allow(unsafe_code)]
fn push_no_op(ring: &mut Uring) -> io::Result<()> {
    // SAFETY: it has no memory.
    unsafe { ring.push(&opcode::Nop::new().build()) }
}

/// Lets the peers ask, and serves them.
pub fn echo(crowd: &Crowd, messages: u64, serve: impl FnOnce(Work) -> io::Result<Served>) -> io::Result<Served> {
    crowd.peers().start(Task::Ask { messages })?;
    let served = serve(Work { bytes: messages * MESSAGE as u64, echo: true })?;
    crowd.peers().finish()?;
    Ok(served)
}
