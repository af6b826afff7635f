//! Token bucket states at the edges of time and size.

use core::num::NonZeroU64;

use proptest::prelude::*;

use super::*;

fn bucket(capacity: u64, tokens: u64, interval: Micros) -> TokenBucket {
    let [capacity, tokens] = [capacity, tokens].map(|n| NonZeroU64::new(n).unwrap());
    TokenBucket::new(capacity, tokens, interval).unwrap()
}

/// State of one bucket in Redis.
#[derive(Default)]
struct Bucket(Option<TokenState>);

impl Bucket {
    fn admits(&mut self, bucket: &TokenBucket, now: Micros, cost: u64) -> bool {
        let lack = bucket.look(&mut self.0, now);
        let admits = bucket.admits(lack, Tokens(cost));
        if admits {
            bucket.spend(&mut self.0, now, Tokens(cost));
        }
        admits
    }

    /// Tokens admitted of 100 requests for one token each.
    fn admitted_of_100(&mut self, bucket: &TokenBucket, secs: u64) -> usize {
        (0..100).filter(|_| self.admits(bucket, Micros::from_secs(1_000_000 + secs), 1)).count()
    }
}

const MINUTE: Micros = Micros::from_secs(60);

#[test]
fn a_smaller_bucket_makes_no_room_in_a_larger_one_and_counts_as_empty() {
    let (large, small) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE));
    let mut stored = Bucket::default();
    assert_eq!(stored.admitted_of_100(&large, 0), 50);
    assert_eq!((stored.admitted_of_100(&small, 0), stored.admitted_of_100(&large, 0)), (0, 0));
    assert_eq!(
        (stored.admitted_of_100(&small, 180), stored.admitted_of_100(&small, 240), stored.admitted_of_100(&large, 240)),
        (3, 1, 0)
    );
    assert_eq!((stored.admitted_of_100(&small, 900), stored.admitted_of_100(&large, 900)), (5, 6));
}

#[test]
fn spent_tokens_stay_spent_at_another_rate() {
    let (quick, slow) = (bucket(10, 10, MINUTE), bucket(10, 10, MINUTE.times(60)));
    let mut stored = Bucket::default();
    assert_eq!(
        (stored.admitted_of_100(&quick, 0), stored.admitted_of_100(&slow, 1), stored.admitted_of_100(&slow, 361)),
        (10, 0, 1)
    );
    assert_eq!((stored.admitted_of_100(&quick, 361), stored.admitted_of_100(&quick, 373)), (0, 2));
}

#[test]
fn what_is_no_whole_unit_at_another_rate_is_rounded_up() {
    let (in_threes, in_twos) = (bucket(2, 1, Micros(3)), bucket(2, 1, Micros(2)));
    let mut kept = Bucket::default();
    assert!(kept.admits(&in_threes, Micros(10), 1) && kept.admits(&in_threes, Micros(11), 1));
    // 5 units of 3 a token are spent, which are 10/3 units of 2.
    assert_eq!([12, 13].map(|micros| kept.admits(&in_twos, Micros(micros), 1)), [false, true]);
}

#[test]
fn a_smaller_bucket_has_as_many_tokens_at_another_rate() {
    let (large, small, faster) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE), bucket(5, 2, MINUTE));
    let mut kept = Bucket::default();
    assert_eq!(kept.admitted_of_100(&large, 0), 50);
    assert!(kept.admits(&small, Micros::from_secs(1_000_180), 1));
    assert_eq!(kept.admitted_of_100(&faster, 180), 2);
}

#[test]
fn what_a_larger_bucket_spends_leaves_a_smaller_one_empty_and_no_worse() {
    let (large, small) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE));
    let mut kept = Bucket::default();
    let at = |secs: u64| Micros::from_secs(1_000_000 + secs);
    assert!(kept.admits(&large, at(0), 45) && kept.admits(&small, at(180), 1));
    assert!(kept.admits(&large, at(180), 5) && kept.admits(&large, at(360), 1));
    assert_eq!(kept.admitted_of_100(&small, 360), 2);
}

