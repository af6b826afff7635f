//! Conversations in which one command carries several calls.

use weir_filter::redis::{Call, Failure, Reply, SessionConfig, Topology};

use crate::conversation::{Conversation, SCRIPT, config};

/// Returns a call that can be joined with others, with two elements of the reply.
fn call(ticket: u32) -> Call {
    Call::script(&SCRIPT, &[format!("k{ticket}")], &[format!("a{ticket}")]).sharing(2)
}

/// Submits all calls in one turn.
fn ask(it: &mut Conversation, tickets: impl IntoIterator<Item = u32>) {
    it.submit_all(tickets.into_iter().map(|ticket| (ticket, call(ticket))));
}

fn two(a: i64, b: i64) -> Result<Reply, Failure> {
    Ok(Reply::Array(vec![Reply::Integer(a), Reply::Integer(b)]))
}

#[test]
fn calls_of_one_turn_are_one_command_and_each_has_its_share_of_the_reply() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=3);
    ask(&mut it, [4]);
    assert_eq!(it.sent(), ["EVALSHA SHA 3 k1 k2 k3 a1 a2 a3", "EVALSHA SHA 1 k4 a4"]);
    it.session.abandon(weir_filter::redis::Ticket(2), false);
    it.redis_says("*6\r\n:1\r\n:10\r\n:2\r\n:20\r\n:3\r\n:30\r\n*2\r\n:4\r\n:40\r\n");
    assert_eq!(it.completed(), [(1, two(1, 10)), (3, two(3, 30)), (4, two(4, 40))]);
    assert_eq!(it.session.in_flight(), 0);
}

#[test]
fn a_packed_reply_is_split_into_packed_shares() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=2);
    ask(&mut it, [3]);
    let packed = |numbers: &[i64]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let reply =
        |numbers: &[i64]| [format!("${}\r\n", 8 * numbers.len()).as_bytes(), &packed(numbers), b"\r\n"].concat();
    it.redis_says([reply(&[1, -10, 2, i64::MAX]), reply(&[3, 30])].concat());
    let share = |numbers: &[i64]| Ok(Reply::Bulk(packed(numbers)));
    assert_eq!(it.completed(), [(1, share(&[1, -10])), (2, share(&[2, i64::MAX])), (3, share(&[3, 30]))]);
}

#[test]
fn other_commands_keep_their_order_between_joined_calls() {
    let mut it = Conversation::connected(config());
    let ping = (3, Call::command(&["PING"]));
    it.submit_all([(1, call(1)), (2, call(2)), ping, (4, call(4)), (5, call(5))]);
    assert_eq!(it.sent(), ["EVALSHA SHA 2 k1 k2 a1 a2", "PING", "EVALSHA SHA 2 k4 k5 a4 a5"]);
    it.redis_says("*4\r\n:1\r\n:1\r\n:2\r\n:2\r\n+PONG\r\n*4\r\n:4\r\n:4\r\n:5\r\n:5\r\n");
    let completed: Vec<_> = it.completed().into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(completed, [1, 2, 3, 4, 5]);
}

#[test]
fn one_command_carries_64_calls_at_most() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 0..100);
    let sent = it.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].starts_with("EVALSHA SHA 64 ") && sent[1].starts_with("EVALSHA SHA 36 "), "{sent:?}");
}

#[test]
fn one_command_has_a_reply_of_256_elements_at_most() {
    let mut it = Conversation::connected(config());
    it.submit_all((0..10).map(|ticket| (ticket, Call::script(&SCRIPT, &["k"], &["a"]).sharing(100))));
    assert_eq!(it.sent(), ["EVALSHA SHA 2 k k a a"; 5]);
    it.submit_all([(10, Call::script(&SCRIPT, &["k"], &["a"]).sharing(1_000))]);
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k a"]);
}

#[test]
fn an_error_of_one_call_fails_no_other() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=3);
    it.redis_says("*5\r\n:1\r\n:10\r\n-WRONGTYPE Operation against a key\r\n:3\r\n:30\r\n");
    assert_eq!(it.completed(), [(1, two(1, 10)), (2, Err(Failure::Refused)), (3, two(3, 30))]);
    assert_eq!(it.trouble().failure, Failure::Refused);
}

