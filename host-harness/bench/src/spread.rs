//! Median, minimum and maximum over rounds.

use super::{
    plan::{Point, Sweep},
    round::{Figure, Round},
};

/// A figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    /// The spread of some values; `None` if there are no values.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (lower, upper) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(Self { least, median: f64::midpoint(*lower, *upper), most })
    }

    /// Range of the rounds relative to the median: 0.1 is a tenth of the median.
    pub(super) fn width(self) -> f64 {
        if self.median > 0.0 { (self.most - self.least) / self.median } else { 0.0 }
    }
}

/// All rounds of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds(pub(super) Vec<Round>);

impl Rounds {
    /// The points of a sweep, in the order in which they were first measured.
    pub(super) fn points(&self, sweep: Sweep) -> Vec<Point> {
        let mut points = Vec::new();
        for round in self.0.iter().filter(|round| round.sweep == sweep) {
            if !points.contains(&round.point) {
                points.push(round.point);
            }
        }
        points
    }

    /// A figure of a point over its rounds.
    pub(super) fn spread(&self, sweep: Sweep, point: Point, figure: Figure) -> Option<Spread> {
        Spread::of(self.of(sweep, point).map(|round| round.figure(figure)))
    }

    /// Ratio of a point's figure to its baseline's in the same round; `None` if the baseline was not measured.
    pub(super) fn ratio(&self, sweep: Sweep, point: Point, figure: Figure) -> Option<Spread> {
        let base = Point { subject: point.subject.baseline(), ..point };
        Spread::of(self.of(sweep, point).filter_map(|round| {
            let same = self.of(sweep, base).find(|other| other.number == round.number)?.figure(figure);
            (same > 0.0).then(|| round.figure(figure) / same)
        }))
    }

    fn of(&self, sweep: Sweep, point: Point) -> impl Iterator<Item = &Round> {
        self.0.iter().filter(move |round| round.sweep == sweep && round.point == point)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::{plan::Setting, redis_stats::Commands, subject::Subject};
    use super::*;

    /// A round of 1,000 requests in one second, with this CPU time of the proxy.
    pub(in super::super) fn round(subject: Subject, number: u32, proxy_millis: u64) -> Round {
        Round {
            sweep: Sweep::Subjects,
            point: Point { subject, setting: Setting::new(16) },
            number,
            requests: 1000,
            elapsed: Duration::from_secs(1),
            p50_micros: 500.0,
            p99_micros: 900.0,
            proxy: Duration::from_millis(proxy_millis),
            redis: Duration::from_millis(10),
            service: Duration::ZERO,
            loader: Duration::from_millis(7),
            commands: Commands { scripts: 1000, all: 4000 },
            resident: 50 << 20,
        }
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { least: 1.0, median: 2.0, most: 3.0 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
    }

    #[test]
    fn ratios_compare_figures_of_the_same_round() {
        // The machine was twice as slow in the second round, which does not change the ratio.
        let rounds = Rounds(vec![
            round(Subject::NoOp, 1, 30),
            round(Subject::Weir, 1, 45),
            round(Subject::NoOp, 2, 60),
            round(Subject::Weir, 2, 90),
        ]);
        let weir = Point { subject: Subject::Weir, setting: Setting::new(16) };
        assert_eq!(rounds.ratio(Sweep::Subjects, weir, Figure::ProxyCpu).unwrap().median, 1.5);
        assert_eq!(rounds.spread(Sweep::Subjects, weir, Figure::ProxyCpu).unwrap().median, 67.5);
        assert_eq!(rounds.spread(Sweep::Subjects, weir, Figure::ServersCpu).unwrap().most, 100.0);
        assert_eq!(rounds.spread(Sweep::Subjects, weir, Figure::ScriptsPerRequest).unwrap().least, 1.0);
        let alone = Rounds(vec![round(Subject::Weir, 1, 45)]);
        assert_eq!(alone.ratio(Sweep::Subjects, weir, Figure::ProxyCpu), None);
    }
}
