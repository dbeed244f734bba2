//! Where the keys of `collab_jwt_mode` `jwks` come from: the document at `collab_jwks_url`. The database keeps it, and
//! says when it is to be fetched and by whom (`millrace_api.key_set`): instances end after a second of rest, so what
//! only they knew would be asked of the issuer again and again, and be gone when he is.
//!
//! That makes this the one exception to one statement per request: who a caller is must be known before anything is
//! done for him. An instance keeps the set for a minute, so a warm one asks nobody. A cold one asks once, and once
//! more to hand over what it was told to fetch; only a key that no set has yet costs a question more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::Full;
use jsonwebtoken::Header;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spin_sdk::time::sleep;

use crate::answer::Problem;
use crate::auth::Caller;
use crate::key_set::{KeySet, PublishedKey};
use crate::outbound::{self, Bounds, Broken};
use crate::{database, log};

/// For how long an instance asks nobody about a key that it knows.
const KEPT: Duration = Duration::from_secs(60);
/// A second later the database takes a fetch for abandoned, and it keeps no document that is larger.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    length: 64 * 1024,
};
/// How often those who wait for somebody else's fetch ask what came of it.
const LOOK: Duration = Duration::from_millis(100);

/// The set that the instance keeps. It is never locked across an await.
static CACHE: Mutex<Option<Kept>> = Mutex::new(None);

fn cache() -> MutexGuard<'static, Option<Kept>> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A set, where it is published, and when it came.
struct Kept {
    url: String,
    version: i64,
    set: KeySet,
    at: Instant,
}

/// What `millrace_api.key_set` is asked.
#[derive(Serialize)]
struct Question<'a> {
    url: &'a str,
    /// The version of the set that has been looked in, in vain.
    lacks: Option<i64>,
}

/// What it says.
#[derive(Deserialize)]
struct Advice {
    step: Step,
    #[serde(flatten)]
    found: Option<Found>,
}

/// A set that the database has and the caller has not looked in yet.
#[derive(Deserialize)]
struct Found {
    version: i64,
    document: String,
}

/// What to do about a token's key; what each means is said where the database decides.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Use,
    Fetch,
    Wait,
    Unavailable,
}

/// What `millrace_api.keep_key_set` is told: the document, `None` if it could not be had.
#[derive(Serialize)]
struct Outcome<'a> {
    url: &'a str,
    document: Option<&'a str>,
}

/// What it says: the version of the document, if it was kept.
#[derive(Deserialize)]
struct Receipt {
    version: Option<i64>,
}

/// The key at `url` that a token with this header says it was signed with; `None` if there is none.
///
/// # Errors
/// 503 `jwks_unavailable` if it can't be told, because the set can't be had; else as [`database::call`].
pub(crate) async fn key(url: &str, header: &Header) -> Result<Option<PublishedKey>, Problem> {
    let mut lacks = match cache().as_ref().filter(|kept| kept.is_good(url)) {
        Some(kept) => match kept.set.find(header) {
            Some(key) => return Ok(Some(key.clone())),
            None => Some(kept.version),
        },
        None => None,
    };
    loop {
        let advice: Advice = ask("key_set", &Question { url, lacks }).await?;
        match (advice.step, advice.found) {
            (Step::Fetch, found) => return fetched_key(url, header, found).await,
            (Step::Wait, _) => sleep(LOOK).await,
            (Step::Unavailable, _) => return Err(unavailable()),
            (Step::Use, None) => return Ok(None),
            (Step::Use, Some(found)) => {
                lacks = Some(found.version);
                if let Some(key) = found.key(url, header)? {
                    return Ok(Some(key));
                }
            }
        }
    }
}

/// As [`key`], for whoever is told to fetch the set: everybody is told what came of it. `found` serves if nothing did.
async fn fetched_key(
    url: &str,
    header: &Header,
    found: Option<Found>,
) -> Result<Option<PublishedKey>, Problem> {
    let fetched = fetch(url).await;
    if let Err(reason) = &fetched {
        log::line(format_args!("the key set of collab_jwks_url: {reason}"));
    }
    let document = fetched.as_ref().ok().map(|(text, _)| text.as_str());
    let receipt: Receipt = ask("keep_key_set", &Outcome { url, document }).await?;
    match (fetched, found) {
        (Ok((_, set)), _) => Ok(keep(url, receipt.version, set, header)),
        (Err(_), Some(found)) => found.key(url, header)?.ok_or_else(unavailable).map(Some),
        (Err(_), None) => Err(unavailable()),
    }
}

/// Calls one of the two functions of the database, which need no caller: this is how one becomes known.
async fn ask<T: DeserializeOwned>(
    function: &'static str,
    request: &impl Serialize,
) -> Result<T, Problem> {
    let text = database::call_text(&Caller::anyone(), function, request).await?;
    serde_json::from_str(&text).map_err(|_| {
        log::line(format_args!("{function} answered something else"));
        Problem::internal()
    })
}

impl Kept {
    fn is_good(&self, url: &str) -> bool {
        self.url == url && self.at.elapsed() < KEPT
    }
}

impl Found {
    /// The key in the set, which the instance keeps from now on.
    fn key(self, url: &str, header: &Header) -> Result<Option<PublishedKey>, Problem> {
        let set = KeySet::parse(self.document.as_bytes()).map_err(|reason| {
            log::line(format_args!("the key set that the database has: {reason}"));
            unavailable()
        })?;
        Ok(keep(url, Some(self.version), set, header))
    }
}

/// Keeps a set, if it has a version, and gives its key for a token with this header.
fn keep(url: &str, version: Option<i64>, set: KeySet, header: &Header) -> Option<PublishedKey> {
    let key = set.find(header).cloned();
    if let Some(version) = version {
        *cache() = Some(Kept {
            url: url.to_owned(),
            version,
            set,
            at: Instant::now(),
        });
    }
    key
}

fn unavailable() -> Problem {
    let error = "the keys that tokens are checked with cannot be had";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "jwks_unavailable", error)
        .with_header(RETRY_AFTER, "5")
}

/// Fetches the set and its text. A redirect is not followed: whoever could make one could name another issuer.
async fn fetch(url: &str) -> Result<(String, KeySet), &'static str> {
    let request = Request::get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Full::default())
        .map_err(|_| "it is no URL")?;
    let answer = outbound::ask(request, BOUNDS).await.map_err(reason)?;
    if answer.status() != StatusCode::OK {
        return Err("the answer is not 200");
    }
    let document = String::from_utf8(answer.into_body()).map_err(|_| "it is not UTF-8")?;
    let set = KeySet::parse(document.as_bytes())?;
    Ok((document, set))
}

fn reason(broken: Broken) -> &'static str {
    match broken {
        Broken::Denied => "collab_jwks_host does not allow it",
        Broken::Unreachable => "it cannot be reached",
        Broken::TooSlow => "it takes longer than 5 s",
        Broken::BrokenOff => "it breaks off",
        Broken::TooLong => "it has more than 64 KiB",
    }
}
