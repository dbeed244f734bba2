//! Google Calendar v3 and its token endpoint: <https://developers.google.com/workspace/calendar/api/v3/reference/events>,
//! <https://developers.google.com/workspace/calendar/api/guides/errors>, <https://developers.google.com/workspace/calendar/api/guides/batch>,
//! <https://developers.google.com/identity/protocols/oauth2/web-server#offline>.
//!
//! An event's id is its client's choice, and is never given free: a deleted event stays, as a cancelled one. Effects are named by events' ids.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use crate::provider::{Answer, Ledger, Seen, Service};

/// The OAuth client that it knows.
pub const CLIENT_ID: &str = "millrace.apps.googleusercontent.com";
pub const CLIENT_SECRET: &str = "GOCSPX-client-secret";
/// A consent that it knows.
pub const REFRESH_TOKEN: &str = "1//0refresh-token-of-a-workspace";
/// For how long an access token is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3599);

/// One event as Google keeps it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub calendar: String,
    pub id: String,
    pub cancelled: bool,
    pub body: Value,
}

/// Google.
pub struct Google {
    /// Of which calendars there are events; others are not found.
    pub calendars: BTreeSet<String>,
    /// The consents that still hold.
    pub consents: BTreeSet<String>,
    /// Every event that was ever made, in the order of making.
    pub events: Vec<Kept>,
    /// What the next parts of batches meet: status and reason, one each.
    pub parts: VecDeque<Option<(u16, &'static str)>>,
    /// How many batches it does in a minute, where it limits that.
    pub batches_a_minute: Option<usize>,
    batched: VecDeque<Duration>,
    tokens: BTreeMap<String, Duration>,
}

impl Default for Google {
    fn default() -> Self {
        Self {
            calendars: ["team@example.com", "other@example.com"]
                .map(str::to_owned)
                .into(),
            consents: [REFRESH_TOKEN.to_owned()].into(),
            events: Vec::new(),
            parts: VecDeque::new(),
            batches_a_minute: None,
            batched: VecDeque::new(),
            tokens: BTreeMap::new(),
        }
    }
}

impl Google {
    /// The events that a person would see.
    pub fn live(&self) -> Vec<&Kept> {
        self.events
            .iter()
            .filter(|event| !event.cancelled)
            .collect()
    }

    fn find(&mut self, calendar: &str, id: &str) -> Option<&mut Kept> {
        let mut events = self.events.iter_mut();
        events.find(|event| event.calendar == calendar && event.id == id)
    }