#[test]
fn an_error_reply_fails_all_calls_of_the_command() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=2);
    it.redis_says("-OOM command not allowed\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::Refused)), (2, Err(Failure::Refused))]);
    assert_eq!(it.troubles().len(), 1);
}

#[test]
fn a_reply_that_is_too_short_completes_all_calls() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=2);
    it.redis_says("*3\r\n:1\r\n:10\r\n:2\r\n");
    let rest = Ok(Reply::Array(vec![Reply::Integer(2)]));
    assert_eq!(it.completed(), [(1, two(1, 10)), (2, rest)]);
    ask(&mut it, 3..=4);
    it.redis_says(":1\r\n");
    it.passes(config().timeout);
    assert_eq!(it.completed().len(), 2);
}

#[test]
fn the_source_of_a_lost_script_is_sent_once_for_all_calls() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=2);
    it.sent();
    it.redis_says("-NOSCRIPT No matching script. Please use EVAL.\r\n");
    assert_eq!(it.sent(), ["EVAL return 1 1 k1 a1", "EVALSHA SHA 1 k2 a2"]);
    it.redis_says("*2\r\n:1\r\n:10\r\n*2\r\n:2\r\n:20\r\n");
    assert_eq!(it.completed(), [(1, two(1, 10)), (2, two(2, 20))]);
}

#[test]
fn calls_are_not_joined_after_a_crossslot_error() {
    let mut it = Conversation::connected(config());
    ask(&mut it, 1..=2);
    it.sent();
    it.redis_says("-CROSSSLOT Keys in request don't hash to the same slot\r\n");
    assert_eq!(it.sent(), ["EVAL return 1 1 k1 a1", "EVALSHA SHA 1 k2 a2"]);
    it.redis_says("*2\r\n:1\r\n:10\r\n*2\r\n:2\r\n:20\r\n");
    assert_eq!(it.completed(), [(1, two(1, 10)), (2, two(2, 20))]);
    assert!(it.troubles().is_empty());
    ask(&mut it, 3..=4);
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k3 a3", "EVALSHA SHA 1 k4 a4"]);
    // CROSSSLOT to a command of one call fails the call.
    it.redis_says("-CROSSSLOT Keys in request don't hash to the same slot\r\n*2\r\n:4\r\n:40\r\n");
    assert_eq!(it.completed(), [(3, Err(Failure::ClusterMode)), (4, two(4, 40))]);
}

#[test]
fn unsent_calls_are_sent_on_the_next_connection() {
    let mut it = Conversation::connected(config());
    it.submit_unsent(1, call(1));
    it.redis_closes();
    it.ticks();
    assert_eq!(it.streams(), ["open"]);
    it.redis_says("+PONG\r\n");
    assert_eq!(it.sent(), ["PING", "EVALSHA SHA 1 k1 a1"]);
}

#[test]
fn in_a_cluster_each_call_is_a_command_and_a_node_that_is_not_ready_does_not_end_the_connection() {
    let mut it = Conversation::connected(SessionConfig { topology: Topology::Cluster, ..config() });
    ask(&mut it, 1..=4);
    let alone = ["1", "2", "3", "4"].map(|nth| format!("EVALSHA SHA 1 k{nth} a{nth}"));
    assert_eq!(it.sent(), alone);
    it.redis_says("-READONLY You can't write against a read only replica.\r\n*2\r\n:2\r\n:20\r\n");
    it.redis_says("-upstream failure\r\n-no upstream host\r\n");
    let (unready, lost, none) = (Err(Failure::NotReady), Err(Failure::Reset), Err(Failure::Unavailable));
    assert_eq!(it.completed(), [(1, unready), (2, two(2, 20)), (3, lost), (4, none)]);
    it.ticks();
    assert_eq!(it.streams(), [""; 0]);
    ask(&mut it, [5]);
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k5 a5"]);
}
