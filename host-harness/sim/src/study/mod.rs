//! Studies: what a limit of one key costs and admits, by the size of the fleet and by the round trip to Redis.
//!
//! One Redis runs one script after the other, each in [`SCRIPT_NANOS`]. There are no faults: the figures are those of
//! load, leases and distance alone. See `chart` for the pictures.

mod chart;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_filter::units::Micros;

pub use self::chart::{Picture, pictures};
use crate::dice::Dice;
use crate::history::{End, History, Record};
use crate::plan::limits::{ConfigPlan, LimitPlan, Window};
use crate::plan::{Arrival, Plan, Size};
use crate::world;

/// Time that one core takes for a script that decides a request: 158,000 a second, as measured with Redis 7.0.
pub const SCRIPT_NANOS: u64 = 6_329;
/// Requests of each worker in a second.
pub const REQUESTS_PER_SECOND: u64 = 20;
/// Sizes of fleets that are studied, in workers.
pub const FLEETS: [usize; 7] = [10, 30, 100, 300, 1_000, 3_000, 10_000];
/// Average round trips to Redis that are studied, in microseconds.
pub const ROUND_TRIPS: [u64; 7] = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];
/// Loads that are studied: requests for a hundred that the limit admits.
pub const BELOW: u64 = 80;
/// See [`BELOW`].
pub const BEYOND: u64 = 120;
/// Workers where the round trip varies, and round trip, in microseconds, where the workers vary.
pub const USUAL: (usize, u64) = (300, 500);

/// Redis' clock at the start, since 1970.
const START: Micros = Micros::from_secs(1_800_000_000);
/// Time until buckets and leases are as they stay.
const WARM_UP: Micros = Micros::from_secs(1);
/// Time within which a burst empties the bucket, where more is asked than the limit admits.
const BURST: Micros = Micros::from_millis(300);
/// Time that is measured.
const MEASURED: Micros = Micros::from_secs(1);
/// Time after the last request.
const REST: Micros = Micros::from_secs(1);
/// Budget of a check: longer than two of the longest round trips, as a connection needs.
const TIMEOUT: Micros = Micros::from_millis(500);
/// Tokens of a lease, at most, and its time.
const LEASE: (u64, Micros) = (40, Micros::from_secs(2));

/// Setting of one simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// Workers of the fleet.
    pub workers: usize,
    /// Average time from a command to its reply, without Redis' own time; in microseconds.
    pub round_trip: u64,
    /// Whether the limit has a lease.
    pub has_lease: bool,
    /// Requests for a hundred that the limit admits.
    pub load: u64,
}

/// Result of one simulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// The setting.
    pub setting: Setting,
    /// Requests that Redis or a lease admitted, in percent of what the limit admits.
    pub admitted: f64,
    /// Requests that were denied, in percent of all.
    pub denied: f64,
    /// Requests that Redis did not decide in time, in percent of all.
    pub failed: f64,
    /// Median and 99th percentile of the time from a request's arrival to its decision, in milliseconds.
    pub wait: [f64; 2],
    /// Script calls at Redis in a second.
    pub scripts: f64,
}

/// Settings of all pictures, each once.
#[must_use]
pub fn settings(largest: usize) -> Vec<Setting> {
    let mut settings = Vec::new();
    let fleets = FLEETS.into_iter().filter(|workers| *workers <= largest).map(|workers| (workers, USUAL.1));
    let trips = ROUND_TRIPS.into_iter().map(|round_trip| (USUAL.0.min(largest), round_trip));
    for (workers, round_trip) in fleets.chain(trips) {
        for (has_lease, load) in [(false, BELOW), (true, BELOW), (false, BEYOND), (true, BEYOND)] {
            settings.push(Setting { workers, round_trip, has_lease, load });
        }
    }
    settings.sort_unstable();
    settings.dedup();
    settings
}

/// Simulates settings on `threads` threads; `done` is called after each.
#[must_use]
pub fn study(settings: &[Setting], threads: usize, done: &(dyn Fn(&Figures) + Sync)) -> Vec<Figures> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(setting) = settings.get(next.fetch_add(1, Ordering::Relaxed)) {
            let figures = setting.simulate();
            done(&figures);
            if let Ok(mut all) = all.lock() {
                all.push(figures);
            }
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut all = all.into_inner().unwrap_or_default();
    all.sort_by_key(|figures| figures.setting);
    all
}

impl Setting {
    /// Simulates the setting: requests at random times at every worker, all of one key.
    #[must_use]
    pub fn simulate(&self) -> Figures {
        let plan = self.plan();
        self.figures(&world::run(&plan, None))
    }

    /// Tokens that flow in per second.
    fn tokens(&self) -> u64 {
        (self.workers as u64 * REQUESTS_PER_SECOND * 100 / self.load).max(1)
    }

