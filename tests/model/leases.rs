//! Guarantee of leases: however workers use, settle, lose and forget leased tokens, no window admits more than a full
//! bucket and its refill. With several configurations, the largest capacity and the fastest rate count.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{
    Algorithm, BucketCheck, Check, LeaseRequest, LeasedBucket, Model, Settlement, SlotOwner, TokenBucket, Verdict,
};
use weir_filter::units::{Micros, Tokens};

use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const WORKERS: usize = 3;

#[derive(Debug, Clone)]
struct Story {
    /// Configurations in force at the same time.
    shapes: Vec<Shape>,
    start: u64,
    moves: Vec<(Pause, usize, Move)>,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    capacity: u64,
    /// Tokens, and the µs in which they refill.
    rate: (u64, u64),
    /// Time to live of leases in µs. `None`: this configuration has no leases.
    ttl: Option<u64>,
}

#[derive(Debug, Clone)]
enum Pause {
    Micros(u64),
    /// The µs until the next epoch of a shape begins, and these µs more.
    IntoNextEpoch(usize, u64),
    /// The µs until the last instant at which the worker may use the lease.
    ToEndOf(usize),
}

/// An action of a worker. Numbers are indices into the worker's leases and requests, modulo their count.
#[derive(Debug, Clone)]
enum Move {
    /// Sends a request that wants tokens and settles up to two leases: the lease, and the tokens to return.
    Send {
        shape: usize,
        cost: u64,
        want: u64,
        settles: [Option<(usize, u64)>; 2],
    },
    /// Delivers one of the sent requests, in any order and after any time. Its reply may be lost.
    Arrive {
        which: usize,
        is_reply_lost: bool,
    },
    /// Admits requests from memory.
    Use {
        which: usize,
        tokens: u64,
    },
    Die,
}

#[derive(Debug, Default)]
struct Worker {
    leases: Vec<Lease>,
    sent: Vec<(u64, u64, Algorithm)>,
}

#[derive(Debug)]
struct Lease {
    id: Micros,
    /// Last instant at which the worker may use the lease, in µs.
    ends: u64,
    left: u64,
    /// Used tokens that no settlement has reported yet.
    used: u64,
}

#[derive(Debug, Default)]
struct Admitted {
    /// Time in µs and tokens of each admission.
    all: Vec<(u64, u64)>,
    from_leases: u64,
}

#[test]
fn no_window_admits_more_than_promised_however_leases_are_used() {
    let from_leases =
        any_story_keeps_the_promise(10_000, |_| Model::default(), |model, now, check| model.decide(now, check));
    assert!(from_leases > 10_000, "only {from_leases} tokens came from leases");
}

#[test]
fn redis_admits_no_more_than_promised_and_expires_no_key_too_early() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store.that_expires_keys());
    let is_of_one_rate = Cell::new(true);
    let new = |story: &Story| {
        is_of_one_rate.set(story.shapes.iter().all(|shape| shape.rate == story.shapes[0].rate));
        store.borrow_mut().clear();
        Model::default()
    };
    let from_leases = any_story_keeps_the_promise(2_000, new, |model, now, check| {
        store.borrow_mut().set_clock(now);
        let verdict = store.borrow_mut().decide(check).unwrap();
        // The keys of the model never expire, so that its verdicts may differ if rates differ.
        let expected = model.decide(now, check);
        if is_of_one_rate.get() {
            assert_eq!(verdict, expected);
        }
        verdict
    });
    assert!(from_leases > 2_000, "only {from_leases} tokens came from leases");
}

