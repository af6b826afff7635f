//! Workers on one clock and one Redis.

use weir_filter::units::Micros;

use crate::{Answer, Clock, Exchange, Redis, Start, Worker};

/// Time of ticks at each end of a long pause: idle workers report their counters, and read overrides.
const AROUND_A_PAUSE: Micros = Micros::from_secs(2);
/// The same at the beginning, where the configuration has leases: workers return the tokens that they have not used.
const UNTIL_LEASES_END: Micros = Micros::from_secs(125);
/// Events and ticks in one instant, at most: more are a loop.
const MAX_EVENTS_AT_ONCE: u64 = 10_000_000;

/// Workers of any number of proxies, one clock and one Redis.
#[derive(Debug)]
pub struct Mesh {
    clock: Clock,
    redis: Redis,
    workers: Vec<Worker>,
    /// Time of ticks at the beginning of a long pause.
    before_a_pause: Micros,
}

/// Id of a request: the worker's place, and the request's id there.
pub type RequestId = (usize, u32);

impl Mesh {
    /// Starts `workers` workers with the same configuration, at `unix` by the clock: the time since 1970.
    ///
    /// # Errors
    /// The lines that the filter logged, if it refuses the configuration.
    pub fn start(unix: Micros, workers: usize, start: &Start<'_>) -> Result<Self, Vec<String>> {
        let clock = Clock::at(unix);
        let redis = Redis::new(&clock);
        let seeds = (0_u64..).map(|place| start.seed.wrapping_add(place));
        let workers = seeds.take(workers).map(|seed| Worker::start(&clock, &redis, &Start { seed, ..start.clone() }));
        // The word is in JSON and in a serialised `Struct`, and also in limits without leases: these only take longer.
        let has_leases = start.configuration.windows(5).any(|word| word == b"lease");
        let before_a_pause = if has_leases { UNTIL_LEASES_END } else { AROUND_A_PAUSE };
        Ok(Self { workers: workers.collect::<Result<_, _>>()?, clock, redis, before_a_pause })
    }

    /// Time by the clock, since 1970.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// The Redis of all workers.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Begins a request on a worker. `None` where there is no such worker.
    pub fn begin(&self, worker: usize, exchange: Exchange) -> Option<RequestId> {
        Some((worker, self.workers.get(worker)?.begin(exchange)))
    }

    /// Takes the answers since the last time.
    pub fn take_answers(&self) -> Vec<(RequestId, Answer)> {
        let of = |(place, worker): (usize, &Worker)| {
            worker.take_answers().into_iter().map(move |(id, answer)| ((place, id), answer)).collect::<Vec<_>>()
        };
        self.workers.iter().enumerate().flat_map(of).collect()
    }

    /// Number of requests without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.workers.iter().map(Worker::in_flight).sum()
    }

    /// Stops Redis, and closes its connections. Its data survives.
    pub fn stop_redis(&self) {
        self.redis.set_down(true);
        self.workers.iter().for_each(Worker::lose_connection);
        self.run_until(self.now());
    }

    /// Starts Redis again. Workers connect at their next attempt.
    pub fn start_redis(&self) {
        self.redis.set_down(false);
    }

    /// Handles the next event or tick of any worker, at most at `until`, and moves the clock on to it. Returns whether
    /// there was one.
    pub fn step(&self, until: Micros) -> bool {
        let next = self.workers.iter().filter_map(|worker| Some((worker.next_at()?, worker))).min_by_key(|(at, _)| *at);
        let Some((at, worker)) = next.filter(|(at, _)| *at <= until) else { return false };
        self.clock.move_on(at);
        worker.handle_next();
        true
    }

    /// Runs events and ticks until `until`, and moves the clock on to it.
    pub fn run_until(&self, until: Micros) {
        let (mut at, mut events) = (self.now(), 0_u64);
        while events < MAX_EVENTS_AT_ONCE && self.step(until) {
            events = if self.now() == at { events.saturating_add(1) } else { 0 };
            at = self.now();
        }
        self.clock.move_on(until);
    }

    /// Runs until no request is in flight, at most until `until`. Returns whether all requests have their answers.
    pub fn run_until_answered(&self, until: Micros) -> bool {
        while self.in_flight() > 0 {
            if !self.step(until) {
                return false;
            }
        }
        true
    }

    /// Lets `span` pass. A long span in which no request is in flight passes without ticks but at its beginning and its
    /// end: idle workers return leases, and read overrides.
    pub fn advance(&self, span: Micros) {
        let until = self.now().plus(span);
        let (first, last) = (self.now().plus(self.before_a_pause), until.minus(AROUND_A_PAUSE));
        if self.in_flight() == 0 && first < last {
            self.run_until(first);
            self.clock.move_on(last);
        }
        self.run_until(until);
    }
}
