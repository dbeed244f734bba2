//! That requests which ask for much, or bring much, take no more memory than there is, and that those beside them are answered.

use futures::future::join_all;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use serde_json::{Value, json};

/// Sends a request this often at once, with as many small ones between them: these are all answered. Returns what came of the others.
async fn beside(app: &App, times: usize, query: &str, variables: &Value) -> Vec<Answer> {
    let pairs = (0..times).map(async |_| {
        tokio::join!(
            app.api.graphql_with(query, variables.clone()),
            app.api.graphql("{ tasks(filters: {limit: 1}) { limit } }")
        )
    });
    let pairs = join_all(pairs).await;
    let mut answers = Vec::new();
    for (answer, neighbour) in pairs {
        assert_eq!(neighbour.data(), json!({"tasks": {"limit": 1}}));
        answers.push(answer);
    }
    answers
}

/// How many of these were answered with data, refused as too much, and sent away for now; there is nothing else.
fn counted(answers: &[Answer]) -> [usize; 3] {
    let mut counts = [0; 3];
    for answer in answers {
        let code = &answer.json()["errors"][0]["extensions"]["code"];
        let place = match (answer.status, code.as_str()) {
            (200, None) => 0,
            (200 | 400, Some("QUERY_TOO_COMPLEX")) => 1,
            (503, Some("SERVICE_UNAVAILABLE")) => 2,
            _ => panic!("{}: {:.300}", answer.status, answer.text),
        };
        counts[place] += 1;
    }
    counts
}

fn aliases(count: usize, field: &str) -> String {
    (0..count).map(|n| format!("a{n}: {field} ")).collect()
}

#[tokio::test]
async fn an_answer_of_large_payloads_is_bounded() {
    let app = App::start().await;
    let query =
        "mutation ($payload: JSON) { createTask(input: {type: \"t\", payload: $payload}) { id } }";
    let payload = json!({"payload": {"text": "x".repeat(900_000)}});
    app.api.graphql_with(query, payload).await.data();
    let of = |roots: usize, payloads: usize| {
        let task = format!("task(taskId: 1) {{ {} }}", aliases(payloads, "payload"));
        format!(
            "{{ {} }}",
            (0..roots)
                .map(|n| format!("r{n}: {task} "))
                .collect::<String>()
        )
    };
    for (roots, payloads, code) in [(1, 100, 1), (1, 7, 1), (4, 6, 1), (1, 6, 0), (2, 6, 0)] {
        let answers = beside(&app, 1, &of(roots, payloads), &json!({})).await;
        assert_eq!(counted(&answers)[code], 1, "{:.300}", answers[0].text);
    }
    // Executed, but not to be told.
    let withheld = app.api.graphql(&of(4, 6)).await;
    withheld.assert_failed("QUERY_TOO_COMPLEX", &Value::Null);
    let answers = beside(&app, 16, &of(2, 6), &json!({})).await;
    let [answered, refused, busy] = counted(&answers);
    println!("11 MB each at once: {answered} answered, {refused} refused, {busy} sent away");
    assert!(answered > 0 && refused == 0);
    assert_eq!(
        counted(&beside(&app, 1, &of(2, 6), &json!({})).await),
        [1, 0, 0]
    );
}

#[tokio::test]
async fn an_answer_of_many_values_is_bounded() {
    let app = App::start().await;
    let many = "select millrace.enqueue_many((select jsonb_agg('{\"queue\": \"q\", \"type\": \"t\"}'::jsonb) from generate_series(1, 1000)))";
    app.database.run(many).await;
    let of = |fields: usize| {
        let fields = aliases(fields, "createdAt");
        format!("{{ tasks(filters: {{limit: 1000}}) {{ tasks {{ {fields} }} }} }}")
    };
    let refused = counted(&beside(&app, 4, &of(900), &json!({})).await);
    assert_eq!(refused, [0, 4, 0]);
    let [answered, refused, busy] = counted(&beside(&app, 16, &of(22), &json!({})).await);
    println!("22,000 values each at once: {answered} answered, {busy} sent away");
    assert!(answered > 0 && refused == 0);
}

