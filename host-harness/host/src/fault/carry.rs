//! Connection through the proxy: commands up, replies down, and what a fault does to them.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cut::Cutter;
use super::draw::Draws;
use super::proxy::Counts;
use super::{Fault, Faults};

/// Start of the longest string of Redis, and the number of its bytes that arrive.
const GIANT: &[u8] = b"$536870912\r\n";
const GIANT_ARRIVES: usize = 64 * 1024 * 1024;
const GARBAGE: &[u8] = b"\x00\xffHTTP/1.1 no RESP at all\n$-7\r\n*x\r\n";
/// Number of commands that wait for their delay before the client is read no more.
const MAX_DELAYED: usize = 16 * 1024;

/// Time after which a connection that passes nothing is reset, so that abandoned ones do not pile up.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// Connection of a client to the proxy's target.
pub(super) struct Carrier<'a> {
    client: TcpStream,
    server: TcpStream,
    faults: watch::Receiver<Faults>,
    draws: Draws,
    counts: &'a Counts,
    commands: Cutter,
    replies: Cutter,
    /// Commands on their way, each with the time at which it goes on.
    delayed: VecDeque<(Instant, Bytes)>,
    /// Fault of each reply to come, in order.
    struck: VecDeque<Option<Fault>>,
    /// Faults that strike after a number of bytes of replies.
    armed: Vec<(u64, Fault)>,
    /// Number of bytes of replies that have passed.
    passed: u64,
    /// Whether the client has closed its sending side, and whether that has been passed on.
    client_ended: bool,
    server_told: bool,
    /// Whether replies are discarded: the proxy has closed its sending side.
    muted: bool,
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
enum Step {
    On,
    End,
}

/// Carries a connection until it ends.
pub(super) async fn carry(
    client: TcpStream,
    target: &str,
    mut faults: watch::Receiver<Faults>,
    mut draws: Draws,
    counts: &Counts,
) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let now = faults.borrow_and_update().clone();
    let opening = draws.opening(&now);
    if !opening.is_zero() {
        counts.add(Fault::SlowOpen(opening));
        sleep(opening).await;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        reset(&client);
        return Ok(());
    };
    let _ = server.set_nodelay(true);
    let armed = draws.armed(&now);
    let carrier = Carrier {
        client,
        server,
        faults,
        draws,
        counts,
        commands: Cutter::default(),
        replies: Cutter::default(),
        delayed: VecDeque::new(),
        struck: VecDeque::new(),
        armed,
        passed: 0,
        client_ended: false,
        server_told: false,
        muted: false,
    };
    carrier.run().await
}

