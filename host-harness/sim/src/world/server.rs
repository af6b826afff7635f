//! Redis of a simulation: it runs the commands that arrive, unless a fault prevents it.

use weir_filter::redis::Reply;
use weir_filter::units::Micros;
use weir_virtual::resp::encode;

use super::{Event, World};
use crate::plan::faults::Kind;

/// Replies that are not RESP.
const GARBAGE: &[&[u8]] =
    &[b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\0", b"$-7\r\n", b"*99999999999\r\n", b":1x\r\n", b"\r\n"];

/// Nanoseconds in a microsecond.
const NANOS: u64 = 1_000;

/// Result of a command at a faulty Redis.
enum Served {
    Reply(Reply),
    Bytes(Vec<u8>),
    /// Redis, or the network, closes the connection; after a part of the reply, where it is given.
    Cut(Option<Reply>),
}

impl World<'_> {
    /// Serves bytes that arrive at Redis.
    pub(super) fn serve(&mut self, connection: usize, bytes: Vec<u8>, is_served: bool) {
        let now = self.now();
        let Some(place) = self.instances[self.connections[connection].instance].as_ref().map(|it| it.place) else {
            return;
        };
        if self.connections[connection].is_closed || self.is_down {
            return;
        }
        if self.is_cut_off(connection, place) {
            self.connections[connection].is_dead = true;
            return;
        }
        if !is_served && let Some(at) = self.turn(now, &bytes) {
            return self.at(at, Event::AtRedis { connection, bytes, is_served: true });
        }
        self.redis_clock.set(self.time.raw(now));
        self.connections[connection].commands.push(&bytes);
        let mut replies = Vec::new();
        while let Some(command) = self.connections[connection].commands.next() {
            let Ok(command) = command else { return self.cut(connection, now) };
            match self.run(connection, place, &command) {
                Served::Reply(reply) => encode(&reply, &mut replies),
                Served::Bytes(bytes) => replies.extend(bytes),
                Served::Cut(reply) => {
                    if let Some(reply) = reply {
                        let whole = replies.len();
                        encode(&reply, &mut replies);
                        replies.truncate(whole + (replies.len() - whole) / 2);
                        self.reply(connection, now, replies);
                    }
                    return self.cut(connection, now);
                }
            }
        }
        if !replies.is_empty() {
            self.reply(connection, now, replies);
        }
    }

    /// Time at which Redis has run a message that arrives now, if it takes any.
    fn turn(&mut self, now: Micros, bytes: &[u8]) -> Option<Micros> {
        let frozen = self.active.iter().filter(|fault| fault.kind == Kind::Frozen).map(|fault| fault.until).max();
        let slow = self.active.iter().find(|fault| fault.kind == Kind::Slow);
        let takes = slow.map_or(Micros::ZERO, |fault| Micros(500 + fault.draw % 6_000));
        let begins = now.max(frozen.unwrap_or_default()).0.saturating_mul(NANOS).max(self.busy_until_nanos);
        let scripts = if self.plan.script_nanos > 0 { scripts_in(bytes) } else { 0 };
        self.busy_until_nanos = begins + takes.0 * NANOS + scripts * self.plan.script_nanos;
        self.count_scripts(begins / NANOS, scripts);
        let until = Micros(self.busy_until_nanos.div_ceil(NANOS));
        (until > now).then_some(until)
    }

    fn count_scripts(&mut self, micros: u64, scripts: u64) {
        let second = (micros / 1_000_000) as usize;
        if scripts > 0 && self.scripts.len() <= second {
            self.scripts.resize(second + 1, 0);
        }
        if let Some(count) = self.scripts.get_mut(second) {
            *count += scripts;
        }
    }

    fn run(&mut self, connection: usize, place: usize, command: &[Vec<u8>]) -> Served {
        let is_script = command.first().is_some_and(|name| name.starts_with(b"EVAL") || name == b"ZREM");
        let error = |text: &str| Served::Reply(Reply::Error(text.as_bytes().to_vec()));
        if self.connections[connection].is_stale && is_script {
            return error("READONLY You can't write against a read only replica.");
        }
        if self.active.is_empty() {
            return Served::Reply(self.redis.run(command));
        }
        if self.strikes(Kind::Reset, place).is_some() {
            return Served::Cut(None);
        }
        let failing = self.active.iter().find_map(|fault| {
            let (text, is_for_all) = fault.kind.error()?;
            let concerns = fault.concerns(place, self.plan.size.workers) && (is_script || is_for_all);
            concerns.then_some((text, fault.kind))
        });
        if let Some((text, kind)) = failing
            && self.strikes(kind, place).is_some()
        {
            return error(text);
        }
        if self.strikes(Kind::LostReplies, place).is_some() {
            let _ = self.redis.run(command);
            return Served::Cut(None);
        }
        let reply = self.redis.run(command);
        if self.strikes(Kind::ResetMidReply, place).is_some() {
            return Served::Cut(Some(reply));
        }
        if let Some(fault) = self.strikes(Kind::Garbage, place) {
            return Served::Bytes(GARBAGE[fault.draw as usize % GARBAGE.len()].to_vec());
        }
        if self.strikes(Kind::Giant, place).is_some() {
            return Served::Bytes([b"$1073741824\r\n".as_slice(), &[b'x'; 5_000]].concat());
        }
        if self.strikes(Kind::WrongType, place).is_some() {
            let replies = [Reply::Simple(b"OK".to_vec()), Reply::Integer(7), Reply::Nil, Reply::Bulk(b"no".to_vec())];
            return Served::Reply(replies[self.draw() as usize % replies.len()].clone());
        }
        Served::Reply(reply)
    }
}

/// Number of script calls in a message.
fn scripts_in(bytes: &[u8]) -> u64 {
    bytes.windows(6).filter(|word| word == b"\r\nEVAL").count() as u64
}
