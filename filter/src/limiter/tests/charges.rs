//! Tests of limits that charge what responses cost: what requests reserve, and what is settled when they end.

use super::*;
use crate::limiter::reservations::{Calls, OpenReservations};
use crate::limiter::tickets::BackgroundCalls;
use crate::redis::{Reply, Topology};
use crate::usage::{Field, Framing, ModelPrice, Numbers, Price, Rates};

const BUDGET: &str = "weir:per_user:alice#budgetfixed60000000";
/// Reply of one budget that admits: nothing was used before.
const RESERVED: &[u8] = b"*4\r\n:5\r\n:0\r\n:0\r\n:0\r\n";
/// Response of the upstream, whose body is read.
const SERVED: ResponseHead = ResponseHead {
    status: 200,
    is_upstream: true,
    framing: Some(Framing::Json),
    is_encoded: false,
    tokens: [None; _],
    malformed: 0,
};
/// Tokens of request and response as headers tell them.
fn tokens(input: u64, output: u64) -> Numbers {
    let mut tokens = Numbers::default();
    (tokens[Field::Prompt as usize], tokens[Field::Completion as usize]) = (Some(input), Some(output));
    tokens
}

/// Usage of 20 tokens of the request and 30 of the response.
const USAGE: &[u8] = br#"{"usage": {"prompt_tokens": 20, "completion_tokens": 30}}"#;

/// Limiter with a budget per user, of 1,000 tokens a minute, with further fields of `reserve` and of the limit. A
/// request is estimated at 100 tokens, and its response at 50.
fn charging(of_reserve: &str, of_limit: &str) -> Fixture {
    with_overrides(of_reserve, of_limit, r#"{"enabled": false}"#)
}

fn with_overrides(of_reserve: &str, of_limit: &str, overrides: &str) -> Fixture {
    let json = format!(
        r#"{{"redis": {{"cluster": "redis"}}, "overrides": {overrides}, "limits": [{{
            "name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], {of_limit}
            "charge": "total_tokens", "fixed_window": {{"max_tokens": 1000, "window": "60s"}},
            "reserve": {{{of_reserve} "output": {{"default": 50}}}}}}]}}"#
    );
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    assert_eq!(fixture.asks(RequestId(0)), Step::Wait);
    assert_eq!(fixture.tick(), [Effect::OpenStream]);
    fixture.redis_replies(PONG);
    fixture.redis_replies(b"-ERR warming up\r\n");
    fixture.limiter.done(fixture.now, RequestId(0));
    fixture.redis_replies(b"$1\r\nD\r\n");
    fixture.sent();
    fixture.counted();
    fixture
}

impl Fixture {
    /// Sends a request of alice with a body of 300 bytes.
    fn asks(&mut self, request: RequestId) -> Step {
        let headers = [(":method", "POST"), ("x-user-id", "alice"), ("content-length", "300")];
        let attributes = headers.iter().fold(Request::default(), |it, (name, value)| it.header(name, value));
        let step = self.limiter.request(self.now, request, &attributes);
        self.send();
        step
    }

    /// Admits a request of alice, and returns what was sent for it.
    fn reserves(&mut self, request: RequestId) -> String {
        assert_eq!(self.asks(request), Step::Wait);
        let sent = self.sent();
        let effects = self.redis_replies(RESERVED);
        assert!(matches!(effects[..], [Effect::Decide(_, Decision::Admit(_))]), "{effects:?}");
        sent
    }

    /// Ends a request, and returns the settlement that is sent.
    fn ends(&mut self, request: RequestId) -> Vec<Settlement> {
        assert!(self.limiter.done(self.now, request), "a call is to be sent");
        settlements(&self.sent())
    }

    /// Lets time pass, and returns what was sent.
    fn after(&mut self, span: Micros) -> String {
        self.now = self.now.plus(span);
        self.limiter.tick(self.now);
        self.sent()
    }
}

/// Settlement of one budget: its key, what the request has cost, and whether it may have no reservation.
type Settlement = (String, u64, bool);

