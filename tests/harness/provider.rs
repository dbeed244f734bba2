//! A provider of somebody else's (of emails, text messages, calendars) that acts, keeps what it did, and can be told to misbehave at any
//! point of the exchange. What it says when all is well is a [`Service`]; what goes wrong is a plan of [`Fault`]s.
//!
//! ```ignore
//! /// Sends messages, and knows a header `idempotency-key` for a day.
//! struct Post { keys: Idempotency }
//!
//! impl Service for Post {
//!     fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
//!         let key = request.header("idempotency-key");
//!         match self.keys.look(key, &request.body, ledger) {
//!             Key::Same(answer) => return answer,
//!             Key::Other => return Answer::json(409, &json!({ "name": "invalid_idempotent_request" })),
//!             Key::New => ledger.act(request.json()["to"].to_string(), "sent"),
//!         }
//!         let answer = Answer::json(200, &json!({ "id": format!("message-{}", ledger.acts()) }));
//!         self.keys.remember(key, &request.body, &answer, ledger);
//!         answer
//!     }
//!     fn error(&mut self, status: u16) -> Answer {
//!         Answer::json(status, &json!({ "name": "application_error" }))
//!     }
//!     fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
//!         match what {
//!             "quota" => Answer::json(429, &json!({ "name": "daily_quota_exceeded" })),
//!             other => panic!("nobody knows what {other:?} is"),
//!         }
//!     }
//! }
//!
//! let post = Provider::start(Post { keys: Idempotency::new(DAY) }).await;
//! post.plan([Fault::ResetAfterActing, Fault::TooMany(RetryAfter::Seconds(7)), Fault::Told("quota")]);   // one request each, then all is well
//! post.plan_for(|r| r.path() == "/token", [None, Some(Fault::Told("revoked grant"))]);                 // well once, then this
//! post.by_chance(seed, &[(Fault::HalfAnswer, 0.1), (Fault::ErrorAfterActing(502), 0.1)], |r| r.method == "POST");
//! let app = App::start_with(&[("resend_url", &post.url), ("resend_host", &post.url)]).await;
//! // …
//! assert_eq!(post.requests()[0].header("authorization"), "Bearer re_123");
//! assert!(by_key(&post.effects()).values().all(|times| *times == 1));
//! post.advance(DAY);                                                    // the provider's clock: it forgets its keys
//! println!("{:?}", post.faults());                                      // how many of each kind there were
//! post.service(|post| post.keys = Idempotency::new(Duration::ZERO));    // looks into the service, or changes it
//! ```

mod answer;
mod fault;
mod ledger;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

pub use crate::wire::Seen;
use crate::wire::read;
pub use answer::Answer;
use fault::Plan;
pub use fault::{Fault, RetryAfter};
pub use ledger::{Effect, Idempotency, Key, Ledger, by_key};

/// What a provider is when all is well.
pub trait Service: Send + 'static {
    /// Does what it is asked to, noting each act in the ledger, and answers as its documents say. Requests come one after the other.
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer;

    /// An error of this status as the provider words it.
    fn error(&mut self, status: u16) -> Answer {
        Answer::empty(status)
    }

    /// Misbehaves as only this provider does.
    fn told(&mut self, what: &str, _request: &Seen, _ledger: &mut Ledger) -> Answer {
        panic!("this provider does not know what {what:?} is");
    }
}

impl<F: FnMut(&Seen, &mut Ledger) -> Answer + Send + 'static> Service for F {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        self(request, ledger)
    }
}

/// The provider, for as long as this is kept.
pub struct Provider<S: Service> {
    /// `http://HOST:PORT`
    pub url: String,
    state: Arc<Mutex<State<S>>>,
    serving: JoinHandle<()>,
}

struct State<S> {
    service: S,
    ledger: Ledger,
    requests: Vec<Seen>,
    plan: Plan,
    faults: BTreeMap<&'static str, usize>,
}

impl<S: Service> Provider<S> {
    /// Serves on any free port of this machine.
    pub async fn start(service: S) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).await.expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let state = Arc::new(Mutex::new(State {
            service,
            ledger: Ledger::new(),
            requests: Vec::new(),
            plan: Plan::default(),
            faults: BTreeMap::new(),
        }));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            url,
            state,
            serving,
        }
    }

    /// The next requests meet these, one each in their order of arrival; `None` is a request that all goes well with.
    pub fn plan<F: Into<Option<Fault>>>(&self, faults: impl IntoIterator<Item = F>) {
        let faults = faults.into_iter().map(Into::into);
        self.lock().plan.script(faults);
    }

    /// The same for the requests that `concerns` is true of alone.
    pub fn plan_for<F: Into<Option<Fault>>>(
        &self,
        concerns: impl Fn(&Seen) -> bool + Send + 'static,
        faults: impl IntoIterator<Item = F>,
    ) {
        let faults = faults.into_iter().map(Into::into);
        self.lock().plan.script_for(Box::new(concerns), faults);
    }

    /// From now on each request that `concerns` is true of meets a fault with the probability beside it. Without rates no more do.
    pub fn by_chance(
        &self,
        seed: u64,
        rates: &[(Fault, f64)],
        concerns: impl Fn(&Seen) -> bool + Send + 'static,
    ) {
        self.lock().plan.by_chance(seed, rates, Box::new(concerns));
    }

    /// All requests that it has read so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.lock().requests.clone()
    }

    /// How many requests it has read so far.
    pub fn count(&self) -> usize {
        self.lock().requests.len()
    }

    /// All that it did so far.
    pub fn effects(&self) -> Vec<Effect> {
        self.lock().ledger.effects.clone()
    }

    /// How many faults of each kind there were so far.
    pub fn faults(&self) -> BTreeMap<&'static str, usize> {
        self.lock().faults.clone()
    }

    /// Moves the provider's own clock ahead.
    pub fn advance(&self, by: Duration) {
        self.lock().ledger.ahead += by;
    }

    /// Looks into the service, or changes it.
    pub fn service<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut self.lock().service)
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        lock(&self.state)
    }
}

