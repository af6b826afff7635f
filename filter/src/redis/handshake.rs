//! What a new connection is asked before any call: who we are, which database, and whether it answers at all.
//!
//! All of it goes out at once. On a session, calls are held back until all of it was granted, so that none of
//! them lands in the wrong database.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{
    Credentials, Failure, Reply, Trouble,
    resp::{describe, encode_command, failure_of},
};

/// The answers still owed.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    owed: VecDeque<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Auth,
    Select,
    Ping,
}

impl Handshake {
    /// Appends `AUTH` and `SELECT`, where they are called for.
    pub(super) fn begin(credentials: Option<&Credentials>, database: u32, out: &mut Vec<u8>) -> Self {
        let mut owed = VecDeque::new();
        if let Some(Credentials { username, password }) = credentials {
            match username {
                Some(username) => encode_command(out, &["AUTH", username, password.expose()]),
                None => encode_command(out, &["AUTH", password.expose()]),
            }
            owed.push_back(Step::Auth);
        }
        if database != 0 {
            encode_command(out, &["SELECT", &database.to_string()]);
            owed.push_back(Step::Select);
        }
        Self { owed }
    }

    /// Appends `PING`: the proof that somebody is there.
    pub(super) fn and_ping(mut self, out: &mut Vec<u8>) -> Self {
        encode_command(out, &["PING"]);
        self.owed.push_back(Step::Ping);
        self
    }

    /// Whether everything was granted.
    pub(super) fn is_done(&self) -> bool {
        self.owed.is_empty()
    }

    /// Takes the next answer.
    ///
    /// # Errors
    /// Where it is not the one hoped for.
    pub(super) fn answer(&mut self, reply: &Reply) -> Result<(), Trouble> {
        let step = self.owed.pop_front();
        match (step, reply) {
            (Some(Step::Auth | Step::Select), Reply::Simple(status)) if status == b"OK" => Ok(()),
            (Some(Step::Ping), Reply::Simple(status)) if status == b"PONG" => Ok(()),
            (Some(step), Reply::Error(error)) => {
                let detail = format!("{} failed: {}", step.command(), describe(error));
                Err(Trouble::new(failure_of(error), detail))
            }
            (Some(step), reply) => {
                let detail = format!("expected {}, found {}", step.expected(), reply.kind());
                Err(Trouble::new(Failure::Protocol, detail))
            }
            (None, reply) => {
                Err(Trouble::new(Failure::Protocol, format!("expected no more replies, found {}", reply.kind())))
            }
        }
    }
}

impl Step {
    fn command(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::Select => "SELECT",
            Self::Ping => "PING",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Auth => "+OK after AUTH",
            Self::Select => "+OK after SELECT",
            Self::Ping => "+PONG after PING",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Secret;

    fn credentials(username: Option<&str>) -> Credentials {
        Credentials { username: username.map(Into::into), password: Secret::new("hunter2") }
    }

    #[test]
    fn an_acl_user_in_a_database_of_its_own_is_asked_for_in_one_go() {
        let mut out = Vec::new();
        let mut handshake = Handshake::begin(Some(&credentials(Some("weir"))), 7, &mut out).and_ping(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "*3\r\n$4\r\nAUTH\r\n$4\r\nweir\r\n$7\r\nhunter2\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n*1\r\n$4\r\nPING\r\n"
        );
        for answer in ["OK", "OK", "PONG"] {
            assert!(!handshake.is_done());
            handshake.answer(&Reply::Simple(answer.into())).unwrap();
        }
        assert!(handshake.is_done());
    }

    #[test]
    fn nothing_is_asked_for_the_default_user_in_the_first_database() {
        let mut out = Vec::new();
        assert!(Handshake::begin(None, 0, &mut out).is_done());
        assert!(out.is_empty());
        Handshake::begin(Some(&credentials(None)), 0, &mut out);
        assert_eq!(out, b"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n");
    }

    #[test]
    fn a_peer_that_echoes_what_it_is_sent_does_not_make_weir_print_the_password() {
        let credentials = credentials(None);
        for echo in [
            Reply::Simple(b"hunter2".to_vec()),
            Reply::Bulk(b"hunter2".to_vec()),
            Reply::Array(vec![Reply::Bulk(b"AUTH".to_vec()), Reply::Bulk(b"hunter2".to_vec())]),
            Reply::Error(b"ERR unknown command `AUTH`, with args beginning with: `hunter2`, ".to_vec()),
        ] {
            let trouble = Handshake::begin(Some(&credentials), 0, &mut Vec::new()).answer(&echo).unwrap_err();
            assert!(!trouble.detail.contains("hunter2"), "{trouble:?}");
        }
    }
}
