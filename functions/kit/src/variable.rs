//! The Spin variables that a function is configured with. They are read for each request, since a
//! provider may change one while the application runs; a component declares only those it needs.

use http::{HeaderMap, StatusCode};
use spin_sdk::variables;

use crate::answer::Problem;
use crate::auth::{Role, Rules, Variables};
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

/// 500 `misconfigured`: the application is set up wrongly, which no client can help.
pub(crate) fn misconfigured() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "misconfigured",
        "the application is not configured correctly",
    )
}

/// The role of whoever sent a request with these headers, by the rules that the variables make.
///
/// # Errors
/// As [`get`], [`Rules::new`] and [`Rules::role`].
pub async fn role(headers: &HeaderMap) -> Result<Role, Problem> {
    let variables = Variables {
        supabase_jwt_secret: get("supabase_jwt_secret").await?,
        collab_require_jwt: get("collab_require_jwt").await?,
        collab_jwt_mode: get("collab_jwt_mode").await?,
        collab_api_key: get("collab_api_key").await?,
        collab_jwt_issuer: get("collab_jwt_issuer").await?,
        collab_jwt_audience: get("collab_jwt_audience").await?,
    };
    Rules::new(&variables)?.role(headers)
}
