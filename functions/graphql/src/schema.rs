//! The schema's roots: which calls each field makes. What they mean is the database's matter.

use std::sync::Arc;

use async_graphql::async_trait::async_trait;
use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute};
use async_graphql::registry::Registry;
use async_graphql::{
    Context, ID, Lookahead, Object, OutputType, Response, Result, Schema, SchemaBuilder,
    Subscription, SubscriptionType, ValidationMode,
};
use futures::stream::{self, Stream};
use millrace_kit::auth::Scope;
use serde::{Deserialize, Serialize};

use crate::document::MAX_NESTING;
use crate::driver::{Ask, Line};
use crate::types::{CreateJobInput, CreateTaskInput, Job, Task, TaskFilters, TaskList};

/// The whole schema.
pub type Tasks = Schema<Query, Mutation, Following>;

/// What an operation's resolvers need.
pub struct Means {
    pub line: Line,
    /// The queue of tasks and jobs that name none.
    pub queue: String,
}

/// The schema, which validates and executes. With `suggests` an error may name what the client might have meant.
#[cfg(test)]
pub fn build(suggests: bool) -> Tasks {
    suggesting(suggests).finish()
}

/// The schema that validates and does nothing else. With `suggests` an error may name what the client might have meant.
pub fn validating(suggests: bool) -> Tasks {
    suggesting(suggests).extension(ValidatesOnly).finish()
}

/// The schema that executes what has been validated.
pub fn executing() -> Tasks {
    builder().validation_mode(ValidationMode::Fast).finish()
}

/// The types of the schema's fields and of their arguments.
pub fn types() -> Registry {
    let mut types = Registry::default();
    Query::create_type_info(&mut types);
    Mutation::create_type_info(&mut types);
    Following::create_type_info(&mut types);
    types
}

fn suggesting(suggests: bool) -> SchemaBuilder<Query, Mutation, Following> {
    match suggests {
        true => builder(),
        false => builder().disable_suggestions(),
    }
}

fn builder() -> SchemaBuilder<Query, Mutation, Following> {
    // How deep a document may be was looked at before (`document`), where a selection set counts less.
    Schema::build(Query, Mutation, Following).limit_recursive_depth(2 * MAX_NESTING)
}

/// Has nothing executed behind the validation.
struct ValidatesOnly;

impl ExtensionFactory for ValidatesOnly {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Extension for ValidatesOnly {
    async fn execute(
        &self,
        _: &ExtensionContext<'_>,
        _: Option<&str>,
        _: NextExecute<'_>,
    ) -> Response {
        Response::default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfTask {
    task_id: ID,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_attempts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    without: Vec<&'static str>,
}

impl OfTask {
    fn new(task_id: ID, without: Vec<&'static str>) -> Self {
        Self {
            task_id,
            reset_attempts: None,
            after: None,
            without,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfJob {
    job_id: ID,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without: Vec<&'static str>,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    filters: TaskFilters,
    without: Vec<&'static str>,
}

#[derive(Serialize)]
struct AllJobs {
    without: Vec<&'static str>,
}

/// Of the fields of a task or a job that can be large those that are not selected: the database leaves them where they are.
fn without(task: &Lookahead) -> Vec<&'static str> {
    let large = ["payload", "result"].into_iter();
    large.filter(|name| !task.field(name).exists()).collect()
}

pub struct Query;

/// What there is.
#[Object]
impl Query {
    /// The tasks of all queues, newest first, a page of them at a time.
    async fn tasks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which tasks, and which page of them.")] filters: Option<TaskFilters>,
    ) -> Result<TaskList> {
        let request = Listed {
            filters: filters.unwrap_or_default(),
            without: without(&ctx.look_ahead().field("tasks")),
        };
        line(ctx)?.ask(Ask::Read("task_list"), &request).await
    }

    /// One task. Where there is none of that id: null, and an error NOT_FOUND.
    async fn task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] task_id: ID,
    ) -> Result<Option<Task>> {
        let request = OfTask::new(task_id, without(&ctx.look_ahead()));
        line(ctx)?.ask(Ask::Read("task_get"), &request).await
    }

    /// All jobs.
    async fn jobs(&self, ctx: &Context<'_>) -> Result<Vec<Job>> {
        let request = AllJobs {
            without: without(&ctx.look_ahead()),
        };
        line(ctx)?.ask(Ask::Read("schedule_list"), &request).await
    }

    /// One job. Where there is none of that id: null, and an error NOT_FOUND.
    async fn job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] job_id: ID,
    ) -> Result<Option<Job>> {
        let request = OfJob {
            job_id,
            without: without(&ctx.look_ahead()),
        };
        line(ctx)?.ask(Ask::Read("schedule_get"), &request).await
    }
}

