//! Filter written with the Rust SDK of proxy-wasm, without any code of Weir.
//!
//! The filter counts its ticks in shared data, adds its configuration and the count to each response, and holds
//! requests below `/ask` until a callout to the cluster `oracle` has a response to their path.

#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, missing_docs, reason = "the SDK's entry point is an unmangled symbol, and public")]

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};

const TICKS: &str = "ticks";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Default)]
struct Root {
    greeting: String,
    asked: u32,
}

struct Exchange {
    greeting: String,
    /// Id of the counter of callouts.
    asked: u32,
    answer: Option<String>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.greeting = String::from_utf8_lossy(&configuration).into_owned();
        self.set_tick_period(Duration::from_millis(10));
        log::info!("greeting with {:?}", self.greeting);
        hostcalls::define_metric(MetricType::Counter, "guest.asked").map(|metric| self.asked = metric).is_ok()
    }

    fn on_tick(&mut self) {
        let (ticks, version) = self.get_shared_data(TICKS);
        let ticks = ticks.map_or(0, count).saturating_add(1);
        // Another worker can have written first: this tick is then not counted.
        let _ = self.set_shared_data(TICKS, Some(&ticks.to_le_bytes()), version);
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { greeting: self.greeting.clone(), asked: self.asked, answer: None }))
    }
}

impl Context for Exchange {
    fn on_http_call_response(&mut self, _token: u32, _headers: usize, size: usize, _trailers: usize) {
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        self.answer = String::from_utf8_lossy(&body).lines().next().map(str::to_owned);
        self.resume_http_request();
    }
}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let Some(path) = self.get_http_request_header(":path").filter(|path| path.starts_with("/ask")) else {
            return Action::Continue;
        };
        let headers = vec![(":method", "GET"), (":path", &*path), (":authority", "oracle")];
        match self.dispatch_http_call("oracle", headers, None, vec![], Duration::from_secs(5)) {
            Ok(_) => {
                let _ = hostcalls::increment_metric(self.asked, 1);
                Action::Pause
            }
            Err(status) => {
                self.send_http_response(502, vec![("x-why", "no oracle")], Some(format!("{status:?}").as_bytes()));
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let (ticks, _) = self.get_shared_data(TICKS);
        self.add_http_response_header("x-greeting", &self.greeting);
        self.add_http_response_header("x-ticks", &ticks.map_or(0, count).to_string());
        self.set_http_response_header("x-answer", self.answer.as_deref());
        Action::Continue
    }
}

fn count(bytes: Vec<u8>) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
