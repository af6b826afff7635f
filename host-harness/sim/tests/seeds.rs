//! Fixed seeds: the guarantees hold for each, and a seed is the same simulation whenever it runs.

use weir_sim::{Guarantee, Kind, Size, Totals, simulate, simulate_losses, simulate_outages, sweep};

/// Page about simulations.
const PAGE: &str = include_str!("../../../docs/src/simulate.md");

/// A small fleet, for many seeds in little time.
const SMALL: Size = Size { seconds: 36, proxies: 2, workers: 2 };

fn hold(first: u64, seeds: u64, size: Size) -> weir_sim::Progress {
    let done = sweep(first, seeds, size, 2, &|_| true);
    let broken: Vec<String> =
        done.broken.iter().filter_map(|(seed, it)| Some(format!("seed {seed}: {}", it.broken.as_ref()?))).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert_eq!(done.simulations, seeds);
    done
}

#[test]
fn the_guarantees_hold_for_whole_fleets() {
    let done = hold(1, 8, Size::default());
    assert!(done.totals.admitted > 500 && done.totals.denied > 500, "{:?}", done.totals);
}

#[test]
fn the_guarantees_hold_for_small_fleets_with_every_kind_of_fault() {
    let done = hold(1_000, 60, SMALL);
    let missing: Vec<&Kind> = Kind::ALL.iter().filter(|kind| !done.kinds.contains_key(kind)).collect();
    assert!(missing.is_empty(), "no seed has the faults {missing:?}");
    assert!(done.totals.failed > 100, "{:?}", done.totals);
}

/// Seeds that once broke a guarantee, and why.
const ONCE_BROKEN: [(u64, Size, &str); 1] =
    [(479, Size { seconds: 60, proxies: 8, workers: 4 }, "an override makes a bucket faster while it holds a request")];

#[test]
fn seeds_that_once_broke_a_guarantee_break_none() {
    for (seed, size, why) in ONCE_BROKEN {
        assert_eq!(simulate(seed, size, None).broken, None, "seed {seed}: {why}");
    }
}

/// Seeds with which a worker that was idle in an outage did not notice it, and admitted more with the others.
const ONCE_OVER_BY_SHARES: [u64; 3] = [5_185, 5_216, 5_764];

#[test]
fn workers_never_admit_more_by_their_shares_over_outages_and_returns() {
    let (mut totals, mut broken) = (Totals::default(), Vec::new());
    for seed in (5_000..5_060).chain(ONCE_OVER_BY_SHARES) {
        let outcome = simulate_outages(seed, SMALL);
        totals.add(&outcome.totals);
        broken.extend(outcome.broken.map(|it| format!("seed {seed}: {it}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(totals.admitted > 1_000 && totals.denied > 1_000 && totals.by_shares > 1_000, "{totals:?}");
}

/// Heals leave little of what buckets admit beyond their promises when Redis loses its data: requests in flight at the
/// loss, admissions of other workers until the heal, and states that only workers without requests remember. And they
/// deny no more than what was lost.
#[test]
fn workers_heal_a_redis_that_has_lost_its_data() {
    let [without, with] = [false, true].map(|heals| {
        let (mut beyond, mut admitted, mut broken) = (0, 0, Vec::new());
        for seed in 7_000..7_060 {
            let (outcome, its) = simulate_losses(seed, SMALL, heals);
            beyond += its;
            admitted += outcome.totals.admitted;
            broken.extend(outcome.broken.map(|it| format!("seed {seed}: {it}")));
        }
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        println!("60 fleets, heals: {heals}: {admitted} requests admitted, {beyond} tokens beyond the promises");
        (beyond, admitted)
    });
    let (saved, denied) = (without.0.saturating_sub(with.0), without.1.saturating_sub(with.1));
    assert!(without.0 > 300, "the losses take nothing: {without:?}");
    assert!(with.0 * 10 < without.0 * 3, "{with:?} with heals, {without:?} without");
    // Requests cost more than a token on average.
    assert!(denied * 5 < saved * 4, "heals deny {denied} requests to save {saved} tokens");
}

#[test]
fn a_seed_is_the_same_simulation_whenever_it_runs() {
    let [first, second] = [(); 2].map(|()| simulate(1_003, SMALL, None));
    assert_eq!(first.totals, second.totals);
    assert_eq!(first.kinds, second.kinds);
    assert_ne!(simulate(1_004, SMALL, None).totals, first.totals);
}

#[test]
fn the_page_names_every_fault_and_every_guarantee() {
    let names = Kind::ALL.iter().map(|kind| kind.name()).chain(Guarantee::ALL.map(Guarantee::name));
    let missing: Vec<&str> = names.filter(|name| !PAGE.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/src/simulate.md does not name {missing:?}");
}