/// Returns the settlements in what was sent.
fn settlements(sent: &str) -> Vec<Settlement> {
    let scripts = Scripts::new(false);
    let (_, settle) = scripts.named().into_iter().find(|(name, _)| *name == "settle").unwrap();
    let mut parts = sent.split("\r\n").filter(|part| !part.starts_with(['$', '*']));
    let mut settlements = Vec::new();
    while let Some(part) = parts.next() {
        if part == settle.sha1_hex() {
            let [keys, key, _, is_unknown, cost] = [(); 5].map(|()| parts.next().unwrap());
            assert_eq!(keys, "1");
            settlements.push((key.to_owned(), cost.parse().unwrap(), is_unknown == "1"));
        }
    }
    settlements
}

fn settlement(cost: u64) -> Vec<Settlement> {
    vec![(BUDGET.to_owned(), cost, false)]
}

/// Takes the increments of the counters of usage, without the prefix of their names.
fn usage_counted(fixture: &mut Fixture) -> Vec<String> {
    let counted = fixture.counted();
    counted.iter().filter_map(|line| line.strip_prefix("weir.usage.")).map(str::to_owned).collect()
}

#[test]
fn a_whole_response_costs_what_it_tells() {
    let mut fixture = charging("", "");
    fixture.reserves(ALICE);
    assert!(fixture.limiter.is_charged(ALICE) && !fixture.limiter.is_charged(BOB));
    assert!(fixture.limiter.holds_reservations(ALICE));
    fixture.limiter.response_begins(ALICE, SERVED);
    assert!(fixture.limiter.response_body(ALICE, || USAGE).is_some());
    let entries = fixture.limiter.response_is_whole(ALICE);
    let of = |name: &str, value: &str| entries.iter().any(|entry| entry.0 == name && entry.1 == value);
    assert!(of("weir.input_tokens", "20") && of("weir.output_tokens", "30") && of("weir.usage_source", "usage"));
    assert_eq!(fixture.ends(ALICE), settlement(50));
    assert!(!fixture.limiter.is_charged(ALICE) && !fixture.limiter.holds_reservations(ALICE));
    assert_eq!(fixture.redis_replies(b"$1\r\nO\r\n"), []);
    assert_eq!(usage_counted(&mut fixture), ["settled 1"]);
}

#[test]
fn what_was_charged_is_counted_once() {
    let counted = |fixture: &mut Fixture| {
        let counted = fixture.counted();
        counted.iter().filter_map(|line| line.strip_prefix("weir.limit.per_user.tokens ")).map(str::to_owned).collect()
    };
    let mut fixture = charging("", "");
    let mut costs = |reply: &[u8], is_lost: bool| -> Vec<String> {
        fixture.reserves(ALICE);
        fixture.limiter.response_begins(ALICE, SERVED);
        fixture.limiter.response_body(ALICE, || USAGE);
        fixture.limiter.response_is_whole(ALICE);
        assert_eq!(fixture.ends(ALICE), settlement(50));
        if is_lost {
            fixture.redis_replies(b"-ERR lost\r\n");
            assert_eq!(counted(&mut fixture), [""; 0]);
            assert_eq!(settlements(&fixture.after(Micros::from_secs(1))), settlement(50));
        }
        fixture.redis_replies(reply);
        counted(&mut fixture)
    };
    for charged in [b"$1\r\nO\r\n", b"$1\r\nV\r\n", b"$1\r\nL\r\n", b"$1\r\nD\r\n"] {
        assert_eq!(costs(charged, false), ["50"]);
    }
    assert_eq!(costs(b"$1\r\n-\r\n", false), [""; 0]);
    assert_eq!(costs(b"$1\r\nO\r\n", true), ["50"]);
    assert_eq!(costs(b"$1\r\n-\r\n", true), ["50"], "it was applied, and the reply was lost");
}

