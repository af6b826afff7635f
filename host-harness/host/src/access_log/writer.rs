//! Writer of access logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;

use super::{AccessLog, Destination, Template};
use crate::abi::shared::Shared;
use crate::http::Stream;
use crate::stats::Counter;

/// Open access log, shared by all workers. Each line is one write in append mode, so that lines of several workers do
/// not mix; the writer has no lock of its own.
pub(crate) struct Writer {
    template: Template,
    sink: Sink,
    /// Counter of failed writes; as in Envoy, a failed write does not fail the request.
    failed: Arc<Counter>,
}

enum Sink {
    Stdout,
    File(File),
}

impl Writer {
    /// Opens the log; creates the file if it does not exist.
    pub(crate) fn open(log: &AccessLog, shared: &Shared) -> io::Result<Self> {
        let sink = match &log.destination {
            Destination::Stdout => Sink::Stdout,
            Destination::File(path) => Sink::File(OpenOptions::new().append(true).create(true).open(path)?),
        };
        Ok(Self { template: log.template.clone(), sink, failed: shared.stats.counter("filesystem.write_failed") })
    }

    /// Writes the line of a stream that has ended.
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
