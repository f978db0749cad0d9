//! Threads of load that go from phase to phase together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flume::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::ring::sys;

use super::Result;

/// What the threads' names begin with; their numbers follow.
pub const THREAD_NAME: &str = "load-";
/// How often the one who waits looks up.
const TICK: Duration = Duration::from_millis(250);

/// What the threads tell while they run, for whoever watches.
#[derive(Default, Debug)]
pub struct Gauges {
    /// Connections that are open.
    pub opened: AtomicU64,
    /// Messages delivered to subscribers, or echoes, or whatever the mode counts.
    pub deliveries: AtomicU64,
    /// The latest latency of a sample, in nanoseconds.
    pub latency: AtomicU64,
    /// A thread has failed, so that there is nothing to be told any more.
    over: AtomicBool,
}

impl Gauges {
    /// To be asked now and then by whoever is busy for long.
    ///
    /// # Errors
    /// The run is over: another has failed.
    pub fn goes_on(&self) -> Result<()> {
        if self.over.load(Ordering::Relaxed) { Err(Stopped.into()) } else { Ok(()) }
    }

    /// Adds to a count.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes off a count.
    pub fn sub(counter: &AtomicU64, n: u64) {
        counter.fetch_sub(n, Ordering::Relaxed);
    }

    /// Reads a count.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Another thread has failed, so that this one stops.
#[derive(thiserror::Error, Debug)]
#[error("stopped, as another thread of load has failed")]
struct Stopped;

/// One thread's place in the crew.
pub struct Member {
    /// Its number, from 0.
    pub index: u16,
    /// Where it tells what it does.
    pub gauges: Arc<Gauges>,
    reached: Sender<()>,
    go: Receiver<()>,
}

impl Member {
    /// Tells that it is here, and waits until all are, and are told to go on.
    ///
    /// # Errors
    /// The run is over: another has failed.
    pub fn gate(&self) -> Result<()> {
        self.arrive()?;
        self.go.recv().map_err(|_| Stopped.into())
    }

    /// Tells that it is here. For those who have connections to look after until [`Member::is_let_go`] says so.
    ///
    /// # Errors
    /// The run is over.
    pub fn arrive(&self) -> Result<()> {
        self.reached.send(()).map_err(|_| Stopped.into())
    }

    /// Whether all have arrived, and were told to go on: `true` once.
    ///
    /// # Errors
    /// The run is over: another has failed.
    pub fn is_let_go(&self) -> Result<bool> {
        match self.go.try_recv() {
            Ok(()) => Ok(true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => Err(Stopped.into()),
        }
    }

    /// Whether [`Member::is_let_go`] would say so, or that the run is over.
    pub fn may_go(&self) -> bool {
        !self.go.is_empty() || self.go.is_disconnected()
    }
}

/// The threads.
pub struct Crew<T> {
    /// What they tell.
    pub gauges: Arc<Gauges>,
    handles: Vec<JoinHandle<Result<T>>>,
    reached: Receiver<()>,
    go: Vec<Sender<()>>,
}

impl<T: Send + 'static> Crew<T> {
    /// Starts the threads, each on one of the CPUs if there are any.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        threads: u16,
        cpus: &[usize],
        work: impl Fn(&Member) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Crew<T>> {
        let gauges = Arc::new(Gauges::default());
        let (here, reached) = flume::unbounded();
        let (mut handles, mut go) = (Vec::new(), Vec::new());
        for index in 0..threads {
            let (sender, receiver) = flume::bounded(1);
            go.push(sender);
            let member = Member { index, gauges: gauges.clone(), reached: here.clone(), go: receiver };
            let cpu = (!cpus.is_empty()).then(|| cpus[usize::from(index) % cpus.len()]);
            let work = work.clone();
            let body = move || {
                cpu.map_or(Ok(()), sys::pin_to)?;
                work(&member)
            };
            handles.push(thread::Builder::new().name(format!("{THREAD_NAME}{index}")).spawn(body)?);
        }
        Ok(Crew { gauges, handles, reached, go })
    }

