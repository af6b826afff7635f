//! Runs a plan.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use weir_provision::{
    client::{Client, ClientError, Response},
    raise_open_files_limit,
};

use super::{
    Plan, User,
    report::{Counters, Outcome, Report, UserReport},
};

/// Switch that ends a run early. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Lets the run send no further request.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends the plan's requests and waits for the last response. `counters` show the progress meanwhile.
pub async fn run(plan: Plan, counters: Arc<Counters>) -> Report {
    run_until(plan, counters, &Stop::default()).await
}

/// Like [`run`], but ends early once `stop` is set.
pub async fn run_until(plan: Plan, counters: Arc<Counters>, stop: &Stop) -> Report {
    raise_open_files_limit();
    let plan = Arc::new(plan);
    let start = Instant::now();
    let mut users = Vec::new();
    for (user, wanted) in plan.users.iter().enumerate() {
        let shared = Arc::new(AtomicU64::new(0));
        let mut connections = JoinSet::new();
        for _ in 0..wanted.connections.max(1) {
            let (plan, counters, shared, stop) = (plan.clone(), counters.clone(), shared.clone(), stop.clone());
            connections.spawn(async move { one_connection(&plan, user, start, &shared, &counters, &stop).await });
        }
        users.push((wanted.name.clone(), connections));
    }
    let mut report = Report { users: Vec::new() };
    for (name, connections) in users {
        report.users.push(UserReport::new(name, connections.join_all().await.into_iter().flatten().collect()));
    }
    report
}

async fn one_connection(
    plan: &Plan,
    user: usize,
    start: Instant,
    next: &AtomicU64,
    counters: &Counters,
    stop: &Stop,
) -> Vec<Outcome> {
    let Some(user) = plan.users.get(user) else { return Vec::new() };
    let mut client = Client::new(plan.target, plan.timeout);
    let end = start + plan.duration;
    let mut outcomes = Vec::new();
    loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        let due = start.checked_add(user.pace.due(nth)).unwrap_or(end);
        if nth >= user.requests || due.max(Instant::now()) >= end {
            return outcomes;
        }
        sleep_until(due).await;
        if stop.is_stopped() {
            return outcomes;
        }
        let outcome = one_request(plan, user, &mut client, start).await;
        counters.count(&outcome);
        // Without this pause, a server that refuses connections would keep the client in a busy loop.
        if outcome.status.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        outcomes.push(outcome);
    }
}

/// Opens the connections of all users, waits until all are open, and then sends one request on each at the same moment.
/// Paces, numbers of requests and the duration do not apply.
pub async fn at_once(plan: Plan) -> Report {
    raise_open_files_limit();
    let plan = Arc::new(plan);
    let all: usize = plan.users.iter().map(|user| user.connections.max(1)).sum();
    let ready = Arc::new(Barrier::new(all));
    let start = Instant::now();
    let mut users = Vec::new();
    for (user, wanted) in plan.users.iter().enumerate() {
        let mut connections = JoinSet::new();
        for _ in 0..wanted.connections.max(1) {
            let (plan, ready) = (plan.clone(), ready.clone());
            connections.spawn(async move {
                let mut client = Client::new(plan.target, plan.timeout);
                // A connection that fails here is tried again by the request, which then counts as failed.
                let _ = client.connect().await;
                ready.wait().await;
                match plan.users.get(user) {
                    Some(user) => Some(one_request(&plan, user, &mut client, start).await),
                    None => None,
                }
            });
        }
        users.push((wanted.name.clone(), connections));
    }
    let mut report = Report { users: Vec::new() };
    for (name, connections) in users {
        report.users.push(UserReport::new(name, connections.join_all().await.into_iter().flatten().collect()));
    }
    report
}

async fn one_request(plan: &Plan, user: &User, client: &mut Client, start: Instant) -> Outcome {
    let sent = Instant::now();
    let answered = client.get(&plan.path, &user.headers).await;
    outcome(plan, sent - start, sent.elapsed(), answered)
}