    fn token(&mut self, request: &Seen, ledger: &Ledger) -> Answer {
        let form = request.form();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        if (field("client_id"), field("client_secret")) != (CLIENT_ID, CLIENT_SECRET) {
            return Answer::json(
                401,
                &json!({"error": "invalid_client", "error_description": "The OAuth client was not found."}),
            );
        } else if field("grant_type") != "refresh_token" {
            return Answer::json(
                400,
                &json!({"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}),
            );
        } else if !self.consents.contains(field("refresh_token")) {
            return Answer::json(
                400,
                &json!({"error": "invalid_grant", "error_description": "Token has been expired or revoked."}),
            );
        }
        let token = format!("ya29.access-{}", self.tokens.len());
        self.tokens.insert(token.clone(), ledger.now() + TOKEN_LIFE);
        Answer::json(
            200,
            &json!({"access_token": token, "expires_in": TOKEN_LIFE.as_secs(),
            "scope": "https://www.googleapis.com/auth/calendar.events", "token_type": "Bearer"}),
        )
    }

    fn is_let_in(&self, request: &Seen, ledger: &Ledger) -> bool {
        let token = request.header("authorization").strip_prefix("Bearer ");
        let expires = token.and_then(|token| self.tokens.get(token));
        expires.is_some_and(|expires| *expires > ledger.now())
    }

    fn call(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let path = request
            .path()
            .strip_prefix("/calendar/v3/calendars/")
            .unwrap_or_default();
        let mut segments = path.split('/').map(decoded);
        let (calendar, events, id) = (segments.next(), segments.next(), segments.next());
        let (Some(calendar), Some("events")) = (calendar, events.as_deref()) else {
            return failed(404, "notFound");
        };
        if !self.calendars.contains(&calendar) {
            return failed(404, "notFound");
        }
        match (request.method.as_str(), id) {
            ("POST", None) => self.insert(&calendar, request, ledger),
            ("PUT", Some(id)) => self.update(&calendar, &id, request, ledger),
            ("DELETE", Some(id)) => self.delete(&calendar, &id, ledger),
            _ => failed(404, "notFound"),
        }
    }

    fn insert(&mut self, calendar: &str, request: &Seen, ledger: &mut Ledger) -> Answer {
        let body = request.json();
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        let allowed = |c: char| c.is_ascii_digit() || ('a'..='v').contains(&c);
        if !(5..=1024).contains(&id.len()) || !id.chars().all(allowed) {
            return failed(400, "invalid");
        } else if self.find(calendar, &id).is_some() {
            return failed(409, "duplicate");
        } else if let Some(refusal) = refusal(&body) {
            return refusal;
        }
        ledger.act(&id, format!("insert {}", body["summary"]));
        self.events.push(Kept {
            calendar: calendar.to_owned(),
            id,
            cancelled: false,
            body: body.clone(),
        });
        resource(&body, false)
    }

    fn update(&mut self, calendar: &str, id: &str, request: &Seen, ledger: &mut Ledger) -> Answer {
        let body = request.json();
        let Some(event) = self.find(calendar, id) else {
            return failed(404, "notFound");
        };
        if event.cancelled && body["status"] != "confirmed" {
            return failed(404, "notFound");
        } else if let Some(refusal) = refusal(&body) {
            return refusal;
        }
        event.cancelled = false;
        event.body = body.clone();
        ledger.act(id, format!("update {}", body["summary"]));
        resource(&body, false)
    }

    fn delete(&mut self, calendar: &str, id: &str, ledger: &mut Ledger) -> Answer {
        match self.find(calendar, id) {
            None => failed(404, "notFound"),
            Some(event) if event.cancelled => failed(410, "deleted"),
            Some(event) => {
                event.cancelled = true;
                ledger.act(id, "delete");
                Answer::empty(204)
            }
        }
    }

    /// Over quota each part is refused by itself, the batch is not; and what is refused uses nothing up.
    fn is_over_quota(&mut self, now: Duration) -> bool {
        let Some(most) = self.batches_a_minute else {
            return false;
        };
        self.batched
            .retain(|at| *at + Duration::from_secs(60) > now);
        let over = self.batched.len() >= most;
        if !over {
            self.batched.push_back(now);
        }
        over
    }

    /// Answers the parts in the opposite order: nobody is promised theirs.
    fn batch(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let content_type = request.header("content-type");
        let Some((_, boundary)) = content_type.split_once("multipart/mixed; boundary=") else {
            return failed(400, "badRequest");
        };
        let delimiter = format!("--{boundary}");
        let limited = self.is_over_quota(ledger.now());
        let parts: Vec<&str> = request.body.split(&delimiter).collect();
        let parts = parts.iter().filter(|part| part.starts_with("\r\n"));
        let mut answers: Vec<String> = parts
            .map(|part| {
                let (id, call) = part_of(part, request);
                let answer = match self.parts.pop_front().flatten() {
                    _ if limited => failed(403, "rateLimitExceeded"),
                    Some((429, reason)) => failed(429, reason).with("retry-after", "9"),
                    Some((status, reason)) => failed(status, reason),
                    None => self.call(&call, ledger),
                };
                let (status, headers) = (answer.status, answer.headers);
                let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let body = String::from_utf8(answer.body).expect("JSON");
                format!("--batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-{id}>\r\n\r\nHTTP/1.1 {status} Played\r\n{headers}\r\n{body}\r\n")
            })
            .collect();
        assert!(answers.len() <= 50, "a batch of {}", answers.len());
        answers.reverse();
        answers.push("--batch_x--\r\n".to_owned());
        Answer::typed(200, "multipart/mixed; boundary=batch_x", answers.concat())
    }
}

impl Service for Google {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        if request.path() == "/token" {
            return self.token(request, ledger);
        } else if !self.is_let_in(request, ledger) {
            return failed(401, "authError");
        }
        match request.path() {
            "/batch/calendar/v3" => self.batch(request, ledger),
            _ => self.call(request, ledger),
        }
    }

    fn error(&mut self, status: u16) -> Answer {
        failed(status, "backendError")
    }

    /// "expired token", "revoked grant", or a status and a reason such as "403 rateLimitExceeded".
    fn told(&mut self, what: &str, request: &Seen, ledger: &mut Ledger) -> Answer {
        match what.split_once(' ') {
            Some(("expired", _)) => {
                self.tokens.clear();
                self.tokens.insert("none".to_owned(), Duration::ZERO);
                self.answer(request, ledger)
            }
            Some(("revoked", _)) => {
                self.consents.clear();
                self.tokens.clear();
                self.answer(request, ledger)
            }
            Some((status, reason)) => failed(status.parse().expect("a status"), reason),
            None => panic!("nobody knows what {what:?} is"),
        }
    }
}

/// What is wrong with an event: a start and an end, both days or both instants, in their order.
fn refusal(body: &Value) -> Option<Answer> {
    let time = |name: &str| {
        let time = &body[name];
        let (day, instant) = (time["date"].as_str(), time["dateTime"].as_str());
        day.xor(instant)
            .map(|time| (day.is_some(), time.to_owned()))
    };
    match (time("start"), time("end")) {
        (Some(start), Some(end)) if start.0 == end.0 && (start.1 < end.1 || !start.0) => None,
        _ => Some(failed(400, "timeRangeEmpty")),
    }
}

fn resource(body: &Value, cancelled: bool) -> Answer {
    let status = if cancelled { "cancelled" } else { "confirmed" };
    let mut resource = body.clone();
    resource["kind"] = json!("calendar#event");
    resource["status"] = json!(status);
    resource["htmlLink"] = json!("https://www.google.com/calendar/event?eid=x");
    Answer::json(200, &resource)
}

/// An error as Google words it.
fn failed(status: u16, reason: &str) -> Answer {
    let message = "Some words that nobody may rely on: quota, invalid_grant";
    let error = json!({"error": {"errors": [{"domain": "global", "reason": reason, "message": message}], "code": status, "message": message}});
    Answer::json(status, &error)
}

/// A part's id and the request in it.
fn part_of(part: &str, whole: &Seen) -> (String, Seen) {
    let (outer, inner) = part
        .trim_start()
        .split_once("\r\n\r\n")
        .expect("a part's headers");
    let id = outer
        .split("content-id: <")
        .nth(1)
        .and_then(|rest| rest.split('>').next());
    let (head, body) = inner.split_once("\r\n\r\n").expect("a call's head");
    let mut line = head.split(' ');
    let (method, target) = (line.next().expect("a method"), line.next().expect("a path"));
    let call = Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: whole.headers.clone(),
        body: body.trim_end().to_owned(),
    };
    (id.expect("a part's id").to_owned(), call)
}

fn decoded(segment: &str) -> String {
    let form = segment.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(form.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}
