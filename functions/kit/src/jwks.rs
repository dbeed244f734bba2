//! Where the keys of `collab_jwt_mode` `jwks` come from: the document at `collab_jwks_url`, fetched when it is
//! needed and kept by the instance, which holds nothing of any request in it.
//!
//! A set is fresh for ten minutes. A token of a key that a fresh set lacks has it fetched again, since issuers
//! rotate their keys, but once in half a minute at most, or made-up names of keys would make a storm of fetches.
//! While the issuer can't be reached, the last set serves for an hour.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::header::{ACCEPT, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use jsonwebtoken::Header;
use spin_sdk::time::sleep;

use crate::answer::Problem;
use crate::key_set::{KeySet, PublishedKey};
use crate::log;

/// For how long a set is taken for the issuer's present one.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// For how long a set serves while no newer one can be had.
const USABLE: Duration = Duration::from_secs(60 * 60);
/// How long after a fetch for an unknown key the next one may follow.
const FORCED_PAUSE: Duration = Duration::from_secs(30);
/// How long after a failed fetch the next one may follow while there is no set at all.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// How long a fetch may take, to the last byte.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// After how long a fetch that never came back, its request having been given up, no longer counts.
const ABANDONED: Duration = Duration::from_secs(6);
/// How often those who wait for somebody else's fetch look for it.
const LOOK: Duration = Duration::from_millis(10);
/// The largest document that is read, in bytes.
const DOCUMENT_LIMIT: usize = 64 * 1024;

/// The instance's one set. It is never locked across an await.
static CACHE: Mutex<Cache> = Mutex::new(Cache::new());

fn cache() -> MutexGuard<'static, Cache> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key at `url` that a token with this header says it was signed with; `None` if there is none.
///
/// # Errors
/// 503 `jwks_unavailable` if it can't be told, because the set can't be had.
pub(crate) async fn key(url: &str, header: &Header) -> Result<Option<PublishedKey>, Problem> {
    loop {
        let step = cache().step(url, header, Instant::now());
        match step {
            Step::Known(key) => return Ok(key),
            Step::Unavailable => return Err(unavailable()),
            Step::Wait => sleep(LOOK).await,
            Step::Fetch => {
                let fetched = fetch(url).await;
                if let Err(reason) = &fetched {
                    log::line(format_args!("the key set of collab_jwks_url: {reason}"));
                }
                return cache()
                    .fetched(url, fetched.ok(), header, Instant::now())
                    .ok_or_else(unavailable);
            }
        }
    }
}

fn unavailable() -> Problem {
    let error = "the keys that tokens are checked with cannot be had";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "jwks_unavailable", error)
        .with_header(RETRY_AFTER, "5")
}

/// What to do about a token's key.
enum Step {
    /// The set is known, and has this key or none.
    Known(Option<PublishedKey>),
    Unavailable,
    /// Another request of the instance is fetching it.
    Wait,
    /// Noted as begun: whoever is told so must fetch it and say what came of it.
    Fetch,
}

/// A set and what happened to it lately; the times are the instance's monotonic clock's.
struct Cache {
    url: String,
    set: Option<(KeySet, Instant)>,
    /// When it was last fetched because a key was not in it.
    forced: Option<Instant>,
    /// When fetching it last failed, if it has not worked since.
    failed: Option<Instant>,
    /// Since when somebody is fetching it.
    fetching: Option<Instant>,
}

impl Cache {
    const fn new() -> Self {
        Self {
            url: String::new(),
            set: None,
            forced: None,
            failed: None,
            fetching: None,
        }
    }

