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
use http::{Method, StatusCode};
use millrace_kit::auth::{Caller, Scope};
use millrace_kit::{Problem, Reply, database, request, variable, wake};
use spin_sdk::http::Request;
use spin_sdk::http_service;

use crate::arguments::{Arguments, Mismatch};
use crate::catalogue::{Catalogue, Function, Known};
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

    let call = Call {
        head: &head,
        name,
        asked: negotiation::asked_profile(&head),
    };
    let known = match catalogue::kept() {
        Some(known) => known,
        None => call.catalogue().await?,
    };
    let caller = call.admitted(&known).await?;
    let body = match head.method {
        Method::POST => request::whole_body(&head.headers, body, call.body_limit(&known)).await,
        _ => Ok(Vec::new()),
    };
    match call.make(&known, &caller, &body).await {
        // What was known is no longer so: the functions were replaced since. Nothing has happened yet, so it may be tried again.
        Err(refusal) if refusal.is_stale() && !known.is_new() => {
            let known = catalogue::read().await?;
            // The function may ask for another scope now.
            let caller = call.admitted(&known).await?;
            call.make(&known, &caller, &body).await
        }
        outcome => outcome,
    }
}

/// A call that is to be made, once it is known what there is.
struct Call<'a> {
    head: &'a Parts,
    name: &'a str,
    /// The profile that is asked for.
    asked: Option<String>,
}

impl Call<'_> {
    /// The function that is meant, if there is one.
    fn function<'a>(&self, known: &'a Catalogue) -> Option<&'a Function> {
        let profile = negotiation::profile(self.asked.as_deref(), &known.profiles);
        known.find(profile.ok()?, self.name)
    }

    /// How long its body may be, in bytes.
    fn body_limit(&self, known: &Catalogue) -> usize {
        match self.function(known).is_some_and(Function::takes_whole_body) {
            true => WHOLE_BODY_LIMIT,
            false => request::BODY_LIMIT,
        }
    }

    /// The catalogue as the database has it, which is not asked for somebody whose credentials are not good.
    async fn catalogue(&self) -> Result<Known, Refusal> {
        match self.caller(self.scope(None)).await {
            // The function may ask for less; that is not known yet.
            Err(refusal) if refusal.status != StatusCode::FORBIDDEN => Err(refusal),
            _ => catalogue::read().await,
        }
    }

    /// What a caller must be allowed to do: what the function says; without one, what its profile's functions need.
    fn scope(&self, function: Option<&Function>) -> Scope {
        match (function, self.asked.as_deref()) {
            (Some(function), _) => function.scope,
            (None, Some(refusal::OWN_PROFILE)) => Scope::All,
            (None, _) => Scope::Work,
        }
    }

    /// Who sent the request, admitted to what the function needs; a stored key is yet to be checked.
    async fn admitted(&self, known: &Catalogue) -> Result<Caller, Refusal> {
        self.caller(self.scope(self.function(known))).await
    }

    async fn caller(&self, scope: Scope) -> Result<Caller, Refusal> {
        let profile = self.asked.as_deref().unwrap_or_default();
        variable::caller(&self.head.headers, scope)
            .await
            .map_err(|problem| Refusal::admission(&problem, profile, self.name))
    }

    /// Makes the call. It is one statement, which first checks a caller who showed a stored key. Where it comes to none, or to
    /// one that fails before that, the key is checked by itself: what is wrong is told only to those who may call.
    async fn make(
        &self,
        known: &Catalogue,
        caller: &Caller,
        body: &Result<Vec<u8>, Problem>,
    ) -> Result<Success, Refusal> {
        let outcome = self.outcome(known, caller, body).await;
        match (&outcome, caller.admission()) {
            (Err(refusal), Some(admission)) if refusal.precedes_admission() => {
                self.check_key(admission).await.and(outcome)
            }
            _ => outcome,
        }
    }

    async fn check_key(&self, admission: String) -> Result<(), Refusal> {
        let statement = "select millrace_api.rpc_admit($1::text::jsonb)::text";
        let profile = self.asked.as_deref().unwrap_or_default();
        match database::query_text("rpc_admit", statement, vec![admission]).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(Refusal::database(failure, profile, self.name)),
        }
    }

    async fn outcome(
        &self,
        known: &Catalogue,
        caller: &Caller,
        body: &Result<Vec<u8>, Problem>,
    ) -> Result<Success, Refusal> {
        let profile = negotiation::profile(self.asked.as_deref(), &known.profiles)?;
        if self.head.method != Method::POST {
            return Err(not_for_reading(self.head, known, profile, self.name));
        }
        let headers = &self.head.headers;
        negotiation::no_query(self.head)?;
        negotiation::json_body(headers)?;
        let body = body.as_ref().map_err(Refusal::request)?;
        let arguments = Arguments::of_body(body)?;
        let (preferences, format) = (Preferences::of(headers)?, Format::of(headers)?);

        let nothing_found = |keys: &[String]| {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            Refusal::no_function(known, profile, self.name, &keys)
        };
        let Some(function) = known.find(profile, self.name) else {
            return Err(nothing_found(&arguments.keys()?));
        };
        let given = arguments.fit(function).map_err(|mismatch| match mismatch {
            Mismatch::Keys(keys) => nothing_found(&keys),
            Mismatch::Refused(refusal) => refusal,
        })?;
        let Statement { text, parameters } =
            statement::of(function, given, format, caller.admission());
        let answer = database::query_text(&function.name, &text, parameters)
            .await
            .map_err(|failure| Refusal::database(failure, profile, &function.name))?;
        // Workers call the most often, and enqueue nothing.
        if !matches!(function.scope, Scope::Work | Scope::Read | Scope::Metrics) {
            wake::channels();
        }
        Success::of(answer, function, profile, format, &preferences)
    }
}

/// Why a GET or HEAD is refused. PostgREST runs these in a read-only transaction; every function here writes.
fn not_for_reading(head: &Parts, known: &Catalogue, profile: &str, name: &str) -> Refusal {
    let keys = negotiation::query_keys(head);
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    match known.find(profile, name) {
        Some(function) if !function.takes_whole_body() && function.takes(&keys) => {
            Refusal::read_only(&function.name)
        }
        _ => Refusal::no_function_to_read(known, profile, name, &keys),
    }
}
