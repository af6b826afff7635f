//! Limits of which a bucket alone does not tell the answer: with marks, in shadow mode, or with numbers of requests.

use weir_provision::redis::RedisOptions;

use crate::operator::Operator;

const LIMITS: &str = r#"
redis: {cluster: redis}
limits:
- name: marked
  descriptor: [{request_header: {name: x-user-id}}]
  on_exceed: {mark: {name: X-Over-Limit}}
  token_bucket: {max_tokens: 2, fill_interval: 3600s}
- name: shadow
  descriptor: [{request_header: {name: x-user-id}}]
  shadow_mode: true
  on_exceed: {mark: {name: x-over-limit}}
  token_bucket: {max_tokens: 2, fill_interval: 3600s}
- name: plan
  descriptor: [{request_header: {name: x-user-id}}]
  token_bucket: {max_tokens: {request_header: {name: x-limit, default: 10, max: 100}}, fill_interval: 3600s}
- name: plain
  descriptor: [{request_header: {name: x-user-id}}]
  token_bucket: {max_tokens: 2, fill_interval: 3600s}
"#;
const HOUR: u64 = 3_600_000_000;

fn operator() -> Option<Operator> {
    Operator::of(LIMITS, RedisOptions::default())
}

impl Operator {
    #[track_caller]
    fn sees(&self, command: &[&str], texts: &[&str]) {
        let seen = self.types(command);
        for text in texts {
            assert!(seen.contains(text), "{text:?} is not in\n{seen}");
        }
    }
}

#[test]
fn a_limit_that_marks_is_not_shown_as_in_shadow_mode() {
    let Some(mut operator) = operator() else { return };
    operator.spends("weir:marked:alice", (2, HOUR), 2);
    operator.sees(
        &["peek", "marked", "alice"],
        &["marks with x-over-limit)", "1 token    now, with the mark (otherwise in "],
    );
    operator.sees(&["peek", "marked", "bob"], &["1 token    now\n"]);
    let of_alice = &operator.reads(&["peek", "marked", "alice"])[0];
    assert_eq!(of_alice["shadow_mode"], false);
    assert_eq!(of_alice["mark"], "x-over-limit");
    assert_eq!((&of_alice["admitted"], &of_alice["marked"]), (&true.into(), &true.into()));
    operator.sees(&["list", "marked", "--limited"], &["marks with x-over-limit", "now, with the mark (otherwise in "]);
    let listed = &operator.reads(&["list", "marked"])[0];
    assert_eq!((&listed["shadow_mode"], &listed["mark"]), (&false.into(), &"x-over-limit".into()));
    operator.types(&["set", "marked", "bob", "blocked"]);
    let blocked = "1 token    now, with the mark (otherwise never: the override denies every request)";
    operator.sees(&["peek", "marked", "bob"], &[blocked]);
    operator.types(&["set", "marked", "bob", "--max", "0"]);
    operator.sees(&["peek", "marked", "bob"], &["1 token    now, with the mark (otherwise never: a limit of 0"]);
}

#[test]
fn a_limit_in_shadow_mode_admits_requests_beyond_it() {
    let Some(mut operator) = operator() else { return };
    for limit in ["shadow", "plain"] {
        operator.spends(&format!("weir:{limit}:alice"), (2, HOUR), 2);
    }
    let plain = &operator.reads(&["peek", "plain", "alice"])[0];
    assert_eq!((&plain["admitted"], &plain["marked"]), (&false.into(), &false.into()));
    operator.types(&["set", "plain", "shadow"]);
    for limit in ["shadow", "plain"] {
        operator.sees(&["peek", limit, "alice"], &["1 token    now, in shadow mode (otherwise in "]);
        operator.sees(&["list", limit, "--limited"], &["now, in shadow mode (otherwise in "]);
        let seen = &operator.reads(&["peek", limit, "alice"])[0];
        assert_eq!((&seen["admitted"], &seen["marked"]), (&true.into(), &false.into()), "{limit}");
    }
}

#[test]
fn numbers_that_requests_carry_are_shown_as_defaults() {
    let Some(mut operator) = operator() else { return };
    operator.spends("weir:plan:alice", (10, HOUR), 10);
    let note = "note       these are the answers to a request without a number of its own";
    operator.sees(&["peek", "plan", "alice"], &["by default: requests carry numbers)", "tokens     0 of 10", note]);
    assert_eq!(operator.reads(&["peek", "plan", "alice"])[0]["default_numbers"], true);
    let listed =
        ["by default: requests carry numbers", "(default)", "(default): for a request without a number of its own"];
    operator.sees(&["list", "plan", "--limited"], &listed);
    for line in operator.reads(&["list", "plan", "--limited"]) {
        assert_eq!(line["default_numbers"], true, "{line}");
    }
    operator.types(&["set", "plan", "alice", "--max", "50"]);
    let seen = operator.types(&["peek", "plan", "alice"]);
    assert!(seen.contains("tokens     40 of 50") && !seen.contains("note"), "the override is the number: {seen}");
    assert_eq!(operator.reads(&["peek", "plan", "alice"])[0]["default_numbers"], false);
    assert_eq!(operator.reads(&["peek", "plain", "alice"])[0]["default_numbers"], false);
}
