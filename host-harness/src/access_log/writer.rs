//! Where access logs' lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;

use super::{AccessLog, Destination, Template};
use crate::abi::shared::Shared;
use crate::abi::stream::Stream;
use crate::stats::Counter;

/// An access log, open; shared by all workers. Each line is one write at the end of its file, so that lines of several
/// workers do not mix, and nobody waits for a lock of ours.
pub(crate) struct Writer {
    template: Template,
    sink: Sink,
    /// As in Envoy: a log that cannot be written is counted, and costs no request.
    failed: Arc<Counter>,
}

enum Sink {
    Stdout,
    File(File),
}

impl Writer {
    /// Opens the log, and makes its file where there is none.
    pub(crate) fn open(log: &AccessLog, shared: &Shared) -> io::Result<Self> {
        let sink = match &log.destination {
            Destination::Stdout => Sink::Stdout,
            Destination::File(path) => Sink::File(OpenOptions::new().append(true).create(true).open(path)?),
        };
        Ok(Self { template: log.template.clone(), sink, failed: shared.stats.counter("filesystem.write_failed") })
    }

    /// Writes what is to be said of an exchange that is over.
    pub(crate) fn write(&self, stream: &Stream) {
        let line = self.template.render(stream);
        let written = match &self.sink {
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())
            }
            Sink::File(file) => (&mut &*file).write_all(line.as_bytes()),
        };
        if written.is_err() {
            self.failed.add(1);
        }
    }
}
