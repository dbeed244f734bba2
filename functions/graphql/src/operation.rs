//! An operation from its parameters to its result.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{OperationDefinition, OperationType, Selection};
use async_graphql::{Name, PathSegment, Request, Response, ServerError, Value, Variables};
use futures::future::{Either, FutureExt, select};
use futures::stream::BoxStream;
use http::{HeaderMap, StatusCode};
use millrace_kit::{Problem, variable};

use crate::collect;
use crate::document::{self, Document, Limits};
use crate::driver::{Driver, Reader, Statements};
use crate::protocol::{Outcome, Params};
use crate::refusal::{Refusal, code, error};
use crate::schema::{self, Means, Tasks};
use crate::variables;
use crate::{exact, literals};

/// The variables that decide what may be asked.
///
/// # Errors
/// 500 where one means nothing.
pub async fn limits() -> Result<Limits, Problem> {
    Ok(Limits {
        depth: number("graphql_max_depth").await?,
        complexity: number("graphql_max_complexity").await?,
        introspection: switch("graphql_introspection").await?,
    })
}

async fn number(name: &'static str) -> Result<usize, Problem> {
    match variable::get(name).await?.trim().parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err(variable::wrong(name, "is no integer from 1 to 1000000")),
    }
}

/// A variable that is `1` or `0`.
///
/// # Errors
/// 500 where it is neither.
pub async fn switch(name: &'static str) -> Result<bool, Problem> {
    match variable::get(name).await?.trim() {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(variable::wrong(name, "is neither 1 nor 0")),
    }
}

/// The schema that validates, made once in an instance. Where it may not be asked for, errors do not tell what there would be either.
pub fn schema(limits: &Limits) -> &'static Tasks {
    static OPEN: LazyLock<Tasks> = LazyLock::new(|| schema::validating(true));
    static CLOSED: LazyLock<Tasks> = LazyLock::new(|| schema::validating(false));
    match limits.introspection {
        true => &OPEN,
        false => &CLOSED,
    }
}

/// The schema that executes what has been validated.
static EXECUTING: LazyLock<Tasks> = LazyLock::new(schema::executing);

/// An operation that is ready to be executed.
pub struct Operation {
    request: Request,
    /// The statements that it makes.
    driver: Driver,
    pub kind: OperationType,
    answers: Answers,
    /// Why it must not be executed.
    pub fault: Option<Outcome>,
}

/// What turns responses of the library into results: the keys of their root in order, each with the name of its field.
pub struct Answers(Vec<(Name, Name)>);

/// Makes an operation of what a client asks, or says what is wrong with that.
///
/// # Errors
/// 500 where the application is set up wrongly.
pub async fn prepare(
    params: &Params,
    limits: &Limits,
    headers: HeaderMap,
    reader: Reader,
) -> Result<Result<Operation, ServerError>, Problem> {
    let queue = variable::get("tasks_queue").await?;
    let (driver, line) = Driver::new(headers, reader);
    let means = Means { line, queue };
    Ok(read(params, limits).map(|(document, given)| {
        let kind = document.kind;
        let (request, answers, fault) = match checked(document, given, limits, means) {
            Ok((request, answers)) => (request, answers, None),
            Err(errors) => (
                Request::new(""),
                Answers(Vec::new()),
                Some(Outcome {
                    data: None,
                    errors,
                    status: None,
                }),
            ),
        };
        Operation {
            request,
            driver,
            kind,
            answers,
            fault,
        }
    }))
}

fn read(params: &Params, limits: &Limits) -> Result<(Document, Variables), ServerError> {
    let given = params.variables.as_deref().unwrap_or("{}");
    let given = exact::variables(given)
        .map_err(|why| error(code::BAD_USER_INPUT, format!("variables: {why}"), None))?;
    let text = literals::marked(&params.query)?;
    let mut document = document::read(&text, params.operation.as_deref(), &given, limits)?;
    literals::restore(&mut document.parsed);
    let (_, chosen) = document::choose(&document.parsed, document.name.as_deref())?;
    variables::check(chosen, &given)?;
    Ok((document, given))
}

/// A request that the library executes as the specification has it: valid, its root collected, and all values of their types. So whatever fails
/// while it is executed is the matter of one field.
fn checked(
    document: Document,
    given: Variables,
    limits: &Limits,
    means: Means,
) -> Result<(Request, Answers), Vec<ServerError>> {
    validate(&document, limits)?;
    let name = document.name.as_deref();
    let collected = collect::collect(document.parsed, name, &given).map_err(|error| vec![error])?;
    let (_, operation) = document::choose(&collected, None).map_err(|error| vec![error])?;
    variables::check_arguments(operation, &given).map_err(|error| vec![error])?;
    let answers = Answers::of(operation);
    let mut request = Request::new("").variables(given).data(means);
    request = request.data(document.share);
    request.set_parsed_query(collected);
    Ok((request, answers))
}

