//! Markdown page of results: machine, versions, tables, plots. Its links are relative, and it names no host.

use std::fmt::Write as _;

use super::super::{
    footprint::Memory,
    plan::{Point, Sweep},
    round::Figure,
    spread::{Rounds, Spread},
    subject::Subject,
};
use super::{FOLDER, Results, plot::Plot, table};

pub(super) fn render(results: &Results<'_>, plots: &[Plot]) -> String {
    let mut page = String::from(
        "# Performance: cost of a request\n\nMeasured by `weir bench` in interleaved rounds, all on one machine",
    );
    let machine = results.machine;
    let has_limitador =
        results.rounds.points(Sweep::Subjects).iter().any(|point| point.subject == Subject::RatelimitLimitador);
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        ": {} ({} cores), Linux {}.\nEnvoy {}, one worker unless a table says otherwise; Redis {}{}{}; Weir {} ({} KB of wasm).\n",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.envoy,
        machine.redis,
        machine.nginx.as_ref().map(|version| format!("; nginx {version}")).unwrap_or_default(),
        if has_limitador { format!("; {}", machine.limitador) } else { String::new() },
        machine.commit,
        machine.wasm.div_ceil(1000),
    );
    let _ = writeln!(page, "{}\n\nFigures of every round: [rounds.csv]({FOLDER}/rounds.csv).", table::NOTE);
    for connections in super::connections(results.rounds) {
        let plural = if connections == 1 { "" } else { "s" };
        let _ = writeln!(page, "\n## {connections} connection{plural}\n");
        let _ = writeln!(page, "{}", table::markdown(results.rounds, connections));
        for plot in plots.iter().filter(|plot| plot.file == format!("cpu-{connections}.svg")) {
            let _ = write!(page, "\n{}", image(plot));
        }
    }
    let _ = write!(page, "{}", subjects(results.rounds));
    let growth: Vec<&Plot> = plots.iter().filter(|plot| !plot.file.starts_with("cpu-")).collect();
    if !growth.is_empty() {
        let _ = writeln!(page, "\n## Scaling");
        for plot in growth {
            let _ = write!(page, "\n{}", image(plot));
        }
        let _ = write!(page, "{}", sweeps(results.rounds));
    }
    let _ = write!(page, "{}", footprint(results));
    page
}

fn image(plot: &Plot) -> String {
    format!("![{}]({FOLDER}/{})\n", plot.title, plot.file)
}

fn subjects(rounds: &Rounds) -> String {
    let mut text = String::from("\n## Subjects\n\n");
    let mut named = Vec::new();
    for Point { subject, .. } in rounds.points(Sweep::Subjects) {
        if !named.contains(&subject) {
            named.push(subject);
            let _ = writeln!(text, "- `{}`: {}", subject.name(), subject.summary());
        }
    }
    text.push_str(
        "\nEvery Envoy has the same route and the same fault filter, which answers admitted requests with a 200. Each \
         connection\nsends an `x-user-id` of its own. Only weir-headers adds headers to the responses of admitted \
         requests; all denials\nhave the same headers.\n",
    );
    text
}

fn sweeps(rounds: &Rounds) -> String {
    let mut text = String::new();
    for sweep in [Sweep::Workers, Sweep::Connections, Sweep::Keys, Sweep::RedisDelay] {
        let points = rounds.points(sweep);
        if points.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n| subject | {} | req/s | p50 ms | p99 ms | proxy CPU | all CPU | proxy MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|",
            sweep.axis()
        );
        for point in points {
            let median = |figure, digits: usize| shown(rounds.spread(sweep, point, figure), digits);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                point.subject.name(),
                sweep.position(point.setting),
                median(Figure::RequestsPerSecond, 0),
                median(Figure::P50, 3),
                median(Figure::P99, 2),
                median(Figure::ProxyCpu, 1),
                median(Figure::ServersCpu, 1),
                median(Figure::ProxyMemory, 0),
            );
        }
    }
    text
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.digits$}", spread.median))
}

