//! Tests of the arguments by which scripts read a budget.

use super::*;

#[test]
fn a_budget_is_read_from_a_scripts_arguments_with_what_happens_when_it_is_short() {
    for algorithm in [bucket(100), per_minute(100), per_month(100)] {
        for when_short in [WhenShort::Deny, WhenShort::TakeRest] {
            let budget = Budget::new(algorithm, &charge(OnLost::Input, when_short)).unwrap();
            for estimate in [0, 1, 30].map(Tokens) {
                let sent = budget.arguments(estimate);
                let of_script = budget.argument(estimate);
                let (read, its) = Budget::of_arguments(sent.cost, sent.limit, sent.more[0], &of_script).unwrap();
                assert_eq!(its, estimate);
                assert_eq!(read.arguments(estimate).cost, sent.cost, "{when_short:?}, {estimate:?}, {algorithm:?}");
            }
        }
    }
}