#[test]
fn tokens_reserved_for_held_requests_stay_reserved_without_a_delay() {
    let plain = bucket(10, 10, MINUTE);
    let shaped = plain.with_max_delay(MINUTE).unwrap();
    let mut stored = Bucket::default();
    assert_eq!(stored.admitted_of_100(&shaped, 0), 20);
    assert_eq!([30, 60, 66].map(|secs| stored.admitted_of_100(&plain, secs)), [0, 0, 1]);
}

#[test]
fn a_bucket_that_held_requests_is_like_any_other_once_no_more_is_spent_than_it_holds() {
    let (plain, small) = (bucket(10, 10, MINUTE), bucket(5, 10, MINUTE));
    let mut stored = Bucket::default();
    assert_eq!(stored.admitted_of_100(&plain.with_max_delay(MINUTE).unwrap(), 0), 20);
    assert_eq!(stored.admitted_of_100(&plain, 66), 1, "10 of 10 tokens are spent");
    assert_eq!(stored.admitted_of_100(&small, 72), 1, "a smaller bucket was empty, and not overdrawn");
    let mut stored = Bucket::default();
    assert_eq!(stored.admitted_of_100(&plain.with_max_delay(MINUTE).unwrap(), 0), 20);
    assert!(stored.admits(&plain, Micros::from_secs(1_000_090), 1), "6 of 10 tokens are spent");
    assert_eq!(stored.admitted_of_100(&small, 96), 1);
}

#[test]
fn what_the_last_request_spent_of_a_plain_bucket_is_refunded_and_nothing_else() {
    let (ten, faster) = (bucket(10, 10, MINUTE), bucket(10, 20, MINUTE));
    let (at, price, full_in) = (Micros::from_secs(100), ten.price(Tokens(1)), ten.time_for(Tokens(1)));
    let spend =
        |state: Option<&TokenState>, leased| TokenState::open(state, at, &ten.shape(), &[]).spend(price, leased);
    let once = spend(None, None);
    let mut refunded = once.clone();
    assert!(refunded.refund(at, &ten.shape(), full_in, price));
    assert_eq!(refunded, TokenState { spent: 0, ..once.clone() });
    let leased = spend(None, Some((at.plus(MINUTE), price)));
    for (state, bucket) in [(spend(Some(&once), None), &ten), (once, &faster), (leased, &ten)] {
        let mut kept = state.clone();
        assert!(!kept.refund(at, &bucket.shape(), full_in, price));
        assert_eq!(kept, state);
    }
}

#[test]
fn a_clock_that_is_set_back_frees_no_token_and_the_bucket_fills_from_then() {
    let ten = bucket(10, 10, MINUTE);
    let mut stored = Bucket::default();
    assert_eq!(stored.admitted_of_100(&ten, 3_600), 10);
    assert_eq!([0, 12].map(|secs| stored.admitted_of_100(&ten, secs)), [0, 2]);
}

#[test]
fn a_denied_spend_is_given_back_only_to_a_state_that_was_written_since() {
    let (ten, faster) = (bucket(10, 10, MINUTE), bucket(10, 20, MINUTE));
    let shaped = ten.with_max_delay(MINUTE).unwrap();
    let (at, price) = (Micros::from_secs(100), ten.price(Tokens(2)));
    let spend = |bucket: &TokenBucket, at| TokenState::open(None, at, &bucket.shape(), &[]).spend(price, None);
    let gives_back = |state: &TokenState, bucket: &TokenBucket, at| {
        let full_in = Some(ten.time_for(Tokens(2)));
        let mut state = state.clone();
        let given = state.give_back(&bucket.shape(), &DeniedSpend { at, price, full_in, others: Units(0) });
        (given.map_or(0, |units| units.0), state.spent)
    };
    for bucket in [ten, shaped] {
        assert_eq!(gives_back(&spend(&bucket, at), &bucket, at), (price.0, 0));
        assert_eq!(
            gives_back(&spend(&bucket, at), &bucket, at.plus(Micros(1))),
            (0, price.0),
            "the clock was set back"
        );
    }
    let since = at.plus(Micros(1));
    let flowed = ten.rate().per_micro();
    assert_eq!(gives_back(&spend(&ten, since), &ten, at), (price.0 - flowed, flowed), "what has flowed in is there");
    assert_eq!(gives_back(&spend(&shaped, since), &shaped, at), (0, price.0), "a later request may be held for it");
    assert_eq!(gives_back(&spend(&ten, at), &faster, at), (0, price.0));
    assert_eq!(gives_back(&spend(&ten, at), &shaped, at), (0, price.0));
}