/// What is written once in a request counts wherever it is used.
#[tokio::test]
async fn what_a_variable_brings_is_bounded() {
    let app = App::start().await;
    let id = json!({"v": "1".repeat(1_000_000)});
    let list = json!({"v": vec![1; 450_000]});
    let of = |head: &str, roots: usize, argument: &str| {
        let roots = aliases(roots, &format!("task(taskId: {argument}) {{ id }}"));
        format!("query (${head}) {{ {roots} }}")
    };
    let nested = |count: usize| format!("[{}]", "$v ".repeat(count));
    let directives = "{ __typename @skip(if: $v) @include(if: $v) ... @skip(if: $v) { __typename } ...f @skip(if: $v) } fragment f on Query { __typename @skip(if: $v) }";
    let mut count = 0;
    for (query, variables) in [
        (of("v: ID!", 30, "$v"), &id),
        (of("v: ID!", 5, "$v"), &id),
        (of("v: [Int!]!", 30, "$v"), &list),
        (
            format!(
                "query ($v: [Int!]!) {{ {} }}",
                "a: task(taskId: $v) { id } ".repeat(600)
            ),
            &list,
        ),
        (of("v: ID!", 1, &nested(5)), &id),
        (of("v: ID!", 1, &nested(15_000)), &id),
        (of("v: JSON", 1, &format!("{{a: {}}}", nested(5))), &id),
        (format!("query ($v: Boolean!) {directives}"), &id),
        (
            format!(
                "query ($v: [ID!]) {{ ...a ...a ...a }} fragment a on Query {{ {} }}",
                aliases(2, "tasks(filters: $v) { total }")
            ),
            &id,
        ),
    ] {
        let answers = beside(&app, 4, &query, variables).await;
        assert_eq!(
            counted(&answers),
            [0, 4, 0],
            "{query:.200}: {:.300}",
            answers[0].text
        );
        count += answers.len();
    }
    // Of a default too.
    let default = "1".repeat(60_000);
    let text = format!(
        "query ($v: ID! = \"{default}\") {{ {} }}",
        "...a ".repeat(10)
    );
    let text = format!(
        "{text} fragment a on Query {{ {} }}",
        aliases(10, "task(taskId: $v) { id }")
    );
    app.api
        .graphql(&text)
        .await
        .assert_not_executed("QUERY_TOO_COMPLEX");
    println!("{count} requests refused");
    // A few uses are as good as one.
    let few = app
        .api
        .graphql_with(&of("v: ID!", 3, "$v"), id.clone())
        .await;
    assert!(
        few.error_codes()
            .iter()
            .all(|code| code != "QUERY_TOO_COMPLEX"),
        "{:.300}",
        few.text
    );
    // Values that take far more memory than their text.
    let dense: Vec<Value> = vec![json!({"a": 1}); 110_000];
    let query = "mutation ($v: JSON) { createTask(input: {type: \"t\", payload: $v}) { id } }";
    let answers = beside(&app, 8, query, &json!({"v": {"dense": dense}})).await;
    assert_eq!(counted(&answers), [0, 8, 0]);
    let dense: Vec<Value> = vec![json!({"a": 1}); 30_000];
    let answers = beside(&app, 16, query, &json!({"v": {"dense": dense}})).await;
    let [answered, refused, busy] = counted(&answers);
    println!("30,000 objects each at once: {answered} answered, {busy} sent away");
    assert!(answered > 0 && refused == 0);
}

#[tokio::test]
async fn an_answer_lists_so_many_errors() {
    let app = App::start().await;
    let unused: String = (0..4000).map(|n| format!("$a{n}:Int ")).collect();
    let answer = app
        .api
        .graphql(&format!("query ({unused}) {{ __typename }}"))
        .await;
    let codes = answer.error_codes();
    println!("{} errors in {} bytes", codes.len(), answer.text.len());
    assert_eq!((answer.status, codes.len()), (400, 51));
    assert_eq!(
        answer.json()["errors"][50]["message"],
        "and 3950 errors more"
    );
}
