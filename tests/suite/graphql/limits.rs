//! How deep, how much and how long a query may be, and that nothing of it hurts.

use millrace_tests::app::App;
use millrace_tests::graphql::{MEDIA_TYPE, PATH};
use reqwest::Method;
use serde_json::json;

/// What tools ask of a schema (graphql-js 17, `getIntrospectionQuery` with everything on).
const INTROSPECTION: &str = "query IntrospectionQuery { __schema { description queryType { name kind } mutationType { name kind } subscriptionType { name kind } types { ...FullType } \
    directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } } } } \
    fragment FullType on __Type { kind name description specifiedByURL isOneOf fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue } \
    type { ...TypeRef } isDeprecated deprecationReason } inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef } \
    enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } } \
    fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason } \
    fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name \
    ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }";

#[tokio::test]
async fn tools_may_ask_for_the_whole_schema() {
    let app = App::start().await;
    let data = app.api.graphql(INTROSPECTION).await.data();
    let types = data["__schema"]["types"].as_array().expect("types");
    let mut described = 0;
    for kind in types.iter().filter(|kind| {
        // The library says nothing of the language's own ID.
        let name = kind["name"].as_str().unwrap_or("__");
        !name.starts_with("__") && name != "ID"
    }) {
        let described_here = |thing: &serde_json::Value| {
            assert!(
                thing["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{}: {thing}",
                kind["name"]
            );
            1
        };
        described += described_here(kind);
        for list in ["fields", "inputFields", "enumValues"] {
            for part in kind[list].as_array().into_iter().flatten() {
                described += described_here(part);
                described += part["args"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(described_here)
                    .sum::<i32>();
            }
        }
    }
    println!("{} types, {described} descriptions", types.len());
    assert!(described > 80, "only {described}");
    let text = app.api.get("/graphql/schema.graphql").await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    for line in [
        "type Query {",
        "scalar JSON @specifiedBy",
        "enum TaskStatus {",
        "taskChanged(",
        "input CreateJobInput {",
    ] {
        assert!(text.text.contains(line), "{line}: {}", text.text);
    }
}

#[tokio::test]
async fn introspection_can_be_switched_off() {
    let app = App::start_with(&[("graphql_introspection", "0")]).await;
    for query in [
        INTROSPECTION,
        "{ __type(name: \"Task\") { name } }",
        "{ a: __schema { types { name } } }",
        "{ ...f } fragment f on Query { __schema { types { name } } }",
        "{ ... { ... on Query { __type(name: \"Task\") { name } } } }",
    ] {
        app.api
            .graphql(query)
            .await
            .assert_not_executed("GRAPHQL_VALIDATION_FAILED");
    }
    assert_eq!(
        app.api.graphql("{ __typename }").await.data(),
        json!({"__typename": "Query"})
    );
    app.api
        .get("/graphql/schema.graphql")
        .await
        .assert_graphql_refused(404, "not_found");
    // And no error tells what there would be.
    for query in [
        "{ taskss { tasks { id } } }",
        "{ tasks(filters: {limi: 1}) { totals } }",
        "query ($a: TaskFilter) { tasks(filters: $a) { total } }",
    ] {
        let answer = app.api.graphql(query).await;
        assert_eq!(answer.status, 400);
        for name in ["\"tasks\"", "\"limit\"", "\"total\"", "mean"] {
            let shown = answer.text.replace("taskss", "").replace("totals", "");
            assert!(
                !shown.contains(name) || query.contains(name),
                "{name}: {}",
                answer.text
            );
        }
    }
    let with = App::start().await;
    assert!(
        with.api
            .graphql("{ taskss { total } }")
            .await
            .text
            .contains("mean")
    );
}

#[tokio::test]
async fn a_query_may_be_so_deep_and_no_deeper() {
    let app = App::start_with(&[("graphql_max_depth", "3")]).await;
    app.api.graphql("{ tasks { tasks { id } } }").await.data();
    app.api.graphql(INTROSPECTION).await.data();
    let app = App::start_with(&[("graphql_max_depth", "2")]).await;
    for query in [
        "{ tasks { tasks { id } } }",
        "{ ...a } fragment a on Query { tasks { ...b } } fragment b on TaskList { tasks { id } }",
        "{ ... { tasks { ... { ... on TaskList { tasks { id } } } } } }",
    ] {
        app.api
            .graphql(query)
            .await
            .assert_not_executed("QUERY_TOO_DEEP");
    }
    let nested =
        "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }";
    app.api
        .graphql(nested)
        .await
        .assert_not_executed("QUERY_TOO_DEEP");
}

#[tokio::test]
async fn a_query_may_ask_for_so_much_and_no_more() {
    let app = App::start_with(&[("graphql_max_complexity", "110")]).await;
    let ask = async |query: &str, variables| app.api.graphql_with(query, variables).await;
    // One for each field, and a list as often as it may hold a task.
    ask("{ tasks { total } }", json!({})).await.data();
    ask("{ tasks(filters: {limit: 54}) { total } }", json!({}))
        .await
        .data();
    ask(
        "{ tasks(filters: {limit: 2}) { total tasks { id status } } }",
        json!({}),
    )
    .await
    .data();
    ask("{ jobs { id } }", json!({})).await.data();
    let limited = "query ($limit: Int = 10) { tasks(filters: {limit: $limit}) { total } }";
    ask(limited, json!({})).await.data();
    let filtered = "query ($filters: TaskFilters) { tasks(filters: $filters) { total } }";
    for (query, variables) in [
        ("{ tasks(filters: {limit: 55}) { total } }", json!({})),
        ("{ tasks { total limit } }", json!({})),
        (
            "{ tasks(filters: {limit: 20}) { ...a } } fragment a on TaskList { tasks { ...b } } fragment b on Task { id type status queue }",
            json!({}),
        ),
        ("{ a: tasks { total } b: tasks { total } }", json!({})),
        (limited, json!({"limit": 55})),
        (filtered, json!({"filters": {"limit": 55}})),
        (
            "{ ...a ...b } fragment a on Query { a: tasks { total } } fragment b on Query { b: tasks { total } }",
            json!({}),
        ),
        ("{ a: jobs { id } b: jobs { id } }", json!({})),
    ] {
        ask(query, variables)
            .await
            .assert_not_executed("QUERY_TOO_COMPLEX");
    }
    let app = App::start().await;
    let aliases = |count: usize| {
        (0..count)
            .map(|n| format!("a{n}: task(taskId: 1) {{ id }} "))
            .collect::<String>()
    };
    assert_eq!(
        app.api
            .graphql(&format!("{{ {} }}", aliases(30)))
            .await
            .status,
        200
    );
    app.api
        .graphql(&format!("{{ {} }}", aliases(31)))
        .await
        .assert_not_executed("QUERY_TOO_COMPLEX");
    // Each is executed, whatever its key.
    app.api
        .graphql(&format!(
            "{{ {} }}",
            "a: task(taskId: 1) { id } ".repeat(31)
        ))
        .await
        .assert_not_executed("QUERY_TOO_COMPLEX");
    let fields = (0..8).map(|n| format!("b{n}: task(taskId: 1) {{ id }} "));
    let fragment = format!(
        "{{ ...a ...a ... on Query {{ ...a ...a }} }} fragment a on Query {{ {} }}",
        fields.collect::<String>()
    );
    app.api
        .graphql(&fragment)
        .await
        .assert_not_executed("QUERY_TOO_COMPLEX");
    let whole = format!(
        "{{ tasks(filters: {{limit: 1000}}) {{ tasks {{ {} }} total limit offset }} }}",
        super::TASK
    );
    app.api.graphql(&whole).await.data();
    let directives = "@include(if: true) ".repeat(6);
    app.api
        .graphql(&format!("{{ __typename {directives} }}"))
        .await
        .assert_not_executed("QUERY_TOO_COMPLEX");
    app.api
        .graphql("{ tasks(filters: {limit: 1000}) { total } }")
        .await
        .data();
}

/// Texts that have brought servers down: each is refused at once, and the instance lives.
#[tokio::test]
async fn no_text_hurts() {
    let app = App::start().await;
    let bombs = |count: usize| {
        let fragments =
            (0..count).map(|n| format!("fragment f{n} on Query {{ ...f{m} ...f{m} }} ", m = n + 1));
        format!(
            "{{ ...f0 }} {} fragment f{count} on Query {{ __typename }}",
            fragments.collect::<String>()
        )
    };
    let chain = (0..1500).map(|n| format!("fragment f{n} on Query {{ ...f{} }} ", n + 1));
    let chain = format!(
        "{{ ...f0 }} {} fragment f1500 on Query {{ __typename }}",
        chain.collect::<String>()
    );
    let nested = |open: &str, close: &str, count: usize| {
        format!("{}{}", open.repeat(count), close.repeat(count))
    };
    for (name, query, codes) in [
        (
            "braces",
            format!("{{ {} }}", nested("a {", "}", 10_000)),
            ["QUERY_TOO_DEEP", "QUERY_TOO_LARGE"],
        ),
        ("open braces", "{".repeat(10_000), ["QUERY_TOO_DEEP", ""]),
        (
            "brackets",
            format!(
                "{{ tasks(filters: {}) {{ total }} }}",
                nested("[", "]", 10_000)
            ),
            ["QUERY_TOO_DEEP", ""],
        ),
        (
            "objects",
            format!(
                "{{ tasks(filters: {}) {{ total }} }}",
                nested("{a: ", "}", 10_000)
            ),
            ["QUERY_TOO_DEEP", ""],
        ),
        (
            "types",
            format!("query ($a: {}) {{ __typename }}", nested("[", "]", 10_000)),
            ["QUERY_TOO_DEEP", ""],
        ),
        (
            "inline fragments",
            format!("{{ {} }}", nested("... {", "}", 10_000)),
            ["QUERY_TOO_DEEP", "QUERY_TOO_LARGE"],
        ),
        (
            "a billion laughs",
            bombs(40),
            ["QUERY_TOO_COMPLEX", "QUERY_TOO_DEEP"],
        ),
        (
            "a chain of fragments",
            chain,
            ["QUERY_TOO_DEEP", "QUERY_TOO_LARGE"],
        ),
        (
            "a fragment in itself",
            "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }".to_owned(),
            ["GRAPHQL_VALIDATION_FAILED", ""],
        ),
        (
            "an unused one",
            "{ __typename } fragment a on Query { ...a }".to_owned(),
            ["GRAPHQL_VALIDATION_FAILED", ""],
        ),
        (
            "aliases",
            format!(
                "{{ tasks {{ tasks {{ {} }} }} }}",
                (0..4000).map(|n| format!("a{n}: id ")).collect::<String>()
            ),
            ["QUERY_TOO_COMPLEX", ""],
        ),
        (
            "a long text",
            format!("{{ __typename }} #{}", " ".repeat(65_536)),
            ["QUERY_TOO_LARGE", ""],
        ),
        (
            "an unknown type",
            "query ($a: Nothing = 5) { __typename }".to_owned(),
            ["GRAPHQL_VALIDATION_FAILED", ""],
        ),
        (
            "a list of an unknown type",
            "query ($a: [Nothing!]! = [5]) { __typename }".to_owned(),
            ["GRAPHQL_VALIDATION_FAILED", ""],
        ),
        (
            "a surrogate",
            "{ __type(name: \"\\ud800\") { name } }".to_owned(),
            ["GRAPHQL_PARSE_FAILED", ""],
        ),
        (
            "no end of a string",
            "{ __type(name: \"abc".to_owned(),
            ["GRAPHQL_PARSE_FAILED", ""],
        ),
        (
            "no end of a block",
            "{ __type(name: \"\"\"abc\\\"\"\"".to_owned(),
            ["GRAPHQL_PARSE_FAILED", ""],
        ),
        (
            "brackets behind a block without an end",
            format!("{{task(taskId:[\"\"\" x\" {}", "[".repeat(30_000)),
            ["QUERY_TOO_DEEP", ""],
        ),
        (
            "brackets behind an escaped end of one",
            format!("{{task(taskId:[\"\"\" \\\"\"\" {}", "[".repeat(30_000)),
            ["GRAPHQL_PARSE_FAILED", "QUERY_TOO_DEEP"],
        ),
        (
            "brackets behind a comment that ends with CR",
            format!("{{ # \"\"\"\r {}", "{a ".repeat(10_000)),
            ["QUERY_TOO_DEEP", ""],
        ),
        (
            "values of the schema",
            format!(
                "{{ __schema {{ types {{ fields {{ args {{ {} }} }} }} }} }}",
                (0..900).map(|n| format!("a{n}: name ")).collect::<String>()
            ),
            ["QUERY_TOO_COMPLEX", ""],
        ),
        ("nothing", String::new(), ["GRAPHQL_PARSE_FAILED", ""]),
        (
            "definitions",
            "type A { a: Int }".to_owned(),
            ["GRAPHQL_PARSE_FAILED", ""],
        ),
    ] {
        let (answer, neighbour) = tokio::join!(
            app.api.graphql(&query),
            app.api.graphql("{ tasks { total } }")
        );
        assert_eq!(answer.status, 400, "{name}: {}", answer.text);
        assert_eq!(neighbour.data()["tasks"]["total"], 0);
        let shown = answer.error_codes();
        assert!(
            shown.iter().all(|code| codes.contains(&code.as_str())),
            "{name}: {}",
            answer.text
        );
    }
    // In a string and in a comment brackets are nothing.
    let harmless = format!(
        "{{ __type(name: \"{0}\") {{ name }} __typename }} # {0}",
        "{[(".repeat(1000)
    );
    app.api.graphql(&harmless).await.data();
    let block = format!(
        "{{ __type(name: \"\"\"{} \\\"\"\" \"\"\") {{ name }} }}",
        "{[(".repeat(1000)
    );
    app.api.graphql(&block).await.data();
    // The same in variables.
    let deep = format!(
        "{{\"query\": \"query ($v: JSON) {{ __typename }}\", \"variables\": {{\"v\": {}}}}}",
        nested("[", "]", 10_000)
    );
    let request = app
        .api
        .request(Method::POST, PATH)
        .header("accept", MEDIA_TYPE)
        .header("content-type", "application/json");
    let answer = app.api.send(request.body(deep)).await;
    answer.assert_not_executed("BAD_USER_INPUT");
    let deep = format!(
        "{{\"query\": \"{{ __typename }}\", \"variables\": {}}}",
        "{\"a\":".repeat(10_000)
    );
    app.api
        .post_text("/graphql", deep)
        .await
        .assert_graphql_refused(400, "invalid_json");
}
