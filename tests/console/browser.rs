//! Chromium without a window, driven by its debugging protocol over two pipes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_provision::{Reaper, chromium, or_skip};

const WITHIN: Duration = Duration::from_secs(60);
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "about:blank",
];

/// A browser with one page. Dropping it ends the browser.
pub(crate) struct Browser {
    child: Child,
    _reaper: Option<Reaper>,
    _folder: TempDir,
    input: File,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    /// Messages that answer no call.
    pub(crate) events: Vec<Value>,
}

impl Browser {
    /// Starts a browser. `None` if there is none and none can be fetched, which is printed.
    pub(crate) fn start() -> Option<Self> {
        let binary = or_skip(chromium::find_or_fetch())?;
        let folder = tempfile::tempdir().unwrap();
        let [input, output] = ["in", "out"].map(|name| folder.path().join(name));
        for pipe in [&input, &output] {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success(), "mkfifo");
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 3<\"$IN\" 4>\"$OUT\""]).arg(binary).args(FLAGS);
        shell.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        shell.env("IN", &input).env("OUT", &output).env("HOME", folder.path());
        let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let reaper = Reaper::of(child.id());
        // In the order in which the shell opens them.
        let input = File::options().write(true).open(&input).unwrap();
        let output = BufReader::new(File::open(&output).unwrap());
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (session, next, events) = (None, 1, Vec::new());
        let mut browser = Self { child, _reaper: reaper, _folder: folder, input, messages, session, next, events };
        let targets = browser.call("Target.getTargets", &json!({}));
        let page = targets["targetInfos"].as_array().unwrap().iter().find(|it| it["type"] == "page").unwrap();
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach)["sessionId"].as_str().unwrap().to_owned();
        browser.session = Some(session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        tokio::task::block_in_place(|| self.call_now(method, parameters))
    }

    fn call_now(&mut self, method: &str, parameters: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("Chromium runs");
        let deadline = Instant::now() + WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.messages.recv_timeout(left).unwrap_or_else(|why| panic!("{method}: {why}"));
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens a page.
    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// The value of an expression, which may be a promise.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        self.attempt(expression).unwrap_or_else(|exception| panic!("{expression}: {exception}"))
    }

    /// The value of an expression, or the exception that it throws.
    fn attempt(&mut self, expression: &str) -> Result<Value, Value> {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let found = self.call("Runtime.evaluate", &parameters);
        let exception = &found["exceptionDetails"];
        if exception.is_null() { Ok(found["result"]["value"].clone()) } else { Err(exception.clone()) }
    }

    /// Waits until an expression is true, or a text that is not empty, and returns its value. It may throw before the
    /// page is there.
    ///
    /// # Panics
    /// If it is not within a minute.
    pub(crate) fn until(&mut self, expression: &str) -> Value {
        let deadline = Instant::now() + WITHIN;
        loop {
            let value = self.attempt(expression).unwrap_or_default();
            if value == true || value.as_str().is_some_and(|text| !text.is_empty()) {
                return value;
            }
            if Instant::now() > deadline {
                panic!("not within a minute: {expression}; the page has:\n{}", self.text());
            }
            tokio::task::block_in_place(|| thread::sleep(Duration::from_millis(100)));
        }
    }

    /// Text of the page, as a reader sees it.
    pub(crate) fn text(&mut self) -> String {
        self.value("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the first element of a selector.
    pub(crate) fn click(&mut self, selector: &str) {
        self.value(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Sets width and colours.
    pub(crate) fn look(&mut self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &media);
    }

    /// Takes a picture of the page down to the lower end of an element, and writes it to the folder in `WEIR_PICTURES`,
    /// if there is one.
    pub(crate) fn picture(&mut self, name: &str, last: &str) -> Vec<u8> {
        self.value("scrollTo(0, 0)");
        let bottom = self.value(&format!("document.querySelector('{last}').getBoundingClientRect().bottom + 20"));
        let width = self.value("innerWidth");
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": bottom, "scale": 1 });
        let how = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken = self.call("Page.captureScreenshot", &how);
        let png = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        if let Some(folder) = std::env::var_os("WEIR_PICTURES").map(PathBuf::from) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{name}.png")), &png).unwrap();
        }
        png
    }

    /// URLs that the page has asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.map(|event| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Complaints of the browser: exceptions, and entries of its log that are errors.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.events.iter().filter(is_complaint).map(|event| event["params"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
