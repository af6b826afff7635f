//! World of a simulation: workers, network and Redis on one agenda, in virtual time.
//!
//! | module | contents |
//! |---|---|
//! | `network` | connections, and the links by which workers use them |
//! | `carry` | messages: their time, loss and order |
//! | `server` | Redis: it runs the commands that arrive, and the faults of its replies |
//! | `store` | data of Redis: the specification of the scripts, and a real Redis beside it |
//! | `fleet` | workers: start, death, requests and answers |
//! | `faults` | beginning and end of faults |

mod carry;
mod faults;
mod fleet;
mod network;
mod server;
mod store;

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use weir_filter::units::Micros;
use weir_virtual::Clock;

use self::fleet::Instance;
use self::network::Connection;
use self::store::{Store, StoreCopy};
use crate::history::{History, Record};
use crate::plan::Plan;
use crate::plan::faults::{Fault, Kind};
use crate::real::RealRedis;
use crate::redis_time::RedisTime;

/// Events of a simulation, at most, for each of its requests: more are a loop.
const MOST_EVENTS: u64 = 2_000;
/// Events of the smallest simulation, at most.
const LEAST_EVENTS: u64 = 2_000_000;

/// Event of the agenda.
#[derive(Debug)]
enum Event {
    /// A request arrives at its worker.
    Begins(usize),
    /// The client of a request goes away.
    Leaves {
        instance: usize,
        request: usize,
    },
    /// Bytes arrive at Redis. `is_served`: Redis has had the time that they take it.
    AtRedis {
        connection: usize,
        bytes: Vec<u8>,
        is_served: bool,
    },
    /// A callout ends, with the status and body of its response.
    CalloutEnds {
        connection: usize,
        response: Option<(u16, Vec<u8>)>,
    },
    FaultBegins(usize),
    FaultEnds(usize),
    /// Redis' data is copied, as a replica that will take over has it.
    Copied(usize),
    /// A worker starts at a place.
    Starts(usize),
}

/// World of a simulation.
struct World<'a> {
    plan: &'a Plan,
    /// True time since the start: the clock of all proxies.
    clock: Clock,
    /// Redis' own clock, set before each command.
    redis_clock: Clock,
    redis: Store<'a>,
    time: RedisTime,
    agenda: BinaryHeap<Reverse<(Micros, u64)>>,
    entries: BTreeMap<u64, Event>,
    last_entry: u64,
    /// All workers that ever ran; `None`: dead.
    instances: Vec<Option<Instance>>,
    /// Time of each one's next event.
    due: Vec<Micros>,
    /// The same times with the places of the workers; entries with another time than `due` are out of date.
    by_due: BinaryHeap<Reverse<(Micros, usize)>>,
    /// Instance at each place, if a worker runs there.
    current: Vec<Option<usize>>,
    /// Whether the proxy at each place refuses streams.
    refuses: Vec<Rc<Cell<bool>>>,
    /// Whether each place has the varied configuration.
    is_varied: Vec<bool>,
    connections: Vec<Connection>,
    /// Connections by instance and token.
    by_token: BTreeMap<(usize, u32), usize>,
    active: Vec<Fault>,
    /// Copies of Redis' data for failovers, by fault.
    copies: BTreeMap<usize, StoreCopy>,
    is_down: bool,
    busy_until_nanos: u64,
    /// Script calls at Redis by the second in which they began.
    scripts: Vec<u64>,
    /// Whether ticks that have nothing to do are handled all at once, with the same results as one by one.
    skips_ticks: bool,
    /// Events so far, of the agenda and of workers.
    events: u64,
    /// Messages so far: numbers the choices about each.
    messages: u64,
    /// Errors of configurations that the filter refuses.
    refused: Vec<String>,
    records: Vec<Record>,
    losses: Vec<Micros>,
    steps: Vec<(Micros, i64)>,
}

/// Runs a plan; also on a real Redis, if there is one.
pub(crate) fn run(plan: &Plan, real: Option<&mut RealRedis>) -> History {
    World::new(plan, real).finish()
}

impl<'a> World<'a> {
    fn finish(mut self) -> History {
        let most = LEAST_EVENTS + MOST_EVENTS * self.plan.requests.len() as u64;
        while self.events < most && self.step() {}
        self.history(most)
    }

