//! Workers of a simulation: they start, get requests, answer them and die.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use weir_filter::units::Micros;
use weir_virtual::{Answer, Exchange, Start, Upstream, Worker};

use super::network::{Outbox, Wire};
use super::{Event, World, mixed};
use crate::history::{End, Record};
use crate::plan::Arrival;
use crate::plan::faults::Kind;

/// Time after which a worker without requests, whose configuration has been replaced, ends.
const DRAINS: Micros = Micros::from_secs(5);

/// Time of the next event of a worker that has none.
const NEVER: Micros = Micros(u64::MAX);

/// Worker that runs, or that finishes its requests.
pub(super) struct Instance {
    pub(super) place: usize,
    pub(super) worker: Worker,
    pub(super) outbox: Outbox,
    /// Requests of the plan by the worker's ids.
    requests: BTreeMap<u32, usize>,
    /// The worker's thread stands still between these times.
    pub(super) stall: (Micros, Micros),
    /// Time at which another configuration replaced it.
    pub(super) replaced_at: Option<Micros>,
}

impl Instance {
    /// Whether ticks that have nothing to do are handled later, all at once: ticks of a worker that stands still come late,
    /// and one that has been replaced may end at any tick.
    fn skips_ticks(&self) -> bool {
        self.replaced_at.is_none() && self.worker.next_tick().is_none_or(|at| at >= self.stall.1)
    }
}

impl World<'_> {
    /// Starts a worker at a place. An earlier one there gets no more requests.
    pub(super) fn start(&mut self, place: usize) {
        let nth = self.instances.len();
        let config = if self.is_varied[place] { &self.plan.varied } else { &self.plan.config };
        let outbox = Outbox::default();
        let wire = Wire { outbox: Rc::clone(&outbox), refuses: Rc::clone(&self.refuses[place]) };
        let configuration = config.json();
        let start = Start {
            configuration: configuration.as_bytes(),
            environment: &[],
            seed: mixed(self.plan.seed.wrapping_add(mixed(nth as u64 + 1))),
            sees_body_past_headers: true,
            round_trip: Micros::ZERO,
        };
        let worker = match Worker::start_linked(&self.clock, Rc::new(wire), &start) {
            Ok(worker) => worker,
            Err(errors) => {
                self.refused.extend(errors);
                return;
            }
        };
        let stall = (Micros::ZERO, Micros::ZERO);
        let requests = BTreeMap::new();
        self.instances.push(Some(Instance { place, worker, outbox, requests, stall, replaced_at: None }));
        self.due.push(NEVER);
        self.schedule(nth);
        self.current[place] = Some(nth);
    }

    /// Time and place of the worker that has the next event.
    pub(super) fn next_instance(&mut self) -> Option<(Micros, usize)> {
        while let Some(Reverse((at, nth))) = self.by_due.peek().copied() {
            if self.due[nth] == at {
                return Some((at, nth));
            }
            self.by_due.pop();
        }
        None
    }

    /// Notes when a worker has its next event.
    pub(super) fn schedule(&mut self, nth: usize) {
        let due = self.instances[nth].as_ref().and_then(|instance| {
            let worker = &instance.worker;
            let at = if self.skips_ticks && instance.skips_ticks() { worker.next_busy_at() } else { worker.next_at() }?;
            let (from, until) = instance.stall;
            Some(if at >= from { at.max(until) } else { at })
        });
        let due = due.unwrap_or(NEVER);
        if std::mem::replace(&mut self.due[nth], due) != due && due < NEVER {
            self.by_due.push(Reverse((due, nth)));
        }
    }

    /// Has a worker handle its next event.
    pub(super) fn wake(&mut self, nth: usize) {
        self.catch_up(nth);
        if let Some(instance) = &self.instances[nth]
            && instance.worker.handle_next()
        {
            self.events += 1;
        }
        self.after(nth);
    }

    /// Has a worker handle the ticks before this time that it has skipped: before any other callback, and before anything
    /// changes that its next ticks depend on.
    pub(super) fn catch_up(&mut self, nth: usize) {
        self.skip_ticks(nth, self.now());
    }

    /// Has a worker handle the ticks before `until` that have nothing to do.
    pub(super) fn skip_ticks(&mut self, nth: usize, until: Micros) {
        if !self.skips_ticks {
            return;
        }
        if let Some(instance) = self.instances[nth].as_ref().filter(|instance| instance.skips_ticks()) {
            self.events += instance.worker.skip_ticks(until);
        }
    }

    /// Begins a request of the plan.
    pub(super) fn begin(&mut self, request: usize) {
        let arrival = self.plan.requests[request];
        let now = self.now();
        let Some(nth) = self.current[arrival.place] else { return };
        self.catch_up(nth);
        let Some(instance) = self.instances[nth].as_mut() else { return };
        if (instance.stall.0..instance.stall.1).contains(&now) {
            let until = instance.stall.1;
            return self.at(until, Event::Begins(request));
        }
        let id = instance.worker.begin(exchange(&arrival, self.plan));
        instance.requests.insert(id, request);
        if let Some(fault) = self.strikes(Kind::ClientsLeave, arrival.place) {
            let longest = self.plan.config.timeout.0 * 3 + arrival.takes.0;
            let at = now.plus(Micros(mixed(fault.draw ^ request as u64) % longest));
            self.at(at, Event::Leaves { instance: nth, request });
        }
        self.after(nth);
    }

    /// Ends a request whose client has gone, unless it has been answered.
    pub(super) fn leave(&mut self, nth: usize, request: usize) {
        self.catch_up(nth);
        let Some(instance) = self.instances[nth].as_mut() else { return };
        let Some(id) = instance.requests.iter().find(|(_, own)| **own == request).map(|(id, _)| *id) else { return };
        instance.requests.remove(&id);
        instance.worker.leave(id);
        self.lose(request);
        self.after(nth);
    }

    /// Kills a worker.
    pub(super) fn kill(&mut self, nth: usize) {
        self.catch_up(nth);
        let Some(instance) = self.instances[nth].take() else { return };
        self.due[nth] = NEVER;
        for request in instance.requests.into_values() {
            self.lose(request);
        }
        self.connections.iter_mut().filter(|open| open.instance == nth).for_each(|open| open.is_closed = true);
    }

    fn lose(&mut self, request: usize) {
        let (now, began) = (self.now(), self.plan.requests[request].at);
        let (end, stalled) = (End::Lost, Micros::ZERO);
        let record = Record { request, began, decided: now, ended: now, end, stalled, is_by_shares: false };
        self.records.push(record);
    }

    /// Carries out what a worker has done in a callback.
    pub(super) fn after(&mut self, nth: usize) {
        let acts = self.instances[nth].as_ref().map(|instance| std::mem::take(&mut *instance.outbox.borrow_mut()));
        for act in acts.into_iter().flatten() {
            self.carry(nth, act);
        }
        let now = self.now();
        let Some(instance) = self.instances[nth].as_mut() else { return };
        for (id, answer) in instance.worker.take_answers() {
            let Some(request) = instance.requests.remove(&id) else { continue };
            let (from, until) = instance.stall;
            let stalled = until.min(answer.ended).minus(from.max(answer.began));
            self.records.push(record(request, &answer, stalled));
        }
        let drains = instance.replaced_at.is_some_and(|at| at.plus(DRAINS) <= now);
        if drains && instance.worker.in_flight() == 0 {
            self.kill(nth);
        }
        self.schedule(nth);
    }

    /// Notes that something arrives at a worker.
    pub(super) fn arrives(&mut self, nth: usize, at: Micros, arrival: weir_virtual::Arrival) {
        if let Some(instance) = &self.instances[nth] {
            instance.worker.arrives(at, arrival);
            self.schedule(nth);
        }
    }
}

