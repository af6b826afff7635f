//! CSV of all rounds: one line per round, without averages.

use super::super::{
    round::{Figure, Round},
    spread::Rounds,
};

/// Renders all rounds, with a header line.
pub(super) fn render(rounds: &Rounds) -> String {
    let mut names =
        vec!["sweep", "subject", "workers", "connections", "keys", "redis_delay_ms", "round", "requests", "seconds"];
    names.extend(Figure::ALL.map(Figure::name));
    let mut text = names.join(",");
    text.push('\n');
    for round in &rounds.0 {
        text.push_str(&fields(round).join(","));
        text.push('\n');
    }
    text
}

fn fields(round: &Round) -> Vec<String> {
    let setting = round.point.setting;
    let mut fields = vec![
        round.sweep.name().to_owned(),
        round.point.subject.name(),
        setting.workers.to_string(),
        setting.connections.to_string(),
        setting.keys.to_string(),
        setting.redis_delay_millis.map(|millis| millis.to_string()).unwrap_or_default(),
        round.number.to_string(),
        round.requests.to_string(),
        format!("{:.3}", round.elapsed.as_secs_f64()),
    ];
    fields.extend(Figure::ALL.map(|figure| format!("{:.3}", round.figure(figure))));
    fields
}

#[cfg(test)]
mod tests {
    use super::super::super::{spread::tests::round, subject::Subject};
    use super::*;

    #[test]
    fn a_round_is_a_line_with_a_field_for_each_name() {
        let text = render(&Rounds(vec![round(Subject::Weir, 1, 45)]));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!((lines.len(), lines[0].len()), (2, lines[1].len()));
        let field = |name: &str| lines[1][lines[0].iter().position(|it| *it == name).unwrap()];
        assert_eq!((field("subject"), field("requests_per_second")), ("weir", "1000.000"));
        assert_eq!((field("proxy_cpu_ms_per_1k"), field("redis_scripts_per_request")), ("45.000", "1.000"));
    }
}
