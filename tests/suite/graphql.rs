//! `/graphql`: the schema, its limits, GraphQL over HTTP, and the subscription.

mod access;
mod execution;
mod limits;
mod memory;
mod protocol;
mod subscription;
mod values;

use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::queue::{self, Outcome, claim_one};
use millrace_tests::statements::Counter;
use serde_json::{Value, json};

/// All fields of a task.
const TASK: &str = "id type status priority queue payload attempts maxAttempts createdAt startedAt completedAt failedAt error result __typename";

/// All fields of a job.
const JOB: &str = "id name type schedule timeZone queue payload status createdAt updatedAt lastRun nextRun __typename";

/// Creates a task of this type and returns its id.
async fn create(app: &App, kind: &str) -> String {
    let query = "mutation ($type: String!) { createTask(input: {type: $type}) { id } }";
    let data = app
        .api
        .graphql_with(query, json!({ "type": kind }))
        .await
        .data();
    data["createTask"]["id"].as_str().expect("an id").to_owned()
}

/// The queries of the document that the face comes from, word for word.
#[tokio::test]
async fn the_seeds_queries_work_as_they_are_written() {
    let app = App::start().await;
    let created = app
        .api
        .graphql("mutation {\n  createTask(input: {\n    type: \"email\"\n    payload: {}\n    priority: NORMAL\n  }) {\n    id\n    type\n    status\n  }\n}")
        .await
        .data();
    assert_eq!(
        created["createTask"],
        json!({"id": "1", "type": "email", "status": "PENDING"})
    );
    let tasks = app
        .api
        .graphql("query {\n  tasks {\n    tasks {\n      id\n      type\n      status\n      createdAt\n    }\n    total\n  }\n}")
        .await
        .data();
    assert_eq!(tasks["tasks"]["total"], 1);
    assert_eq!(tasks["tasks"]["tasks"][0]["status"], "PENDING");
    let task = app
        .api
        .graphql("query {\n  task(taskId: \"1\") {\n    id\n    type\n    status\n    payload\n    error\n  }\n}")
        .await
        .data();
    let expected =
        json!({"id": "1", "type": "email", "status": "PENDING", "payload": {}, "error": null});
    assert_eq!(task["task"], expected);

    let created = app
        .api
        .graphql("mutation {\n  createJob(input: {\n    name: \"Daily Backup\"\n    type: \"backup\"\n    schedule: \"0 0 * * *\"\n    payload: {}\n  }) {\n    id\n    name\n    status\n  }\n}")
        .await
        .data();
    assert_eq!(
        created["createJob"],
        json!({"id": "1", "name": "Daily Backup", "status": "ACTIVE"})
    );
    let jobs = app
        .api
        .graphql(
            "query {\n  jobs {\n    id\n    name\n    schedule\n    status\n    nextRun\n  }\n}",
        )
        .await
        .data();
    assert_eq!(jobs["jobs"][0]["schedule"], "0 0 * * *");
    assert!(jobs["jobs"][0]["nextRun"].is_string());
    let job = app
        .api
        .graphql("query {\n  job(jobId: \"1\") {\n    id\n    name\n    schedule\n    status\n    lastRun\n    nextRun\n  }\n}")
        .await
        .data();
    assert_eq!(job["job"]["lastRun"], Value::Null);
    for (mutation, field) in [
        ("mutation {\n  cancelTask(taskId: \"1\")\n}", "cancelTask"),
        ("mutation {\n  pauseJob(jobId: \"1\")\n}", "pauseJob"),
        ("mutation {\n  resumeJob(jobId: \"1\")\n}", "resumeJob"),
        ("mutation {\n  deleteJob(jobId: \"1\")\n}", "deleteJob"),
    ] {
        assert_eq!(
            app.api.graphql(mutation).await.data(),
            json!({ field: true })
        );
    }
}