    fn step(&mut self, url: &str, header: &Header, now: Instant) -> Step {
        if self.url != url {
            *self = Self::new();
            url.clone_into(&mut self.url);
        }
        let within = |since: Option<Instant>, time| {
            since.is_some_and(|since| now.saturating_duration_since(since) < time)
        };
        let fetched = self.set.as_ref().map(|(_, at)| *at);
        let is_fresh = within(fetched, FRESH);
        let key = self.key(header, now);
        let pause = match fetched {
            Some(_) => FORCED_PAUSE,
            None => FAILED_PAUSE,
        };
        match key {
            Some(key) if is_fresh => Step::Known(Some(key)),
            // From here on it should be fetched.
            Some(key) if within(self.fetching, ABANDONED) || within(self.failed, pause) => {
                Step::Known(Some(key))
            }
            None if within(self.fetching, ABANDONED) => Step::Wait,
            None if within(self.failed, pause) => Step::Unavailable,
            None if is_fresh && within(self.forced, FORCED_PAUSE) => Step::Known(None),
            _ => {
                if is_fresh {
                    self.forced = Some(now);
                }
                self.fetching = Some(now);
                Step::Fetch
            }
        }
    }

    /// Takes what was fetched, `None` if it failed. The key that it was fetched for, or that there is none;
    /// `None` if that can't be told.
    fn fetched(
        &mut self,
        url: &str,
        set: Option<KeySet>,
        header: &Header,
        now: Instant,
    ) -> Option<Option<PublishedKey>> {
        if self.url != url {
            // The variable has changed meanwhile: what came belongs to nobody.
            return None;
        }
        self.fetching = None;
        self.failed = set.is_none().then_some(now);
        if let Some(set) = set {
            self.set = Some((set, now));
        }
        match (self.key(header, now), self.failed) {
            (None, Some(_)) => None,
            (None, None) => {
                // However it came to the fetch: this was one for an unknown key.
                self.forced = Some(now);
                Some(None)
            }
            (key, _) => Some(key),
        }
    }

    /// The key in the set, as long as that is usable.
    fn key(&self, header: &Header, now: Instant) -> Option<PublishedKey> {
        let (set, at) = self.set.as_ref()?;
        let is_usable = now.saturating_duration_since(*at) < USABLE;
        set.find(header).filter(|_| is_usable).cloned()
    }
}

/// Fetches the set. A redirect is not followed: whoever could make one could name another issuer.
async fn fetch(url: &str) -> Result<KeySet, &'static str> {
    let request = Request::get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|_| "it is no URL")?;
    let document = within_time(TIME_LIMIT, async {
        let response = spin_sdk::http::send(request)
            .await
            .map_err(|_| "it cannot be reached, or collab_jwks_host does not allow it")?;
        match response.status() {
            StatusCode::OK => whole(response.into_body()).await,
            _ => Err("the answer is not 200"),
        }
    });
    let document = document.await.ok_or("it takes longer than 5 s")??;
    KeySet::parse(&document)
}

