#!/bin/sh
# Breaks the filter on purpose, in ten ways one after the other, and fails unless the simulation finds each.
#
# The sources are copied to target/mutants, and each mutant is built there, for target. MUTANTS="2 5" runs only those;
# SEEDS is the number of seeds, of small fleets first and then of large ones; PROFILE=bench builds optimised mutants.
set -eu

cd "$(dirname "$0")/../.."
copy=$PWD/target/mutants
mkdir -p "$copy"
git ls-files -z | xargs -0 cp --parents -t "$copy"
profile=${PROFILE:-dev}
folder=debug
if [ "$profile" = bench ]; then folder=release; fi
missed=0

# mutant NUMBER NAME FILE OLD NEW: replaces the text OLD, which the file has exactly once, by NEW.
mutant() {
    number=$1 name=$2 file=$copy/filter/src/$3
    case " ${MUTANTS:-1 2 3 4 5 6 7 8 9 10} " in *" $number "*) ;; *) return 0 ;; esac
    OLD=$4 NEW=$5 perl -0777 -i -pe '
        my $count = () = /\Q$ENV{OLD}\E/g;
        die "$ARGV has $count times: $ENV{OLD}\n" unless $count == 1;
        s/\Q$ENV{OLD}\E/$ENV{NEW}/;
    ' "$file"
    CARGO_TARGET_DIR=$PWD/target cargo build -q --manifest-path "$copy/Cargo.toml" -p weir-sim --example seeds \
        --profile "$profile"
    if found=$("target/$folder/examples/seeds" "${SEEDS:-200}"); then
        echo "mutant $number, $name: NOT FOUND in ${SEEDS:-200} seeds"
        missed=1
    else
        echo "mutant $number, $name: found $found"
    fi
    cp "filter/src/$3" "$file"
}

mutant 1 "tokens flow in twice as fast" limit/algorithm/token_state.rs \
    'units.saturating_sub(to.minus(from).0.saturating_mul(self.rate.per_micro()))' \
    'units.saturating_sub(to.minus(from).0.saturating_mul(self.rate.per_micro()).saturating_mul(2))'
mutant 2 "a denied request spends from the limits that would admit it" limit/check/script_model.rs \
    'if admitted && fits(bucket.group) && (bucket.cost > 0 || takes)' \
    'if state.used.saturating_add(bucket.cost) <= bucket.limit && (bucket.cost > 0 || takes)'
mutant 3 "requests have three timeouts" limiter/overload.rs \
    'pending.arrived_at.plus(self.config.redis.timeout)' \
    'pending.arrived_at.plus(self.config.redis.timeout.times(3))'
mutant 4 "slots of aborted requests are renewed for ever" limiter/mod.rs \
    'if let Some(holds) = self.slots.leave(request) {' \
    'if let Some(holds) = None::<crate::limit::HeldSlots> {'
mutant 5 "tokens of a lease are never used up" limiter/lease_table.rs \
    'let tokens = if is_admitted { &mut held.used } else { &mut held.left };' \
    'let tokens = &mut held.left;'
mutant 6 "a silent connection is never replaced" redis/session/phase.rs \
    'self.calls.oldest_sent().map(|sent| sent.plus(self.patience(4)))' \
    'self.calls.oldest_sent().map(|_| Micros(u64::MAX))'
mutant 7 "a missing script is not sent again" redis/session/replies.rs \
    'caller.as_mut().filter(|_| is_split || is_noscript(error))' \
    'caller.as_mut().filter(|_| is_split)'
mutant 8 "a read-only master is never left" redis/session/replies.rs \
    'if failure == Failure::NotReady || revokes(error) {' \
    'if revokes(error) {'
mutant 9 "delayed requests are released at once" limiter/on_reply.rs \
    'self.delay_queue.hold(now.plus(delay), request, decision, refund)' \
    'self.delay_queue.hold(now, request, decision, refund)'
mutant 10 "the waits between two connections grow to 50 s" redis/session/backoff.rs \
    'const LONGEST: Micros = Micros::from_secs(5);' \
    'const LONGEST: Micros = Micros::from_secs(50);'
exit $missed