/// Plays random stories, and asserts the guarantee for every window. Returns the tokens that came from leases.
fn any_story_keeps_the_promise<R>(
    cases: u32,
    new: impl Fn(&Story) -> R,
    decide: impl Fn(&mut R, Micros, &Check) -> Verdict,
) -> u64 {
    let from_leases = RefCell::new(0);
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
        .run(&story(), |story| {
            let mut redis = new(&story);
            let admitted = story.play(|now, check| decide(&mut redis, now, check));
            *from_leases.borrow_mut() += admitted.from_leases;
            for (i, &(since, _)) in admitted.all.iter().enumerate() {
                let mut tokens = 0;
                for &(until, more) in &admitted.all[i..] {
                    tokens += more;
                    prop_assert!(
                        story.promises(tokens, until - since),
                        "{tokens} tokens from {since} to {until}: {admitted:?}"
                    );
                }
            }
            Ok(())
        })
        .unwrap();
    from_leases.into_inner()
}

impl Shape {
    fn bucket(&self) -> TokenBucket {
        let n = |n| NonZeroU64::new(n).unwrap();
        TokenBucket::new(n(self.capacity), n(self.rate.0), Micros(self.rate.1)).unwrap()
    }

    fn with_request(&self, ask: LeaseRequest) -> Algorithm {
        match self.ttl {
            Some(ttl) => {
                Algorithm::LeasedBucket(LeasedBucket::new(self.bucket(), Micros(ttl)).unwrap().with_request(ask))
            }
            None => Algorithm::TokenBucket(self.bucket()),
        }
    }
}

impl Story {
    /// Returns whether `tokens` within `micros` are within the largest capacity and the fastest rate.
    fn promises(&self, tokens: u64, micros: u64) -> bool {
        let capacity = self.shapes.iter().map(|shape| shape.capacity).max().unwrap();
        let (per_fill, interval) = self
            .shapes
            .iter()
            .map(|shape| shape.rate)
            .max_by(|one, other| (one.0 * other.1).cmp(&(other.0 * one.1)))
            .unwrap();
        tokens * interval <= capacity * interval + micros * per_fill
    }

    fn play(&self, mut decide: impl FnMut(Micros, &Check) -> Verdict) -> Admitted {
        let mut workers: [Worker; WORKERS] = Default::default();
        let mut admitted = Admitted::default();
        let mut now = self.start;
        for (pause, worker, step) in &self.moves {
            let worker = &mut workers[*worker];
            now = match pause {
                Pause::Micros(micros) => now + micros,
                Pause::IntoNextEpoch(shape, micros) => {
                    let ttl = self.shapes[shape % self.shapes.len()].ttl.unwrap_or(1);
                    now - now % ttl + ttl + micros
                }
                Pause::ToEndOf(which) => worker.lease(*which).map_or(now, |lease| lease.ends.max(now)),
            };
            match step {
                Move::Send { shape, cost, want, settles } => {
                    let shape = self.shapes[shape % self.shapes.len()];
                    let settled = settles.map(|settles| worker.settle(settles.filter(|_| shape.ttl.is_some())));
                    worker.sent.push((now, *cost, shape.with_request(LeaseRequest { want: Tokens(*want), settled })));
                }
                Move::Arrive { which, is_reply_lost } => {
                    if worker.sent.is_empty() {
                        continue;
                    }
                    let (sent_at, cost, asking) = worker.sent.remove(which % worker.sent.len());
                    let verdict = decide(Micros(now), &check(asking, cost));
                    if *is_reply_lost {
                        continue;
                    }
                    if verdict.admitted && cost > 0 {
                        admitted.all.push((now, cost));
                    }
                    if let Some(grant) = verdict.outcomes[0].granted {
                        let ends = sent_at + grant.valid_for.0;
                        worker.leases.push(Lease { id: grant.ends, ends, left: grant.tokens.0, used: 0 });
                    }
                }
                Move::Use { which, tokens } => {
                    let Some(lease) = worker.lease(*which).filter(|lease| now <= lease.ends) else { continue };
                    let tokens = lease.left.min(*tokens);
                    if tokens > 0 {
                        lease.left -= tokens;
                        lease.used += tokens;
                        admitted.all.push((now, tokens));
                        admitted.from_leases += tokens;
                    }
                }
                Move::Die => *worker = Worker::default(),
            }
        }
        admitted
    }
}