fn footprint(results: &Results<'_>) -> String {
    let footprint = results.footprint;
    let mut text = String::new();
    if let Some(spread) = footprint.redis_round_trip {
        let _ = writeln!(
            text,
            "\nRound trip of one script call to Redis, without a proxy, on one connection: p50 {:.3} ms.",
            spread.median
        );
    }
    if !footprint.memory.is_empty() {
        text.push_str("\n## Memory and start-up\n\n| subject | keys seen | proxy memory, MiB | in use, MiB |\n|---|--:|--:|--:|\n");
        for Memory { subject, keys, resident, unused } in &footprint.memory {
            let used = unused.map_or_else(|| "–".to_owned(), |unused| format!("{:.1}", resident - unused));
            let _ = writeln!(text, "| {} | {keys} | {resident:.1} | {used} |", subject.name());
        }
        text.push_str("\nProxy memory is resident memory; memory in use is without the free memory in the proxy's allocator. V8 leaves more\nfree memory there after it has compiled a larger module.\n");
    }
    if !footprint.per_worker.is_empty() {
        text.push_str("\n| subject | per additional worker, MiB |\n|---|--:|\n");
        for (subject, mib) in &footprint.per_worker {
            let _ = writeln!(text, "| {} | {mib:.1} |", subject.name());
        }
    }
    if !footprint.start_up.is_empty() {
        text.push_str("\n| subject | start-up, ms (min – max) |\n|---|--:|\n");
        for (subject, spread) in &footprint.start_up {
            let (name, Spread { least, median, most }) = (subject.name(), spread);
            let _ = writeln!(text, "| {name} | {median:.0} ({least:.0} – {most:.0}) |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::{footprint::Footprint, machine::Machine, spread::tests::round};
    use super::*;

    #[test]
    fn the_page_has_machine_versions_figures_and_links_to_the_rest() {
        let mut rounds = Rounds(vec![round(Subject::NoOp, 1, 30), round(Subject::Weir, 1, 45)]);
        let machine = Machine {
            cpu: "AMD EPYC".into(),
            cores: 2,
            kernel: "6.1.0".into(),
            envoy: "1.40.0".into(),
            redis: "6.2.7".into(),
            nginx: Some("1.22.1".into()),
            limitador: "limitador-server 2.4.0".into(),
            commit: "0123456789".into(),
            wasm: 389_500,
        };
        let spread = Spread { least: 300.0, median: 310.0, most: 320.0 };
        let footprint = Footprint {
            memory: vec![Memory { subject: Subject::Weir, keys: 10_000, resident: 61.23, unused: Some(20.0) }],
            per_worker: vec![(Subject::Weir, 3.21)],
            start_up: vec![(Subject::NoOp, spread)],
            redis_round_trip: Some(Spread { least: 0.05, median: 0.08, most: 3.0 }),
        };
        let without = Results { rounds: &rounds, machine: &machine, footprint: &footprint };
        assert!(!render(&without, &[]).contains("limitador"), "it was not measured");
        rounds.0.push(round(Subject::RatelimitLimitador, 1, 150));
        let results = Results { rounds: &rounds, machine: &machine, footprint: &footprint };
        let page = render(&results, &super::super::plot::all(&rounds));
        for part in [
            "AMD EPYC (2 cores), Linux 6.1.0.",
            "Envoy 1.40.0,",
            "Redis 6.2.7; nginx 1.22.1; limitador-server 2.4.0; Weir 0123456789 (390 KB of wasm).",
            "](results/rounds.csv)",
            "](results/cpu-16.svg)",
            "## 16 connections",
            "| weir | 10000 | 61.2 | 41.2 |",
            "| weir | 3.2 |",
            "| no-op | 310 (300 – 320) |",
            "one connection: p50 0.080 ms",
            "- `weir`: ",
        ] {
            assert!(page.contains(part), "{part:?} in\n{page}");
        }
        assert!(!page.contains("## Scaling"));
    }
}
