//! Data of Redis in a simulation: the specification of the scripts, and a real Redis beside it if there is one.

use weir_filter::redis::Reply;
use weir_filter::units::Micros;
use weir_virtual::{Clock, Redis};

use crate::real::{Copy, OVERRIDES, RealRedis};

/// Differences between the real Redis and the specification that are kept.
const MOST_DIFFERENCES: usize = 3;

/// Redis' data and scripts.
pub(super) struct Store<'a> {
    clock: Clock,
    model: Redis,
    real: Option<&'a mut RealRedis>,
    /// Differences between the real Redis and the specification.
    differences: Vec<String>,
    /// Latest time of Redis' clock. Once the clock shows an earlier one, replies may differ: Redis deletes expired keys
    /// by itself, the specification when they are read.
    latest: Micros,
    is_set_back: bool,
}

/// Copy of the data of a [`Store`].
pub(super) struct StoreCopy {
    model: Redis,
    real: Copy,
}

impl<'a> Store<'a> {
    /// Returns an empty store. `clock` is Redis' clock.
    pub(super) fn new(clock: &Clock, mut real: Option<&'a mut RealRedis>) -> Self {
        let mut differences = Vec::new();
        if let Some(real) = &mut real {
            for reply in real.clear(clock.now()) {
                if let Reply::Error(error) = reply {
                    differences.push(String::from_utf8_lossy(&error).into_owned());
                }
            }
        }
        Self {
            clock: clock.clone(),
            model: Redis::new(clock),
            real,
            differences,
            latest: Micros::ZERO,
            is_set_back: false,
        }
    }

    /// Runs a command of a worker.
    pub(super) fn run(&mut self, command: &[Vec<u8>]) -> Reply {
        let expected = self.model.run(command);
        // All databases and logins are one, as in the specification: a real Redis would keep them by connection.
        let is_login = command.first().is_some_and(|name| matches!(name.as_slice(), b"AUTH" | b"SELECT"));
        let Some(real) = self.real.as_mut().filter(|_| !is_login) else { return expected };
        let now = self.clock.now();
        let reply = real.run(now, command);
        self.is_set_back |= now < self.latest;
        self.latest = self.latest.max(now);
        let may_differ = self.is_set_back || self.differences.len() >= MOST_DIFFERENCES;
        if !may_differ && !is_same(&reply, &expected) {
            let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
            let text = words.join(" ");
            self.differences
                .push(format!("Redis replied {reply:?} to {text:.2000}, and the specification {expected:?}"));
        }
        reply
    }

    pub(super) fn flush(&mut self) {
        self.model.flush();
        self.on_real(&["FLUSHALL"]);
    }

    pub(super) fn flush_scripts(&mut self) {
        self.model.flush_scripts();
        self.on_real(&["SCRIPT", "FLUSH"]);
    }

    pub(super) fn evict(&mut self, nth: usize) {
        if let Some(key) = self.model.evict(nth) {
            self.on_real(&[b"DEL", key.as_slice()]);
        }
    }

    pub(super) fn copy(&mut self) -> StoreCopy {
        let now = self.clock.now();
        StoreCopy { model: self.model.copy(), real: self.real.as_mut().map(|real| real.copy(now)).unwrap_or_default() }
    }

    pub(super) fn restore(&mut self, copy: &StoreCopy) {
        self.model.restore(&copy.model);
        if let Some(real) = &mut self.real {
            real.restore(self.clock.now(), &copy.real);
        }
    }

    /// Sets the override of a whole limit, or removes it.
    pub(super) fn override_limit(&mut self, limit: &[u8], text: Option<&[u8]>) {
        match text {
            Some(text) => self.model.set_limit_override(OVERRIDES, limit, text),
            None => _ = self.model.unset_limit_override(OVERRIDES, limit),
        }
        if let Some(real) = &mut self.real {
            real.override_limit(self.clock.now(), limit, text);
        }
    }

    /// Sets the override of a key, or removes it.
    pub(super) fn override_key(&mut self, bucket: &[u8], text: Option<&[u8]>) {
        match text {
            Some(text) => self.model.set_key_override(bucket, text, None),
            None => _ = self.model.unset_key_override(bucket),
        }
        if let Some(real) = &mut self.real {
            real.override_key(self.clock.now(), bucket, text);
        }
    }

    /// Number of slots that are taken, and whose leases have not ended.
    pub(super) fn slots(&self) -> usize {
        self.model.slots()
    }

    /// Commands that the specification does not know.
    pub(super) fn unknown(&self) -> Vec<String> {
        self.model.unknown()
    }

    /// Differences between the real Redis and the specification.
    pub(super) fn take_differences(&mut self) -> Vec<String> {
        std::mem::take(&mut self.differences)
    }

    fn on_real(&mut self, command: &[impl AsRef<[u8]>]) {
        if let Some(real) = &mut self.real {
            real.run(self.clock.now(), command);
        }
    }
}

/// Whether two replies to a command are the same; of errors, whether they have the same code. The order of the fields of a hash is
/// Redis' own.
fn is_same(real: &Reply, expected: &Reply) -> bool {
    match (real, expected) {
        (Reply::Error(real), Reply::Error(expected)) => {
            real.split(|byte| *byte == b' ').next() == expected.split(|byte| *byte == b' ').next()
        }
        (Reply::Array(real), Reply::Array(expected)) => {
            let pairs = |elements: &[Reply]| {
                let mut pairs: Vec<String> = elements.chunks(2).map(|pair| format!("{pair:?}")).collect();
                pairs.sort_unstable();
                pairs
            };
            // A page of overrides has its cursor here.
            let is_page = real.len() == expected.len() && matches!(real.get(3), Some(Reply::Bulk(_)));
            real == expected || (is_page && real[0] == expected[0] && pairs(&real[1..]) == pairs(&expected[1..]))
        }
        // Numbers of slots that were held: Redis forgets those whose leases have all ended.
        (Reply::Integer(real), Reply::Integer(expected)) => (0..=*expected).contains(real),
        _ => real == expected,
    }
}
