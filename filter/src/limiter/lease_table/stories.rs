//! Property test: two workers lease from one bucket. With lost or late calls and denied requests, no window admits more
//! than the bucket allows.

#![allow(clippy::arithmetic_side_effects, reason = "numbers of a scenario are small")]

use core::num::NonZeroU64;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::limit::{Check, Model, SlotOwner, TokenBucket, Verdict};

const TODAY: Micros = Micros::from_secs(1_795_132_800);

/// Event of a scenario. `nth` selects a call or request, modulo their number.
#[derive(Debug, Clone)]
enum Event {
    /// A request of this cost arrives. `waits` if another limit applies as well.
    Request { cost: u64, waits: bool },
    /// A call arrives at Redis, or is lost.
    Arrives { nth: usize, is_lost: bool },
    /// A reply arrives at the worker, or is lost.
    Replied { nth: usize, is_lost: bool },
    /// All calls and all replies arrive.
    Answered,
    /// The other limit decides whether a request is admitted.
    Decided { nth: usize, is_admitted: bool },
    /// The worker returns due leases.
    Tick,
}

#[derive(Debug, Clone)]
struct Scenario {
    leased: LeasedBucket,
    start: Micros,
    /// Pause before the event, worker, and event.
    events: Vec<(Micros, usize, Event)>,
}

/// A call to Redis, with its verdict once decided.
struct Sent {
    at: Micros,
    check: BucketCheck,
    is_request: bool,
    verdict: Option<Verdict>,
}

struct Worker {
    leases: LeaseTable,
    sent: Vec<Sent>,
    waiting: Vec<(Micros, BucketCheck, SpentFromLease)>,
}

struct Simulation {
    leased: LeasedBucket,
    now: Micros,
    redis: Model,
    /// Time and cost of each admitted request.
    admitted: Vec<(Micros, u64)>,
}

impl Simulation {
    fn check(&self, cost: u64) -> BucketCheck {
        let algorithm = Algorithm::LeasedBucket(self.leased);
        BucketCheck {
            limit: 0,
            window: 0,
            key: b"key".to_vec(),
            algorithm,
            cost: Tokens(cost),
            enforced: true,
            applied: None,
        }
    }

    fn decide(&mut self, check: &BucketCheck) -> Verdict {
        self.redis.decide(self.now, &Check::new(vec![check.clone()], SlotOwner::default()))
    }

    fn apply(&mut self, worker: &mut Worker, event: &Event) {
        let now = self.now;
        match *event {
            Event::Request { cost, waits } => {
                let mut check = self.check(cost);
                let Some(spent) = worker.leases.spend(now, &check) else {
                    worker.leases.request(now, Tokens(1_000), &mut check);
                    worker.send(now, check, true);
                    return;
                };
                if spent.is_low
                    && let Some(ahead) = worker.leases.refill(now, &check)
                {
                    worker.send(now, ahead, false);
                }
                if waits {
                    worker.waiting.push((now, check, spent));
                } else {
                    worker.leases.decided(now, &check, &spent, true);
                    self.admitted.push((now, cost));
                }
            }
            Event::Arrives { nth, is_lost } => {
                let Some(at) = worker.nth(nth, |sent| sent.verdict.is_none()) else { return };
                if is_lost {
                    let sent = worker.sent.remove(at);
                    worker.leases.on_outcome(sent.at, &sent.check, None);
                    return;
                }
                let verdict = self.decide(&worker.sent[at].check);
                let sent = &mut worker.sent[at];
                if verdict.admitted && sent.is_request {
                    self.admitted.push((now, sent.check.cost.0));
                }
                sent.verdict = Some(verdict);
            }
            Event::Replied { nth, is_lost } => {
                let Some(at) = worker.nth(nth, |sent| sent.verdict.is_some()) else { return };
                let sent = worker.sent.remove(at);
                let verdict = sent.verdict.filter(|_| !is_lost);
                worker.leases.on_outcome(sent.at, &sent.check, verdict.as_ref().map(|verdict| &verdict.outcomes[0]));
            }
            Event::Answered => {
                for _ in 0..worker.sent.len() {
                    self.apply(worker, &Event::Arrives { nth: 0, is_lost: false });
                    self.apply(worker, &Event::Replied { nth: 0, is_lost: false });
                }
            }
            Event::Decided { nth, is_admitted } => {
                let Some(at) = nth.checked_rem(worker.waiting.len()) else { return };
                let (since, check, spent) = worker.waiting.remove(at);
                worker.leases.decided(now, &check, &spent, is_admitted);
                if is_admitted {
                    // Its tokens count from its arrival.
                    self.admitted.push((since, check.cost.0));
                }
            }
            Event::Tick => {
                worker.leases.due_returns(now).into_iter().for_each(|check| worker.send(now, check, false));
            }
        }
    }

