//! The pages, made of what the database says. Templates escape whatever they are given.

use askama::Template;
use http::StatusCode;
use millrace_kit::{Answer, Problem, log};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const HTML: &str = "text/html; charset=utf-8";

/// `/preview`
#[derive(Template, Deserialize)]
#[template(path = "list.html")]
#[serde(rename_all = "camelCase")]
struct List {
    items: Vec<Item>,
    next_cursor: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    job_id: String,
    channel: String,
    to: Option<String>,
    subject: Option<String>,
    kept_at: String,
}

/// `/preview/JOB`
#[derive(Template, Deserialize)]
#[template(path = "one.html")]
#[serde(rename_all = "camelCase")]
struct One {
    job_id: String,
    channel: String,
    to: Option<String>,
    subject: Option<String>,
    html: Option<String>,
    text: Option<String>,
    request: Value,
    kept_at: String,
    /// `request`, to be read by people.
    #[serde(skip)]
    request_text: Option<String>,
}

/// The page of many.
///
/// # Errors
/// 500 for an answer of the database's that is not what it should be.
pub fn list(json: &str) -> Result<Answer, Problem> {
    rendered(&parsed::<List>(json)?)
}

/// The page of one.
///
/// # Errors
/// As [`list`].
pub fn one(json: &str) -> Result<Answer, Problem> {
    let mut one: One = parsed(json)?;
    if !one.request.is_null() {
        one.request_text = serde_json::to_string_pretty(&one.request).ok();
    }
    rendered(&one)
}

/// The email itself, as it is.
///
/// # Errors
/// 404 `no_html` if it has no HTML; else as [`list`].
pub fn email(json: &str) -> Result<Answer, Problem> {
    let one: One = parsed(json)?;
    match one.html {
        Some(html) => Ok(Answer::of(HTML, html)),
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no_html",
            "the message has no HTML",
        )),
    }
}

fn parsed<T: DeserializeOwned>(json: &str) -> Result<T, Problem> {
    serde_json::from_str(json).map_err(|error| {
        log::line(format_args!("a preview cannot be shown: {error}"));
        Problem::internal()
    })
}

fn rendered(page: &impl Template) -> Result<Answer, Problem> {
    match page.render() {
        Ok(html) => Ok(Answer::of(HTML, html)),
        Err(error) => {
            log::line(format_args!("a preview cannot be shown: {error}"));
            Err(Problem::internal())
        }
    }
}
