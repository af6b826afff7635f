use core::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;

use super::*;
use crate::limit::algorithm::SlotOwner;
use crate::limit::check::Check;
use crate::limit::{Algorithms, FixedWindow, Model, Period, Quota, SlidingLog, SlidingWindow};

/// A Thursday, at 00:00:50Z: the outage goes past the turn of a minute.
const START: Micros = Micros(1_795_132_800_000_000 + 50_000_000);
/// Longest time from the first worker's return to the last one's.
const MARGIN: Micros = Micros::from_millis(400);
const WORKERS: usize = 4;

fn algorithms(limit: u64, window: Micros) -> [Algorithm; 6] {
    let tokens = NonZeroU64::new(limit).unwrap();
    let bucket = TokenBucket::new(tokens, tokens, window).unwrap();
    [
        Algorithm::TokenBucket(bucket),
        Algorithm::TokenBucket(bucket.with_max_delay(Micros::from_millis(700)).unwrap()),
        Algorithm::FixedWindow(FixedWindow::new(limit, window).unwrap()),
        Algorithm::SlidingWindow(SlidingWindow::new(limit, window).unwrap()),
        Algorithm::SlidingLog(SlidingLog::new(limit, window).unwrap()),
        Algorithm::Quota(Quota::new(limit, Period::Minute, 0).unwrap()),
    ]
}

fn check(algorithm: &Algorithm, cost: u64) -> BucketCheck {
    Algorithms::new(&[*algorithm]).unwrap().checks(0, b"key", Tokens(cost), true).next().unwrap()
}

fn share(parts: u32, of: u32) -> Share {
    Share::new(parts, NonZeroU32::new(of).unwrap())
}

/// Decides a request by one bucket. Returns whether it is admitted.
fn admits(bucket: &mut LocalBucket, now: Micros, cost: u64) -> bool {
    let admits = bucket.admits(now, Tokens(cost));
    let outcome = bucket.outcome(now, &check(&bucket.whole.clone(), cost), admits);
    assert_eq!((outcome.admitted, outcome.spent), (admits, admits));
    if admits {
        bucket.spend(now, Tokens(cost));
    }
    admits
}

/// Most tokens that an algorithm admits from one time to another, both included.
///
/// A token bucket: a full bucket, and what flows in between the two times. Tokens exist in the order in which requests
/// are admitted: a request that is not held is admitted after all tokens of the requests before it exist. At the first
/// time the bucket holds at most its capacity, before that request, and at the last time it lacks at most all of it,
/// since tokens that exist later belong to later times. Delays are rounded up to microseconds, so that the tokens of a
/// held request may have existed almost 1 µs before its time: the first time may be that much too late, and nothing else
/// may be added.
fn most(algorithm: &Algorithm, from: Micros, until: Micros) -> Option<u64> {
    let span = until.minus(from);
    let flow = |bucket: &TokenBucket| (span.0 + 1) * bucket.rate().per_micro() / bucket.rate().per_token();
    match algorithm {
        Algorithm::TokenBucket(bucket) => Some(bucket.capacity().0 + flow(bucket)),
        Algorithm::SlidingLog(log) => (span < log.window()).then_some(log.limit().0),
        Algorithm::SlidingWindow(sliding) => {
            (from.0 / sliding.window().0 == until.0 / sliding.window().0).then_some(sliding.limit().0)
        }
        Algorithm::FixedWindow(fixed) => {
            (from.0 / fixed.window().0 == until.0 / fixed.window().0).then_some(fixed.limit().0)
        }
        _ => (from.0 / 60_000_000 == until.0 / 60_000_000).then_some(algorithm.limit().0),
    }
}

/// Worker of a fleet that loses Redis.
struct Worker {
    bucket: LocalBucket,
    lost_at: Micros,
    back_at: Micros,
}