pub struct Mutation;

#[derive(Deserialize)]
struct Created {
    task: Task,
}

/// An answer of which nothing is told.
#[derive(Deserialize)]
struct Done {}

/// What can be done. The fields are done one after the other, each in a transaction of its own. Behind one that failed none is done, and the errors of the others
/// say so; what was done before it stays, though the answer's `data` is null then.
#[Object]
impl Mutation {
    /// Puts a task in its queue.
    async fn create_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task.")] mut input: CreateTaskInput,
    ) -> Result<Task> {
        let means: &Means = ctx.data()?;
        input.queue.get_or_insert_with(|| means.queue.clone());
        let ask = Ask::Change("task_create", Scope::Enqueue);
        let Created { task } = means.line.ask(ask, &input).await?;
        Ok(task)
    }

    /// Withdraws a task that is pending, processing or retrying. Its worker learns of it with its next word.
    async fn cancel_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] task_id: ID,
    ) -> Result<bool> {
        let request = OfTask::new(task_id, vec!["payload", "result"]);
        let ask = Ask::Change("task_cancel", Scope::Operate);
        let Done {} = line(ctx)?.ask(ask, &request).await?;
        Ok(true)
    }

    /// Queues a task again that failed or was cancelled.
    async fn retry_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] task_id: ID,
        #[graphql(desc = "Whether it has all of its attempts before it again, or one more.")]
        reset_attempts: Option<bool>,
    ) -> Result<Task> {
        let request = OfTask {
            reset_attempts,
            ..OfTask::new(task_id, without(&ctx.look_ahead()))
        };
        let ask = Ask::Change("task_retry", Scope::Operate);
        line(ctx)?.ask(ask, &request).await
    }

    /// Makes a job.
    async fn create_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job.")] mut input: CreateJobInput,
    ) -> Result<Job> {
        let means: &Means = ctx.data()?;
        input.queue.get_or_insert_with(|| means.queue.clone());
        let ask = Ask::Change("schedule_create", Scope::Operate);
        means.line.ask(ask, &input).await
    }

    /// Has a job make no tasks until it is resumed.
    async fn pause_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] job_id: ID,
    ) -> Result<bool> {
        change_job(ctx, "schedule_pause", job_id).await
    }

    /// Has a paused job make tasks again, from its next time on.
    async fn resume_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] job_id: ID,
    ) -> Result<bool> {
        change_job(ctx, "schedule_resume", job_id).await
    }

    /// Deletes a job. The tasks that it made stay.
    async fn delete_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] job_id: ID,
    ) -> Result<bool> {
        change_job(ctx, "schedule_delete", job_id).await
    }
}

async fn change_job(ctx: &Context<'_>, function: &'static str, job_id: ID) -> Result<bool> {
    let ask = Ask::Change(function, Scope::Operate);
    let request = OfJob {
        job_id,
        without: Vec::new(),
    };
    let Done {} = line(ctx)?.ask(ask, &request).await?;
    Ok(true)
}

pub struct Following;

/// What `task_changed` answers where something happened.
#[derive(Deserialize)]
struct Changed {
    place: String,
    task: Task,
    ended: bool,
}

/// What can be followed.
#[Subscription(name = "Subscription")]
impl Following {
    /// A task: as it is, and then anew whenever something happened to it. It is over when the task is completed, failed or cancelled.
    async fn task_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] task_id: ID,
    ) -> Result<impl Stream<Item = Result<Task>>> {
        let line = line(ctx)?.clone();
        let request = OfTask::new(task_id, without(&ctx.look_ahead()));
        // The first look is here, so that an unknown task is an error of the subscription itself.
        let first: Changed = line.ask(Ask::Follow, &request).await?;
        let changes = Changes { line, request };
        Ok(stream::unfold(Some((changes, Some(first))), Changes::step))
    }
}

struct Changes {
    line: Line,
    request: OfTask,
}

/// Whoever follows, with what he has not passed on yet; none where it is over.
type Step = Option<(Changes, Option<Changed>)>;

impl Changes {
    async fn step(step: Step) -> Option<(Result<Task>, Step)> {
        let (mut changes, ready) = step?;
        let changed = match ready {
            Some(changed) => changed,
            None => match changes.line.ask(Ask::Follow, &changes.request).await {
                Ok(changed) => changed,
                Err(error) => return Some((Err(error), None)),
            },
        };
        changes.request.after = Some(changed.place);
        let next = (!changed.ended).then_some((changes, None));
        Some((Ok(changed.task), next))
    }
}

fn line<'a>(ctx: &Context<'a>) -> Result<&'a Line> {
    Ok(&ctx.data::<Means>()?.line)
}
