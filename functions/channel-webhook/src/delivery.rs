//! One message on its way: to which URL, with which secrets, and what comes of it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, Request, Uri};
use http_body_util::Full;
use millrace_kit::auth::Caller;
use millrace_kit::webhook::{Secret, signatures};
use millrace_kit::{Problem, database, outbound};
use millrace_worker::{Failure, Job, Receipt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::SOON;
use crate::address;
use crate::config::Settings;
use crate::message::{Message, empty_object};
use crate::outcome::{Outcome, of_answer, of_broken};

/// What is left of a job's time for its report.
const MARGIN: Duration = Duration::from_millis(500);

/// A message that knows where it goes. No Debug: it has secrets.
pub struct Delivery<'a> {
    job: &'a Job,
    endpoint: Option<Cow<'a, str>>,
    url: String,
    secrets: Vec<Secret>,
    body: String,
}

/// What `millrace_api.webhook_delivery` is asked.
#[derive(Serialize)]
struct Wanted<'a> {
    job_id: &'a str,
    endpoint: Option<&'a str>,
}

/// What it answers.
#[derive(Deserialize)]
struct Found {
    timestamp: String,
    endpoint: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    url: String,
    disabled: bool,
    secrets: Vec<String>,
}

/// What `millrace_api.webhook_gone` is asked.
#[derive(Serialize)]
struct Gone<'a> {
    endpoint: &'a str,
    url: &'a str,
}

/// What it answers.
#[derive(Deserialize)]
struct Noted {
    /// The endpoint is enabled at another URL.
    moved: bool,
}

/// What `millrace_api.keep_preview` is asked.
#[derive(Serialize)]
struct Preview<'a> {
    channel: &'static str,
    job_id: &'a str,
    to: &'a str,
    subject: &'a str,
    request: PreviewRequest<'a>,
}

#[derive(Serialize)]
struct PreviewRequest<'a> {
    method: &'static str,
    url: &'a str,
    /// Whether it would be signed, and with how many secrets.
    signatures: usize,
    body: &'a RawValue,
    /// Why it would not be sent, if it would not.
    refused: Option<&'static str>,
}

impl<'a> Delivery<'a> {
    /// Asks the database where a message goes.
    ///
    /// # Errors
    /// An endpoint that is not there or disabled, for good; a database that does not answer, to be tried again.
    pub async fn look_up(job: &'a Job, message: Message<'a>) -> Result<Self, Failure> {
        let wanted = Wanted {
            job_id: &job.id,
            endpoint: message.endpoint.as_deref(),
        };
        let found: Found = ask_database("webhook_delivery", &wanted).await?;
        let body = message.body(&job.type_, &found.timestamp)?;
        let (url, secrets) = match (message.url, found.endpoint) {
            (Some(url), _) => (url.into_owned(), Vec::new()),
            (None, None) => {
                let why = "there is no endpoint of that name";
                return Err(Failure::dead("endpoint_not_found", why));
            }
            (None, Some(endpoint)) if endpoint.disabled => {
                let why = "the endpoint is disabled; replay the job once it is enabled";
                return Err(Failure::dead("endpoint_disabled", why));
            }
            (None, Some(endpoint)) => (endpoint.url, secrets(&endpoint.secrets)?),
        };
        Ok(Self {
            job,
            endpoint: message.endpoint,
            url,
            secrets,
            body,
        })
    }

