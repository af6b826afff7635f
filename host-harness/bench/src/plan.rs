//! Plan of a run: groups of points, measured in interleaved rounds.

use std::{collections::BTreeSet, time::Duration};

use super::subject::Subject;

/// Workers, connections, keys and Redis latency with which a subject is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Setting {
    /// Number of Envoy's worker threads, >= 1.
    pub(super) workers: u32,
    /// Number of connections, each with one request at a time, >= 1.
    pub(super) connections: u32,
    /// Number of distinct keys, >= 1.
    pub(super) keys: u32,
    /// Latency added in front of Redis, in milliseconds, by a delay proxy; `None`: no proxy.
    pub(super) redis_delay_millis: Option<u64>,
}

impl Setting {
    /// A setting with one worker, one key per connection, and no delay proxy.
    pub(super) fn new(connections: u32) -> Self {
        Self { workers: 1, connections, keys: connections, redis_delay_millis: None }
    }

    pub(super) fn redis_delay(self) -> Option<Duration> {
        self.redis_delay_millis.map(Duration::from_millis)
    }
}

/// A subject with a setting, measured once per round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Point {
    pub(super) subject: Subject,
    pub(super) setting: Setting,
}

/// The dimension that varies within a group, besides the subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Sweep {
    /// Only the subjects vary.
    Subjects,
    Workers,
    Connections,
    Keys,
    RedisDelay,
}

impl Sweep {
    /// The sweep's name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Subjects => "subjects",
            Self::Workers => "workers",
            Self::Connections => "connections",
            Self::Keys => "keys",
            Self::RedisDelay => "redis-delay",
        }
    }

    /// The label of the sweep's axis.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::Subjects | Self::Connections => "connections",
            Self::Workers => "workers",
            Self::Keys => "keys",
            Self::RedisDelay => "added Redis latency in ms",
        }
    }

    /// The position of a setting on the axis.
    pub(super) fn position(self, setting: Setting) -> u64 {
        match self {
            Self::Subjects | Self::Connections => setting.connections.into(),
            Self::Workers => setting.workers.into(),
            Self::Keys => setting.keys.into(),
            Self::RedisDelay => setting.redis_delay_millis.unwrap_or(0),
        }
    }
}

/// Points whose rounds are interleaved: round 1 of each, then round 2 of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) sweep: Sweep,
    pub(super) points: Vec<Point>,
    pub(super) rounds: u32,
}

/// All groups of a run, and the duration of their rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) groups: Vec<Group>,
    /// Duration of the measurement of each round.
    pub(super) measure: Duration,
    /// Duration of the warm-up before each round.
    pub(super) warm_up: Duration,
    /// Whether memory and start-up time are measured, too.
    pub(super) footprint: bool,
    /// Whether a round sends keys that the warm-up did not send. A subject that denies may then admit each key once.
    pub(super) fresh_keys: bool,
}

impl Plan {
    /// A plan for these subjects at each of these numbers of connections.
    pub(super) fn of(subjects: &[Subject], connections: &[u32], rounds: u32, measure: Duration) -> Self {
        let groups = connections
            .iter()
            .map(|connections| Group {
                sweep: Sweep::Subjects,
                points: points(subjects, [Setting::new(*connections)]),
                rounds,
            })
            .collect();
        Self { groups, measure, warm_up: Duration::from_millis(300), footprint: false, fresh_keys: false }
    }

    /// Adds the sweeps over workers, connections, keys and Redis latency, with `rounds` rounds each, and the footprint.
    pub(super) fn with_sweeps(mut self, rounds: u32) -> Self {
        let at_16 = Setting::new(16);
        let compared = [Subject::NoOp, Subject::Weir];
        let sweeps = [
            (Sweep::Workers, points(&compared, [1, 2].map(|workers| Setting { workers, ..at_16 }))),
            (Sweep::Connections, points(&compared, [1, 16, 64, 256, 1000].map(Setting::new))),
            (Sweep::Keys, points(&[Subject::Weir], [1, 100, 10_000, 1_000_000].map(|keys| Setting { keys, ..at_16 }))),
            (
                Sweep::RedisDelay,
                points(
                    &[Subject::Weir],
                    [0, 1, 5].map(|millis| Setting { redis_delay_millis: Some(millis), ..Setting::new(64) }),
                ),
            ),
        ];
        self.groups.extend(sweeps.map(|(sweep, points)| Group { sweep, points, rounds }));
        self.footprint = true;
        self
    }

    /// The subjects of all groups.
    pub(super) fn subjects(&self) -> BTreeSet<Subject> {
        self.groups.iter().flat_map(|group| &group.points).map(|point| point.subject).collect()
    }

    /// Removes a subject from all groups.
    pub(super) fn leave_out(&mut self, subject: Subject) {
        for group in &mut self.groups {
            group.points.retain(|point| point.subject != subject);
        }
    }

    /// Number of runs of the load generator.
    pub(super) fn measurements(&self) -> u64 {
        self.groups.iter().map(|group| group.points.len() as u64 * u64::from(group.rounds)).sum()
    }
}

fn points(subjects: &[Subject], settings: impl IntoIterator<Item = Setting>) -> Vec<Point> {
    let all = settings.into_iter().flat_map(|setting| subjects.iter().map(move |subject| (*subject, setting)));
    all.map(|(subject, setting)| Point { subject, setting }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_measured_once_a_round_at_every_number_of_connections() {
        let plan = Plan::of(&[Subject::NoOp, Subject::Weir], &[1, 16], 5, Duration::from_secs(1));
        assert_eq!(plan.measurements(), 2 * 2 * 5);
        let of_the_second: Vec<_> = plan.groups[1].points.iter().map(|it| (it.subject, it.setting.keys)).collect();
        assert_eq!(of_the_second, [(Subject::NoOp, 16), (Subject::Weir, 16)]);
    }

    #[test]
    fn a_sweep_has_several_positions() {
        let plan = Plan::of(&[], &[], 1, Duration::from_secs(1)).with_sweeps(3);
        for group in plan.groups {
            let positions: std::collections::BTreeSet<_> =
                group.points.iter().map(|point| group.sweep.position(point.setting)).collect();
            assert!(positions.len() > 1, "{:?}", group.sweep);
        }
    }
}
