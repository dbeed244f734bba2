//! /graphql: tasks and jobs as a GraphQL schema, with an explorer page and a subscription.
//!
//! A request is read ([`protocol`]), its query bounded and parsed ([`literals`], [`document`]), its values held against their types ([`variables`]), its root
//! collected ([`collect`]), and executed by the schema ([`operation`], [`schema`]), whose resolvers get what they need of the database in as few statements as there can be ([`driver`]).

mod collect;
mod document;
mod driver;
mod exact;
mod explorer;
mod literals;
mod memory;
mod operation;
mod protocol;
mod refusal;
mod scalars;
mod schema;
mod sse;
mod types;
mod variables;

use std::rc::Rc;

use async_graphql::SDLExportOptions;
use async_graphql::parser::types::OperationType;
use http::header::{ALLOW, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Either;
use millrace_kit::auth::Scope;
use millrace_kit::{Problem, database, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

use crate::driver::Reader;
use crate::operation::Operation;
use crate::protocol::{Accepted, Body, Form, Outcome};
use crate::refusal::{Refusal, code};

/// Serves the component's routes.
#[http_service]
async fn handle(request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let accepted = Accepted::of(&head.headers);
    let answer = match head.uri.path().trim_end_matches('/') {
        "/graphql" => graphql(&head, body, accepted).await,
        "/graphql/schema.graphql" => definition(&head).await,
        path => page(&head, path).await,
    };
    let mut response = answer.unwrap_or_else(|problem| protocol::refused(problem, accepted.form));
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().entry(VARY).or_insert(vary);
    response
}

async fn graphql(
    head: &Parts,
    body: impl http_body::Body,
    accepted: Accepted,
) -> Result<Response<Body>, Problem> {
    let is_get = protocol::is_get(&head.method)?;
    if is_get && accepted.html && !has_query(head) {
        return page(head, "/graphql").await;
    }
    let reader = reader(&head.headers).await?;
    let params = match is_get {
        true => protocol::got(head.uri.query()),
        false => protocol::posted(head, body).await,
    };
    let params = known(&reader, params).await?;
    let limits = operation::limits().await?;
    let (headers, asking) = (head.headers.clone(), Rc::clone(&reader));
    match operation::prepare(&params, &limits, headers, asking).await? {
        Err(error) => {
            admit(&reader).await?;
            Ok(refused(&Outcome::refused(error), accepted))
        }
        Ok(mut operation) => {
            let fit = fits(&operation, is_get, accepted);
            known(&reader, fit).await?;
            let Some(outcome) = operation.fault.take() else {
                return answer(operation, &reader, accepted).await;
            };
            admit(&reader).await?;
            Ok(match operation.kind {
                OperationType::Subscription => sse::one(&outcome),
                _ => refused(&outcome, accepted),
            })
        }
    }
}

fn has_query(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "query")
}

fn by_post() -> Problem {
    let why = "a mutation is sent by POST";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
        .with_header(ALLOW, "POST")
}

/// Whether the operation may be asked for in this way, before it does anything.
fn fits(operation: &Operation, is_get: bool, accepted: Accepted) -> Result<(), Problem> {
    match operation.kind {
        OperationType::Mutation if is_get => Err(by_post()),
        OperationType::Subscription if !accepted.events => Err(protocol::not_acceptable(
            "a subscription is answered as server-sent events: send Accept: text/event-stream",
        )),
        _ if accepted.form.is_none() && !accepted.events => Err(protocol::not_acceptable(
            "the answer is application/graphql-response+json, application/json or text/event-stream",
        )),
        _ => Ok(()),
    }
}

async fn answer(
    operation: Operation,
    reader: &Reader,
    accepted: Accepted,
) -> Result<Response<Body>, Problem> {
    if operation.kind == OperationType::Subscription {
        let times = sse::Times::read().await?;
        let (response, statements) = sse::many(operation.follow(), times).await?;
        if statements.are_none() {
            admit(reader).await?;
        }
        return Ok(response);
    }
    let is_query = operation.kind == OperationType::Query;
    let (outcome, statements) = operation.execute().await?;
    if statements.are_none() {
        let forbidden = admit(reader).await?;
        // What a query says without a statement is of the schema, which is for those who may read. A mutation says nothing then.
        if let (Some(refusal), true) = (forbidden, is_query) {
            return Err(refusal.problem());
        }
    }
    Ok(match accepted.form {
        Some(form) => outcome.response(form),
        None => sse::one(&outcome),
    })
}

/// What is wrong with a query before the schema has seen it. To somebody who takes events alone the GraphQL-SSE protocol tells
/// it as a result, but where there is no operation at all.
fn refused(outcome: &Outcome, accepted: Accepted) -> Response<Body> {
    let is_no_operation = outcome.errors.iter().any(|error| {
        let code = error.extensions.as_ref().and_then(|it| it.get("code"));
        code == Some(&code::PARSE_FAILED.into()) || code == Some(&code::UNRESOLVED.into())
    });
    match accepted.form {
        Some(form) => outcome.response(form),
        None if accepted.events && !is_no_operation => sse::one(outcome),
        None => outcome.response(Form::GraphQl),
    }
}

/// Who asks, and whether he may read, by the rules that the variables make.
///
/// # Errors
/// Nobody is let in with these credentials, or nobody can tell.
async fn reader(headers: &HeaderMap) -> Result<Reader, Problem> {
    match variable::caller(headers, Scope::Read).await {
        Ok(caller) => Ok(Rc::new(Ok(caller))),
        // He is known; some of what he asks may be for him.
        Err(problem) if problem.status() == StatusCode::FORBIDDEN => {
            Ok(Rc::new(Err(Refusal::of(&problem))))
        }
        Err(problem) => Err(problem),
    }
}

/// Checks a stored key that no statement has checked, and says if it is not for reading. Whoever has a good one may learn what is wrong with what he sent,
/// whatever the key is for.
///
/// # Errors
/// That the key is not good, or that nobody can tell.
async fn admit(reader: &Reader) -> Result<Option<Refusal>, Problem> {
    match reader.as_ref() {
        Err(refusal) => Ok(Some(refusal.clone())),
        Ok(caller) => match database::admit(caller).await {
            Ok(()) => Ok(None),
            Err(problem) if problem.status() == StatusCode::FORBIDDEN => {
                Ok(Some(Refusal::of(&problem)))
            }
            Err(problem) => Err(problem),
        },
    }
}

/// What is wrong with a request is for those who are known.
async fn known<T>(reader: &Reader, outcome: Result<T, Problem>) -> Result<T, Problem> {
    if outcome.is_err() {
        admit(reader).await?;
    }
    outcome
}

/// `GET /graphql/schema.graphql`: the schema in its own language, for tools that make clients of it.
async fn definition(head: &Parts) -> Result<Response<Body>, Problem> {
    millrace_kit::request::only(&head.method, "GET")?;
    let reader = reader(&head.headers).await?;
    if let Some(refusal) = admit(&reader).await? {
        return Err(refusal.problem());
    }
    let limits = operation::limits().await?;
    if !limits.introspection {
        return Err(Problem::not_found());
    }
    let text =
        operation::schema(&limits).sdl_with_options(SDLExportOptions::new().include_specified_by());
    Ok(protocol::of(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        text,
    ))
}

/// The explorer, which is open to all: it asks as whoever uses it.
async fn page(head: &Parts, path: &str) -> Result<Response<Body>, Problem> {
    millrace_kit::request::only(&head.method, "GET")?;
    if !operation::switch("graphql_explorer").await? {
        return Err(Problem::not_found());
    }
    match explorer::page(path) {
        Some(page) => Ok(page.map(Either::Left)),
        None => Err(Problem::not_found()),
    }
}
