//! Levels of buckets over the last minutes, as the console has read them.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::episodes::Millis;
use crate::limits::live::BucketName;

/// Time for which a sample is kept.
const KEPT: Millis = 600_000;
/// Largest number of buckets with samples.
const MOST: usize = 256;

/// Tokens left in each window of a bucket, at one time.
#[derive(Debug)]
struct Sample {
    at: Millis,
    left: Vec<u64>,
    capacity: Vec<u64>,
}

/// Samples of all buckets.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<BucketName, VecDeque<Sample>>);

impl Samples {
    /// Adds a bucket's state, the object of `weir limits peek`.
    pub(super) fn add(&mut self, bucket: &BucketName, at: Millis, peek: &Value) {
        let windows = peek["windows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers = |name: &str| windows.iter().map(|window| window[name].as_u64().unwrap_or_default()).collect();
        let samples = self.0.entry(bucket.clone()).or_default();
        samples.push_back(Sample { at, left: numbers("remaining"), capacity: numbers("capacity") });
        while samples.front().is_some_and(|first| first.at.saturating_add(KEPT) < at) {
            samples.pop_front();
        }
        if self.0.len() > MOST {
            let oldest = self.0.iter().min_by_key(|(_, samples)| samples.back().map(|last| last.at));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&oldest);
            }
        }
    }

    /// The samples of a bucket: times, and for each window the tokens left and the capacities.
    pub(super) fn json(&self, bucket: &BucketName) -> Value {
        let samples = self.0.get(bucket);
        let samples = || samples.into_iter().flatten();
        let windows = samples().map(|sample| sample.left.len()).max().unwrap_or_default();
        let of = |numbers: fn(&Sample) -> &Vec<u64>| -> Vec<Vec<Option<u64>>> {
            let of_window = |window| samples().map(|sample| numbers(sample).get(window).copied()).collect();
            (0..windows).map(of_window).collect()
        };
        json!({
            "at": samples().map(|sample| sample.at).collect::<Vec<_>>(),
            "left": of(|sample| &sample.left),
            "capacity": of(|sample| &sample.capacity),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(key: &str) -> BucketName {
        BucketName { key_prefix: "weir:".into(), limit: "per_user".into(), key: key.into() }
    }

    #[test]
    fn samples_of_the_last_ten_minutes_are_kept() {
        let mut samples = Samples::default();
        for second in 0..=700 {
            let peek = json!({ "windows": [{ "remaining": second, "capacity": 1_000 }] });
            samples.add(&bucket("alice"), second * 1_000, &peek);
        }
        let kept = samples.json(&bucket("alice"));
        assert_eq!((kept["at"][0].as_u64(), kept["left"][0][0].as_u64()), (Some(100_000), Some(100)));
        assert_eq!(kept["at"].as_array().map(Vec::len), Some(601));
        assert_eq!(samples.json(&bucket("bob")), json!({ "at": [], "left": [], "capacity": [] }));
    }

    #[test]
    fn the_bucket_that_was_read_longest_ago_gives_way() {
        let mut samples = Samples::default();
        let peek = json!({ "windows": [{ "remaining": 1, "capacity": 2 }] });
        for number in 0..=MOST {
            samples.add(&bucket(&number.to_string()), number as u64, &peek);
        }
        assert_eq!(samples.json(&bucket("0"))["at"], json!([]));
        assert_eq!(samples.json(&bucket("1"))["at"], json!([1]));
    }
}
