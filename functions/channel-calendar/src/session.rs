//! One workspace's conversation with Google during one attempt: its access token, and the requests that carry it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use http_body_util::Full;
use millrace_kit::log;
use millrace_kit::outbound::{self, Bounds};
use millrace_vault::Sealed;
use serde::Deserialize;

use crate::answer::{Answer, reason};
use crate::batch::{self, Call};
use crate::config::{Config, Endpoint};
use crate::event::{self, Write};
use crate::payload::{Event, Source};
use crate::state::{self, Attempt, Connection};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// What is left of an attempt's time, to say what came of it.
const RESERVE: Duration = Duration::from_millis(700);
/// An event is answered with all that Google knows of it.
const ANSWER: usize = 512 * 1024;
const BATCH_ANSWER: usize = 4 * 1024 * 1024;
/// An access token that nobody says the life of.
const DEFAULT_LIFE: u32 = 300;

/// The conversation.
pub struct Session<'a> {
    config: &'a Config,
    attempt: &'a Attempt<'a>,
    workspace: String,
    connection: Connection,
    token: Option<String>,
    /// The token was got in this attempt: a newer one would be no better.
    fresh: bool,
}

/// A token endpoint's answer (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u32>,
}

impl<'a> Session<'a> {
    /// A conversation that has not begun.
    pub fn new(
        config: &'a Config,
        attempt: &'a Attempt<'a>,
        workspace: String,
        connection: Connection,
    ) -> Self {
        Self {
            config,
            attempt,
            workspace,
            connection,
            token: None,
            fresh: false,
        }
    }

    /// The version of the connection that it speaks for.
    pub fn version(&self) -> i64 {
        self.connection.version
    }

    /// Writes an event.
    pub async fn write(
        &mut self,
        write: Write,
        calendar: &str,
        id: &str,
        source: Source<'_>,
        event: &Event,
    ) -> Answer {
        self.one(self.writing(write, calendar, id, source, event))
            .await
    }

    /// Deletes an event; one that is not there is deleted.
    pub async fn delete(&mut self, calendar: &str, id: &str) -> Answer {
        self.one(self.deleting(calendar, id)).await.of_deletion()
    }

    /// The call that writes an event.
    pub fn writing(
        &self,
        write: Write,
        calendar: &str,
        id: &str,
        source: Source<'_>,
        event: &Event,
    ) -> Call {
        let body = Some(event::body(write, id, source, event));
        match write {
            Write::Insert => Call {
                method: "POST",
                path: self.events(calendar),
                body,
            },
            Write::Update | Write::Restore => Call {
                method: "PUT",
                path: format!("{}/{id}", self.events(calendar)),
                body,
            },
        }
    }

    /// The call that deletes an event.
    pub fn deleting(&self, calendar: &str, id: &str) -> Call {
        Call {
            method: "DELETE",
            path: format!("{}/{id}", self.events(calendar)),
            body: None,
        }
    }

    /// Makes up to [`batch::MOST`] calls in one request. Where they have an answer as a whole, it is each one's. Those that the access token
    /// is not taken for, while it is for the others or for the whole, are made once more with a new one.
    pub async fn batch(&mut self, calls: &[Call]) -> Vec<Answer> {
        let calls: Vec<&Call> = calls.iter().collect();
        let mut answers = self.parts(&calls).await;
        let mut again = unauthorized(&answers);
        if !again.is_empty() && !self.fresh {
            let repeated: Vec<&Call> = again.iter().map(|place| calls[*place]).collect();
            let renewed = match self.renew().await {
                Ok(()) => self.parts(&repeated).await,
                Err(answer) => vec![answer; repeated.len()],
            };
            for (place, answer) in again.iter().zip(renewed) {
                answers[*place] = answer;
            }
            again = unauthorized(&answers);
        }
        for place in again {
            answers[place] = Answer::NoConsent("unauthorized");
        }
        answers
    }

    async fn parts(&mut self, calls: &[&Call]) -> Vec<Answer> {
        if calls.is_empty() {
            return Vec::new();
        }
        let whole = self.ask(|session, token| session.batched(token, calls), BATCH_ANSWER);
        match whole.await {
            Ok(answer) => batch::answers(
                answer.headers().get(CONTENT_TYPE),
                answer.body(),
                calls.len(),
            ),
            Err(answer) => vec![answer; calls.len()],
        }
    }

    async fn one(&mut self, call: Call) -> Answer {
        let asked = self.ask(|session, token| session.single(token, &call), ANSWER);
        match asked.await {
            Ok(_) => Answer::Done,
            Err(answer) => answer,
        }
    }

    /// An answer of 2xx, or what else came of it. An access token that is not taken is renewed once.
    async fn ask(
        &mut self,
        request: impl Fn(&Self, &str) -> Option<Request<Full<Bytes>>>,
        length: usize,
    ) -> Result<Response<Vec<u8>>, Answer> {
        loop {
            let token = self.token().await?;
            let request = request(self, &token).ok_or(Answer::Ours("bad_request"))?;
            let asked = outbound::ask(request, self.bounds(length)).await;
            let asked = asked.map_err(Answer::none)?;
            match Answer::of(asked.status().as_u16(), asked.headers(), asked.body()) {
                Answer::Done => return Ok(asked),
                Answer::Unauthorized if !self.fresh => self.renew().await?,
                Answer::Unauthorized => return Err(Answer::NoConsent("unauthorized")),
                other => return Err(other),
            }
        }
    }

