//! State of budgets in Redis, and the ledger of requests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::Commands;
use weir::Mesh;

/// Bytes of the name of a reservation.
const OWNER: usize = 16;

/// Budget of a user.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) used: u64,
    pub(crate) held: u64,
    /// Reservations of requests in flight.
    pub(crate) open: usize,
    /// Reservations whose leases have ended.
    pub(crate) lost: usize,
}

/// Amounts used and held of a user's budgets of tokens and of money, and the number of reservations.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) tokens: [u64; 2],
    pub(crate) money: [u64; 2],
    pub(crate) reservations: usize,
}

/// Entry of the ledger, by the names of its fields; repeated ones are joined by spaces.
pub(crate) type Entry = HashMap<String, String>;

/// Returns the state of a user's budget.
pub(crate) fn budget(mesh: &Mesh, limit: &str, user: &str) -> Budget {
    let mut redis = mesh.redis_connection();
    let Some(key) = key_of(mesh, limit, user) else { return Budget::default() };
    let fields: HashMap<Vec<u8>, Vec<u8>> = redis.hgetall(key).unwrap();
    // A request that was settled before it was made leaves a mark `D`, which holds nothing.
    let of_state = |state| fields.iter().filter(|(name, value)| name.len() == OWNER && value[0] == state).count();
    let [used, held] = amounts(fields.get(&b"w"[..]).map_or("", |window| std::str::from_utf8(window).unwrap()));
    Budget { used, held, open: of_state(b'O'), lost: of_state(b'L') }
}

/// Returns the state of a user's budgets.
pub(crate) fn spent(mesh: &Mesh, user: &str) -> Spent {
    let [tokens, money] = ["tokens", "money"].map(|limit| budget(mesh, limit, user));
    let reservations = [tokens, money].iter().map(|it| it.open + it.lost).sum();
    Spent { tokens: [tokens.used, tokens.held], money: [money.used, money.held], reservations }
}

/// Returns the key of a user's budget, if there is one.
pub(crate) fn key_of(mesh: &Mesh, limit: &str, user: &str) -> Option<String> {
    let pattern = format!("{}{limit}:{user}#budget*", mesh.key_prefix());
    let mut keys: Vec<String> = mesh.redis_connection().keys(pattern).unwrap();
    assert!(keys.len() < 2, "{keys:?}");
    keys.pop()
}

/// Returns the amounts used and held in a window.
pub(crate) fn amounts(window: &str) -> [u64; 2] {
    let mut numbers = window.split_whitespace().skip(1).map(|number| number.parse().unwrap());
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

/// Waits until nothing is held, and returns what is used of both budgets.
pub(crate) async fn settled(mesh: &Mesh, user: &str) -> [u64; 2] {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let Spent { tokens: [tokens, held], money: [money, money_held], reservations } = spent(mesh, user);
        if (held, money_held, reservations) == (0, 0, 0) {
            return [tokens, money];
        }
        assert!(Instant::now() < deadline, "{:?}", spent(mesh, user));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the entries of the ledger: decisions in the same stream have no id.
pub(crate) fn ledger(mesh: &Mesh) -> Vec<Entry> {
    type Fields = Vec<(String, String)>;
    let stream = format!("{}events", mesh.key_prefix());
    let all: Vec<(String, Fields)> =
        redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut mesh.redis_connection()).unwrap();
    let entry = |(_, fields): (String, Fields)| {
        let mut entry = Entry::new();
        for (name, value) in fields {
            entry.entry(name).and_modify(|joined| *joined = format!("{joined} {value}")).or_insert(value);
        }
        entry
    };
    all.into_iter().map(entry).filter(|entry| entry.contains_key("id")).collect()
}

/// Returns what a ledger has charged to a budget.
pub(crate) fn charged(ledger: &[Entry], key: &str) -> u64 {
    let of_entry = |entry: &Entry| -> u64 {
        let amounts = entry["amounts"].split_whitespace().map(|amount| amount.parse::<u64>().unwrap());
        entry["key"].split_whitespace().zip(amounts).filter(|(its, _)| *its == key).map(|(_, amount)| amount).sum()
    };
    ledger.iter().map(of_entry).sum()
}
