//! Virtual time: the filter's worker, compiled natively, over a virtual proxy and a virtual Redis.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use weir_filter::units::Micros;
use weir_host::preflight::{ClientRequest, HeaderList, Passage, ProxyAnswer, Reached};
use weir_virtual::{Answer, End as Ending, Exchange, Mesh, RequestId, Start, Upstream, Worker};

use super::{Backend, Budget, Denied, Observed, Seen, budget_key, counter, counts_money, denials, headers};
use crate::limits::{Change, Limits};
use crate::test::file::{self, End, Moment, Pace, RedisState, Requests, Test};
use crate::test::setup::Setup;

/// Virtual time within which a request must be answered: longer than any delay or timeout of a configuration.
const ANSWERED_WITHIN: Micros = Micros::from_secs(3_600);
/// Virtual time within which workers connect to a Redis that runs again.
const CONNECTED_WITHIN: Micros = Micros::from_secs(60);
/// Ticks by which the refresh of overrides may be late.
const REFRESH_SLACK: Micros = Micros::from_millis(600);
const CLIENT_PORT: u16 = 50_000;
/// Body and details of Envoy's response where the upstream has closed the connection.
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
const RESET_DETAILS: &str = "upstream_reset_before_response_started{connection_termination}";

/// Workers in virtual time.
pub(in crate::test) struct VirtualTime<'a> {
    setup: &'a Setup,
    mesh: Mesh,
    /// Whether the test says what the upstream answers.
    has_upstream: bool,
    next_worker: usize,
    /// Workers, by their places, that were connected when Redis stopped.
    were_connected: Vec<usize>,
}

/// Way of one request: in flight at a worker, or answered before it.
enum Sent {
    InFlight(RequestId, Rc<Reached>),
    Answered(Seen),
}

impl<'a> VirtualTime<'a> {
    /// Starts the workers of a test, with an empty Redis.
    ///
    /// # Errors
    /// The filter's errors in the configuration.
    pub(in crate::test) fn start(setup: &'a Setup, test: &Test) -> Result<Self, String> {
        let configuration = setup.written.to_string();
        let start = Start {
            configuration: configuration.as_bytes(),
            environment: &setup.environment,
            seed: 1,
            sees_body_past_headers: setup.sees_body_past_headers,
            round_trip: Micros::ZERO,
        };
        let mesh = Mesh::start(test.start, test.workers, &start).map_err(|lines| lines.join("\n"))?;
        Ok(Self { setup, mesh, has_upstream: test.has_upstream(), next_worker: 0, were_connected: Vec::new() })
    }

    /// Begins a request on the next worker.
    fn begin(&mut self, request: &ClientRequest, requests: &Requests) -> Result<Sent, String> {
        let reached = match self.setup.front.pass(request).map_err(|why| why.to_string())? {
            Passage::Answered(answer) => return Ok(Sent::Answered(seen(&answer, Micros::ZERO, None))),
            Passage::Reached(reached) => Rc::<Reached>::from(reached),
        };
        let empty = self.has_upstream.then(file::Upstream::empty);
        let upstream = match requests.upstream.as_ref().or(empty.as_ref()) {
            Some(upstream) => scripted(&reached, upstream),
            None => of_route(reached.upstream()),
        };
        let exchange = Exchange {
            headers: reached.headers(),
            body: requests.request.body.as_ref().map(|body| body.clone().into_bytes()),
            upstream: Upstream { takes: requests.takes, ..upstream },
            properties: Rc::new({
                let reached = reached.clone();
                move |path: &[&str]| reached.property(path)
            }),
        };
        let worker = self.next_worker;
        self.next_worker = (worker + 1) % self.mesh.workers().len().max(1);
        let begun = self.mesh.begin(worker, exchange).map(|id| Sent::InFlight(id, reached));
        begun.ok_or_else(|| "no worker".to_owned())
    }

    /// Runs until all requests have their answers.
    fn run_until_answered(&self) -> Result<(), String> {
        match self.mesh.run_until_answered(self.mesh.now().plus(ANSWERED_WITHIN)) {
            true => Ok(()),
            false => Err(format!("{} requests have no answer after an hour of virtual time", self.mesh.in_flight())),
        }
    }

