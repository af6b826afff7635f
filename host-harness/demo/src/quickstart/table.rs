//! Table of the demo's users, with the verdict of each.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{people::Person, promise::Promise};
use crate::output::{OutputError, print_result};
use crate::traffic::{Report, UserReport};

/// Prints the table and the promise. Returns whether the promise held for every user and no request failed.
pub(super) fn print(promise: &Promise, people: &[Person], report: &Report) -> Result<bool, OutputError> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["user", "sends", "sent", "admitted", "at most", "denied", "failed", "p50", "p99", "promise"]);
    let mut kept = true;
    for (person, user) in people.iter().zip(&report.users) {
        let verdict = Verdict::of(promise, person, user);
        kept &= verdict == Verdict::Kept;
        let latencies = user.latencies();
        let millis = |quantile| format!("{:.2} ms", latencies.quantile(quantile).as_secs_f64() * 1000.0);
        let numbers = [
            user.sent().to_string(),
            user.admitted().to_string(),
            promise.most(user.elapsed).to_string(),
            user.denied().to_string(),
            user.failed().to_string(),
            millis(0.5),
            millis(0.99),
        ];
        let mut row = vec![Cell::new(&user.name), Cell::new(&person.habit)];
        row.extend(numbers.into_iter().map(|number| Cell::new(number).set_alignment(CellAlignment::Right)));
        row.push(Cell::new(verdict.text()));
        table.add_row(row);
    }
    let mut text = format!(
        "{table}\npromise: admitted ≤ {} + elapsed / {:?}, for each {}; a user below that is never denied\n",
        promise.capacity, promise.emission, promise.header
    );
    for failure in report.together().failures() {
        text.push_str(&format!("failed: {failure}\n"));
    }
    print_result(text)?;
    Ok(kept)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    OverAdmitted,
    DeniedInVain,
    Failed,
    Silent,
}

impl Verdict {
    fn of(promise: &Promise, person: &Person, user: &UserReport) -> Self {
        let admitted = u64::try_from(user.admitted()).unwrap_or(u64::MAX);
        match () {
            () if admitted > promise.most(user.elapsed) => Self::OverAdmitted,
            () if user.failed() > 0 => Self::Failed,
            () if user.sent() == 0 => Self::Silent,
            () if person.is_modest && user.denied() > 0 => Self::DeniedInVain,
            () => Self::Kept,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::OverAdmitted => "BROKEN: admitted too many",
            Self::DeniedInVain => "BROKEN: denied within the limit",
            Self::Failed => "requests failed",
            Self::Silent => "nothing sent",
        }
    }
}
