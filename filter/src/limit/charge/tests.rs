//! The table of endings, weights, and bounds of estimates.

use super::*;

const TOTAL: Charged = Charged::Tokens(Weights::all(1_000, 1_000));

fn reserve() -> Reserve {
    let output = OutputEstimate { pointers: Vec::new(), default: 100, max: 1_000, times: None, enforce: false };
    Reserve { input: InputEstimate::Constant(50), output }
}

fn charge(on_missing_usage: Fallback, on_disconnect: Fallback) -> Charge {
    Charge {
        of: TOTAL,
        reserve: Some(reserve()),
        when_short: WhenShort::Deny,
        lease: Micros::from_secs(60),
        on_lost: OnLost::Estimate,
        on_missing_usage,
        on_disconnect,
        soft_limit: None,
    }
}

fn usage(input: u64, cache_read: u64, output: u64) -> Usage {
    Usage { input, cache_read, output, ..Usage::default() }
}

fn no_price(_: &Usage) -> NanoUsd {
    unreachable!("tokens have no price")
}

/// Price of one nano-USD for each token of the request, and 4 for each one of the response.
fn price(usage: &Usage) -> NanoUsd {
    NanoUsd(usage.input + usage.cache_read + 4 * usage.output)
}

#[test]
fn each_ending_has_its_amount() {
    use Ending::*;
    let held = Held { estimate: 150, floor: 50 };
    let none = Seen { text_bytes: 41, ..Seen::default() };
    let half = Seen { usage: Some(usage(20, 5, 0)), has_output: false, text_bytes: 41 };
    let told = Seen { usage: Some(usage(20, 5, 30)), has_output: true, text_bytes: 41 };
    let long = Seen { text_bytes: 4_000, ..Seen::default() };
    for (ending, fallback, seen, expected) in [
        (Unserved, Fallback::Estimate, told, (0, UsageSource::Zero)),
        (Complete, Fallback::Estimate, told, (55, UsageSource::Usage)),
        // Embeddings have no tokens of a response.
        (Complete, Fallback::Estimate, half, (25, UsageSource::Usage)),
        (Complete, Fallback::Estimate, none, (150, UsageSource::Estimate)),
        (Complete, Fallback::Seen, none, (50 + 11, UsageSource::Seen)),
        (Complete, Fallback::Seen, long, (150, UsageSource::Seen)),
        (Complete, Fallback::Zero, none, (0, UsageSource::Zero)),
        (CutOff, Fallback::Zero, told, (55, UsageSource::Usage)),
        (CutOff, Fallback::Seen, half, (25 + 11, UsageSource::Seen)),
        (CutOff, Fallback::Seen, none, (50 + 11, UsageSource::Seen)),
        (CutOff, Fallback::Seen, long, (150, UsageSource::Seen)),
        (CutOff, Fallback::Estimate, half, (150, UsageSource::Estimate)),
        (CutOff, Fallback::Zero, half, (0, UsageSource::Zero)),
        (Failed, Fallback::Zero, told, (55, UsageSource::Usage)),
        (Failed, Fallback::Zero, none, (50 + 11, UsageSource::Seen)),
        (Background, Fallback::Zero, none, (150, UsageSource::Estimate)),
        (Background, Fallback::Zero, told, (55, UsageSource::Usage)),
        (Upgraded, Fallback::Zero, none, (150, UsageSource::Estimate)),
        (Opaque, Fallback::Estimate, none, (150, UsageSource::Estimate)),
        (Opaque, Fallback::Zero, none, (0, UsageSource::Zero)),
    ] {
        // The other fallback would give another amount.
        let other = if fallback == Fallback::Zero { Fallback::Estimate } else { Fallback::Zero };
        let charge = match ending {
            CutOff => charge(other, fallback),
            _ => charge(fallback, other),
        };
        let found = charge.amount(ending, held, 50, &seen, &no_price);
        assert_eq!(found, expected, "{ending:?}, {fallback:?}, {seen:?}");
    }
}

#[test]
fn without_a_reservation_what_was_seen_has_no_bound() {
    let long = Seen { text_bytes: 4_000, ..Seen::default() };
    let post_paid = Charge { reserve: None, ..charge(Fallback::Estimate, Fallback::Seen) };
    assert_eq!(post_paid.amount(Ending::CutOff, Held::default(), 0, &long, &no_price), (1_000, UsageSource::Seen));
}

#[test]
fn money_is_charged_by_the_price() {
    let money = Charge { of: Charged::Cost, ..charge(Fallback::Estimate, Fallback::Seen) };
    let told = Seen { usage: Some(usage(20, 5, 30)), has_output: true, text_bytes: 0 };
    let held = Held { estimate: 1_000, floor: 0 };
    assert_eq!(money.amount(Ending::Complete, held, 0, &told, &price), (145, UsageSource::Usage));
    assert_eq!(Charged::Cost.held(10, 20, &price), Held { estimate: 90, floor: 10 });
}

#[test]
fn weights_are_summed_and_rounded_up_once() {
    let weights = Weights { input: 1_000, cache_read: 100, cache_write: 1_250, cache_write_1h: 2_000, output: 4_000 };
    let tokens = Usage { input: 10, cache_read: 11, cache_write: 4, cache_write_1h: 2, output: 3 };
    assert_eq!(Charged::Tokens(weights).amount(&tokens, &no_price), 10 + 2 + 5 + 4 + 12);
    assert_eq!(TOTAL.amount(&Usage { input: u64::MAX, ..tokens }, &no_price), MAX_AMOUNT);
}

#[test]
fn an_estimate_holds_whatever_kind_of_tokens_a_request_turns_out_to_have() {
    let weights = Weights { input: 1_000, cache_read: 100, cache_write: 1_250, cache_write_1h: 2_000, output: 4_000 };
    let held = Charged::Tokens(weights).held(100, 10, &no_price);
    assert_eq!(held, Held { estimate: 240, floor: 200 });
    for kind in [
        Usage { input: 100, ..Usage::default() },
        Usage { cache_write_1h: 100, ..Usage::default() },
        Usage { cache_write: 100, ..Usage::default() },
    ] {
        let amount = Charged::Tokens(weights).amount(&Usage { output: 10, ..kind }, &no_price);
        assert!(amount <= held.estimate, "{kind:?}: {amount}");
    }
}
