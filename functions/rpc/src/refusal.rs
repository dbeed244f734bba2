//! Why a call was not made, or came to nothing, in PostgREST's words: `{code, message, details, hint}`, a status and
//! `Proxy-Status` (PostgREST 14, its page on errors).

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use millrace_kit::Problem;
use millrace_kit::database::Failure;
use serde::Serialize;

use crate::catalogue::Catalogue;
use crate::response::METHODS;
use crate::similar::most_similar;

/// A refusal. Nothing secret may be put into one.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    code: String,
    pub message: String,
    details: Option<String>,
    hint: Option<String>,
    /// What the catalogue said is no longer so.
    stale: bool,
    /// A stored key may not have been checked yet.
    precedes_admission: bool,
}

/// A name that is longer, in bytes, is none of Postgres'.
const LONGEST_NAME: usize = 63;

/// How many names of arguments a refusal repeats.
const MOST_NAMES: usize = 20;

/// The message of whatever is not for clients.
const NOT_TOLD: &str = "The request could not be served";

/// The profile of another application's components, which need to tell our refusal of their key from what a function raises for
/// their own callers: that one is refused as PostgREST refuses tokens.
pub const OWN_PROFILE: &str = "millrace_api";

impl Refusal {
    fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: code.into(),
            message: message.into(),
            details: None,
            hint: None,
            stale: false,
            precedes_admission: true,
        }
    }

    fn with(mut self, details: Option<String>, hint: Option<String>) -> Self {
        (self.details, self.hint) = (details, hint);
        self
    }

    /// A path that is none of ours.
    pub fn no_such_path() -> Self {
        Self::new(404, "PGRST125", "Invalid path specified in request URL")
    }

    /// A method that calls have not.
    pub fn method(method: &Method) -> Self {
        let message = format!("Cannot use the {method} method on RPC");
        Self::new(405, "PGRST101", message)
    }

    /// A function that writes, called by a method that only reads; Postgres has these words for its own such functions.
    pub fn read_only(function: &str) -> Self {
        let message = format!("cannot execute {function}() in a read-only transaction");
        Self::new(405, "25006", message)
    }

    /// An unknown profile.
    pub fn schema(asked: &str, known: &[String]) -> Self {
        let hint = format!(
            "Only the following schemas are exposed: {}",
            known.join(", ")
        );
        Self::new(406, "PGRST106", format!("Invalid schema: {asked}")).with(None, Some(hint))
    }

    /// Something of PostgREST's that isn't done here.
    pub fn not_implemented(details: String) -> Self {
        Self::new(400, "PGRST127", "Feature not implemented").with(Some(details), None)
    }

    /// A body that holds no arguments.
    pub fn body(message: String) -> Self {
        Self::new(400, "PGRST102", message)
    }

    /// None of the formats that are asked for.
    pub fn media_types(asked: &[String]) -> Self {
        let asked = asked.join(", ");
        let message = format!("None of these media types are available: {asked}");
        Self::new(406, "PGRST107", message)
    }

    /// Preferences that aren't fulfilled, where they have to be.
    pub fn preferences(asked: &[&str]) -> Self {
        let details = format!("Invalid preferences: {}", asked.join(", "));
        let message = "Invalid preferences given with handling=strict";
        Self::new(400, "PGRST122", message).with(Some(details), None)
    }

    /// No function of this name takes arguments of these names, called by POST.
    pub fn no_function(known: &Catalogue, profile: &str, name: &str, keys: &[&str]) -> Self {
        let whole = " or with a single unnamed json/jsonb parameter";
        Self::nothing_found(known, profile, name, keys, whole)
    }

    /// The same by a method that has no body.
    pub fn no_function_to_read(
        known: &Catalogue,
        profile: &str,
        name: &str,
        keys: &[&str],
    ) -> Self {
        Self::nothing_found(known, profile, name, keys, "")
    }

    fn nothing_found(
        known: &Catalogue,
        profile: &str,
        name: &str,
        keys: &[&str],
        whole: &str,
    ) -> Self {
        let (list, name) = (listed(keys), &shortened(name));
        let (with, searched) = match keys.len() {
            0 => (
                " without parameters".to_owned(),
                " without parameters".to_owned(),
            ),
            1 => (format!("({list})"), format!(" with parameter {list}")),
            _ => (format!("({list})"), format!(" with parameters {list}")),
        };
        let message =
            format!("Could not find the function {profile}.{name}{with} in the schema cache");
        let details = format!(
            "Searched for the function {profile}.{name}{searched}{whole}, but no matches were found in the schema cache."
        );
        let hint = meant(known, profile, name, &list)
            .map(|it| format!("Perhaps you meant to call the function {profile}.{it}"));
        Self::new(404, "PGRST202", message).with(Some(details), hint)
    }

    /// What the kit says about the body as a whole: 413, or 400 for one that broke off.
    pub fn request(problem: &Problem) -> Self {
        let status = problem.status().as_u16();
        match status {
            400 => Self::body("Empty or invalid json".to_owned()),
            _ => Self::new(status, format!("PT{status}"), problem.error())
                .with(None, Some(problem.code().to_owned())),
        }
    }

    /// What the kit says about who is asking.
    pub fn admission(problem: &Problem, profile: &str, function: &str) -> Self {
        let (status, code) = (problem.status().as_u16(), problem.code());
        if status >= 500 {
            // It is not the caller's fault, and the log says what it is.
            return match code {
                "database_unavailable" | "try_again" => Self::unavailable(),
                _ => Self::new(status, format!("PT{status}"), problem.error())
                    .with(None, Some(code.to_owned())),
            };
        }
        if profile == OWN_PROFILE {
            return match (status, code) {
                (403, _) => Self::denied(function),
                (_, "missing_credentials") => {
                    Self::new(401, "PGRST302", "Anonymous access is disabled")
                }
                (_, "token_expired") => Self::new(401, "PGRST303", "JWT expired"),
                _ => Self::bad_token(),
            };
        }
        let hint = match code {
            "missing_credentials" => "missing_api_key",
            code => code,
        };
        Self::new(status, format!("PT{status}"), ADMISSION_FAILED)
            .with(Some(problem.error().to_owned()), Some(hint.to_owned()))
    }

    /// What the caller of [`OWN_PROFILE`] may not do.
    fn denied(name: &str) -> Self {
        Self::new(
            403,
            "42501",
            format!("permission denied for function {}", shortened(name)),
        )
    }

    /// What that caller shows is not good.
    fn bad_token() -> Self {
        Self::new(401, "PGRST301", "No suitable key or wrong key type")
    }

    /// The catalogue can't be read.
    pub fn no_catalogue(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => Self::unavailable(),
            Failure::Unknown | Failure::Misconfigured => Self::misconfigured(),
            failure => {
                // The kit logs what it is.
                failure.problem("rpc_catalogue");
                let message = "Could not query the database for the schema cache. Retrying.";
                Self::new(503, "PGRST002", message)
            }
        }
    }

    /// What came of the statement that called `function`, or of one that checked a key for it.
    pub fn database(failure: Failure, profile: &str, function: &str) -> Self {
        // The key's check raises, and then the function; whatever Postgres says by itself it may say before.
        let precedes_admission = match &failure {
            Failure::Raised { sqlstate, .. } => !is_raised(sqlstate),
            _ => false,
        };
        Self {
            precedes_admission,
            ..Self::of_failure(failure, profile, function)
        }
    }

    fn of_failure(failure: Failure, profile: &str, function: &str) -> Self {
        match failure {
            Failure::Unavailable => Self::unavailable(),
            Failure::Unknown | Failure::Misconfigured => Self::misconfigured(),
            Failure::Internal => Self::internal(),
            Failure::Raised {
                sqlstate,
                message,
                detail,
                hint,
            } if is_for_clients(&sqlstate) => match (sqlstate.as_str(), hint.as_deref()) {
                ("PT406", Some("PGRST116")) => {
                    Self::new(406, "PGRST116", message).with(detail, None)
                }
                ("PT403", _) if profile == OWN_PROFILE && message == ADMISSION_FAILED => {
                    Self::denied(function)
                }
                ("PT401", _) if profile == OWN_PROFILE && message == ADMISSION_FAILED => {
                    Self::bad_token()
                }
                _ => Self::new(status(&sqlstate), sqlstate, message).with(detail, hint),
            },
            Failure::Raised {
                sqlstate, message, ..
            } => Self::broken_off(function, sqlstate, message),
        }
    }

    /// An error of the server's own: its words may tell of the inside, so only its code is told.
    fn broken_off(function: &str, sqlstate: String, message: String) -> Self {
        let refusal = Self {
            stale: ["42883", "42P01", "3F000"].contains(&sqlstate.as_str()),
            ..Self::new(status(&sqlstate), sqlstate.as_str(), NOT_TOLD)
        };
        let failure = Failure::Raised {
            sqlstate,
            message,
            detail: None,
            hint: None,
        };
        // The kit logs what it is.
        match failure.problem(function).code() {
            "database_unavailable" => Self::unavailable(),
            _ => refusal,
        }
    }

    fn unavailable() -> Self {
        let message = "Database connection error. Retrying the connection.";
        Self::new(503, "PGRST000", message)
    }

    fn misconfigured() -> Self {
        Self::new(500, "PT500", "the application is not configured correctly")
            .with(None, Some("misconfigured".to_owned()))
    }

    /// A fault of ours.
    pub fn internal() -> Self {
        Self::new(500, "PGRSTX00", NOT_TOLD)
    }

    /// Whether it may have been found before a stored key was checked, which then is to be done: it is for nobody else's eyes.
    pub fn precedes_admission(&self) -> bool {
        self.precedes_admission
    }

    /// Whether it may be that the function was replaced since the catalogue was read. The statement had no effect.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// The headers that go with it.
    pub fn headers(&self) -> Vec<(HeaderName, String)> {
        let proxy_status = HeaderName::from_static("proxy-status");
        let mut headers = vec![
            (CONTENT_TYPE, "application/json; charset=utf-8".to_owned()),
            (proxy_status, format!("PostgREST; error={}", self.code)),
        ];
        match self.status.as_u16() {
            401 => headers.push((WWW_AUTHENTICATE, "Bearer".to_owned())),
            405 => headers.push((ALLOW, METHODS.to_owned())),
            429 | 503 => headers.push((RETRY_AFTER, "1".to_owned())),
            _ => {}
        }
        headers
    }

    /// The body, whose fields stand in PostgREST's order.
    pub fn body_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            details: Option<&'a str>,
            hint: Option<&'a str>,
            message: &'a str,
        }
        let body = Body {
            code: &self.code,
            details: self.details.as_deref(),
            hint: self.hint.as_deref(),
            message: &self.message,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// The message of service_api where the caller isn't let in (contract, face 1); `millrace_api.rpc_admit` has it too.
const ADMISSION_FAILED: &str = "Service API Failed";

/// Whether the words of an error are for clients: what our functions raise, and what Postgres says of an argument that is not of
/// its parameter's type, as PostgREST's clients know it.
fn is_for_clients(sqlstate: &str) -> bool {
    let converting = ["22P02", "22P05", "22003", "22007", "22008"];
    is_raised(sqlstate) || converting.contains(&sqlstate)
}

/// Whether our functions raise it.
fn is_raised(sqlstate: &str) -> bool {
    sqlstate == "P0001" || sqlstate.starts_with("PT")
}

/// The status of a SQLSTATE, by PostgREST's table. Without the cases that can't arise here: the functions that are called know
/// no roles of tokens. And 42725 is 500: somebody made an overload of a listed function that takes the same arguments, which is
/// none of the client's doing. (PostgREST would have the client choose, 300 `PGRST203`; here nothing can be reached but the listed one.)
fn status(sqlstate: &str) -> u16 {
    match sqlstate {
        "23503" | "23505" => 409,
        "25006" => 405,
        "42501" => 403,
        "42883" | "42P01" => 404,
        "21000" | "42725" | "42P17" | "53400" => 500,
        "57P01" => 503,
        "P0001" => 400,
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "08" | "53" => 503,
            "0L" | "0P" | "28" => 403,
            "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0"
            | "HV" | "P0" | "XX" => 500,
            "PT" => raised_status(sqlstate),
            _ => 400,
        },
    }
}