/// What `work` comes to, unless it takes longer than `limit`.
async fn within_time<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut alarm) = (pin!(work), pin!(sleep(limit)));
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// A body of at most [`DOCUMENT_LIMIT`] bytes.
async fn whole<B: Body>(body: B) -> Result<Vec<u8>, &'static str> {
    let mut body = pin!(body);
    let mut document = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(|_| "it breaks off")?.into_data() else {
            continue;
        };
        if document.len().saturating_add(data.remaining()) > DOCUMENT_LIMIT {
            return Err("it has more than 64 KiB");
        }
        while data.has_remaining() {
            let length = data.chunk().len();
            document.extend_from_slice(data.chunk());
            data.advance(length);
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use serde_json::json;

    use super::*;

    const URL: &str = "https://issuer.example/jwks.json";

    fn header(kid: &str) -> Header {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        header
    }

    fn set(kid: &str) -> Option<KeySet> {
        let key = json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).ok()
    }

    /// A cache and the hands of its clock.
    struct Play {
        cache: Cache,
        start: Instant,
    }

    impl Play {
        fn new() -> Self {
            Self {
                cache: Cache::new(),
                start: Instant::now(),
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// What is to be done about a token of this key.
        fn step(&mut self, kid: &str, seconds: u64) -> &'static str {
            let now = self.at(seconds);
            match self.cache.step(URL, &header(kid), now) {
                Step::Known(Some(_)) => "known",
                Step::Known(None) => "unknown",
                Step::Unavailable => "unavailable",
                Step::Wait => "wait",
                Step::Fetch => "fetch",
            }
        }

        /// What a fetch that ends so says about the token of this key that it was for.
        fn fetched(&mut self, set: Option<KeySet>, kid: &str, seconds: u64) -> &'static str {
            let now = self.at(seconds);
            match self.cache.fetched(URL, set, &header(kid), now) {
                Some(Some(_)) => "known",
                Some(None) => "unknown",
                None => "unavailable",
            }
        }
    }

    #[test]
    fn a_set_is_fetched_once_and_again_when_it_is_old() {
        let mut play = Play::new();
        assert_eq!(play.step("a", 0), "fetch");
        assert_eq!(play.step("a", 1), "wait", "one fetch will do");
        assert_eq!(play.fetched(set("a"), "a", 1), "known");
        assert_eq!(play.step("a", 600), "known");
        assert_eq!(play.step("a", 601), "fetch");
        assert_eq!(play.step("a", 602), "known", "nobody waits meanwhile");
        assert_eq!(play.fetched(set("a"), "a", 602), "known");
        assert_eq!(play.step("a", 1201), "known");
    }

    #[test]
    fn a_new_key_is_looked_for_but_not_all_the_time() {
        let mut play = Play::new();
        play.step("a", 0);
        play.fetched(set("a"), "a", 0);
        assert_eq!(play.step("b", 1), "fetch", "it may have been made since");
        assert_eq!(play.step("a", 1), "known");
        assert_eq!(play.fetched(set("b"), "b", 2), "known");
        for made_up in 3..31 {
            assert_eq!(play.step(&format!("{made_up}"), made_up), "unknown");
        }
        assert_eq!(play.step("c", 31), "fetch");
    }

    #[test]
    fn a_first_fetch_for_an_unknown_key_counts_as_one_for_it() {
        let mut play = Play::new();
        play.step("made up", 0);
        assert_eq!(play.fetched(set("a"), "made up", 0), "unknown");
        assert_eq!(play.step("made up too", 29), "unknown");
        assert_eq!(play.step("made up too", 30), "fetch");
    }

    #[test]
    fn an_outage_is_bridged_for_an_hour() {
        let mut play = Play::new();
        play.step("a", 0);
        play.fetched(set("a"), "a", 0);
        assert_eq!(play.step("a", 700), "fetch");
        assert_eq!(play.fetched(None, "a", 705), "known");
        assert_eq!(play.step("a", 706), "known");
        assert_eq!(play.step("b", 706), "unavailable", "it may be a new one");
        assert_eq!(play.step("a", 735), "fetch", "every half minute");
        assert_eq!(play.fetched(None, "a", 735), "known");
        assert_eq!(play.step("a", 3599), "fetch");
        assert_eq!(play.fetched(None, "a", 3599), "known");
        assert_eq!(play.step("a", 3600), "unavailable");
        assert_eq!(play.step("a", 3629), "fetch");
        assert_eq!(play.fetched(set("a"), "a", 3629), "known");
    }

    #[test]
    fn without_any_set_it_is_tried_every_five_seconds() {
        let mut play = Play::new();
        assert_eq!(play.step("a", 0), "fetch");
        assert_eq!(play.fetched(None, "a", 1), "unavailable");
        assert_eq!(play.step("a", 5), "unavailable");
        assert_eq!(play.step("a", 6), "fetch");
    }

    #[test]
    fn a_fetch_that_never_came_back_is_not_waited_for() {
        let mut play = Play::new();
        assert_eq!(play.step("a", 0), "fetch");
        assert_eq!(play.step("a", 5), "wait");
        assert_eq!(play.step("a", 6), "fetch");
    }

    #[test]
    fn another_url_is_another_set() {
        let mut play = Play::new();
        play.step("a", 0);
        play.fetched(set("a"), "a", 0);
        let now = play.at(1);
        let other = play.cache.step("https://other.example", &header("a"), now);
        assert!(matches!(other, Step::Fetch));
        assert_eq!(play.fetched(set("a"), "a", 2), "unavailable");
    }
}