#[test]
fn a_state_expires_once_its_bucket_is_full_and_its_leases_have_flowed_back() {
    let (ten, now) = (bucket(10, 10, MINUTE), Micros::from_secs(100));
    let price = ten.price(Tokens(1));
    let expires =
        |price, leased| TokenState::open(None, now, &ten.shape(), &[]).spend(price, leased).expires(now).minus(now);
    assert_eq!(expires(price, None), Micros::from_secs(6));
    assert_eq!(expires(Units(0), Some((now.plus(MINUTE), price))), Micros::from_secs(66));
}

#[test]
fn a_state_is_faster_than_a_shape_of_a_slower_rate_alone() {
    let (ten, faster) = (bucket(10, 10, MINUTE), bucket(10, 20, MINUTE));
    let state_of = |bucket: &TokenBucket| TokenState::open(None, MINUTE, &bucket.shape(), &[]).spend(Units(1), None);
    assert!(state_of(&faster).is_faster_than(&ten.shape()));
    assert!(!state_of(&ten).is_faster_than(&faster.shape()) && !state_of(&ten).is_faster_than(&ten.shape()));
}

#[test]
fn the_level_of_a_smaller_bucket_is_kept_only_below_the_tokens_spent() {
    let ten = bucket(10, 10, MINUTE);
    for (spent, is_kept) in [(3, true), (4, false)] {
        let narrow = Some(Narrow { room: 5, spent });
        let state = TokenState { at: MINUTE, rate: ten.rate(), delays: false, spent: 4, narrow, leases: Vec::new() };
        let open = OpenBucket { state, lack: 4, room: 5, delays: false, is_changed: false };
        assert_eq!(open.spend(Units(0), None).narrow, narrow.filter(|_| is_kept));
    }
}

proptest! {
    #[test]
    fn no_window_admits_more_than_the_largest_and_fastest(
        shapes in proptest::collection::vec((1_u64..40, 1_u64..9, 1_u64..300_000), 1..5),
        history in proptest::collection::vec((0_usize..4, 0_u64..500_000, 1_u64..9), 1..100),
    ) {
        let (mut stored, mut now, mut admitted) = (Bucket::default(), Micros(1 << 50), Vec::new());
        for (shape, pause, cost) in history {
            now = now.plus(Micros(if pause > 300_000 { 0 } else { pause }));
            let (capacity, tokens, interval) = shapes[shape % shapes.len()];
            if stored.admits(&bucket(capacity, tokens, Micros(interval)), now, cost) {
                admitted.push((now.0, cost));
            }
        }
        let capacity = shapes.iter().map(|shape| shape.0).max().unwrap();
        let fastest = shapes.iter().max_by(|one, other| (one.1 * other.2).cmp(&(other.1 * one.2))).unwrap();
        for (i, &(since, _)) in admitted.iter().enumerate() {
            let mut spent = 0;
            for &(until, cost) in &admitted[i..] {
                spent += cost;
                prop_assert!(spent * fastest.2 <= capacity * fastest.2 + (until - since) * fastest.1);
            }
        }
    }
}

/// The model of the scripts reads buckets back from their arguments.
#[test]
fn a_shape_has_the_rate_of_its_arguments() {
    let shape = Shape::of_arguments(-6, 5, 60).unwrap();
    assert_eq!((shape.per_micro(), shape.delays, shape.room), (5, true, Units(60)));
    assert!(Shape::of_arguments(0, 5, 60).is_none() && Shape::of_arguments(6, 0, 60).is_none());
}