impl Worker {
    fn lease(&mut self, which: usize) -> Option<&mut Lease> {
        let count = self.leases.len().max(1);
        self.leases.get_mut(which % count)
    }

    /// Returns the settlement of a lease, and removes the returned tokens from the lease.
    fn settle(&mut self, settles: Option<(usize, u64)>) -> Settlement {
        let Some((which, unused)) = settles else { return Settlement::default() };
        let Some(lease) = self.lease(which) else { return Settlement::default() };
        let unused = lease.left.min(unused);
        lease.left -= unused;
        Settlement { ends: lease.id, used: Tokens(std::mem::take(&mut lease.used)), unused: Tokens(unused) }
    }
}

fn check(algorithm: Algorithm, cost: u64) -> Check {
    let check = BucketCheck {
        limit: 0,
        window: 0,
        key: b"bucket".to_vec(),
        algorithm,
        cost: Tokens(cost),
        enforced: true,
        applied: None,
    };
    Check::new(vec![check], SlotOwner::default())
}

fn story() -> impl Strategy<Value = Story> {
    // Buckets refill within a fraction of an epoch, or in many epochs.
    let interval = prop_oneof![1_u64..20_000, 1_u64..300_000];
    let ttl = prop_oneof![1 => Just(None), 4 => (100_000_u64..1_000_000).prop_map(Some)];
    let shape = (1_u64..40, prop_oneof![Just(1), 1_u64..5], interval, ttl)
        .prop_map(|(capacity, tokens, interval, ttl)| Shape { capacity, rate: (tokens, interval), ttl });
    let shapes = prop_oneof![
        vec(shape.clone(), 1..4),
        // Shapes of one rate.
        (vec(shape, 2..4)).prop_map(|mut shapes| {
            let rate = shapes[0].rate;
            shapes.iter_mut().for_each(|shape| shape.rate = rate);
            shapes
        }),
    ];
    (shapes, 0_u64..1_000_000).prop_flat_map(|(shapes, offset)| {
        let Shape { capacity, rate: (_, interval), .. } = shapes[0];
        let ttl = shapes.iter().find_map(|shape| shape.ttl).unwrap_or(500_000);
        let moves = vec((pause(interval, ttl), 0..WORKERS, step(capacity)), 1..120);
        moves.prop_map(move |moves| Story { shapes: shapes.clone(), start: TODAY + offset, moves })
    })
}

fn pause(emission: u64, ttl: u64) -> impl Strategy<Value = Pause> {
    prop_oneof![
        8 => Just(Pause::Micros(0)),
        4 => (0..2 * emission).prop_map(Pause::Micros),
        2 => (0..2 * ttl).prop_map(Pause::Micros),
        1 => (0_usize..3, prop_oneof![Just(0), 0..ttl]).prop_map(|(shape, micros)| Pause::IntoNextEpoch(shape, micros)),
        2 => (0_usize..9).prop_map(Pause::ToEndOf),
    ]
}

fn step(capacity: u64) -> impl Strategy<Value = Move> {
    let tokens = move || prop_oneof![1 => Just(0), 2 => 0..=capacity, 1 => Just(u64::from(u32::MAX))];
    let cost = prop_oneof![Just(0), 0..3_u64, 0..=capacity];
    let settles = move || proptest::option::of((0_usize..9, tokens()));
    prop_oneof![
        6 => (0_usize..3, cost, tokens(), [settles(), settles()])
            .prop_map(|(shape, cost, want, settles)| Move::Send { shape, cost, want, settles }),
        7 => (prop_oneof![2 => Just(0), 1 => 0_usize..9], proptest::bool::weighted(0.05))
            .prop_map(|(which, is_reply_lost)| Move::Arrive { which, is_reply_lost }),
        7 => (0_usize..9, tokens()).prop_map(|(which, tokens)| Move::Use { which, tokens }),
        1 => Just(Move::Die),
    ]
}
