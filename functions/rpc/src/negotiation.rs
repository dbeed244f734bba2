//! What a request's headers and query string say about the call: the profile, the format of the answer, the preferences.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::refusal::Refusal;

/// Parameters of PostgREST's query strings that name no argument of a function.
const RESERVED: [&str; 8] = [
    "select",
    "columns",
    "on_conflict",
    "order",
    "limit",
    "offset",
    "and",
    "or",
];

/// The profile that is asked for, if one is. PostgREST looks at `Content-Profile` for a POST and at `Accept-Profile` for
/// a GET; here a POST may have either, since service_api's own document sends the other one.
pub fn asked_profile(head: &Parts) -> Option<String> {
    let header = |name: &str| head.headers.get(name);
    let asked = match head.method {
        Method::POST => header("content-profile").or_else(|| header("accept-profile")),
        _ => header("accept-profile"),
    };
    asked.map(|asked| String::from_utf8_lossy(asked.as_bytes()).into_owned())
}

/// That profile, else the default one.
///
/// # Errors
/// 406 `PGRST106` for an unknown one.
pub fn profile<'a>(asked: Option<&str>, known: &'a [String]) -> Result<&'a str, Refusal> {
    let found = match asked {
        Some(asked) => known.iter().find(|profile| *profile == asked),
        None => known.first(),
    };
    match found {
        Some(profile) => Ok(profile),
        None => Err(Refusal::schema(asked.unwrap_or_default(), known)),
    }
}

/// Refuses a query string: filters, orders and the like have no effect on a call here, and are not to be ignored. What asks for
/// all columns, as clients do that end a call with `.select()`, asks for nothing.
pub fn no_query(head: &Parts) -> Result<(), Refusal> {
    let query = head.uri.query().unwrap_or_default();
    let mut asked = form_urlencoded::parse(query.as_bytes());
    match asked.find(|(name, value)| (name.as_ref(), value.as_ref()) != ("select", "*")) {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::not_implemented(format!(
            "The query parameter '{name}' is not supported on RPC"
        ))),
    }
}

/// The names of arguments in a query string.
pub fn query_keys(head: &Parts) -> Vec<String> {
    let query = head.uri.query().unwrap_or_default();
    let mut keys: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name.into_owned())
        .filter(|name| !RESERVED.contains(&name.as_str()))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Refuses a body that is declared as something else than JSON; PostgREST takes one that isn't declared for JSON.
pub fn json_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(declared) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let declared = String::from_utf8_lossy(declared.as_bytes());
    let essence = essence(&declared);
    match essence.as_str() {
        "application/json" | "" => Ok(()),
        _ => Err(Refusal::body(format!(
            "Content-Type not acceptable: {essence}"
        ))),
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// In which form a result is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As it is.
    Json,
    /// As the one object that it has.
    Object,
}

impl Format {
    /// The first one of `Accept` that is known here.
    ///
    /// # Errors
    /// 406 `PGRST107` if none is.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut refused = Vec::new();
        for value in headers.get_all(ACCEPT) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            for media_type in value.split(',') {
                match essence(media_type).as_str() {
                    "application/json" | "application/*" | "*/*" => return Ok(Self::Json),
                    "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object"
                        if !media_type.contains("nulls=") =>
                    {
                        return Ok(Self::Object);
                    }
                    _ => refused.push(media_type.trim().to_owned()),
                }
            }
        }
        match refused.is_empty() {
            true => Ok(Self::Json),
            false => Err(Refusal::media_types(&refused)),
        }
    }

    /// What stands in `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Object => "application/vnd.pgrst.object+json; charset=utf-8",
        }
    }
}

/// What PostgREST knows besides `timezone` and `max-affected`: most of it says nothing about calls, and has no effect on them.
const KNOWN_PREFERENCES: [&str; 14] = [
    "resolution=merge-duplicates",
    "resolution=ignore-duplicates",
    "return=representation",
    "return=minimal",
    "return=headers-only",
    "count=exact",
    "count=planned",
    "count=estimated",
    "tx=commit",
    "tx=rollback",
    "missing=default",
    "missing=null",
    "handling=strict",
    "handling=lenient",
];

/// The preferences (RFC 7240) that change the answer to a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    count: Option<String>,
    handling: Option<String>,
}

impl Preferences {
    /// Those of the headers; of several for one thing the first counts.
    ///
    /// # Errors
    /// 400 `PGRST122` where `handling=strict` stands beside one that is not fulfilled here, `timezone` and `max-affected` among
    /// them. (`tx=rollback` has no effect, as on a PostgREST that was not configured to heed it.)
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let values = headers.get_all("prefer").iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let asked: Vec<_> = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|preference| !preference.is_empty())
            .collect();
        let first = |name: &str| {
            let mut known = asked.iter().filter(|it| KNOWN_PREFERENCES.contains(it));
            known
                .find(|it| it.starts_with(name))
                .map(ToString::to_string)
        };
        let preferences = Self {
            count: first("count="),
            handling: first("handling="),
        };
        let unknown: Vec<_> = asked
            .iter()
            .filter(|it| !KNOWN_PREFERENCES.contains(it))
            .copied()
            .collect();
        match preferences.handling.as_deref() {
            Some("handling=strict") if !unknown.is_empty() => Err(Refusal::preferences(&unknown)),
            _ => Ok(preferences),
        }
    }

    /// Whether the number of all rows is to be told; the answer always has all of them. (A planned count is an estimate that
    /// PostgREST has for tables only.)
    pub fn counts(&self) -> bool {
        matches!(
            self.count.as_deref(),
            Some("count=exact" | "count=estimated")
        )
    }

    /// What stands in `Preference-Applied`.
    pub fn applied(&self) -> Option<String> {
        let applied: Vec<_> = [&self.count, &self.handling]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_first_preference_for_a_thing_counts() {
        let of = |values: &[&'static str]| Preferences::of(&headers("prefer", values)).ok();
        let applied = |values| of(values).and_then(|it| it.applied());
        assert_eq!(applied(&["return=minimal"]), None);
        assert_eq!(
            applied(&["count=planned , count=exact", "handling=lenient, nonsense"]).as_deref(),
            Some("count=planned, handling=lenient")
        );
        assert_eq!(of(&["handling=strict, count=some"]), None);
        assert_eq!(of(&["handling=strict", "max-affected=1"]), None);
        assert!(of(&["handling=strict, return=representation"]).is_some());
    }

    #[test]
    fn the_first_known_format_is_taken() {
        let of = |value| Format::of(&headers("accept", &[value])).ok();
        assert_eq!(of("text/csv, application/json;q=0.5"), Some(Format::Json));
        assert_eq!(
            of("application/vnd.pgrst.object+json, */*"),
            Some(Format::Object)
        );
        assert_eq!(of("text/csv"), None);
        assert_eq!(of("application/vnd.pgrst.object+json;nulls=stripped"), None);
        assert_eq!(Format::of(&HeaderMap::new()).ok(), Some(Format::Json));
    }
}