/// Has the library validate a document as it came. Variables are not its matter: their values have been looked at.
fn validate(document: &Document, limits: &Limits) -> Result<(), Vec<ServerError>> {
    let mut request = Request::new("");
    request.operation_name.clone_from(&document.name);
    request.set_parsed_query(document.parsed.clone());
    // It executes nothing, so it waits for nothing.
    let response = schema(limits).execute(request).now_or_never();
    let errors = response.map_or_else(
        || vec![Refusal::internal().into_server_error()],
        |response| response.errors,
    );
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.into_iter().map(refused).collect()),
    }
}

impl Operation {
    /// Executes a query or a mutation; the second is what came of its statements.
    ///
    /// # Errors
    /// Where none of its statements was answered, because nobody is let in with these credentials, or nobody is there.
    pub async fn execute(self) -> Result<(Outcome, Statements), Problem> {
        let statements = self.driver.statements();
        let executing = Box::pin(EXECUTING.execute(self.request));
        let response = match select(executing, Box::pin(self.driver.run())).await {
            Either::Left((response, _)) => response,
            Either::Right(((), executing)) => executing.await,
        };
        let mut statements = statements.take();
        let status = statements.fail_as_a_whole()?;
        let mut outcome = self.answers.completed(response);
        outcome.status = status;
        Ok((outcome, statements))
    }

    /// Begins a subscription.
    pub fn follow(self) -> Following {
        Following {
            statements: self.driver.statements(),
            responses: EXECUTING.execute_stream(self.request),
            driver: self.driver,
            answers: self.answers,
        }
    }
}

/// A subscription that has begun, in its parts.
pub struct Following {
    pub responses: BoxStream<'static, Response>,
    pub driver: Driver,
    pub statements: Rc<RefCell<Statements>>,
    pub answers: Answers,
}

impl Statements {
    /// The status of a response whose statements were all refused because the caller may not have what they ask.
    ///
    /// # Errors
    /// As [`Operation::execute`].
    pub fn fail_as_a_whole(&mut self) -> Result<Option<StatusCode>, Problem> {
        let status = self.failed.as_ref().map(Problem::status);
        match status.filter(|_| !self.admitted) {
            Some(StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE) => {
                Err(self.failed.take().unwrap_or_else(Problem::internal))
            }
            Some(StatusCode::FORBIDDEN) => Ok(status),
            _ => Ok(None),
        }
    }
}

impl Answers {
    /// Of an operation whose root is collected.
    fn of(operation: &OperationDefinition) -> Self {
        let items = operation.selection_set.node.items.iter();
        let roots = items.filter_map(|item| match &item.node {
            Selection::Field(field) => Some((
                field.node.response_key().node.clone(),
                field.node.name.node.clone(),
            )),
            _ => None,
        });
        Self(roots.collect())
    }

    /// The result of a response as the specification has it. The library leaves fields out that failed, and keeps no order where some had to wait.
    pub fn completed(&self, response: Response) -> Outcome {
        let Response { data, errors, .. } = response;
        // An error of a field says where it is; one of the validation does not, and then nothing was executed.
        let is_executed = errors.is_empty() || errors.iter().any(|error| !error.path.is_empty());
        let data = is_executed.then(|| self.data(data, &errors));
        let coded = |error| match is_executed {
            true => coded(error),
            false => refused(error),
        };
        Outcome {
            data,
            errors: errors.into_iter().map(coded).collect(),
            status: None,
        }
    }

    /// Puts the root's fields in order, and null where one failed that may be null; where another failed there is nothing at all (section 6.4.4).
    fn data(&self, data: Value, errors: &[ServerError]) -> Value {
        let mut found = match data {
            Value::Object(fields) => fields,
            _ => IndexMap::new(),
        };
        let mut ordered = IndexMap::with_capacity(found.len());
        for (key, field) in &self.0 {
            let value = match found.swap_remove(key) {
                Some(value) => value,
                None if !errors.iter().any(|error| is_at(error, key)) => continue, // skipped
                None if matches!(field.as_str(), "task" | "job" | "__type") => Value::Null,
                None => return Value::Null,
            };
            ordered.insert(key.clone(), value);
        }
        Value::Object(ordered)
    }
}

/// An error of the validation, with its code: a value that does not fit is the client's data, anything else his query.
fn refused(mut error: ServerError) -> ServerError {
    let code = match error.message.starts_with("Invalid value for argument") {
        true => code::BAD_USER_INPUT,
        false => code::VALIDATION_FAILED,
    };
    error.extensions.get_or_insert_default().set("code", code);
    error
}

/// Whether an error is of the root's field with this key, or of something in it.
fn is_at(error: &ServerError, key: &Name) -> bool {
    matches!(error.path.first(), Some(PathSegment::Field(name)) if name == key.as_str())
}

/// An error of a field. One without a code is the library's: an argument that could not be read.
fn coded(mut error: ServerError) -> ServerError {
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        extensions.set("code", code::BAD_USER_INPUT);
    }
    error
}