    /// Adds the answers since the last time. `turns` has the turns of requests in flight.
    fn collect(&self, turns: &mut BTreeMap<RequestId, (u64, Rc<Reached>)>, observed: &mut Observed) {
        for (id, answer) in self.mesh.take_answers() {
            if let Some((turn, reached)) = turns.remove(&id) {
                observed.add(turn, of_answer(answer, &reached));
            }
        }
    }

    fn client_request(&self, requests: &Requests) -> Result<ClientRequest, String> {
        let request = &requests.request;
        let mut all: HeaderList = vec![("host".to_owned(), request.host.clone().into_bytes())];
        all.extend(headers(self.setup, requests)?.into_iter().map(|(name, value)| (name, value.into_bytes())));
        let has_length = all.iter().any(|(name, _)| name == "content-length");
        if let Some(body) = request.body.as_ref().filter(|_| !has_length) {
            all.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        Ok(ClientRequest {
            method: request.method.clone(),
            path: request.path.clone(),
            headers: all,
            peer: SocketAddr::new(request.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), CLIENT_PORT),
            metadata: request.metadata.clone(),
            filter_state: request.filter_state.clone(),
        })
    }

    /// Sends all requests: each when the one before has its response, or all within a time, at equal distances.
    fn send_all(
        &mut self,
        request: &ClientRequest,
        requests: &Requests,
        within: Option<Micros>,
    ) -> Result<Observed, String> {
        let (began, mut turns, mut observed) = (self.mesh.now(), BTreeMap::new(), Observed::default());
        for turn in 0..requests.count {
            match within {
                Some(span) => {
                    let offset = u128::from(span.0) * u128::from(turn) / u128::from(requests.count.max(1));
                    self.mesh.run_until(began.plus(Micros(u64::try_from(offset).unwrap_or(u64::MAX))));
                }
                None => self.run_until_answered()?,
            }
            self.collect(&mut turns, &mut observed);
            match self.begin(request, requests)? {
                Sent::Answered(seen) => observed.add(turn, seen),
                Sent::InFlight(id, reached) => _ = turns.insert(id, (turn, reached)),
            }
        }
        self.mesh.run_until(began.plus(within.unwrap_or_default()));
        self.run_until_answered()?;
        self.collect(&mut turns, &mut observed);
        match turns.len() {
            0 => Ok(observed),
            lost => Err(format!("{lost} requests have no answer")),
        }
    }

    fn is_connected(&self, worker: &Worker) -> bool {
        // A tick brings the gauge up to date.
        worker.tick();
        worker.metric(&counter(self.setup, "redis.connected")).is_some_and(|connected| connected > 0)
    }
}

