//! Random requests over virtual time, and the workers of the filter that decide them.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;
use weir_filter::units::{Micros, Random};
use weir_virtual::{Exchange, Mesh, Start, Upstream};

/// 2026-01-31T23:50:00Z: an hour, a day and a month begin within the first ten minutes.
const START: Micros = Micros::from_secs(1_769_903_400);
/// Time within which a request is answered.
const ANSWERED_WITHIN: Micros = Micros::from_secs(60);
/// Longest time between two requests but for pauses, in microseconds.
const LONGEST_GAP: u64 = 40_000;
/// Number of requests to one that comes after a pause of up to ten minutes: 100,000 requests take some four hours.
const PAUSES: u64 = 2_000;
const LONGEST_PAUSE: u64 = 600_000_000;

/// Request of a client.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) route: &'static str,
    pub(crate) address: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Time since the request before.
    pub(crate) gap: Micros,
}

/// Requests of a seed.
pub(crate) struct Traffic {
    random: Random,
    paths: &'static [&'static str],
}

impl Traffic {
    pub(crate) fn new(seed: u64, paths: &'static [&'static str]) -> Self {
        Self { random: Random::new(seed), paths }
    }

    pub(crate) fn next(&mut self) -> Request {
        let random = &mut self.random;
        let mut one_of =
            |texts: &[&'static str]| texts[usize::try_from(random.below(texts.len() as u64)).expect("an index")];
        let plan = one_of(&["gold", "partner", "team-a", "team-b", "basic", "admin", "", ""]);
        let agent = one_of(&["bot-1", "browser"]);
        let (method, path) = (one_of(&["GET", "GET", "GET", "POST", "PUT", "DELETE"]), one_of(self.paths));
        let route = one_of(&["first", "second"]);
        let network = one_of(&["10.0.0", "10.0.7", "192.0.2"]);
        let user = random.below(12);
        let mut headers = vec![("user-agent", agent.to_owned())];
        if !plan.is_empty() {
            headers.push(("x-plan", plan.to_owned()));
        }
        if user > 0 {
            headers.push(("x-user", format!("user-{user}")));
        }
        let address = format!("{network}.{}", random.below(9));
        // Half of the requests follow at once.
        let gap = match (random.below(PAUSES), random.below(2)) {
            (0, _) => random.below(LONGEST_PAUSE),
            (_, 0) => random.below(900),
            (..) => random.below(LONGEST_GAP),
        };
        Request { method, path, route, address, headers, gap: Micros(gap) }
    }
}

impl Request {
    /// First value of a header or pseudo-header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        match name {
            ":method" => Some(self.method.to_owned()),
            ":path" => Some(self.path.to_owned()),
            name => self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()),
        }
    }

    fn exchange(&self) -> Exchange {
        let pseudo = [(":method", self.method), (":path", self.path), (":authority", "shop.example")];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let own = self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes()));
        let properties: HashMap<String, String> = HashMap::from([
            ("source.address".to_owned(), format!("{}:50000", self.address)),
            ("xds.route_name".to_owned(), self.route.to_owned()),
        ]);
        Exchange {
            headers: pseudo.into_iter().chain(own).collect(),
            body: None,
            properties: Rc::new(move |path: &[&str]| properties.get(&path.join(".")).map(|it| it.clone().into_bytes())),
            upstream: Upstream { status: 200, ..Upstream::default() },
        }
    }
}

/// Workers with an imported configuration.
pub(crate) struct Weir {
    mesh: Mesh,
    turn: usize,
}

const WORKERS: usize = 2;

impl Weir {
    pub(crate) fn new(configuration: &Value) -> Self {
        let text = configuration.to_string();
        let start = Start {
            configuration: text.as_bytes(),
            environment: &[],
            seed: 1,
            sees_body_past_headers: true,
            round_trip: Micros::ZERO,
        };
        let mesh = Mesh::start(START, WORKERS, &start).unwrap_or_else(|lines| panic!("{}", lines.join("\n")));
        Self { mesh, turn: 0 }
    }

    /// Sends a request. Returns its time in microseconds since 1970, and whether it was admitted.
    pub(crate) fn decide(&mut self, request: &Request) -> (u64, bool) {
        let at = self.mesh.now().plus(request.gap);
        self.mesh.advance(request.gap);
        self.turn = (self.turn + 1) % WORKERS;
        self.mesh.begin(self.turn, request.exchange()).expect("a worker");
        assert!(self.mesh.run_until_answered(at.plus(ANSWERED_WITHIN)), "an answer");
        let answers = self.mesh.take_answers();
        let [(_, answer)] = answers.as_slice() else { panic!("{} answers", answers.len()) };
        assert!([200, 429].contains(&answer.status), "status {}", answer.status);
        (at.0, answer.status == 200)
    }

    /// Commands that the virtual Redis does not know: none.
    pub(crate) fn unknown(&self) -> Vec<String> {
        self.mesh.redis().unknown()
    }
}