#[tokio::test]
async fn a_task_shows_all_of_its_life() {
    let app = App::start().await;
    let client = app.database.client();
    let query = format!("query ($id: ID!) {{ task(taskId: $id) {{ {TASK} }} }}");
    let look = async |id: &str| {
        app.api
            .graphql_with(&query, json!({ "id": id }))
            .await
            .data()["task"]
            .clone()
    };

    let id = create(&app, "t").await;
    let task = look(&id).await;
    assert_eq!(
        (&task["status"], &task["attempts"], &task["startedAt"]),
        (&json!("PENDING"), &json!(0), &Value::Null)
    );
    assert_eq!(
        (&task["queue"], &task["priority"], &task["__typename"]),
        (&json!("tasks"), &json!(5), &json!("Task"))
    );

    let lease = claim_one(client, "tasks", "w").await;
    let task = look(&id).await;
    assert_eq!(
        (&task["status"], &task["attempts"]),
        (&json!("PROCESSING"), &json!(1))
    );
    assert!(task["startedAt"].is_string());

    queue::report(client, &lease, Outcome::Failed)
        .await
        .expect("a report");
    let task = look(&id).await;
    assert_eq!(task["status"], "RETRYING");
    assert!(task["error"].is_string(), "{task}");

    app.api
        .graphql(&format!("mutation {{ cancelTask(taskId: {id}) }}"))
        .await
        .data();
    assert_eq!(look(&id).await["status"], "CANCELLED");
    let retried = app
        .api
        .graphql(&format!(
            "mutation {{ retryTask(taskId: {id}, resetAttempts: true) {{ status attempts }} }}"
        ))
        .await
        .data();
    assert_eq!(retried["retryTask"]["attempts"], 0);

    let lease = claim_one(client, "tasks", "w").await;
    queue::report(client, &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    let task = look(&id).await;
    assert_eq!(task["status"], "COMPLETED");
    assert!(
        task["completedAt"].is_string() && task["failedAt"].is_null(),
        "{task}"
    );
}

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let app = App::start().await;
    for kind in ["a", "b", "a", "a"] {
        create(&app, kind).await;
    }
    app.api.graphql("mutation { createTask(input: {type: \"a\", queue: \"other\", priority: CRITICAL}) { id } cancelTask(taskId: 1) }").await.data();
    let ids = async |filters: &str| {
        let data = app
            .api
            .graphql(&format!(
                "{{ tasks(filters: {filters}) {{ total limit offset tasks {{ id }} }} }}"
            ))
            .await
            .data();
        let list = &data["tasks"];
        let ids = list["tasks"].as_array().expect("tasks").iter();
        let ids: Vec<String> = ids
            .map(|task| task["id"].as_str().expect("an id").to_owned())
            .collect();
        (ids.join(" "), list["total"].as_u64().expect("a total"))
    };
    for (filters, expected) in [
        ("{}", ("5 4 3 2 1", 5)),
        ("null", ("5 4 3 2 1", 5)),
        ("{type: \"a\"}", ("5 4 3 1", 4)),
        ("{status: PENDING, type: \"a\"}", ("5 4 3", 3)),
        ("{status: CANCELLED}", ("1", 1)),
        ("{priority: 20}", ("5", 1)),
        ("{queue: \"tasks\"}", ("4 3 2 1", 4)),
        ("{limit: 2}", ("5 4", 5)),
        ("{limit: 2, offset: 2}", ("3 2", 5)),
        ("{offset: 9}", ("", 5)),
        ("{type: null, limit: null}", ("5 4 3 2 1", 5)),
        ("{status: FAILED}", ("", 0)),
    ] {
        let (ids, total) = ids(filters).await;
        assert_eq!((ids.as_str(), total), expected, "{filters}");
    }
}

