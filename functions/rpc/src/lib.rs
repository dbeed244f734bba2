//! `POST /rpc/:function` and `/rest/v1/rpc/:function`: calls a function of the database as PostgREST does, so that its public
//! clients work unchanged. What PostgREST does is taken from its version 14; where this differs, the place says so.
//!
//! Only the functions of [`catalogue`] can be called, and no text of a request becomes part of a statement.

mod arguments;
mod catalogue;
mod negotiation;
mod refusal;
mod response;
mod similar;
mod statement;

use http::request::Parts;
use http::{HeaderMap, Method};
use millrace_kit::auth::{Caller, Scope};
use millrace_kit::{Reply, database, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

use crate::arguments::{Arguments, Mismatch};
use crate::catalogue::{Catalogue, Function};
use crate::negotiation::{Format, Preferences};
use crate::refusal::Refusal;
use crate::response::Success;
use crate::statement::Statement;

/// The largest body for functions that take the whole of it, in bytes: another application's components put their requests,
/// which have a limit of [`request::BODY_LIMIT`] themselves, into it.
const WHOLE_BODY_LIMIT: usize = 2 * request::BODY_LIMIT;

/// Serves the component's two routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    response::reply(serve(request).await)
}

async fn serve(request: Request) -> Result<Success, Refusal> {
    let (head, body) = request.into_parts();
    let name = ["/rpc/", "/rest/v1/rpc/"]
        .iter()
        .find_map(|prefix| request::segment(head.uri.path(), prefix, ""))
        .ok_or_else(Refusal::no_such_path)?;
    match head.method {
        Method::POST | Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Ok(Success::options()),
        _ => return Err(Refusal::method(&head.method)),
    }

    let known = catalogue::read().await?;
    let profile = negotiation::profile(&head, &known.profiles)?;
    let found = known.find(&profile, name);
    let caller = admitted(&head.headers, &profile, found).await?;

    if head.method != Method::POST {
        return Err(not_for_reading(&head, &known, &profile, name, found));
    }
    negotiation::no_query(&head)?;
    let limit = match found.is_some_and(Function::takes_whole_body) {
        true => WHOLE_BODY_LIMIT,
        false => request::BODY_LIMIT,
    };
    negotiation::json_body(&head.headers)?;
    let body = request::whole_body(&head.headers, body, limit)
        .await
        .map_err(|problem| Refusal::request(&problem))?;
    let call = Call {
        profile: &profile,
        name,
        arguments: Arguments::of_body(&body)?,
        preferences: Preferences::of(&head.headers)?,
        format: Format::of(&head.headers)?,
        caller,
    };
    match call.make(&known).await {
        // What was known is no longer so: the functions were replaced since. Nothing has happened yet, so it may be tried again.
        Err(refusal) if refusal.is_stale() && !known.is_new() => {
            catalogue::forget();
            call.make(&*catalogue::read().await?).await
        }
        outcome => outcome,
    }
}

/// A call that is to be made, once its function is known.
struct Call<'a> {
    profile: &'a str,
    name: &'a str,
    arguments: Arguments,
    preferences: Preferences,
    format: Format,
    caller: Caller,
}

impl Call<'_> {
    /// Makes it: one statement, which first checks a caller who showed a stored key.
    async fn make(&self, known: &Catalogue) -> Result<Success, Refusal> {
        let Some(function) = known.find(self.profile, self.name) else {
            return Err(self.nothing_found(known, &self.arguments.keys()?));
        };
        let given = self.arguments.fit(function);
        let given = given.map_err(|mismatch| match mismatch {
            Mismatch::Keys(keys) => self.nothing_found(known, &keys),
            Mismatch::Refused(refusal) => refusal,
        })?;
        let Statement { text, parameters } =
            statement::of(function, given, self.format, self.caller.admission());
        let answer = database::query_text(&function.name, &text, parameters)
            .await
            .map_err(|failure| Refusal::database(failure, self.profile, &function.name))?;
        Success::of(
            answer,
            function,
            self.profile,
            self.format,
            &self.preferences,
        )
    }

    fn nothing_found(&self, known: &Catalogue, keys: &[String]) -> Refusal {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        Refusal::no_function(known, self.profile, self.name, &keys)
    }
}

/// Who sent the request, admitted to what the function needs; for one that does not exist, to what its profile's functions need.
async fn admitted(
    headers: &HeaderMap,
    profile: &str,
    function: Option<&Function>,
) -> Result<Caller, Refusal> {
    let scope = match (function, profile) {
        (Some(function), _) => function.scope,
        (None, "millrace_api") => Scope::All,
        (None, _) => Scope::Work,
    };
    variable::caller(headers, scope)
        .await
        .map_err(|problem| Refusal::admission(&problem, profile, function))
}

/// Why a GET or HEAD is refused. PostgREST runs these in a read-only transaction; every function here writes.
fn not_for_reading(
    head: &Parts,
    known: &Catalogue,
    profile: &str,
    name: &str,
    function: Option<&Function>,
) -> Refusal {
    let keys = negotiation::query_keys(head);
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    match function {
        Some(function) if !function.takes_whole_body() && function.takes(&keys) => {
            Refusal::read_only(&function.name)
        }
        _ => Refusal::no_function_to_read(known, profile, name, &keys),
    }
}
