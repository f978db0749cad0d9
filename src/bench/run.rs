//! What every mode has around it: progress, the server's cost, the report.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::ring::sys;

use super::Result;
use super::crew::{Crew, Gauges};
use super::observe::{Meter, Process, Sampler, Spent};
use super::options::Common;
use super::progress::Progress;
use super::report::quantity;
use super::report::{self, Faults, Figure, Machine, Report, Series};

/// How often the server's memory and CPU are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// What was measured for less than this was not measured.
const LEAST_TIME: Duration = Duration::from_millis(1);
/// Between the last arrival and the reading of the server's clock.
const SETTLE: Duration = Duration::from_millis(5);

/// One run.
pub struct Run {
    /// When it began: what all its times count from.
    pub start: Instant,
    /// The server, if it was told which process that is.
    pub server: Option<Process>,
    common: Common,
    report: Report,
    progress: Progress,
    sampler: Sampler,
    rate: Rate,
    meter: Option<Meter>,
    spent: Option<Spent>,
}

/// Deliveries a second, over time.
struct Rate {
    series: Series,
    last: (Instant, u64),
}

impl Run {
    /// Begins one.
    ///
    /// # Errors
    /// The server has ended, or none of the CPUs is to be had; `preflight` has found both there.
    pub fn begin(mode: &str, title: String, common: &Common) -> Result<Run> {
        let start = Instant::now();
        // This thread, and those that it starts: or they would run on the server's CPU now and then.
        sys::allow_cpus(&common.cpus)?;
        let server = common.server_pid.map(Process::new).transpose()?;
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let report = Report {
            mode: mode.into(),
            title,
            url: without_secrets(&common.url),
            unix_time,
            machine: Machine::this(),
            ..Report::default()
        };
        let (name, unit, over) = ("deliveries".into(), "/s".into(), "s".into());
        let series = Series { name, unit, over, ..Series::default() };
        Ok(Run {
            start,
            report,
            progress: Progress::new(common.quiet),
            sampler: Sampler::start(server, SAMPLE_EVERY)?,
            common: common.clone(),
            server,
            rate: Rate { series, last: (start, 0) },
            meter: None,
            spent: None,
        })
    }

    /// Says what is counted: "deliveries", unless told.
    pub fn counting(mut self, what: &str) -> Run {
        self.rate.series.name = what.into();
        self
    }

    /// Something begins that takes so many units; 0: nobody knows.
    pub fn phase(&mut self, name: &str, total: u64, unit: &str) {
        self.progress.phase(name, total, unit);
    }

    /// Shows how far it is.
    pub fn tick(&mut self, done: u64, gauges: &Gauges) {
        let (now, deliveries) = (Instant::now(), Gauges::get(&gauges.deliveries));
        let (then, before) = self.rate.last;
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds >= SAMPLE_EVERY.as_secs_f64() {
            let rate = deliveries.saturating_sub(before) as f64 / seconds;
            self.rate.series.points.push((now.duration_since(self.start).as_secs_f64(), rate));
            self.rate.last = (now, deliveries);
            let latency = Gauges::get(&gauges.latency) as f64;
            let observed = self.sampler.latest();
            let own = [
                (self.rate.series.name.as_str(), quantity::show(rate, "/s")),
                ("latency", quantity::show(latency, "ns")),
            ];
            self.progress.show(&own.into_iter().chain(observed).collect::<Vec<_>>());
        }
        self.progress.at(done);
    }

    /// What tells this run's messages from those of another to the same topics.
    pub fn tag(&self) -> u32 {
        std::process::id() ^ self.report.unix_time as u32
    }