fn outcome(plan: &Plan, at: Duration, latency: Duration, answered: Result<Response, ClientError>) -> Outcome {
    let of_interest = |response: &Response| {
        let names = plan.headers_of_interest.iter();
        names.map(|name| response.headers.get(name).cloned()).collect()
    };
    let headers = answered.as_ref().map(of_interest).unwrap_or_default();
    Outcome { at, latency, status: answered.map(|it| it.status).map_err(|why| why.to_string()), headers }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hyper::{Request, Response, body::Incoming, header::HeaderName, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::{super::Pace, *};

    /// Starts a server that admits the first `capacity` requests and denies the rest.
    async fn limited_server(capacity: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let served = Arc::new(AtomicU64::new(0));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = served.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let nth = served.fetch_add(1, Ordering::Relaxed);
                    let status = if nth < capacity { 200 } else { 429 };
                    let user = request.headers().get("x-user-id").cloned().unwrap();
                    let response = Response::builder().status(status).header("x-seen", user);
                    async move { response.body(String::from("hello")) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        addr
    }

    fn named(name: &str, pace: Pace) -> User {
        User::new(name, pace).header(HeaderName::from_static("x-user-id"), name.parse().unwrap())
    }

    #[tokio::test]
    async fn a_bounded_user_sends_exactly_as_many_requests_over_its_connections() {
        let mut plan = Plan::new(limited_server(7).await);
        plan.headers_of_interest = vec![HeaderName::from_static("x-seen")];
        plan.users = vec![named("alice", Pace::Closed).connections(4).requests(50)];
        let counters = Arc::new(Counters::default());
        let report = run(plan, counters.clone()).await;
        let alice = &report.users[0];
        assert_eq!((alice.sent(), alice.admitted(), alice.denied(), alice.failed()), (50, 7, 43, 0));
        assert_eq!((counters.sent(), counters.admitted(), counters.denied()), (50, 7, 43));
        assert!(alice.outcomes.iter().all(|it| it.headers[0].as_ref().is_some_and(|seen| seen == "alice")));
        assert_eq!(alice.latencies().count(), 50);
    }

    #[tokio::test]
    async fn a_paced_user_keeps_to_its_rate_and_to_the_time() {
        for attempt in 1..=5 {
            let mut plan = Plan::new(limited_server(1000).await);
            plan.duration = Duration::from_millis(500);
            plan.users = vec![named("slow", Pace::PerSecond(20.0)), named("fast", Pace::PerSecond(100.0))];
            let report = run(plan, Arc::default()).await;
            let sent: Vec<usize> = report.users.iter().map(UserReport::sent).collect();
            // Users may be slower than their pace on a busy machine, but never faster.
            assert!(sent[0] <= 10 && sent[1] <= 50, "{sent:?}");
            assert!(report.users.iter().all(|user| user.elapsed < Duration::from_secs(30)));
            if sent[1] > sent[0] {
                return;
            }
            assert!(attempt < 5, "the fast user sends as few requests as the slow one: {sent:?}");
        }
    }

    #[tokio::test]
    async fn a_stopped_run_sends_nothing_more() {
        let mut plan = Plan::new(limited_server(1000).await);
        plan.users = vec![named("alice", Pace::PerSecond(100.0)).connections(2)];
        let stop = Stop::default();
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.stop();
        };
        plan.duration = Duration::from_secs(600);
        let started = Instant::now();
        let (report, ()) = tokio::join!(run_until(plan, Arc::default(), &stop), stopping);
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(60), "the plan takes ten minutes");
        let most = 2 + elapsed.as_millis() as usize / 10;
        assert!((1..=most).contains(&report.users[0].sent()), "{} of at most {most}", report.users[0].sent());
    }

    #[tokio::test]
    async fn many_connections_send_one_request_each_at_once() {
        let mut plan = Plan::new(limited_server(100).await);
        plan.users = vec![named("crowd", Pace::Closed).connections(300)];
        let crowd = at_once(plan).await.together();
        assert_eq!((crowd.sent(), crowd.admitted(), crowd.denied()), (300, 100, 200));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_failure_of_every_request() {
        let gone = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut plan = Plan::new(gone);
        plan.users = vec![named("alice", Pace::Closed).requests(3)];
        let report = run(plan, Arc::default()).await;
        assert_eq!((report.users[0].sent(), report.users[0].failed()), (3, 3));
        assert!(report.users[0].failures()[0].starts_with("connecting to 127.0.0.1:"));
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_a_timeout() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plan = Plan::new(silent.local_addr().unwrap());
        plan.timeout = Duration::from_millis(50);
        plan.users = vec![named("alice", Pace::Closed).requests(1)];
        let report = run(plan, Arc::default()).await;
        assert_eq!(report.users[0].failures(), ["no response within 50 ms"]);
    }
}