impl Carrier<'_> {
    async fn run(mut self) -> io::Result<()> {
        loop {
            // The only place that marks a change as seen: one that arrives while a command is carried must arm its
            // faults too.
            if self.faults.has_changed().map_err(|_| io::ErrorKind::NotConnected)? {
                self.arm();
            }
            let (reset_now, drop_now) = {
                let faults = self.faults.borrow();
                let reset = faults.certainly(Fault::Reset).then_some(Fault::Reset);
                (faults.refuse().then_some(Fault::Refuse).or(reset), faults.certainly(Fault::Drop))
            };
            if let Some(fault) = reset_now {
                self.counts.add(fault);
                reset(&self.client);
                return Ok(());
            }
            if drop_now {
                self.counts.add(Fault::Drop);
                self.hold().await?;
                continue;
            }
            if self.client_ended && self.delayed.is_empty() && !self.server_told {
                self.server_told = true;
                self.server.shutdown().await?;
            }
            let next = self.delayed.front().map(|(at, _)| *at);
            let step = tokio::select! {
                changed = changed(&mut self.faults) => changed?,
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.forward().await?,
                read = self.client.read_buf(self.commands.buffer()),
                    if !self.client_ended && self.delayed.len() < MAX_DELAYED => self.take(read?).await?,
                read = self.server.read_buf(self.replies.buffer()) => match read? {
                    0 => {
                        let rest = self.replies.rest();
                        if !self.muted {
                            self.client.write_all(&rest).await?;
                        }
                        return self.client.shutdown().await;
                    }
                    _ => self.answer().await?,
                },
            };
            if step == Step::End {
                return Ok(());
            }
        }
    }

    /// Passes nothing until the faults change. An error after [`LOST_AFTER`] ends the connection.
    async fn hold(&mut self) -> io::Result<()> {
        let Ok(changed) = timeout(LOST_AFTER, changed(&mut self.faults)).await else {
            reset(&self.client);
            return Err(io::ErrorKind::TimedOut.into());
        };
        changed.map(drop)
    }

    /// Draws the faults in force that strike after a number of bytes of replies from now on.
    fn arm(&mut self) {
        let now = self.faults.borrow_and_update().clone();
        self.armed = self.draws.armed(&now).into_iter().map(|(bytes, fault)| (bytes + self.passed, fault)).collect();
    }

    /// Takes commands of the client, and draws their faults.
    async fn take(&mut self, read: usize) -> io::Result<Step> {
        self.client_ended |= read == 0;
        let now = self.faults.borrow().clone();
        while let Some(command) = self.commands.next() {
            let struck = self.draws.command(&now);
            if let Some(delay) = struck.delay {
                self.counts.add(Fault::Delay(delay));
            }
            let at = Instant::now() + struck.delay.unwrap_or_default();
            let at = self.delayed.back().map_or(at, |(last, _)| at.max(*last));
            if matches!(struck.fault, Some(Fault::Drop | Fault::Reset)) {
                // Both strike before the command; commands before it still pass.
                while self.delayed.front().is_some() {
                    self.forward().await?;
                }
                let fault = struck.fault.unwrap_or(Fault::Drop);
                if self.strike(fault).await? == Step::End {
                    return Ok(Step::End);
                }
                self.delayed.push_back((Instant::now(), command));
                self.struck.push_back(None);
                continue;
            }
            self.delayed.push_back((at, command));
            self.struck.push_back(struck.fault);
        }
        if self.client_ended {
            let rest = self.commands.rest();
            if !rest.is_empty() {
                self.delayed.push_back((Instant::now(), rest));
            }
        }
        Ok(Step::On)
    }

    /// Sends the first command on.
    async fn forward(&mut self) -> io::Result<Step> {
        if let Some((at, command)) = self.delayed.pop_front() {
            sleep_until(at).await;
            self.server.write_all(&command).await?;
        }
        Ok(Step::On)
    }

    /// Passes the replies that are complete.
    async fn answer(&mut self) -> io::Result<Step> {
        while let Some(reply) = self.replies.next() {
            let step = match self.struck.pop_front().flatten() {
                None => self.pass(&reply).await?,
                Some(Fault::Split) => {
                    self.counts.add(Fault::Split);
                    self.pass_split(&reply).await?
                }
                Some(fault) => self.strike(fault).await?,
            };
            if step == Step::End {
                return Ok(Step::End);
            }
        }
        Ok(Step::On)
    }

    async fn pass_split(&mut self, reply: &[u8]) -> io::Result<Step> {
        for byte in reply.chunks(1) {
            if self.pass(byte).await? == Step::End {
                return Ok(Step::End);
            }
            tokio::task::yield_now().await;
        }
        Ok(Step::On)
    }

    /// Passes bytes of a reply, up to a fault that strikes among them.
    async fn pass(&mut self, mut reply: &[u8]) -> io::Result<Step> {
        while let Some((at, fault)) = self.armed.first().copied() {
            let until = usize::try_from(at.saturating_sub(self.passed)).unwrap_or(usize::MAX);
            let Some((before, rest)) = reply.split_at_checked(until) else { break };
            self.write(before).await?;
            self.armed.remove(0);
            reply = if fault == Fault::Garbage { &[] } else { rest };
            if self.strike(fault).await? == Step::End {
                return Ok(Step::End);
            }
        }
        self.write(reply).await?;
        Ok(Step::On)
    }

    async fn write(&mut self, reply: &[u8]) -> io::Result<()> {
        self.passed += reply.len() as u64;
        if self.muted { Ok(()) } else { self.client.write_all(reply).await }
    }

    async fn write_giant(&mut self) -> io::Result<()> {
        const PART: usize = 64 * 1024;
        let part = vec![b'x'; PART];
        self.write(GIANT).await?;
        for _ in 0..GIANT_ARRIVES / PART {
            self.write(&part).await?;
        }
        Ok(())
    }

    async fn strike(&mut self, fault: Fault) -> io::Result<Step> {
        self.counts.add(fault);
        match fault {
            Fault::Drop => self.hold().await?,
            Fault::Reset | Fault::LoseReply => {
                reset(&self.client);
                return Ok(Step::End);
            }
            Fault::Garbage => self.write(GARBAGE).await?,
            Fault::Giant => self.write_giant().await?,
            Fault::HalfClose => {
                self.muted = true;
                self.client.shutdown().await?;
            }
            Fault::Delay(_) | Fault::Split | Fault::Refuse | Fault::SlowOpen(_) => {}
        }
        Ok(Step::On)
    }
}

/// Waits for a change of the faults, and leaves it unseen. An error means that the proxy has been dropped.
async fn changed(faults: &mut watch::Receiver<Faults>) -> io::Result<Step> {
    faults.changed().await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
    faults.mark_changed();
    Ok(Step::On)
}

/// Makes the close of `stream` send RST rather than FIN.
pub(super) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
