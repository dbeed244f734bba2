//! Who a caller is: the roles of tokens, the scopes of stored keys, and what the database is asked about one.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::answer::Problem;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Service,
    /// Every route, but not the database's functions as our own components call them ([`Scope::All`]).
    Worker,
    /// The routes that only read.
    Reader,
    /// Known, but nothing.
    Nobody,
}

impl Role {
    /// The role that a token's `role` claim gives; an unknown one and none give no right, and neither do `anon` and
    /// `authenticated`: every user of a Supabase project has these, and jobs are not theirs to read.
    pub fn of_claim(claim: Option<&str>) -> Self {
        match claim {
            Some("service_role") => Self::Service,
            Some("worker") => Self::Worker,
            Some("reader") => Self::Reader,
            _ => Self::Nobody,
        }
    }

    /// Whether the role includes `scope`.
    pub fn has(self, scope: Scope) -> bool {
        match self {
            Self::Service => true,
            Self::Worker => scope != Scope::All,
            Self::Reader => matches!(scope, Scope::Read | Scope::Metrics),
            Self::Nobody => false,
        }
    }
}

/// What a request asks to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Putting jobs in the queue.
    Enqueue,
    /// What a worker does: claiming, reporting, saying that it lives.
    Work,
    /// Looking at jobs, workers and files.
    Read,
    /// What an operator does: replaying dead letters.
    Operate,
    /// Reading the metrics.
    Metrics,
    /// Having the due schedules enqueued and the housekeeping done.
    Tick,
    /// Everything: calling the database's functions as our own components do, those among them that keep the keys which tokens
    /// are checked with.
    All,
}

/// Whoever sent a request. A value of it is no proof yet: if he showed a stored key, the database
/// checks it with the request's one statement (see [`crate::database`]).
pub struct Caller(Option<StoredKey>);

impl Caller {
    /// Anybody, for routes that are open to all.
    pub fn anyone() -> Self {
        Self(None)
    }

    /// What `millrace_api.admit` is to be asked, if a stored key was shown: the JSON text of its argument.
    pub fn admission(&self) -> Option<String> {
        serde_json::to_string(self.stored_key()?).ok()
    }

    /// The stored key that was shown, as `millrace_api.admit` takes it.
    pub(crate) fn stored_key(&self) -> Option<&StoredKey> {
        self.0.as_ref()
    }
}

/// A stored key that a caller showed, and what he asks for. No `Debug`: who has the digest can't
/// make the key of it, but it says which key was used.
#[derive(Serialize)]
pub(crate) struct StoredKey {
    /// The SHA-256 of the key in lower-case hexadecimal digits, as it is stored.
    key: String,
    scope: Scope,
}

/// How the keys begin that the database knows (`millrace.create_api_key`).
const STORED_KEY: &str = "mr_";

/// Whether a key is one for the database, by its beginning.
pub(crate) fn is_stored_key(key: &str) -> bool {
    key.starts_with(STORED_KEY)
}

/// Whoever shows a stored key, yet to be checked.
///
/// # Errors
/// 401 `invalid_api_key` if 64 lower-case hexadecimal digits don't follow: what can't be a key isn't asked for.
pub(crate) fn stored_key(key: &str, scope: Scope) -> Result<Caller, Problem> {
    let digits = key.strip_prefix(STORED_KEY).unwrap_or_default().as_bytes();
    match digits.len() == 64
        && digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    {
        true => Ok(Caller(Some(StoredKey {
            key: format!("{:x}", Sha256::digest(key)),
            scope,
        }))),
        false => Err(invalid_key()),
    }
}

pub(crate) fn forbidden() -> Problem {
    let error = "the token's role does not allow this";
    Problem::new(StatusCode::FORBIDDEN, "forbidden", error)
}

pub(crate) fn invalid_key() -> Problem {
    Problem::unauthorized("invalid_api_key", "the API key is not valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_scopes_that_they_should() {
        use Scope::{All, Enqueue, Metrics, Operate, Read, Tick, Work};
        for scope in [Enqueue, Work, Read, Operate, Metrics, Tick, All] {
            assert!(Role::Service.has(scope), "{scope:?}");
            assert_eq!(Role::Worker.has(scope), scope != All, "{scope:?}");
            let reads = matches!(scope, Read | Metrics);
            assert_eq!(Role::Reader.has(scope), reads, "{scope:?}");
            assert!(!Role::Nobody.has(scope), "{scope:?}");
        }
    }
}