    /// Spends all tokens that are left, leased and in Redis.
    fn spend_all(&mut self, worker: &mut Worker) {
        let one = self.check(1);
        while worker.leases.spend(self.now, &one).is_some() {
            self.admitted.push((self.now, 1));
        }
        while self.decide(&one).admitted {
            self.admitted.push((self.now, 1));
        }
    }

    /// Describes the first window that admitted too many tokens.
    fn excess(mut self) -> Option<String> {
        self.admitted.sort_unstable();
        let bucket = self.leased.bucket();
        let (capacity, emission) = (bucket.capacity().0, bucket.emission().0);
        let windows = (0..self.admitted.len()).map(|first| &self.admitted[first..]);
        windows.flat_map(|window| (1..=window.len()).map(|len| &window[..len])).find_map(|window| {
            let tokens: u64 = window.iter().map(|(_, cost)| cost).sum();
            let length = window[window.len() - 1].0.minus(window[0].0).0;
            let is_too_much = tokens * emission > capacity * emission + length;
            is_too_much.then(|| format!("{tokens} tokens of {capacity} in {length} us, one each {emission} us"))
        })
    }
}

impl Worker {
    fn send(&mut self, at: Micros, check: BucketCheck, is_request: bool) {
        self.sent.push(Sent { at, check, is_request, verdict: None });
    }

    fn nth(&self, nth: usize, of: impl Fn(&Sent) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.sent.len()).filter(|at| of(&self.sent[*at])).collect();
        all.get(nth.checked_rem(all.len())?).copied()
    }
}

fn run(scenario: &Scenario) -> Option<String> {
    let mut simulation =
        Simulation { leased: scenario.leased, now: scenario.start, redis: Model::default(), admitted: Vec::new() };
    let worker = || Worker { leases: LeaseTable::new(true), sent: Vec::new(), waiting: Vec::new() };
    let mut workers = [worker(), worker()];
    for (pause, nth, event) in &scenario.events {
        simulation.now = simulation.now.plus(*pause);
        simulation.apply(&mut workers[*nth], event);
    }
    for mut worker in workers {
        (0..worker.sent.len()).for_each(|_| simulation.apply(&mut worker, &Event::Replied { nth: 0, is_lost: false }));
        simulation.spend_all(&mut worker);
    }
    simulation.excess()
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let bucket = (16_u64..200, prop_oneof![100_u64..20_000, 1_u64..300_000], 100_000_u64..1_000_000);
    (bucket, 0_u64..1_000_000).prop_flat_map(|((capacity, emission, ttl), offset)| {
        let pause = prop_oneof![16 => Just(0), 8 => 0..2 * emission, 2 => 0..ttl / 8, 1 => 0..2 * ttl];
        let cost = prop_oneof![1 => Just(0), 6 => 1..3_u64, 1 => 0..=capacity];
        let (nth, is_lost) = (0_usize..9, proptest::bool::weighted(0.03));
        let event = prop_oneof![
            10 => (cost, any::<bool>()).prop_map(|(cost, waits)| Event::Request { cost, waits }),
            4 => (nth.clone(), is_lost).prop_map(|(nth, is_lost)| Event::Arrives { nth, is_lost }),
            4 => (nth.clone(), is_lost).prop_map(|(nth, is_lost)| Event::Replied { nth, is_lost }),
            6 => Just(Event::Answered),
            4 => (nth, proptest::bool::weighted(0.3)).prop_map(|(nth, is_admitted)| Event::Decided { nth, is_admitted }),
            2 => Just(Event::Tick),
        ];
        let of = |number| NonZeroU64::new(number).unwrap();
        let bucket = TokenBucket::new(of(capacity), of(1), Micros(emission)).unwrap();
        let leased = LeasedBucket::new(bucket, Micros(ttl)).unwrap();
        let event = (pause.prop_map(Micros), 0..2_usize, event);
        vec(event, 1..300).prop_map(move |events| Scenario { leased, start: TODAY.plus(Micros(offset)), events })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_window_admits_more_than_it_may(scenario in scenarios()) {
        prop_assert_eq!(run(&scenario), None);
    }
}