#[tokio::test]
async fn a_job_can_be_paused_resumed_and_deleted() {
    let app = App::start().await;
    let input = json!({"name": "n", "type": "t", "schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", "queue": "q", "priority": "HIGH",
                       "maxAttempts": 3, "payload": [1, null]});
    let query =
        format!("mutation ($input: CreateJobInput!) {{ createJob(input: $input) {{ {JOB} }} }}");
    let job = app
        .api
        .graphql_with(&query, json!({ "input": input }))
        .await
        .data()["createJob"]
        .clone();
    assert_eq!(
        (&job["timeZone"], &job["queue"], &job["payload"]),
        (&json!("Europe/Berlin"), &json!("q"), &json!([1, null]))
    );
    let again = app
        .api
        .graphql_with(&query, json!({ "input": input }))
        .await;
    again.assert_failed("CONFLICT", &Value::Null);
    assert_eq!(again.first_message(), "Job with name n already exists");

    let asked = format!(
        "{{ job(jobId: {}) {{ status nextRun }} }}",
        job["id"].as_str().expect("an id")
    );
    app.api
        .graphql("mutation { pauseJob(jobId: 1) }")
        .await
        .data();
    assert_eq!(
        app.api.graphql(&asked).await.data()["job"],
        json!({"status": "PAUSED", "nextRun": null})
    );
    app.api
        .graphql("mutation { pauseJob(jobId: 1) }")
        .await
        .assert_failed("CONFLICT", &Value::Null);
    app.api
        .graphql("mutation { resumeJob(jobId: 1) }")
        .await
        .data();
    app.api
        .graphql("mutation { resumeJob(jobId: 1) }")
        .await
        .assert_failed("CONFLICT", &Value::Null);
    app.api
        .graphql("mutation { deleteJob(jobId: 1) }")
        .await
        .data();
    app.api
        .graphql(&asked)
        .await
        .assert_failed("NOT_FOUND", &json!({"job": null}));
}

/// However many fields, aliases and roots: what a query reads is asked at once. Of a mutation each field is one.
#[tokio::test]
async fn a_query_is_one_statement() {
    let database = Database::fresh().await;
    let counter = Counter::start(&database.functions_url()).await;
    let app = App::serve(database.with_functions_url(counter.url()), &[]).await;
    create(&app, "t").await;
    app.api.graphql("mutation { createJob(input: {name: \"n\", type: \"t\", schedule: \"0 0 * * *\"}) { id } }").await.data();

    let everything = format!(
        "{{ tasks(filters: {{limit: 1000}}) {{ total limit offset tasks {{ {TASK} }} }} }}"
    );
    let wide = (1..=28).map(|n| format!("t{n}: task(taskId: {n}) {{ id }}"));
    let wide = format!(
        "{{ {} tasks {{ total }} __typename }}",
        wide.collect::<Vec<_>>().join(" ")
    );
    let both = format!(
        "query {{ jobs {{ {JOB} }} one: job(jobId: 1) {{ {JOB} }} ...rest }} fragment rest on Query {{ tasks {{ tasks {{ {TASK} }} }} }}"
    );
    for (query, statements) in [
        (everything.as_str(), 1),
        (&wide, 1),
        (&both, 1),
        ("{ __typename }", 0),
        ("{ __schema { types { name } } }", 0),
        ("{ nothing }", 0),
        (
            "mutation { a: cancelTask(taskId: 1) b: retryTask(taskId: 1) { id } }",
            2,
        ),
    ] {
        let before = counter.count();
        let answer = app.api.graphql(query).await;
        assert_eq!(
            counter.count() - before,
            statements,
            "{query}: {}",
            answer.text
        );
    }
}

/// What is not selected is not read: neither payload nor result leave the database.
#[tokio::test]
async fn a_payload_is_read_where_it_is_selected() {
    let app = App::start().await;
    create(&app, "t").await;
    let refusing = "perform millrace.refuse_field('without', 'is ' || v_without::text) where not v_without @> '{payload,result}'; select * into v_asked";
    app.database
        .rewrite_function(
            "millrace_api.task_list(jsonb)",
            "select * into v_asked",
            refusing,
        )
        .await;
    app.api.graphql("{ tasks { tasks { id ...a } } } fragment a on Task { attempts payload @skip(if: true) }").await.data();
    let asked = app
        .api
        .graphql("{ tasks { tasks { ...p } } } fragment p on Task { payload }")
        .await;
    assert_eq!(asked.first_message(), "without: is {result}");
    let asked = app
        .api
        .graphql("{ tasks { tasks { ... @include(if: true) { result } } } }")
        .await;
    assert_eq!(asked.first_message(), "without: is {payload}");
}