/// Whole responses that do not tell their usage cost nothing here.
#[test]
fn the_end_of_a_request_determines_what_it_costs() {
    let json = |text: &'static str| text.as_bytes();
    let is = |status, is_upstream| ResponseHead { status, is_upstream, ..SERVED };
    let opaque = ResponseHead { framing: None, ..SERVED };
    let encoded = ResponseHead { is_encoded: true, ..SERVED };
    let told = ResponseHead { tokens: tokens(3, 4), ..opaque };
    let queued = json(r#"{"object": "response", "status": "queued", "usage": null}"#);
    for (head, body, is_whole, cost, log, counted) in [
        (None, json(""), false, 0, "0 0 zero", ""),
        (Some(SERVED), USAGE, true, 50, "20 30 usage", ""),
        (Some(is(500, true)), USAGE, true, 0, "0 0 zero", ""),
        (Some(is(200, false)), USAGE, true, 0, "0 0 zero", ""),
        (Some(is(101, false)), json(""), true, 0, "0 0 zero", ""),
        (Some(is(101, true)), json(""), true, 150, "100 50 estimate", ""),
        (Some(SERVED), queued, true, 150, "100 50 estimate", ""),
        (Some(SERVED), json("{}"), true, 0, "0 0 zero", "missing 1"),
        (Some(SERVED), json(r#"{"error": {"message": "overloaded"}}"#), true, 100, "100 0 seen", ""),
        (Some(SERVED), json("{"), false, 100, "100 0 seen", "disconnected 1"),
        (Some(opaque), json("{}"), true, 0, "0 0 zero", "encoded 1"),
        (Some(encoded), USAGE, true, 0, "0 0 zero", "encoded 1"),
        (Some(told), json(""), true, 7, "3 4 usage", "encoded 1"),
    ] {
        let mut fixture = charging("", r#""on_missing_usage": "zero","#);
        fixture.reserves(ALICE);
        if let Some(head) = head {
            fixture.limiter.response_begins(ALICE, head);
            let mut is_read = false;
            fixture.limiter.response_body(ALICE, || {
                is_read = true;
                body
            });
            assert_eq!(
                is_read,
                head.status == 200 && head.is_upstream && head.framing.is_some() && !head.is_encoded,
                "{head:?}"
            );
        }
        let context = format!("{head:?} {}", String::from_utf8_lossy(body));
        if is_whole {
            let entries = fixture.limiter.response_is_whole(ALICE);
            let values: Vec<&str> = entries.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(values.join(" "), log, "{context}");
        }
        assert_eq!(fixture.ends(ALICE), settlement(cost), "{context}");
        assert_eq!(usage_counted(&mut fixture).join(" "), counted, "{context}");
    }
}

#[test]
fn a_request_reserves_its_estimate_and_is_lost_at_its_own_tokens() {
    let mut fixture = charging(r#""on_lost": "input","#, "");
    let check = fixture.reserves(ALICE);
    assert!(check.contains("\r\nf 0 60000000 150 100\r\n"), "{check}");
}

#[test]
fn a_check_that_is_asked_again_still_knows_the_requests_own_tokens() {
    let mut fixture = with_overrides(r#""on_lost": "input","#, "", r#"{"refresh_interval": "3600s"}"#);
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    assert_eq!(fixture.asks(ALICE), Step::Wait);
    fixture.sent();
    fixture.limiter.redis().handle_bytes(fixture.now, b"*1\r\n$12\r\n{\"times\": 2}\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    let again = fixture.sent();
    assert!(again.contains("\r\n2000\r\n") && again.contains("\r\nf 0 60000000 150 100\r\n"), "{again}");
}

#[test]
fn a_reservation_is_renewed_each_third_of_its_lease() {
    let mut fixture = charging(r#""lease": "30s","#, "");
    fixture.reserves(ALICE);
    let third = Micros::from_secs(10);
    assert_eq!(fixture.after(third.minus(Micros(1))), "");
    for _ in 0..3 {
        let renewal = fixture.after(third);
        assert!(renewal.contains(BUDGET) && renewal.contains("\r\n30000000\r\n"), "{renewal}");
        fixture.redis_replies(b":1\r\n");
    }
    fixture.ends(ALICE);
    fixture.redis_replies(b"$1\r\nO\r\n");
    assert!(!fixture.after(third).contains(BUDGET));
}

#[test]
fn a_request_that_ends_before_redis_has_decided_it_costs_nothing() {
    let mut fixture = charging("", "");
    assert_eq!(fixture.asks(ALICE), Step::Wait);
    fixture.sent();
    assert_eq!(fixture.ends(ALICE), [(BUDGET.to_owned(), 0, true)]);
}

#[test]
fn a_settlement_that_fails_is_sent_again_each_second() {
    let mut fixture = charging("", "");
    fixture.reserves(ALICE);
    fixture.limiter.response_begins(ALICE, SERVED);
    fixture.limiter.response_body(ALICE, || USAGE);
    fixture.limiter.response_is_whole(ALICE);
    fixture.ends(ALICE);
    for _ in 0..3 {
        fixture.redis_replies(b"-ERR not now\r\n");
        assert_eq!(settlements(&fixture.after(Micros::from_millis(999))), []);
        assert_eq!(settlements(&fixture.after(Micros::from_millis(1))), settlement(50));
    }
    fixture.redis_replies(b"$1\r\nV\r\n");
    assert_eq!(usage_counted(&mut fixture), ["overrun 1", "settled 1"]);
    assert_eq!(settlements(&fixture.after(Micros::from_secs(1))), []);
}

#[test]
fn a_settlement_that_is_owed_for_an_hour_after_the_lease_is_dropped_and_counted() {
    for (late, dropped) in [(3_659, ""), (3_660, "dropped 1")] {
        let mut fixture = charging("", "");
        fixture.reserves(ALICE);
        fixture.ends(ALICE);
        fixture.redis_replies(b"-ERR not now\r\n");
        let sent = fixture.after(Micros::from_secs(late));
        assert!(dropped.is_empty() || settlements(&sent).is_empty());
        assert_eq!(usage_counted(&mut fixture).join(" "), dropped);
    }
}

#[test]
fn nothing_is_added_to_a_request_whose_answer_has_no_enforced_maximum() {
    let fixture = charging("", "");
    let request = Request::default().header(":method", "POST").header("x-user-id", "alice");
    assert_eq!(fixture.limiter.additions(&request), "");
}

#[test]
fn settlements_are_owed_for_1024_requests_and_for_no_more() {
    let mut fixture = charging("", "");
    for nth in 1..=1_025 {
        assert_eq!(usage_counted(&mut fixture), [""; 0], "{nth}");
        fixture.reserves(RequestId(nth));
        fixture.ends(RequestId(nth));
        fixture.redis_replies(b"-ERR not now\r\n");
    }
    assert_eq!(usage_counted(&mut fixture), ["dropped 1"]);
}

#[test]
fn a_request_that_redis_does_not_decide_is_charged_if_it_goes_on_and_is_settled_if_not() {
    for (mode, goes_on) in [("allow", true), ("deny", false)] {
        let mut fixture = charging("", &format!(r#""failure_mode": "{mode}","#));
        assert_eq!(fixture.asks(ALICE), Step::Wait);
        fixture.sent();
        fixture.limiter.redis().handle_bytes(fixture.now, b"-ERR broken\r\n");
        core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
        assert_eq!(fixture.limiter.holds_reservations(ALICE), goes_on, "{mode}");
        let settled = if goes_on { vec![] } else { vec![(BUDGET.to_owned(), 0, true)] };
        assert_eq!(settlements(&fixture.sent()), settled, "{mode}");
    }
}

#[test]
fn the_ledger_has_what_a_response_that_was_cut_off_has_cost() {
    for (events, has_ledger) in [(r#"{"max_len": 777, "usage": true}"#, true), (r#"{"max_len": 777}"#, false)] {
        let mut fixture = with_overrides("", "", &format!(r#"{{"enabled": false}}, "events": {events}"#));
        fixture.reserves(ALICE);
        fixture.limiter.response_begins(ALICE, SERVED);
        fixture.limiter.response_body(ALICE, || b"{");
        assert!(fixture.limiter.done(fixture.now, ALICE));
        let sent = fixture.sent();
        assert_eq!(sent.contains("\r\nweir:events\r\n") && sent.contains("\r\n777\r\n"), has_ledger, "{sent}");
        for (name, value) in [("input", "100"), ("source", "seen"), ("limits", "per_user"), ("amounts", "100")] {
            let field = format!("\r\n{name}\r\n${}\r\n{value}\r\n", value.len());
            assert_eq!(sent.contains(&field), has_ledger, "{name}: {sent}");
        }
    }
}

#[test]
fn the_proxy_ticks_for_the_next_renewal_and_for_a_settlement_that_is_owed() {
    let mut fixture = charging(r#""lease": "30s","#, "");
    fixture.reserves(ALICE);
    fixture.counted();
    fixture.limiter.warnings = Warnings::new("redis");
    assert_eq!(fixture.limiter.next_tick(fixture.now), Some(fixture.now.plus(Micros::from_secs(10))));
    fixture.ends(ALICE);
    fixture.redis_replies(b"-ERR not now\r\n");
    fixture.counted();
    fixture.limiter.warnings = Warnings::new("redis");
    assert_eq!(fixture.limiter.next_tick(fixture.now), Some(fixture.now.plus(Micros::from_secs(1))));
}

#[test]
fn a_request_costs_by_the_prices_of_its_arrival() {
    let json = r#"{"redis": {"cluster": "redis"}, "overrides": {"per_key": false},
        "usage": {"prices": [{"model": {"prefix": "gpt-"}, "input": 1, "output": 2}], "unknown_model": "dearest"},
        "limits": [{"name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
            "charge": "cost", "fixed_window": {"max_usd": 10, "window": "60s"}, "reserve": {"output": {"default": 50}}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    let costs = |fixture: &mut Fixture, request| {
        fixture.limiter.response_begins(request, SERVED);
        fixture.limiter.response_body(request, || USAGE);
        let entries = fixture.limiter.response_is_whole(request);
        entries.into_iter().find(|(name, _)| *name == "weir.cost_nano_usd").unwrap().1
    };
    fixture.asks(ALICE);
    let rates = Rates { input: Price(5_000_000), ..Rates::default() };
    fixture.limiter.set_prices(&[ModelPrice { name: "gpt-".to_owned(), is_exact: false, rates, above: None }]);
    fixture.asks(BOB);
    assert_eq!([ALICE, BOB].map(|request| costs(&mut fixture, request)), ["80000", "100000"]);
    fixture.limiter.set_prices(&[]);
    fixture.asks(RequestId(77));
    assert_eq!(costs(&mut fixture, RequestId(77)), "80000");
}

/// A part of a request that Redis has decided comes after one of which no reply has arrived.
#[test]
fn in_a_cluster_each_reservation_is_settled_by_a_call_of_its_own_and_may_not_exist_if_one_may_not() {
    let mut fixture = charging("", "");
    assert_eq!(fixture.asks(ALICE), Step::Wait);
    let check = &fixture.limiter.pending.get(ALICE.0).unwrap().check;
    let (mut open, mut tickets, scripts) =
        (OpenReservations::new(Topology::Cluster), BackgroundCalls::default(), Scripts::new(false));
    for (first, second) in [(true, false), (false, true), (true, true), (false, false)] {
        for is_unknown in [first, second] {
            open.take(fixture.now, ALICE, check.possible_reservations().unwrap(), is_unknown);
        }
        let left = open.leave(ALICE).unwrap();
        let calls = Calls { scripts: &scripts, stream: (b"", 0) };
        let calls = open.settle(fixture.now, &mut tickets, left, &|_| 7, None, calls);
        let mut sent = Vec::new();
        calls.iter().for_each(|(_, call)| call.encode(&mut sent));
        let sent = settlements(&String::from_utf8_lossy(&sent));
        assert_eq!(sent, vec![(BUDGET.to_owned(), 7, first || second); 2]);
        for (ticket, _) in calls {
            assert!(open.completed(fixture.now, ticket, &Ok(Reply::Bulk(b"O".to_vec()))).is_some());
        }
    }
}
