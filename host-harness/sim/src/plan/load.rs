//! Random requests: waves of crowds and bursts at some workers, a steady flow at one, and quiet in between.

use weir_filter::units::Micros;

use super::limits::ConfigPlan;
use super::{Arrival, Size};
use crate::dice::Dice;

/// Requests a second while there are faults.
const PER_SECOND: u64 = 45;
/// Requests in a hundred that are of the steady flow.
const STEADY: u64 = 15;
/// Time between two waves, on the average.
const WAVES: Micros = Micros::from_millis(3_500);
/// Time between two rounds of requests at all workers, while the fleet recovers.
const ROUNDS: Micros = Micros::from_millis(3_400);

/// Keys that only one request has.
const FRESH_KEYS: u32 = 500_000;

/// Requests until `end`.
pub(super) fn crowds(config: &ConfigPlan, end: Micros, size: Size, dice: &mut Dice) -> Vec<Arrival> {
    let all = PER_SECOND * end.0 / 1_000_000;
    let shape = Shape::random(config, dice);
    let steady = dice.place(size.places());
    let mut requests: Vec<Arrival> =
        (0..all * STEADY / 100).map(|_| shape.request(Micros(dice.below(end.0)), steady, dice)).collect();
    let waves = (end.0 / WAVES.0).max(1);
    for _ in 0..waves {
        let number = (all - all * STEADY / 100) / waves;
        wave(&shape, Micros(dice.below(end.0)), number, size, dice, &mut requests);
    }
    requests
}

/// Appends a wave: requests at some workers, and bursts of one key among them.
fn wave(shape: &Shape, from: Micros, number: u64, size: Size, dice: &mut Dice, requests: &mut Vec<Arrival>) {
    let lasts = dice.within(1_000..=900_000);
    let places: Vec<usize> = (0..dice.within(1..=size.places() as u64)).map(|_| dice.place(size.places())).collect();
    let mut left = number;
    while left > 0 {
        let at = from.plus(Micros(dice.below(lasts)));
        let first = shape.request(at, dice.pick(&places), dice);
        let burst = if dice.chance(4) { dice.within(5..=60) } else { 1 };
        let (is_spread, within) = (dice.chance(50), dice.pick(&[1, 2_000, 100_000]));
        for _ in 0..burst.min(left) {
            let place = if is_spread { dice.pick(&places) } else { first.place };
            let at = if burst > 1 { at.plus(Micros(dice.below(within))) } else { at };
            requests.push(Arrival { at, place, ..first });
        }
        left = left.saturating_sub(burst);
    }
}

/// Few requests, one at each worker in each round.
pub(super) fn few(config: &ConfigPlan, from: Micros, until: Micros, size: Size, dice: &mut Dice) -> Vec<Arrival> {
    let shape = Shape::random(config, dice);
    let rounds = until.minus(from).0.div_ceil(ROUNDS.0);
    let mut requests = Vec::new();
    for round in 0..rounds {
        for place in 0..size.places() {
            let at = from.plus(ROUNDS.times(round)).plus(Micros(dice.below(100_000)));
            let request = shape.request(at, place, dice);
            // Every other round asks Redis: no worker denies a fresh key by itself.
            let key = FRESH_KEYS + requests.len() as u32;
            let asks = Arrival { key, limits: shape.all(), ..request };
            requests.push(if round % 2 == 0 { asks } else { request });
        }
    }
    requests
}

/// Requests, one of each worker, for a key of its own, until `end`.
pub(super) fn one_each(config: &ConfigPlan, end: Micros, size: Size, dice: &mut Dice) -> Vec<Arrival> {
    let shape = Shape::random(config, dice);
    let request = |(place, dice): (usize, &mut Dice)| {
        let request = shape.request(Micros(dice.below(end.0 / 2)), place, dice);
        Arrival { key: FRESH_KEYS / 2 + place as u32, limits: shape.all(), ..request }
    };
    (0..size.places()).map(|place| request((place, &mut *dice))).collect()
}

/// Requests around the end of an outage at `back`, for the hot key and one limit: the `idle` worker has some right
/// after it, the others have many before and after.
pub(super) fn around(config: &ConfigPlan, back: Micros, idle: usize, size: Size, dice: &mut Dice) -> Vec<Arrival> {
    let shape = Shape::random(config, dice);
    let limits = 1 << dice.below(shape.limits.into());
    let request = |nth: usize| {
        let place = if nth.is_multiple_of(4) { idle } else { dice.place(size.places()) };
        let after = Micros(dice.below(300_000));
        let is_before = place != idle && dice.chance(60);
        let at = if is_before { back.minus(after) } else { back.plus(after) };
        Arrival { key: 0, limits, cost: 1, ..shape.request(at, place, dice) }
    };
    (0..160).map(request).collect()
}

/// Shape of the load.
struct Shape {
    limits: u32,
    keys: u64,
    slowest: Micros,
}

impl Shape {
    fn random(config: &ConfigPlan, dice: &mut Dice) -> Self {
        let holds = config.limits.iter().any(|limit| limit.windows.iter().any(|window| window.is_concurrency()));
        Self {
            limits: config.limits.len() as u32,
            keys: dice.pick(&[1, 3, 12, 60, 400]),
            slowest: Micros::from_millis(if holds { dice.pick(&[50, 1_500, 6_000]) } else { 20 }),
        }
    }

    /// Bits of all limits.
    fn all(&self) -> u32 {
        (1 << self.limits) - 1
    }

    fn request(&self, at: Micros, place: usize, dice: &mut Dice) -> Arrival {
        let all = self.all();
        let limits = match dice.below(4) {
            0 => all,
            1 => 1 << dice.below(self.limits.into()),
            _ => (dice.number() >> 7) as u32 & all,
        };
        let is_hot = dice.chance(60);
        Arrival {
            at,
            place,
            key: if is_hot { 0 } else { dice.below(self.keys) as u32 },
            limits,
            cost: if dice.chance(70) { 1 } else { dice.within(1..=4) },
            takes: Micros(dice.within(100..=self.slowest.0)),
            exam: None,
        }
    }
}