    /// Leads a crew through three gates, as most modes have them: connected, warm, measured.
    pub fn measure<T: Send + 'static>(&mut self, crew: &Crew<T>, connections: u32, time: Duration) -> Result<()> {
        self.phase("connecting", u64::from(connections), "connections");
        crew.gather(|gauges| self.tick(Gauges::get(&gauges.opened), gauges))?;
        crew.go();
        let millis = |begin: Instant| begin.elapsed().as_millis() as u64;
        self.phase("warming up", self.common.warm_up_for(time).as_millis() as u64, "ms");
        let begin = Instant::now();
        crew.gather(|gauges| self.tick(millis(begin), gauges))?;
        self.is_warm();
        self.measure_from_here()?;
        crew.go();
        self.phase("measuring", time.as_millis() as u64, "ms");
        let begin = Instant::now();
        crew.gather(|gauges| self.tick(millis(begin), gauges))?;
        std::thread::sleep(SETTLE);
        self.measure_to_here()?;
        crew.go();
        Ok(())
    }

    /// What was before was to warm the server up.
    pub fn is_warm(&mut self) {
        self.report.warm_at = Some(self.start.elapsed().as_secs_f64());
    }

    /// From here on, what the server costs is counted; once more, if it was before.
    pub fn measure_from_here(&mut self) -> Result<()> {
        self.meter = Some(Meter::start(self.server)?);
        Ok(())
    }

    /// To here.
    pub fn measure_to_here(&mut self) -> Result<()> {
        let spent = self.meter.as_ref().map(Meter::spent).transpose()?;
        self.spent = spent.map(|spent| self.spent.map_or(spent, |before| before.and(&spent)));
        Ok(())
    }

    /// What was counted, in all and for each of so many of something.
    pub fn cost_each(&self, what: &str, count: u64) -> Vec<Figure> {
        let Some(spent) = self.spent.filter(|spent| spent.time >= LEAST_TIME) else { return Vec::new() };
        let each =
            |cpu: Duration| Figure::new(format!("server CPU a {what}"), "ns", cpu.as_nanos() as f64 / count as f64);
        spent.server.filter(|_| count > 0).map(each).into_iter().chain(spent.figures()).collect()
    }

    /// Puts the report together.
    pub fn finish(
        self,
        figures: Vec<Figure>,
        latencies: &[(&str, &Histogram<u64>)],
        faults: Faults,
        complaint: Option<String>,
    ) -> Result<Report> {
        let Run { mut report, progress, sampler, rate, spent, .. } = self;
        progress.end();
        report.notes.extend(spent.filter(|spent| spent.time >= LEAST_TIME).and_then(|spent| spent.disturbance()));
        let taken = latencies.iter().filter(|(_, histogram)| !histogram.is_empty());
        report.latencies = taken.map(|(name, histogram)| report::latency(name, histogram)).collect();
        report.series = [rate.series].into_iter().filter(|series| !series.points.is_empty()).collect();
        report.series.extend(sampler.stop());
        (report.figures, report.faults, report.complaint) = (figures, faults, complaint);
        Ok(report)
    }
}

/// An address without the values of its query, which may hold a token.
fn without_secrets(url: &str) -> String {
    url.split_once('?').map_or(url.into(), |(address, _)| format!("{address}?…"))
}

/// A thread's share of so many: from one number up to another. The shares differ by one at most.
pub fn share(all: u32, index: u16, threads: u16) -> (u32, u32) {
    let until = |part: u16| (u64::from(all) * u64::from(part) / u64::from(threads)) as u32;
    (until(index), until(index + 1))
}

/// How many a second; 0 if there was no time.
pub fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Prints a report, and writes it where the options say.
pub fn publish(report: &Report, common: &Common) -> Result<()> {
    // Standard output is the JSON's alone then.
    if common.json.as_deref() != Some(Path::new("-")) {
        print!("{}", report::text::render(report));
    }
    report::write(report, common.json.as_deref(), common.html.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_make_up_all_and_differ_by_one_at_most(all in any::<u32>(), threads in 1u16..300) {
            let shares: Vec<_> = (0..threads).map(|index| share(all, index, threads)).collect();
            prop_assert_eq!((shares[0].0, shares[shares.len() - 1].1), (0, all));
            prop_assert!(shares.windows(2).all(|two| two[0].1 == two[1].0));
            let least = all / u32::from(threads);
            prop_assert!(shares.iter().all(|(first, end)| (least..=least + 1).contains(&(end - first))));
        }
    }

    #[test]
    fn without_time_there_is_no_rate() {
        assert_eq!(per_second(10, Duration::from_millis(500)), 20.0);
        assert_eq!(per_second(10, Duration::ZERO), 0.0);
    }
}