    fn new(plan: &'a Plan, real: Option<&'a mut RealRedis>) -> Self {
        let places = plan.size.places();
        let redis_clock = Clock::at(plan.unix);
        let mut world = Self {
            plan,
            clock: Clock::at(Micros::ZERO),
            redis: Store::new(&redis_clock, real),
            redis_clock,
            time: RedisTime::new(plan.unix),
            agenda: BinaryHeap::new(),
            entries: BTreeMap::new(),
            last_entry: 0,
            instances: Vec::new(),
            due: Vec::new(),
            by_due: BinaryHeap::new(),
            current: vec![None; places],
            refuses: (0..places).map(|_| Rc::default()).collect(),
            is_varied: vec![false; places],
            connections: Vec::new(),
            by_token: BTreeMap::new(),
            active: Vec::new(),
            copies: BTreeMap::new(),
            is_down: false,
            busy_until_nanos: 0,
            scripts: Vec::new(),
            skips_ticks: true,
            events: 0,
            messages: 0,
            refused: Vec::new(),
            records: Vec::new(),
            losses: Vec::new(),
            steps: Vec::new(),
        };
        for (nth, request) in plan.requests.iter().enumerate() {
            world.at(request.at, Event::Begins(nth));
        }
        for (nth, fault) in plan.faults.iter().enumerate() {
            if matches!(fault.kind, Kind::StaleFailover | Kind::SilentFailover) {
                let age = Micros::from_millis(50 + fault.draw % 4_000);
                world.at(fault.from.minus(age), Event::Copied(nth));
            }
            world.at(fault.from, Event::FaultBegins(nth));
            if fault.until > fault.from {
                world.at(fault.until, Event::FaultEnds(nth));
                // A failover may have brought back an override.
                world.at(plan.faults_end(), Event::FaultEnds(nth));
            }
        }
        // Workers of places without requests have nothing to do.
        let mut used = vec![false; places];
        plan.requests.iter().for_each(|request| used[request.place] = true);
        (0..places).filter(|place| used[*place]).for_each(|place| world.start(place));
        world
    }

    fn now(&self) -> Micros {
        self.clock.now()
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.last_entry += 1;
        self.agenda.push(Reverse((at, self.last_entry)));
        self.entries.insert(self.last_entry, event);
    }

    /// Handles the next event. Returns whether there was one before the end.
    fn step(&mut self) -> bool {
        let planned = self.agenda.peek().map(|Reverse((at, _))| *at);
        let worker = self.next_instance();
        let end = self.plan.end();
        match (planned, worker) {
            (planned, Some((at, nth))) if at <= end && planned.is_none_or(|planned| at < planned) => {
                self.clock.set(at.max(self.now()));
                self.wake(nth);
                true
            }
            (Some(at), _) if at <= end => {
                self.clock.set(at.max(self.now()));
                let event = self.agenda.pop().and_then(|Reverse((_, entry))| self.entries.remove(&entry));
                if let Some(event) = event {
                    self.events += 1;
                    self.handle(event);
                }
                true
            }
            _ => false,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begins(request) => self.begin(request),
            Event::Leaves { instance, request } => self.leave(instance, request),
            Event::AtRedis { connection, bytes, is_served } => self.serve(connection, bytes, is_served),
            Event::CalloutEnds { connection, response } => self.end_callout(connection, response),
            Event::FaultBegins(fault) => self.begin_fault(fault),
            Event::FaultEnds(fault) => self.end_fault(fault),
            Event::Copied(fault) => {
                self.redis_clock.set(self.time.raw(self.now()));
                self.copies.insert(fault, self.redis.copy());
            }
            Event::Starts(place) => self.start(place),
        }
    }

    /// The active fault of this kind at a place, if any.
    fn fault(&self, kind: Kind, place: usize) -> Option<Fault> {
        let workers = self.plan.size.workers;
        self.active.iter().find(|fault| fault.kind == kind && fault.concerns(place, workers)).copied()
    }

    /// Whether an active fault of this kind concerns the next message at a place. Each message is drawn anew.
    fn strikes(&mut self, kind: Kind, place: usize) -> Option<Fault> {
        if self.active.is_empty() {
            return None;
        }
        let fault = self.fault(kind, place)?;
        (fault.percent >= 100 || self.draw() % 100 < fault.percent).then_some(fault)
    }

    /// Random number for the next message.
    fn draw(&mut self) -> u64 {
        self.messages += 1;
        mixed(self.plan.seed ^ mixed(self.messages))
    }

    fn history(mut self, most: u64) -> History {
        let is_endless = self.events >= most;
        let after_end = self.plan.end().plus(Micros(1));
        (0..self.instances.len()).for_each(|nth| self.skip_ticks(nth, after_end));
        self.redis_clock.set(self.time.raw(self.plan.end()));
        let in_flight = self.instances.iter().flatten().map(|instance| instance.worker.in_flight()).sum();
        let unknown = self.redis.unknown().into_iter().map(|what| format!("a worker sent {what}"));
        let refused = self.refused.into_iter().map(|error| format!("the filter refused its configuration: {error}"));
        History {
            records: self.records,
            losses: self.losses,
            steps: self.steps,
            scripts: self.scripts,
            slots: self.redis.slots(),
            differences: self.redis.take_differences(),
            surprises: unknown.chain(refused).collect(),
            time: self.time,
            in_flight,
            events: self.events,
            is_endless,
        }
    }
}

/// SplitMix64's finalizer: spreads the bits of a number.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Size;

    #[test]
    fn skipped_ticks_change_no_history() {
        for seed in 2_000..2_030 {
            let plan = Plan::new(seed, Size { seconds: 36, proxies: 2, workers: 2 });
            let skipping = run(&plan, None);
            let each = World { skips_ticks: false, ..World::new(&plan, None) }.finish();
            assert_eq!(format!("{skipping:?}"), format!("{each:?}"), "seed {seed}");
        }
    }
}
