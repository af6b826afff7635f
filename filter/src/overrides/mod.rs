//! Overrides: settings that operators change at run time, without a redeploy. An override makes a limit, or one of its
//! keys, blocked, unlimited, off or shadowed, or replaces its rate, quota or window.
//!
//! Overrides are stored in Redis, written by `weir limits set`. That of a limit is a field of the hash
//! `{prefix}overrides`, named as the limit (`per_user`); each worker reads the hash at an interval, see [`Refresh`]. That
//! of a key is a string beside the key's buckets ([`override_key`]), written by [`SET_SCRIPT`] and read by the script
//! that decides a request, see [`KeyOverrides`]. The value is a [`Setting`]. Earlier versions wrote those of keys as fields of the hash
//! (`per_user:alice`), which are still read. A malformed override is ignored, counted and logged. While Redis is
//! unavailable, the last overrides stay in force until they expire. [Prices](prices_key) of models are read alike.

mod announced;
mod in_force;
mod keys;
mod own;
mod page;
mod prices;
mod refresh;
mod setting;
mod units;

pub use self::announced::{ANNOUNCE_SCRIPT, Announced, KEPT_FOR, MARK};
pub use self::in_force::{MAX_ENTRIES, Override, Overrides};
pub use self::keys::{KeyOverrides, KnownOverride};
pub use self::own::{OVERRIDE_SUFFIX, SET_SCRIPT, override_key};
pub use self::page::{MalformedPage, SCRIPT as PAGE_SCRIPT, hash_key};
pub use self::prices::{MAX_PRICES, prices_key};
pub use self::refresh::{Event, Ignored, Refresh};
pub use self::setting::{MAX_FIELD, MAX_VALUE, Ruling, Setting, SettingError};
pub use self::units::Units;