    /// Waits until every thread is at a gate, and looks up now and then.
    ///
    /// # Errors
    /// A thread has ended instead; [`Crew::join`] tells why.
    pub fn gather(&self, mut tick: impl FnMut(&Gauges)) -> Result<()> {
        let mut here = 0;
        while here < self.handles.len() {
            match self.reached.recv_timeout(TICK) {
                Ok(()) => here += 1,
                Err(RecvTimeoutError::Disconnected) => return Err("the threads of load have ended".into()),
                Err(RecvTimeoutError::Timeout) if self.handles.iter().any(JoinHandle::is_finished) => {
                    return Err("a thread of load has ended".into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            tick(&self.gauges);
        }
        Ok(())
    }

    /// Opens the gate.
    pub fn go(&self) {
        for go in &self.go {
            // Whoever is not there any more needs no telling.
            let _ = go.send(());
        }
    }

    /// Leads the threads through their gates, and gives back what each has to say.
    ///
    /// # Errors
    /// That of the first that failed by itself, or of the one who leads.
    pub fn conclude(self, lead: impl FnOnce(&Crew<T>) -> Result<()>) -> Result<Vec<T>> {
        match lead(&self) {
            Ok(()) => self.join(),
            Err(error) => {
                self.gauges.over.store(true, Ordering::Relaxed);
                Err(self.join().err().filter(|cause| !cause.is::<Stopped>()).unwrap_or(error))
            }
        }
    }

    /// Waits for the end of all, and gives back what each has to say.
    ///
    /// # Errors
    /// That of the first that failed by itself.
    fn join(self) -> Result<Vec<T>> {
        drop(self.go);
        let ended = self.handles.into_iter().map(|handle| match handle.join() {
            Ok(result) => result,
            Err(_) => Err("a thread of load has panicked".into()),
        });
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for result in ended {
            match result {
                Ok(result) => results.push(result),
                Err(error) => errors.push(error),
            }
        }
        let cause = errors.iter().position(|error| !error.is::<Stopped>()).unwrap_or(0);
        if errors.is_empty() { Ok(results) } else { Err(errors.swap_remove(cause)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const THREADS: u16 = 4;

    /// Leads through so many gates.
    fn lead<T: Send + 'static>(gates: usize) -> impl FnOnce(&Crew<T>) -> Result<()> {
        move |crew| {
            (0..gates).try_for_each(|_| {
                crew.gather(|_| {})?;
                crew.go();
                Ok(())
            })
        }
    }

    #[track_caller]
    fn fails(work: impl Fn(&Member) -> Result<u16> + Clone + Send + 'static, gates: usize) -> String {
        let crew = Crew::start(THREADS, &[], work).unwrap();
        crew.conclude(lead(gates)).unwrap_err().to_string()
    }

    #[test]
    fn nobody_passes_a_gate_before_all_are_there() {
        let here = Arc::new(AtomicUsize::new(0));
        let seen = here.clone();
        let work = move |member: &Member| {
            thread::sleep(Duration::from_millis(10 * u64::from(member.index)));
            here.fetch_add(1, Ordering::SeqCst);
            member.gate()?;
            let all = here.load(Ordering::SeqCst);
            member.arrive()?;
            while !member.is_let_go()? {
                thread::yield_now();
            }
            Ok((member.index, all))
        };
        let outcomes = Crew::start(THREADS, &[], work).unwrap().conclude(lead(2)).unwrap();
        assert_eq!(outcomes, (0..THREADS).map(|index| (index, 4)).collect::<Vec<_>>());
        assert_eq!(seen.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn the_one_who_fails_says_why_and_the_others_stop() {
        let at_a_gate =
            fails(|member| if member.index == 2 { Err("broken".into()) } else { member.gate().map(|()| 0) }, 1);
        assert_eq!(at_a_gate, "broken");
        let busy = |member: &Member| {
            if member.index == 2 {
                return Err("broken".into());
            }
            loop {
                member.gauges.goes_on()?;
                thread::sleep(Duration::from_millis(1));
            }
        };
        assert_eq!(fails(busy, 1), "broken");
        let late = |member: &Member| {
            member.gate()?;
            if member.index == 1 { Err("broken later".into()) } else { member.gate().map(|()| 0) }
        };
        assert_eq!(fails(late, 2), "broken later");
    }

    #[test]
    fn if_all_fail_one_says_why() {
        assert_eq!(fails(|_| Err("broken".into()), 1), "broken");
    }

    #[test]
    fn a_panic_is_a_failure() {
        let panics = |member: &Member| if member.index == 0 { panic!("on purpose") } else { member.gate().map(|()| 0) };
        assert_eq!(fails(panics, 1), "a thread of load has panicked");
    }

    #[test]
    fn a_leader_who_fails_stops_all() {
        let crew = Crew::start(THREADS, &[], |member: &Member| member.gate()).unwrap();
        assert_eq!(crew.conclude(|_| Err("led astray".into())).unwrap_err().to_string(), "led astray");
    }

    #[test]
    fn threads_are_pinned_to_the_cpus_in_turn() {
        let cpus = sys::allowed_cpus().unwrap();
        let crew = Crew::start(THREADS, &cpus, |_: &Member| Ok(sys::allowed_cpus()?)).unwrap();
        let turns: Vec<_> = crew.conclude(|_| Ok(())).unwrap();
        let expected: Vec<_> = cpus.iter().cycle().take(THREADS.into()).map(|&cpu| vec![cpu]).collect();
        assert_eq!(turns, expected);
    }
}
