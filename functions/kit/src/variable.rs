//! The Spin variables that a function is configured with. They are read for each request, since a
//! provider may change one while the application runs; a component declares only those it needs.

use http::{HeaderMap, StatusCode};
use spin_sdk::variables;

use crate::answer::Problem;
use crate::auth::{Caller, Rules, Scope, Variables};
use crate::log;

/// The value of the variable `name`.
///
/// # Errors
/// 500 `misconfigured` if the component has no such variable or its provider fails; the log names it.
pub async fn get(name: &'static str) -> Result<String, Problem> {
    variables::get(name).await.map_err(|_| {
        // The provider's own words might quote an address or a value, so they are left out.
        log::line(format_args!("the variable {name} cannot be read"));
        misconfigured()
    })
}

/// 500 `misconfigured` for a variable whose value means nothing; the log names it and says `why`, the
/// client learns neither. The value itself must not be in it.
pub fn wrong(name: &'static str, why: &str) -> Problem {
    log::line(format_args!("the variable {name} {why}"));
    misconfigured()
}

/// 500 `misconfigured`: the application is set up wrongly, which no client can help.
pub(crate) fn misconfigured() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "misconfigured",
        "the application is not configured correctly",
    )
}

/// Who sent a request with these headers, by the rules that the variables make; he is known to have
/// `scope`, or shows a stored key that the request's one statement will check for it.
///
/// # Errors
/// As [`get`], [`Rules::new`] and [`Rules::caller`].
pub async fn caller(headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
    let mode = get("collab_jwt_mode").await?;
    let variables = Variables {
        supabase_jwt_secret: get("supabase_jwt_secret").await?,
        collab_require_jwt: get("collab_require_jwt").await?,
        collab_jwks_url: match mode.trim() {
            "jwks" => get("collab_jwks_url").await?,
            _ => String::new(),
        },
        collab_jwt_mode: mode,
        collab_api_key: get("collab_api_key").await?,
        collab_jwt_issuer: get("collab_jwt_issuer").await?,
        collab_jwt_audience: get("collab_jwt_audience").await?,
    };
    Rules::new(&variables)?.caller(headers, scope).await
}
