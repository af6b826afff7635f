//! The limiter's contexts: one root context per worker, one HTTP context per request, sharing one [`Worker`].

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::worker::Worker;
use crate::config;

/// The root context of one worker.
pub(super) struct Root {
    worker: Rc<RefCell<Worker>>,
}

/// The HTTP context of one request.
pub(super) struct Request {
    id: u32,
    /// Its check needs its body, which has not come whole.
    awaits_body: bool,
    /// What has come of the body so far, in bytes.
    body_size: usize,
    worker: Rc<RefCell<Worker>>,
}

impl Root {
    /// Reads the plugin's configuration. Every error in it is logged, and the proxy refuses to start with it.
    pub(super) fn configure(root: u32, configuration: &[u8]) -> Option<Self> {
        let environment = |name: &str| std::env::var(name).ok();
        match config::parse(configuration, &environment) {
            Ok(config) => Worker::new(root, config).map(|worker| Self { worker: Rc::new(RefCell::new(worker)) }),
            Err(errors) => {
                errors.iter().for_each(|error| log::error!("weir: {error}"));
                None
            }
        }
    }

    /// A context for a request.
    pub(super) fn request(&self, id: u32) -> Request {
        Request { id, awaits_body: false, body_size: 0, worker: Rc::clone(&self.worker) }
    }

    pub(super) fn on_tick(&self) {
        self.worker.borrow_mut().tick();
    }

    pub(super) fn on_callout_response(&self, token: u32, headers: usize, size: usize) {
        self.worker.borrow_mut().callout_response(token, headers, size);
    }

    pub(super) fn on_stream_message(&self, token: u32, size: usize) {
        self.worker.borrow_mut().stream_message(token, size);
    }

    pub(super) fn on_stream_close(&self, token: u32, status: u32) {
        self.worker.borrow_mut().stream_close(token, status);
    }
}

impl Context for Request {
    fn on_http_call_response(&mut self, token: u32, headers: usize, size: usize, _trailers: usize) {
        self.worker.borrow_mut().callout_response_of(self.id, token, headers, size);
    }

    fn on_done(&mut self) -> bool {
        self.worker.borrow_mut().done(self.id);
        true
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let action = self.worker.borrow_mut().request(self.id, end_of_stream);
        self.awaits_body = action.is_none();
        action.unwrap_or(Action::Pause)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.awaits_body {
            return self.worker.borrow().rest_of(self.id);
        }
        self.body_size = size;
        let action = self.worker.borrow_mut().request_body(self.id, size, end_of_stream);
        self.awaits_body = action.is_none();
        action.unwrap_or(Action::Pause)
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        if !std::mem::take(&mut self.awaits_body) {
            return self.worker.borrow().rest_of(self.id);
        }
        self.worker.borrow_mut().request_body(self.id, self.body_size, true).unwrap_or(Action::Pause)
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        for (name, value) in self.worker.borrow_mut().response_headers(self.id) {
            self.set_http_response_header(name, Some(&value));
        }
        Action::Continue
    }
}
