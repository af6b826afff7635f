//! Handshake: the `AUTH`, `SELECT` and `PING` commands sent on a new connection before any call.
//!
//! All commands are sent at once. A session holds calls back until every command has succeeded, so that no call runs in
//! the wrong database.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{
    Credentials, Failure, Reply, Trouble,
    resp::{describe, encode_command, failure_of},
};

/// Handshake commands whose replies have not arrived yet.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    pending: VecDeque<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Auth,
    Select,
    Ping,
}

impl Handshake {
    /// Appends `AUTH` where there are credentials, and `SELECT` unless the database is 0.
    pub(super) fn begin(credentials: Option<&Credentials>, database: u32, out: &mut Vec<u8>) -> Self {
        let mut pending = VecDeque::new();
        if let Some(Credentials { username, password }) = credentials {
            match username {
                Some(username) => encode_command(out, &["AUTH", username, password.expose()]),
                None => encode_command(out, &["AUTH", password.expose()]),
            }
            pending.push_back(Step::Auth);
        }
        if database != 0 {
            encode_command(out, &["SELECT", &database.to_string()]);
            pending.push_back(Step::Select);
        }
        Self { pending }
    }

    /// Appends `PING`: its reply proves that the connection works.
    pub(super) fn and_ping(mut self, out: &mut Vec<u8>) -> Self {
        encode_command(out, &["PING"]);
        self.pending.push_back(Step::Ping);
        self
    }

    /// Returns whether every command has succeeded.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    /// Handles the next reply.
    ///
    /// # Errors
    /// If the reply is not the success reply of its command.
    pub(super) fn answer(&mut self, reply: &Reply) -> Result<(), Trouble> {
        let step = self.pending.pop_front();
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
    fn credentials_database_and_ping_are_sent_at_once() {
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
    fn no_password_and_database_0_need_no_handshake() {
        let mut out = Vec::new();
        assert!(Handshake::begin(None, 0, &mut out).is_done());
        assert!(out.is_empty());
        Handshake::begin(Some(&credentials(None)), 0, &mut out);
        assert_eq!(out, b"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n");
    }

    #[test]
    fn a_peer_that_echoes_the_password_does_not_get_it_logged() {
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