    async fn token(&mut self) -> Result<String, Answer> {
        if self.token.is_none() {
            self.token = self.cached();
        }
        if self.token.is_none() {
            self.renew().await?;
        }
        self.token.clone().ok_or(Answer::Down("google_failed"))
    }

    /// The access token of an earlier attempt. One that doesn't open is none: there may be other keys by now.
    fn cached(&self) -> Option<String> {
        let sealed = Sealed {
            key_id: self.connection.access_key_id.clone()?,
            ciphertext: self.connection.access_token.clone()?,
        };
        self.config.vault.open(&self.access_owner(), &sealed).ok()
    }

    /// Whose an access token is: not the refresh token's owner, so that neither passes for the other.
    fn access_owner(&self) -> String {
        format!("{}/access", self.workspace)
    }

    /// Gets an access token for the refresh token (RFC 6749 section 6) and keeps it for later attempts.
    async fn renew(&mut self) -> Result<(), Answer> {
        self.fresh = true;
        let sealed = Sealed {
            key_id: self.connection.key_id.clone(),
            ciphertext: self.connection.refresh_token.clone(),
        };
        let refresh_token = self.config.vault.open(&self.workspace, &sealed);
        let refresh_token = refresh_token.map_err(|fault| {
            log::line(format_args!("calendar_token_key {fault}"));
            Answer::Ours("token_not_readable")
        })?;
        let granted = self.granted(&refresh_token).await?;
        let life = granted.expires_in.unwrap_or(DEFAULT_LIFE);
        if let Ok(sealed) = self
            .config
            .vault
            .seal(&self.access_owner(), &granted.access_token)
        {
            // Not kept is only asked for again.
            let kept = state::keep_token(&self.workspace, self.version(), &sealed, life);
            _ = kept.await;
        }
        self.token = Some(granted.access_token);
        Ok(())
    }

    async fn granted(&self, refresh_token: &str) -> Result<Granted, Answer> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &self.config.client_id)
            .append_pair("client_secret", &self.config.client_secret)
            .append_pair("refresh_token", refresh_token)
            .append_pair("grant_type", "refresh_token")
            .finish();
        let request = Request::post(self.config.token.url())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form));
        let request = request.map_err(|_| Answer::Ours("bad_request"))?;
        let asked = outbound::ask(request, self.bounds(ANSWER)).await;
        let asked = asked.map_err(Answer::none)?;
        match asked.status().as_u16() {
            200 => serde_json::from_slice(asked.body()).map_err(|_| Answer::Down("google_failed")),
            status @ 400..=499 => Err(refused(status, &asked)),
            status => Err(Answer::of(status, asked.headers(), asked.body())),
        }
    }

    /// For a request and its answer, so that there is time left to say what came of them.
    fn bounds(&self, length: usize) -> Bounds {
        let left = self.attempt.remaining().saturating_sub(RESERVE);
        Bounds {
            time: left.min(PATIENCE).max(Duration::from_millis(100)),
            length,
        }
    }

    /// The path of a calendar's events. What a calendar is called is encoded whole, its slashes too.
    fn events(&self, calendar: &str) -> String {
        let calendar: String = form_urlencoded::byte_serialize(calendar.as_bytes()).collect();
        let calendar = calendar.replace('+', "%20");
        format!("{}/calendars/{calendar}/events", self.config.calendar.path)
    }

    fn single(&self, token: &str, call: &Call) -> Option<Request<Full<Bytes>>> {
        let Endpoint { origin, .. } = &self.config.calendar;
        let request = Request::builder()
            .method(call.method)
            .uri(format!("{origin}{}", call.path))
            .header(AUTHORIZATION, format!("Bearer {token}"));
        match &call.body {
            Some(body) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Full::from(body.clone())),
            None => request.body(Full::default()),
        }
        .ok()
    }

    fn batched(&self, token: &str, calls: &[&Call]) -> Option<Request<Full<Bytes>>> {
        let content_type = format!("multipart/mixed; boundary={}", batch::BOUNDARY);
        Request::post(self.config.batch.url())
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, content_type)
            .body(Full::from(batch::body(calls.iter().copied())))
            .ok()
    }
}

/// The places of the calls that the access token was not taken for.
fn unauthorized(answers: &[Answer]) -> Vec<usize> {
    let answers = answers.iter().enumerate();
    let refused = answers.filter(|(_, answer)| **answer == Answer::Unauthorized);
    refused.map(|(place, _)| place).collect()
}

/// A token endpoint's refusal, by its error code (RFC 6749 section 5.2). `unauthorized_client` is about the consent: it was given to another
/// client, which this one does not become by waiting.
fn refused(status: u16, answer: &Response<Vec<u8>>) -> Answer {
    match reason(answer.body()).as_str() {
        "invalid_grant" => Answer::NoConsent("invalid_grant"),
        "unauthorized_client" => Answer::NoConsent("unauthorized_client"),
        "invalid_client" | "invalid_request" => Answer::Ours("google_client_refused"),
        _ if status == 401 => Answer::Ours("google_client_refused"),
        _ => Answer::of(status, answer.headers(), answer.body()),
    }
}