/// The status that an error `PTnnn` names; PostgREST's 500 if it names none.
fn raised_status(sqlstate: &str) -> u16 {
    let named = sqlstate.get(2..).and_then(|status| status.parse().ok());
    named
        .filter(|status| (400..600).contains(status))
        .unwrap_or(500)
}

/// A name as a refusal repeats it.
fn shortened(name: &str) -> String {
    match name.char_indices().find(|(at, _)| *at >= LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Names of arguments as a refusal repeats them.
fn listed(keys: &[&str]) -> String {
    let mut names: Vec<_> = keys
        .iter()
        .take(MOST_NAMES)
        .map(|it| shortened(it))
        .collect();
    if keys.len() > MOST_NAMES {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// What may have been meant: the parameters of the function, if there is one of this name, else a function.
fn meant(known: &Catalogue, profile: &str, name: &str, keys: &str) -> Option<String> {
    let Some(function) = known.find(profile, name) else {
        let names = known.of_profile(profile).map(|it| it.name.as_str());
        return most_similar(name, names, 0.75).map(str::to_owned);
    };
    let mut names: Vec<_> = function
        .parameters
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    if names.is_empty() || keys.is_empty() {
        return None;
    }
    names.sort_unstable();
    let parameters = format!("({})", names.join(", "));
    // PostgREST asks for a third of likeness where the function is known.
    most_similar(
        &format!("({keys})"),
        [parameters.as_str()].into_iter(),
        0.33,
    )
    .map(|parameters| format!("{name}{parameters}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_postgrests_statuses() {
        for (sqlstate, expected) in [
            ("P0001", 400),
            ("P0002", 500),
            ("PT429", 429),
            ("PT099", 500),
            ("PTabc", 500),
            ("PT600", 500),
            ("22P02", 400),
            ("23502", 400),
            ("23503", 409),
            ("23505", 409),
            ("25006", 405),
            ("25P02", 500),
            ("28000", 403),
            ("40001", 500),
            ("42501", 403),
            ("42601", 400),
            ("42725", 500),
            ("42883", 404),
            ("42P01", 404),
            ("53300", 503),
            ("53400", 500),
            ("54001", 500),
            ("57014", 500),
            ("57P01", 503),
            ("58000", 500),
            ("XX000", 500),
            ("08006", 503),
            ("0LP01", 403),
            ("", 400),
        ] {
            assert_eq!(status(sqlstate), expected, "{sqlstate}");
        }
    }

    #[test]
    fn names_are_not_repeated_without_bound() {
        let long = "é".repeat(32);
        assert_eq!(shortened(&long[..62]), long[..62]);
        assert_eq!(shortened(&(long.clone() + "x")), format!("{long}…"));
        assert_eq!(listed(&["a", "b"]), "a, b");
        let many = listed(&["a"; 1000]);
        assert_eq!(many.len(), 3 * MOST_NAMES + "…".len());
    }

    #[test]
    fn the_servers_own_words_are_not_passed_on() {
        let failure = |sqlstate: &str| Failure::Raised {
            sqlstate: sqlstate.to_owned(),
            message: "a secret".to_owned(),
            detail: Some("a secret".to_owned()),
            hint: Some("a secret".to_owned()),
        };
        for sqlstate in [
            "23505", "42501", "42P01", "XX000", "22012", "P0002", "57014",
        ] {
            let refusal = Refusal::database(failure(sqlstate), "public", "f");
            let body = String::from_utf8(refusal.body_json()).unwrap_or_default();
            assert!(
                !body.contains("secret") && body.contains(sqlstate),
                "{body}"
            );
        }
        for sqlstate in ["P0001", "PT409", "22P02"] {
            let refusal = Refusal::database(failure(sqlstate), "public", "f");
            assert_eq!(refusal.message, "a secret", "{sqlstate}");
        }
    }
}