/// Redis is lost `outage.0` after the start, and back at `outage.1`. Each request has a time since the last one, a worker
/// and a cost. Returns the times of the admitted requests, at which their tokens exist, and their costs.
fn run(
    algorithm: &Algorithm,
    shares: [u32; WORKERS],
    outage: (Micros, Micros),
    lags: [(u64, u64); WORKERS],
    requests: &[(u64, usize, u64)],
) -> Vec<(Micros, u64)> {
    let (lost_at, back_at) = (START.plus(outage.0), START.plus(outage.1));
    let all: u32 = shares.iter().sum();
    let mut workers = shares.into_iter().zip(lags).map(|(parts, (notices, returns))| {
        let lost_at = lost_at.plus(Micros(notices));
        let bucket = LocalBucket::used_up(algorithm, share(parts, all.max(1)), lost_at);
        Worker { bucket, lost_at, back_at: back_at.plus(Micros(returns)) }
    });
    let mut workers: [Worker; WORKERS] = core::array::from_fn(|_| workers.next().unwrap());
    let (mut redis, mut now, mut last, mut admitted) = (Model::default(), START, START, Vec::new());
    for &(pause, place, cost) in requests {
        now = now.plus(Micros(pause));
        // In their order: a clock that is set back would be another story.
        let mut back: Vec<&mut Worker> = workers.iter_mut().filter(|worker| worker.back_at <= now).collect();
        back.sort_by_key(|worker| worker.back_at);
        for worker in back {
            let spent = worker.bucket.take_spent(worker.back_at, MARGIN, &check(algorithm, 1).key);
            redis.post(worker.back_at.max(last), spent.as_slice());
        }
        last = now;
        let worker = &mut workers[place];
        let is_returning = now >= worker.back_at && now < worker.back_at.plus(MARGIN);
        let is_lost = now >= lost_at && now < worker.back_at;
        // Requests of a worker that has not noticed fail.
        let by_worker = !(is_lost || is_returning) || (now >= worker.lost_at && admits(&mut worker.bucket, now, cost));
        let by_redis = |redis: &mut Model| {
            let mut check = check(algorithm, cost);
            if is_returning {
                check.never_delays();
            }
            let verdict = redis.decide(now, &Check::new(vec![check], SlotOwner::default()));
            verdict.admitted.then(|| verdict.delay())
        };
        let delay = match (by_worker, is_lost) {
            (false, _) => None,
            (true, true) => Some(Micros::ZERO),
            (true, false) => by_redis(&mut redis),
        };
        if is_returning {
            // Redis knows of it.
            worker.bucket.spent = 0;
        }
        admitted.extend(delay.map(|delay| (now.plus(delay), cost)));
    }
    admitted.sort_unstable();
    admitted
}

