//! The figures of the queues. Their statement costs the database some 15 ms for 300 queues, and anybody may ask for them as often as he
//! likes, so an instance keeps them for a second. They are the same for everybody.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_kit::auth::Caller;
use millrace_kit::{Answer, Problem, database};
use serde::Serialize;

/// For how long an instance asks nobody. Their `timestamp` says how old they are.
const KEPT: Duration = Duration::from_secs(1);

/// What the instance knows. It is never locked across an await.
static CACHE: Mutex<Option<Kept>> = Mutex::new(None);

struct Kept {
    json: String,
    at: Instant,
}

/// What `millrace_api.health_figures` is asked.
#[derive(Serialize)]
struct Request {
    version: &'static str,
}

/// The figures as they are, or were a second ago at most.
///
/// # Errors
/// As [`database::call_text`].
pub async fn answer() -> Result<Answer, Problem> {
    if let Some(json) = kept() {
        return Ok(Answer::json(json));
    }
    let at = Instant::now();
    let version = env!("CARGO_PKG_VERSION");
    let json =
        database::call_text(&Caller::anyone(), "health_figures", &Request { version }).await?;
    let answer = Answer::json(json.clone());
    *cache() = Some(Kept { json, at });
    Ok(answer)
}

fn kept() -> Option<String> {
    let cache = cache();
    let kept = cache.as_ref().filter(|kept| kept.at.elapsed() < KEPT)?;
    Some(kept.json.clone())
}

fn cache() -> MutexGuard<'static, Option<Kept>> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}