impl Backend for VirtualTime<'_> {
    fn send(&mut self, requests: &Requests) -> Result<Observed, String> {
        let request = self.client_request(requests)?;
        let within = match requests.pace {
            Pace::InTurn => None,
            Pace::AtOnce => Some(Micros::ZERO),
            Pace::Within(span) => Some(span),
        };
        self.send_all(&request, requests, within)
    }

    fn advance(&mut self, span: Micros) {
        self.mesh.advance(span);
    }

    fn redis(&mut self, state: RedisState) -> Result<(), String> {
        match state {
            RedisState::Down => {
                let workers = self.mesh.workers().iter().enumerate();
                self.were_connected = workers.filter(|(_, it)| self.is_connected(it)).map(|(place, _)| place).collect();
                self.mesh.stop_redis();
            }
            RedisState::Flushed => self.mesh.redis().flush(),
            RedisState::Up => {
                self.mesh.start_redis();
                // Workers that were not connected connect with their next request.
                let until = self.mesh.now().plus(CONNECTED_WITHIN);
                let waits = |worker: &Worker| !self.is_connected(worker);
                while self.were_connected.iter().filter_map(|place| self.mesh.workers().get(*place)).any(waits)
                    && self.mesh.step(until)
                {}
            }
        }
        Ok(())
    }

    fn limits(&mut self, words: &[String]) -> Result<(), String> {
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = Limits::parse(&arguments).map_err(|why| why.to_string())?;
        let redis = self.mesh.redis();
        let change = command.change(&self.setup.origin, &self.setup.written, redis.now());
        match change.map_err(|why| why.to_string())? {
            Some(Change::Key { bucket, announced: (hash, key), set }) => {
                let text = set.as_ref().map_or("", |(text, _)| text);
                redis.announce_override(hash.as_bytes(), &key, text.as_bytes());
                match &set {
                    Some((text, until)) => {
                        redis.set_key_override(&bucket, text.as_bytes(), until.map(Micros::from_secs));
                    }
                    None => _ = redis.unset_key_override(&bucket),
                }
            }
            Some(Change::Reset { bucket }) => _ = redis.delete_buckets(&bucket),
            Some(Change::Field { hash, field, set }) => {
                match set {
                    Some(text) => redis.set_limit_override(hash.as_bytes(), &field, text.as_bytes()),
                    None => _ = redis.unset_limit_override(hash.as_bytes(), &field),
                }
                if let Some(overrides) = &self.setup.config.overrides {
                    self.mesh.advance(overrides.refresh_interval.plus(REFRESH_SLACK));
                }
            }
            None => return Err(format!("expected set, unset or reset, found {}", words.join(" "))),
        }
        Ok(())
    }

    fn budget(&mut self, limit: &str, key: &[String], _: &dyn Fn(Budget) -> bool) -> Result<Budget, String> {
        let key = budget_key(self.setup, &self.setup.written, limit, key)?;
        // Settlements of this instant are sent.
        self.mesh.run_until(self.mesh.now());
        let (spent, held) = self.mesh.redis().budget_tokens(&key).unwrap_or_default();
        Ok(Budget { spent, held, is_money: counts_money(self.setup, limit) == Some(true) })
    }

    fn denied(&mut self, _at_least: u64) -> Denied {
        let workers = self.mesh.workers();
        workers.iter().for_each(Worker::tick);
        let sum = |name: &str| {
            let of_worker =
                |worker: &Worker| worker.metric(name).and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
            workers.iter().map(of_worker).sum()
        };
        Denied {
            all: sum(&counter(self.setup, "requests.denied")),
            by_limit: denials(self.setup).map(|(limit, name)| (limit, sum(&name))).collect(),
        }
    }

    fn unknown(&self) -> Vec<String> {
        self.mesh.redis().unknown()
    }
}

fn of_route(answer: ProxyAnswer) -> Upstream {
    Upstream { status: answer.status, headers: answer.headers, body: answer.body, ..Upstream::default() }
}

/// Response that a test gives, as the proxy passes it on.
fn scripted(reached: &Reached, upstream: &file::Upstream) -> Upstream {
    if upstream.end == End::Reset(Moment::BeforeHeaders) {
        let reply = ProxyAnswer { status: 503, headers: Vec::new(), body: RESET.into() };
        return of_route(reached.served(&reply, RESET_DETAILS));
    }
    let headers = upstream.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    let mut pieces = upstream.pieces.iter().cloned();
    let first = pieces.next().map(|(_, piece)| piece).unwrap_or_default();
    let reply = ProxyAnswer { status: upstream.status, headers, body: first };
    let answer = of_route(reached.served(&reply, "via_upstream"));
    if answer.status != upstream.status {
        // A redirect of the route.
        return answer;
    }
    let later: Vec<_> = pieces.collect();
    let is_alone = |(name, _): &(String, Vec<u8>)| later.is_empty() || name != "content-length";
    let headers = answer.headers.into_iter().filter(is_alone).collect();
    let end = match upstream.end {
        End::Whole => Ending::Whole,
        End::Left(Moment::BeforeHeaders) => Ending::BeforeHeaders,
        End::Reset(_) | End::Left(_) => Ending::InBody,
    };
    Upstream { headers, later, end, ..answer }
}

fn of_answer(answer: Answer, reached: &Reached) -> Seen {
    let held = answer.decided.minus(answer.began);
    let reply = ProxyAnswer { status: answer.status, headers: answer.headers, body: answer.body };
    if answer.is_local {
        return seen(&reached.replied(&answer.request_headers, &reply, answer.grpc_status), held, None);
    }
    let sent = reached.sent(&answer.request_headers, &answer.filter_state);
    seen(&reply, held, Some(texts(&sent)))
}

fn seen(answer: &ProxyAnswer, held: Micros, upstream: Option<Vec<(String, String)>>) -> Seen {
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Seen { status: answer.status, headers: texts(&answer.headers), body, held, upstream }
}

fn texts(headers: &HeaderList) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned())).collect()
}