fn broken(algorithm: &Algorithm, admitted: &[(Micros, u64)]) -> Option<String> {
    for (first, &(from, _)) in admitted.iter().enumerate() {
        let mut sum = 0;
        for &(until, cost) in &admitted[first..] {
            sum += cost;
            if let Some(most) = most(algorithm, from, until).filter(|most| sum > *most) {
                return Some(format!("{sum} of {most} from {from:?} to {until:?}, {algorithm:?}"));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn workers_never_admit_more_than_the_limit_over_the_outage_and_the_return(
        limit in 1_u64..40, window in 300_000_u64..9_000_000, which in 0_usize..6,
        shares: [u8; WORKERS],
        outage in (0_u64..12_000_000, 200_000_u64..20_000_000),
        lags in proptest::array::uniform4((0_u64..50_000, 0_u64..400_000)),
        requests in prop::collection::vec((prop_oneof![0_u64..3_000, 0_u64..400_000], 0..WORKERS, 1_u64..4), 1..300),
    ) {
        let algorithm = algorithms(limit, Micros(window))[which];
        let outage = (Micros(outage.0), Micros(outage.0 + outage.1));
        let admitted = run(&algorithm, shares.map(u32::from), outage, lags, &requests);
        prop_assert_eq!(broken(&algorithm, &admitted), None);
    }
}

/// 16 requests a millisecond, at each worker in turn.
fn crowd(span: Micros) -> Vec<(u64, usize, u64)> {
    (0..usize::try_from(span.0 / 250).unwrap()).map(|nth| (250, nth % WORKERS, 1)).collect()
}

#[test]
fn a_crowd_is_admitted_nearly_as_much_as_by_redis() {
    let outage = (Micros::from_secs(4), Micros::from_secs(16));
    let [buckets @ .., _] = algorithms(80, Micros::from_secs(2));
    // All return at once, or one as late as it may.
    let late = [(0, 0), (0, 0), (0, 0), (0, MARGIN.0 - 1)];
    for (algorithm, lags) in buckets.iter().flat_map(|algorithm| [(algorithm, [(0, 0); WORKERS]), (algorithm, late)]) {
        let admitted = run(algorithm, [1; WORKERS], outage, lags, &crowd(Micros::from_secs(20)));
        assert_eq!(broken(algorithm, &admitted), None);
        let (from, until) = (START.plus(outage.0), START.plus(outage.1));
        let within = admitted.iter().filter(|(at, _)| *at >= from && *at < until).count();
        // All of 40 a second but those of the first window, and what a log in memory rounds.
        assert!(within >= (12 * 40 - 80) * 15 / 16 - 80, "{within}, {algorithm:?}");
    }
}

/// Redis' bucket fills at the whole rate once the first worker is back, and the last spends its share until it is back.
#[test]
fn a_worker_that_returns_last_posts_also_what_redis_has_refilled_without_it() {
    let outage = (Micros::from_secs(4), Micros::from_secs(16));
    let late = [(0, 0), (0, 0), (0, 0), (0, MARGIN.0 - 1)];
    for algorithm in &algorithms(80, Micros::from_secs(2))[..2] {
        let admitted = run(algorithm, [1, 1, 1, 5], outage, late, &crowd(Micros::from_secs(20)));
        assert_eq!(broken(algorithm, &admitted), None);
    }
}

/// A quarter of 7 tokens is 1 token in memory: Redis has no right to the other three. The workers return 0.8 s and more
/// after their last spends, so that rounding up does not hide them.
#[test]
fn what_shares_round_off_is_not_left_in_redis() {
    let outage = (Micros::from_secs(4), Micros::from_millis(13_500));
    for algorithm in &algorithms(7, Micros::from_secs(7))[..2] {
        let admitted = run(algorithm, [1; WORKERS], outage, [(0, 0); WORKERS], &crowd(Micros::from_secs(20)));
        assert_eq!(broken(algorithm, &admitted), None);
    }
}

#[test]
fn a_bucket_is_used_up_at_first_and_fills_at_its_share_of_the_rate() {
    let [token, ..] = algorithms(100, Micros::from_secs(10));
    let mut bucket = LocalBucket::used_up(&token, share(1, 4), START);
    assert!(!admits(&mut bucket, START, 1));
    assert!(!admits(&mut bucket, START.plus(Micros(399_999)), 1));
    assert!(admits(&mut bucket, START.plus(Micros(400_000)), 1), "a quarter of 10 tokens a second");
    let later = START.plus(Micros::from_secs(3_600));
    assert!(!admits(&mut bucket, later, 26));
    assert!(admits(&mut bucket, later, 25), "a quarter of the burst");
}

#[test]
fn a_log_in_memory_has_few_entries() {
    let [.., log, _] = algorithms(1_000, Micros::from_secs(10));
    let mut bucket = LocalBucket::used_up(&log, share(1, 1), START);
    for nth in 0..20_000 {
        admits(&mut bucket, START.plus(Micros::from_millis(nth)), 1);
        let State::Counts(log) = &bucket.state else { panic!() };
        assert!(log.len() <= 18, "{}", log.len());
    }
}

#[test]
fn what_redis_has_been_told_is_not_told_again() {
    let [token, ..] = algorithms(100, Micros::from_secs(10));
    let mut bucket = LocalBucket::used_up(&token, share(1, 4), START);
    let later = START.plus(Micros::from_secs(60));
    assert_eq!(bucket.take_spent(later, MARGIN, b"key"), None);
    assert!((0..25).all(|_| admits(&mut bucket, later, 1)));
    let spent = bucket.take_spent(later, MARGIN, b"key").unwrap();
    assert_eq!((spent.cost, spent.algorithm), (Tokens(25), token));
    assert_eq!(bucket.take_spent(later, MARGIN, b"key"), None);
    bucket.put_back(spent.cost);
    assert_eq!(bucket.take_spent(later, MARGIN, b"key").unwrap().cost, Tokens(25));
}
