//! The statements of an operation. Resolvers ask over a channel, and the driver, which is polled beside them, answers: it waits until no resolver can
//! go on, takes all that they ask to read, and asks the database once. So a query is one statement, whatever it selects.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_graphql::Error;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use http::HeaderMap;
use millrace_kit::auth::{Caller, Scope};
use millrace_kit::{Problem, database, log, variable, wake};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use spin_sdk::time;

use crate::refusal::Refusal;

/// Between two looks for something new: the first pause, and what it grows to while nothing comes.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a resolver asks for.
pub enum Ask {
    /// One of the functions that `graphql_read` knows.
    Read(&'static str),
    /// A function that changes something: a statement of its own.
    Change(&'static str, Scope),
    /// What `task_changed` says once there is something to say.
    Follow,
}

struct Call {
    ask: Ask,
    request: Box<RawValue>,
    answer: oneshot::Sender<Answer>,
}

/// The JSON text of an answer.
type Answer = Result<String, Refusal>;

/// Where resolvers ask.
#[derive(Clone)]
pub struct Line {
    calls: mpsc::UnboundedSender<Call>,
    /// Whether a change failed, so that none is made after it: the whole answer is null then, and would hide it.
    is_broken: Arc<AtomicBool>,
}

impl Line {
    /// Asks with `request`, and waits for the answer.
    ///
    /// # Errors
    /// The refusal, with its code.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        ask: Ask,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        let is_change = matches!(ask, Ask::Change(..));
        if is_change && self.is_broken.load(Ordering::Relaxed) {
            return Err(Refusal::not_executed().into_error());
        }
        let answer = self.answer(ask, request).await;
        if is_change && answer.is_err() {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        ask: Ask,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        let request = checked(request).map_err(Refusal::into_error)?;
        let (answer, answered) = oneshot::channel();
        let call = Call {
            ask,
            request,
            answer,
        };
        // Either fails only where the driver is gone, and then nobody waits for this any more.
        let gone = |()| Refusal::internal().into_error();
        self.calls.unbounded_send(call).map_err(|_| gone(()))?;
        let text = answered.await.map_err(|_| gone(()))?;
        let text = text.map_err(Refusal::into_error)?;
        serde_json::from_str(&text).map_err(|error| {
            // Its place and kind; what was read is not in it.
            let (line, column) = (error.line(), error.column());
            log::line(format_args!("an answer of another form at {line}:{column}"));
            gone(())
        })
    }
}

/// A request as JSON that jsonb can hold: no NUL, no number without end, no nesting without end.
fn checked(request: &impl Serialize) -> Result<Box<RawValue>, Refusal> {
    let raw = to_raw_value(request).map_err(|_| Refusal::internal())?;
    match serde_json::from_str::<millrace_kit::json::Json>(raw.get()) {
        Ok(_) => Ok(raw),
        Err(error) => Err(Refusal::of(&Problem::invalid(
            "arguments",
            &error.to_string(),
        ))),
    }
}

/// Whom reading is for, or why he may not. What he shows may have to be checked by a statement yet.
pub type Reader = Rc<Result<Caller, Refusal>>;

/// What came of an operation's statements, for the status of the response.
#[derive(Default)]
pub struct Statements {
    /// Whether the database answered one: the caller is who he says he is.
    pub admitted: bool,
    /// Why the first one failed as a whole.
    pub failed: Option<Problem>,
}

impl Statements {
    /// Whether there was none, so that none has checked a stored key.
    pub fn are_none(&self) -> bool {
        !self.admitted && self.failed.is_none()
    }
}

/// Whoever answers the resolvers of one operation.
pub struct Driver {
    calls: mpsc::UnboundedReceiver<Call>,
    headers: HeaderMap,
    reader: Reader,
    statements: Rc<RefCell<Statements>>,
}

impl Driver {
    /// A driver, and the line to it. It ends when the line and its copies are gone.
    pub fn new(headers: HeaderMap, reader: Reader) -> (Self, Line) {
        let (line, calls) = mpsc::unbounded();
        let driver = Self {
            calls,
            headers,
            reader,
            statements: Rc::default(),
        };
        let line = Line {
            calls: line,
            is_broken: Arc::default(),
        };
        (driver, line)
    }

    /// What becomes of the statements.
    pub fn statements(&self) -> Rc<RefCell<Statements>> {
        Rc::clone(&self.statements)
    }

    /// Answers until nobody asks any more.
    pub async fn run(mut self) {
        while let Some(call) = self.calls.next().await {
            let mut reads = Vec::new();
            self.take(call, &mut reads).await;
            while let Some(Some(call)) = self.calls.next().now_or_never() {
                self.take(call, &mut reads).await;
            }
            if !reads.is_empty() {
                self.read(reads).await;
            }
        }
    }

    /// Puts a read with the others, and deals with anything else at once: mutations ask one after the other, a subscription asks alone.
    async fn take(&mut self, call: Call, reads: &mut Vec<Call>) {
        let answer = match call.ask {
            Ask::Read(_) => return reads.push(call),
            Ask::Change(function, scope) => self.change(function, scope, &call.request).await,
            Ask::Follow => self.follow(&call.request).await,
        };
        // Whoever asked may be gone.
        _ = call.answer.send(answer);
    }

    /// All that a query reads.
    async fn read(&mut self, reads: Vec<Call>) {
        let answers = self.read_all(&reads).await;
        let answers = match answers {
            Ok(answers) if answers.len() == reads.len() => answers,
            Ok(_) => vec![Err(Refusal::internal()); reads.len()],
            Err(refusal) => vec![Err(refusal); reads.len()],
        };
        for (call, answer) in reads.into_iter().zip(answers) {
            _ = call.answer.send(answer);
        }
    }

    async fn read_all(&self, reads: &[Call]) -> Result<Vec<Answer>, Refusal> {
        let calls = reads.iter().map(|call| ReadCall {
            function: match call.ask {
                Ask::Read(function) => function,
                Ask::Change(..) | Ask::Follow => "",
            },
            request: &call.request,
        });
        let request = ReadCalls {
            calls: calls.collect(),
        };
        let text = self.read_one("graphql_read", &request).await?;
        let answers: Vec<ReadAnswer> = serde_json::from_str(&text).map_err(|_| {
            log::line(format_args!("graphql_read: not an array of answers"));
            Refusal::internal()
        })?;
        Ok(answers.into_iter().map(ReadAnswer::into_answer).collect())
    }

    /// A statement that reads.
    async fn read_one(&self, function: &'static str, request: &impl Serialize) -> Answer {
        match self.reader.as_ref() {
            Ok(reader) => self.note(database::call_text(reader, function, request).await),
            Err(refusal) => self.note(Err(refusal.problem())),
        }
    }

    async fn change(&self, function: &'static str, scope: Scope, request: &RawValue) -> Answer {
        let caller = match variable::caller(&self.headers, scope).await {
            Ok(caller) => caller,
            Err(problem) => return self.note(Err(problem)),
        };
        let answer = self.note(database::call_text(&caller, function, &request).await)?;
        if matches!(function, "task_create" | "task_retry") {
            wake::channels();
        }
        Ok(answer)
    }

    /// Looks until something happened behind the place that the request names, at once where it names none.
    async fn follow(&self, request: &RawValue) -> Answer {
        let mut pause = FIRST_PAUSE;
        let mut is_first = true;
        loop {
            let text = self.read_one("task_changed", &request).await?;
            let news: News = serde_json::from_str(&text).map_err(|_| Refusal::internal())?;
            if news.task.is_some() {
                return Ok(text);
            }
            if !is_first {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            is_first = false;
            time::sleep(pause).await;
        }
    }

    fn note(&self, answer: Result<String, Problem>) -> Answer {
        let mut statements = self.statements.borrow_mut();
        match answer {
            Ok(text) => {
                statements.admitted = true;
                Ok(text)
            }
            Err(problem) => {
                let refusal = Refusal::of(&problem);
                statements.failed.get_or_insert(problem);
                Err(refusal)
            }
        }
    }
}

/// Whether `task_changed` has something to say.
#[derive(Deserialize)]
struct News<'a> {
    #[serde(borrow)]
    task: Option<&'a RawValue>,
}

/// What `graphql_read` is asked.
#[derive(Serialize)]
struct ReadCalls<'a> {
    calls: Vec<ReadCall<'a>>,
}

#[derive(Serialize)]
struct ReadCall<'a> {
    function: &'static str,
    request: &'a RawValue,
}

/// What it answers to one call.
#[derive(Deserialize)]
struct ReadAnswer<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    error: Option<Refusal>,
}

impl ReadAnswer<'_> {
    fn into_answer(self) -> Answer {
        match (self.data, self.error) {
            (_, Some(refusal)) => Err(refusal),
            (Some(data), None) => Ok(data.get().to_owned()),
            (None, None) => Err(Refusal::internal()),
        }
    }
}