fn exchange(arrival: &Arrival, plan: &crate::plan::Plan) -> Exchange {
    let mut headers = vec![
        (":method".to_owned(), b"GET".to_vec()),
        (":path".to_owned(), b"/".to_vec()),
        (":authority".to_owned(), b"weir.example".to_vec()),
        ("x-key".to_owned(), format!("k{}", arrival.key).into_bytes()),
    ];
    if arrival.cost != 1 {
        headers.push(("x-cost".to_owned(), arrival.cost.to_string().into_bytes()));
    }
    for (place, limit) in plan.config.limits.iter().enumerate() {
        if arrival.limits >> place & 1 == 1 {
            headers.push((format!("x-{}", limit.name), b"1".to_vec()));
        }
    }
    Exchange {
        headers,
        body: None,
        properties: Rc::new(|_| None),
        upstream: Upstream { status: 200, headers: Vec::new(), takes: arrival.takes, ..Upstream::default() },
    }
}

fn record(request: usize, answer: &Answer, stalled: Micros) -> Record {
    let text = |name: &str| answer.filter_state.get(name).map(String::as_str);
    let micros = |name: &str| text(name).and_then(|text| text.parse().ok()).map(Micros);
    let end = match text("weir.decision") {
        Some("admitted") => End::Admitted {
            redis: micros("weir.redis_unix_time_us"),
            delay: micros("weir.delay_us").unwrap_or_default(),
        },
        Some("denied") => End::Denied { limit: text("weir.limit").unwrap_or_default().to_owned() },
        Some("failed") => {
            End::Failed { cause: text("weir.failure").unwrap_or_default().to_owned(), is_admitted: !answer.is_local }
        }
        _ => End::Passed,
    };
    let is_by_shares = text("weir.failure_mode").is_some();
    Record { request, began: answer.began, decided: answer.decided, ended: answer.ended, end, stalled, is_by_shares }
}