    fn plan(&self) -> Plan {
        let tokens = self.tokens();
        let limit = LimitPlan {
            name: "l0".to_owned(),
            windows: vec![Window::TokenBucket { max: tokens, tokens, interval: Micros::from_secs(1) }],
            lease: self.has_lease.then_some(LEASE),
            max_delay: Micros::ZERO,
            fails_closed: true,
            is_shadow: false,
            has_costs: false,
        };
        let config = ConfigPlan {
            limits: vec![limit],
            timeout: TIMEOUT,
            is_callout: false,
            max_in_flight: 4_096,
            deny_cache: 10_000,
            refresh: Micros::from_secs(60),
            per_key: false,
            has_login: false,
            has_events: false,
            heals: true,
            local: None,
        };
        let mut dice = Dice::new(self.load, self.workers as u64);
        let until = WARM_UP.plus(MEASURED);
        let number = self.workers as u64 * REQUESTS_PER_SECOND * until.0 / 1_000_000;
        let arrival = |at: Micros, place: usize| Arrival {
            at,
            place,
            key: 0,
            limits: 1,
            cost: 1,
            takes: Micros(1_000),
            exam: None,
        };
        let mut requests: Vec<Arrival> =
            (0..number).map(|_| arrival(Micros(dice.below(until.0)), dice.place(self.workers))).collect();
        if self.load > 100 {
            // A full bucket would hide the limit for seconds.
            let burst = (0..tokens).map(|_| arrival(Micros(dice.below(BURST.0)), dice.place(self.workers)));
            requests.extend(burst);
        }
        requests.sort_by_key(|request| request.at);
        Plan {
            seed: self.load,
            size: Size { seconds: until.plus(REST).0 / 1_000_000, proxies: self.workers, workers: 1 },
            unix: START,
            varied: config.clone(),
            config,
            faults: Vec::new(),
            requests,
            exams: Vec::new(),
            // A message takes a quarter more than this, on the average, and a round trip is two messages.
            latency: Micros(self.round_trip * 2 / 5),
            script_nanos: SCRIPT_NANOS,
        }
    }

    /// Time since the start at which a request was admitted: by Redis' clock, or by the worker's where a lease did.
    fn admitted_at(record: &Record) -> Option<Micros> {
        match record.end {
            End::Admitted { redis: Some(at), .. } => Some(at.minus(START)),
            End::Admitted { redis: None, .. } => Some(record.decided),
            _ => None,
        }
    }

    fn figures(&self, history: &History) -> Figures {
        let is_measured = |record: &&Record| record.began >= WARM_UP && record.began < WARM_UP.plus(MEASURED);
        let measured: Vec<&Record> = history.records.iter().filter(is_measured).collect();
        let count = |is: fn(&End) -> bool| measured.iter().filter(|record| is(&record.end)).count() as f64;
        let admitted = history.records.iter().filter_map(Self::admitted_at);
        let admitted = admitted.filter(|at| *at >= WARM_UP && *at < WARM_UP.plus(MEASURED)).count() as f64;
        let (all, seconds) = (measured.len().max(1) as f64, MEASURED.0 as f64 / 1e6);
        let mut waits: Vec<u64> = measured.iter().map(|record| record.wait().0).collect();
        waits.sort_unstable();
        let wait =
            |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default() as f64 / 1_000.0;
        let seconds_measured = (WARM_UP.0 / 1_000_000) as usize..((WARM_UP.0 + MEASURED.0) / 1_000_000) as usize;
        let scripts: u64 = history.scripts.get(seconds_measured).unwrap_or_default().iter().sum();
        Figures {
            setting: *self,
            admitted: admitted * 100.0 / (self.tokens() as f64 * seconds),
            denied: count(|end| matches!(end, End::Denied { .. })) * 100.0 / all,
            failed: count(|end| matches!(end, End::Failed { .. })) * 100.0 / all,
            wait: [wait(50), wait(99)],
            scripts: scripts as f64 / seconds,
        }
    }
}

impl Figures {
    /// First line of a table in the form of CSV.
    pub const CSV_HEADER: &str = "workers,round_trip_us,lease,load_percent,admitted_percent_of_limit,denied_percent,\
        failed_percent,p50_ms,p99_ms,scripts_per_second";

    /// The figures as a line of a table in the form of CSV.
    #[must_use]
    pub fn csv(&self) -> String {
        let Setting { workers, round_trip, has_lease, load } = self.setting;
        let Self { admitted, denied, failed, wait: [p50, p99], scripts, .. } = self;
        format!(
            "{workers},{round_trip},{has_lease},{load},{admitted:.2},{denied:.2},{failed:.2},{p50:.3},{p99:.3},{scripts:.0}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(workers: usize, has_lease: bool, load: u64) -> Figures {
        Setting { workers, round_trip: 1_000, has_lease, load }.simulate()
    }

    #[test]
    fn a_fleet_below_its_limit_asks_redis_for_each_request_and_is_never_denied() {
        let figures = figures(20, false, BELOW);
        assert_eq!((figures.denied, figures.failed), (0.0, 0.0));
        assert!((figures.scripts - 400.0).abs() < 60.0, "{figures:?}");
        assert!((0.8..1.5).contains(&figures.wait[0]), "{figures:?}");
    }

    #[test]
    fn a_lease_spares_redis_and_waits_and_admits_no_more() {
        let [exact, leased] = [false, true].map(|has_lease| figures(20, has_lease, BEYOND));
        let is_near = |figures: &Figures| figures.admitted > 90.0 && figures.admitted < 100.5;
        assert!(is_near(&exact) && is_near(&leased), "{exact:?} {leased:?}");
        let [exact, leased] = [false, true].map(|has_lease| figures(20, has_lease, BELOW));
        assert!(leased.scripts * 2.0 < exact.scripts && leased.wait[0] < exact.wait[0], "{exact:?} {leased:?}");
    }
}
