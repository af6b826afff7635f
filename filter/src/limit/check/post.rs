//! Posts: tell Redis what a worker has admitted by itself while it could not ask.

use super::bucket::BucketCheck;
use super::call::mixed_call;
use super::scripts::Scripts;
use crate::limit::algorithm::SlotOwner;
use crate::redis::Call;

/// The call that spends the cost of each of these checks: of a token bucket as much of it as is left.
#[must_use]
pub fn post_call(spent: &[BucketCheck], scripts: &Scripts) -> Call {
    mixed_call(scripts.post(), spent, SlotOwner::default()).alone()
}

/// Model of the script.
#[cfg(not(target_arch = "wasm32"))]
mod model {
    use alloc::string::ToString;

    use crate::limit::algorithm::Arguments;
    use crate::limit::check::bucket::BucketCheck;
    use crate::limit::check::model::Model;
    use crate::limit::check::script_bucket::{Bucket, Kind};
    use crate::limit::check::script_model::{KnownScript, ScriptCall};
    use crate::redis::Reply;
    use crate::units::Micros;

    impl Model {
        /// Spends the cost of each of these checks, or as much of it as the bucket has left, as [`post_call`] does.
        ///
        /// [`post_call`]: super::post_call
        pub fn post(&mut self, now: Micros, spent: &[BucketCheck]) {
            for check in spent {
                let Arguments { letter, cost, limit, more: [x, y] } = check.algorithm.arguments(check.cost);
                let numbers = [cost, limit].map(|number| number.to_string());
                let [cost, limit] = numbers.each_ref();
                let (x, y) = (x.to_string(), y.to_string());
                let arguments = [letter, "0", cost, limit, &x, &y, ""].map(|text| text.as_bytes().to_vec());
                let keys = core::slice::from_ref(&check.key);
                let call = ScriptCall { script: KnownScript::Post, keys, arguments: &arguments };
                let posted = self.post_all(now, call);
                debug_assert_eq!(posted, Some(Reply::Integer(1)), "the arguments of an algorithm");
            }
        }

        /// Returns the reply to a call of the script: the number of its buckets.
        pub(in crate::limit::check) fn post_all(&mut self, now: Micros, call: ScriptCall<'_>) -> Option<Reply> {
            let mut buckets = 0_i64;
            for (place, (key, arguments)) in call.keys.iter().zip(call.arguments.chunks(7)).enumerate() {
                let bucket = Bucket::read(place, key, arguments)?;
                let mut bucket = bucket;
                if let Kind::Tokens(_) = bucket.kind {
                    let used = Bucket { cost: 0, ..bucket }.look(self.bucket(key), now, Default::default()).used;
                    bucket.cost = bucket.cost.min(bucket.limit.saturating_sub(used));
                }
                if bucket.cost > 0 {
                    bucket.look(self.bucket(key), now, Default::default());
                    bucket.spend(self.bucket(key), now, Default::default());
                }
                buckets = buckets.saturating_add(1);
            }
            Some(Reply::Integer(buckets))
        }
    }
}
