//! Beginning and end of the faults of a simulation.

use weir_filter::units::Micros;

use super::{Event, World};
use crate::plan::faults::{Fault, Kind};
use crate::plan::overrides::Override;

/// Clocks of machines drift by 0.02 %, at most.
const MOST_DRIFT: u64 = 200;

impl World<'_> {
    pub(super) fn begin_fault(&mut self, nth: usize) {
        let fault = self.plan.faults[nth];
        let now = self.now();
        self.redis_clock.set(self.time.raw(now));
        if fault.until > fault.from {
            self.active.push(fault);
        }
        if fault.kind.loses_data() {
            self.losses.push(now);
        }
        match fault.kind {
            Kind::HalfOpen => self.open_connections(fault).for_each(|open| open.is_dead = true),
            Kind::Refused => self.cut_all(fault),
            Kind::HostRefuses => self.set_refuses(fault, true),
            Kind::WorkerRestart => self.restart(fault, Micros(1)),
            Kind::ProxyRestart => self.restart(fault, fault.until.minus(now)),
            Kind::WorkerStall => self.stall(fault),
            Kind::Configuration => self.configure(fault, true),
            Kind::LimitOverride | Kind::KeyOverride => self.override_limit(fault, true),
            Kind::Restart | Kind::RestartEmpty | Kind::StaleFailover => {
                self.is_down = true;
                self.cut_all(fault);
                self.lose_data(nth, fault);
                self.redis.flush_scripts();
            }
            Kind::SilentFailover => {
                self.connections.iter_mut().for_each(|open| open.is_stale = true);
                self.lose_data(nth, fault);
                self.redis.flush_scripts();
            }
            Kind::FlushAll => self.lose_data(nth, fault),
            Kind::Eviction => {
                for nth in 0..1 + fault.draw % 3 {
                    self.redis.evict((fault.draw / 8 + nth) as usize);
                }
            }
            Kind::ScriptFlush => self.redis.flush_scripts(),
            Kind::ClockForward => self.step_clock(step_of(fault)),
            Kind::ClockBack => self.step_clock(-step_of(fault)),
            Kind::ClockDrift => {
                let drift = (fault.draw % (2 * MOST_DRIFT + 1)) as i64 - MOST_DRIFT as i64;
                self.time.set_drift(now, drift);
            }
            _ => {}
        }
    }

    pub(super) fn end_fault(&mut self, nth: usize) {
        let fault = self.plan.faults[nth];
        self.redis_clock.set(self.time.raw(self.now()));
        self.active.retain(|active| (active.from, active.draw) != (fault.from, fault.draw));
        match fault.kind {
            Kind::HostRefuses => self.set_refuses(fault, false),
            Kind::Configuration => self.configure(fault, false),
            Kind::LimitOverride | Kind::KeyOverride => self.override_limit(fault, false),
            Kind::Restart | Kind::RestartEmpty | Kind::StaleFailover => {
                let others = [Kind::Restart, Kind::RestartEmpty, Kind::StaleFailover];
                self.is_down = self.active.iter().any(|fault| others.contains(&fault.kind));
            }
            Kind::ClockDrift => self.time.set_drift(self.now(), 0),
            _ => {}
        }
    }

    fn lose_data(&mut self, nth: usize, fault: Fault) {
        match self.copies.remove(&nth) {
            Some(copy) => self.redis.restore(&copy),
            None if fault.kind.loses_data() => self.redis.flush(),
            None => {}
        }
    }

    fn open_connections(&mut self, fault: Fault) -> impl Iterator<Item = &mut super::Connection> {
        let workers = self.plan.size.workers;
        let instances = &self.instances;
        self.connections.iter_mut().filter(move |open| {
            let place = instances[open.instance].as_ref().map(|instance| instance.place);
            !open.is_closed && place.is_some_and(|place| fault.concerns(place, workers))
        })
    }

    fn cut_all(&mut self, fault: Fault) {
        let now = self.now();
        let workers = self.plan.size.workers;
        for connection in 0..self.connections.len() {
            let open = &self.connections[connection];
            let place = self.instances[open.instance].as_ref().map(|instance| instance.place);
            if !open.is_dead && !open.is_closed && place.is_some_and(|place| fault.concerns(place, workers)) {
                self.cut(connection, now);
            }
        }
    }

    fn places(&self, fault: Fault) -> impl Iterator<Item = usize> + use<> {
        let (places, workers) = (self.plan.size.places(), self.plan.size.workers);
        (0..places).filter(move |place| fault.concerns(*place, workers))
    }

    fn set_refuses(&mut self, fault: Fault, refuses: bool) {
        self.places(fault).for_each(|place| self.refuses[place].set(refuses));
    }

    fn restart(&mut self, fault: Fault, after: Micros) {
        let at = self.now().plus(after);
        for place in self.places(fault) {
            if let Some(nth) = self.current[place].take() {
                self.kill(nth);
                self.at(at, Event::Starts(place));
            }
        }
    }

    fn stall(&mut self, fault: Fault) {
        let now = self.now();
        for place in self.places(fault) {
            let Some(nth) = self.current[place] else { continue };
            self.catch_up(nth);
            if let Some(instance) = self.instances[nth].as_mut() {
                instance.stall = (now, fault.until);
            }
            self.schedule(nth);
        }
    }

    fn configure(&mut self, fault: Fault, is_varied: bool) {
        let now = self.now();
        for place in self.places(fault) {
            self.is_varied[place] = is_varied;
            let Some(nth) = self.current[place] else { continue };
            self.catch_up(nth);
            if let Some(instance) = self.instances[nth].as_mut() {
                instance.replaced_at = Some(now);
                self.schedule(nth);
                self.start(place);
            }
        }
    }

    fn override_limit(&mut self, fault: Fault, is_set: bool) {
        let Some(Override { limit, key, change }) = Override::of(&fault, self.plan) else { return };
        let (name, text) = (&self.plan.config.limits[limit].name, change.text());
        let text = is_set.then_some(text.as_bytes());
        match key {
            Some(key) => self.redis.override_key(format!("weir:{name}:k{key}").as_bytes(), text),
            None => self.redis.override_limit(name.as_bytes(), text),
        }
    }

    fn step_clock(&mut self, micros: i64) {
        let now = self.now();
        self.time.step(now, micros);
        self.steps.push((now, micros));
    }
}

/// Length of a step of Redis' clock: a millisecond to an hour.
fn step_of(fault: Fault) -> i64 {
    [1_000, 40_000, 700_000, 5_000_000, 60_000_000, 3_600_000_000][fault.draw as usize % 6]
}