    /// Keeps the message, to be looked at.
    ///
    /// # Errors
    /// A database that does not answer; the job waits.
    pub async fn keep(self, settings: &Settings) -> Result<Receipt, Failure> {
        #[derive(Deserialize)]
        struct Kept {
            id: i64,
        }
        let body = serde_json::from_str(&self.body).unwrap_or_else(|_| empty_object());
        let preview = Preview {
            channel: "webhook",
            job_id: &self.job.id,
            to: self.endpoint.as_deref().unwrap_or(&self.url),
            subject: &self.job.type_,
            request: PreviewRequest {
                method: "POST",
                url: &self.url,
                signatures: self.secrets.len(),
                body,
                refused: address::check(&self.url, settings).err(),
            },
        };
        let kept: Kept = ask_database("keep_preview", &preview).await?;
        Ok(Receipt::of(format!("preview-{}", kept.id)).with_details(r#"{"preview":true}"#))
    }

    /// Sends the message.
    ///
    /// # Errors
    /// What [`crate::outcome`] says.
    pub async fn send(self, settings: &Settings) -> Result<Receipt, Failure> {
        let uri = address::check(&self.url, settings)
            .map_err(|why| Failure::dead("address_forbidden", why))?;
        let request = self.request(uri)?;
        let answer = outbound::head(request, self.time(settings)).await;
        let answer = answer.map_err(of_broken)?;
        match of_answer(answer.status(), answer.headers()) {
            Outcome::Delivered => {
                let details = format!(r#"{{"status":{}}}"#, answer.status().as_u16());
                Ok(Receipt::done().with_details(details))
            }
            Outcome::Gone => Err(self.gone().await),
            Outcome::Failed(failure) => Err(failure),
        }
    }

    /// How long an answer is waited for: the drain gives up at the job's deadline, and would not hear what came of it.
    fn time(&self, settings: &Settings) -> Duration {
        let deadline = UNIX_EPOCH + Duration::from_millis(self.job.deadline);
        let left = deadline
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        settings.timeout.min(left.saturating_sub(MARGIN))
    }

    fn request(&self, uri: Uri) -> Result<Request<Full<Bytes>>, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map(|since| since.as_secs()).unwrap_or_default();
        let mut request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, self.body.len())
            .header(USER_AGENT, "millrace")
            .header("webhook-id", &self.job.id)
            .header("webhook-timestamp", now);
        if !self.secrets.is_empty() {
            let signed = signatures(&self.secrets, &self.job.id, now, &self.body);
            request = request.header("webhook-signature", signed);
        }
        if let Some(traceparent) = &self.job.traceparent {
            request = request.header(HeaderName::from_static("traceparent"), traceparent);
        }
        let body = Full::new(Bytes::from(self.body.clone()));
        let unsendable = |_| Failure::dead("invalid_payload", "the message cannot be sent");
        request.body(body).map_err(unsendable)
    }

    /// Disables the endpoint that answered 410. A URL that is none is only given up by this job.
    async fn gone(&self) -> Failure {
        let Some(endpoint) = self.endpoint.as_deref() else {
            return Failure::dead("gone", "the receiver answered 410");
        };
        let gone = Gone {
            endpoint,
            url: &self.url,
        };
        match ask_database("webhook_gone", &gone).await {
            Ok(Noted { moved: true }) => Failure::retry(
                "endpoint_moved",
                "the receiver answered 410; the endpoint has moved meanwhile",
            ),
            Ok(Noted { moved: false }) => Failure::dead(
                "gone",
                "the receiver answered 410; the endpoint is disabled",
            ),
            // It is not noted, so the next attempt has to hear it again.
            Err(failure) => failure,
        }
    }
}

/// The secrets of an endpoint. One that cannot be read would leave a message that its receiver refuses.
fn secrets(texts: &[String]) -> Result<Vec<Secret>, Failure> {
    let read: Result<_, _> = texts.iter().map(|text| Secret::parse(text)).collect();
    read.map_err(|why| Failure::dead("invalid_secret", format!("a secret of the endpoint {why}")))
}

/// Calls a function of `millrace_api`. The handler runs for the application itself, so nobody is to be admitted.
async fn ask_database<T: for<'de> Deserialize<'de>>(
    function: &'static str,
    request: &impl Serialize,
) -> Result<T, Failure> {
    let unavailable =
        |problem: Problem| Failure::postpone(SOON, "database_unavailable", problem.error());
    let answer = database::call_text(&Caller::anyone(), function, request).await;
    let answer = answer.map_err(unavailable)?;
    serde_json::from_str(&answer)
        .map_err(|_| Failure::retry("internal_error", "the database's answer was not understood"))
}