impl<S: Service> Drop for Provider<S> {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A service that panics has failed its test already; what it did by then may still be asked for.
fn lock<S>(state: &Mutex<State<S>>) -> MutexGuard<'_, State<S>> {
    state.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// An address at which connections are refused, for as long as this is kept.
pub struct Nobody {
    /// `http://HOST:PORT`
    pub url: String,
    // Bound, so that nobody else gets the port, and not listening.
    _socket: TcpSocket,
}

impl Nobody {
    /// Takes any free port of this machine.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(any).expect("a port");
        let url = format!("http://{}", socket.local_addr().expect("its address"));
        Self {
            url,
            _socket: socket,
        }
    }
}

impl Default for Nobody {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves one request; every answer ends its connection.
async fn serve<S: Service>(mut stream: TcpStream, state: Arc<Mutex<State<S>>>) {
    let resets = {
        let mut state = lock(&state);
        let resets = state.plan.resets_next();
        if resets {
            state.count(Fault::ResetBeforeReading);
        }
        resets
    };
    if resets {
        return reset(stream);
    }
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let fault = lock(&state).meet(&request);
    let Some(fault) = fault else {
        let answer = lock(&state).answer(&request);
        return send(&mut stream, &answer, &answer.body).await;
    };
    misbehave(stream, &state, &request, fault).await;
}

async fn misbehave<S: Service>(
    mut stream: TcpStream,
    state: &Mutex<State<S>>,
    request: &Seen,
    fault: Fault,
) {
    match fault {
        Fault::ResetBeforeReading | Fault::ResetBeforeActing => reset(stream),
        Fault::ResetAfterActing => {
            lock(state).answer(request);
            reset(stream);
        }
        Fault::HalfAnswer => {
            let answer = lock(state).answer(request);
            let whole = answer.body.len();
            let head = answer.head(whole);
            // Without a body there is only the head to cut.
            let head = &head[..if whole > 0 {
                head.len()
            } else {
                head.len() / 2
            }];
            _ = stream.write_all(head.as_bytes()).await;
            _ = stream.write_all(&answer.body[..whole / 2]).await;
            _ = stream.shutdown().await;
        }
        Fault::SlowAnswer(time) => {
            let answer = lock(state).answer(request);
            if waits(&mut stream, time).await {
                send(&mut stream, &answer, &answer.body).await;
            }
        }
        Fault::SlowToAct(time) => {
            tokio::time::sleep(time).await;
            let answer = lock(state).answer(request);
            send(&mut stream, &answer, &answer.body).await;
        }
        Fault::ErrorBeforeActing(status) => {
            let answer = lock(state).service.error(status);
            send(&mut stream, &answer, &answer.body).await;
        }
        Fault::ErrorAfterActing(status) => {
            lock(state).answer(request);
            let answer = lock(state).service.error(status);
            send(&mut stream, &answer, &answer.body).await;
        }
        Fault::TooMany(retry_after) => {
            let mut answer = lock(state).service.error(429);
            if let Some(value) = retry_after.value() {
                answer = answer.with("retry-after", value);
            }
            send(&mut stream, &answer, &answer.body).await;
        }
        Fault::Garbage => {
            lock(state).answer(request);
            let answer = Answer::typed(200, "text/html", "<!doctype html><p>Be right back");
            send(&mut stream, &answer, &answer.body).await;
        }
        Fault::NotHttp => {
            lock(state).answer(request);
            _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
            _ = stream.shutdown().await;
        }
        Fault::Oversized(more) => {
            let answer = lock(state).answer(request);
            let mut body = answer.body.clone();
            body.resize(body.len() + more, b' ');
            send(&mut stream, &answer, &body).await;
        }
        Fault::Told(what) => {
            let answer = lock(state).told(what, request);
            send(&mut stream, &answer, &answer.body).await;
        }
    }
}

impl<S: Service> State<S> {
    /// Notes a request, and what is to go wrong with it.
    fn meet(&mut self, request: &Seen) -> Option<Fault> {
        self.requests.push(request.clone());
        let fault = self.plan.draw(request)?;
        self.count(fault);
        Some(fault)
    }

    fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault.kind()).or_default() += 1;
    }

    fn answer(&mut self, request: &Seen) -> Answer {
        self.service.answer(request, &mut self.ledger)
    }

    fn told(&mut self, what: &str, request: &Seen) -> Answer {
        self.service.told(what, request, &mut self.ledger)
    }
}

/// Sends an answer and ends the connection. Whoever asked may have heard enough before the end.
async fn send(stream: &mut TcpStream, answer: &Answer, body: &[u8]) {
    let head = answer.head(body.len());
    _ = stream.write_all(head.as_bytes()).await;
    _ = stream.write_all(body).await;
    _ = stream.shutdown().await;
}

/// Ends the connection with a reset.
fn reset(stream: TcpStream) {
    // Without lingering, closing sends RST in place of FIN.
    _ = stream.set_zero_linger();
}

/// Waits for this time; false as soon as the other side has gone.
async fn waits(stream: &mut TcpStream, time: Duration) -> bool {
    tokio::select! {
        // Nothing more is expected of a client that waits for its answer.
        _ = stream.read_u8() => false,
        () = tokio::time::sleep(time) => true,
    }
}
