//! What can be reached: the functions of the list, and nothing else of the database.

use std::collections::BTreeSet;

use super::{answer, assert_refused, call, refusal, shapes};
use millrace::migrate::migrate;
use millrace_tests::app::App;
use millrace_tests::database::Database;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

#[tokio::test]
async fn a_function_that_is_not_listed_is_not_there() {
    let app = shapes().await;
    app.database
        .run("grant execute on all functions in schema shapes to millrace_functions; create function public.mine() returns int language sql as 'select 1'")
        .await;
    let mut refused = 0;
    for profile in ["public", "service_api", "millrace_api"] {
        for function in [
            "hidden",
            "mine",
            "pre_request",
            "check_key",
            "refuse",
            "create_api_key",
            "enqueue",
            "version",
            "pg_sleep",
            "current_setting",
            "jobs_queue",
            "rpc_function",
            "shapes.sum",
            "millrace.enqueue",
            "sum\"",
            "sum;",
            "sum(1,2)--",
            "%73um",
            "SUM",
            "*",
        ] {
            let answer = app
                .api
                .send(call(&app, function, &json!({})).header("content-profile", profile))
                .await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "PGRST202"),
                "{profile} {function}: {}",
                answer.text
            );
            refused += 1;
        }
    }
    // The overload sum(text) is not in the list, though its name is.
    let overload = answer(&app, "sum", &json!({"a": "x"})).await;
    assert_eq!(
        (overload.status, overload.code().as_str()),
        (400, "22P02"),
        "{}",
        overload.text
    );
    let sql = "select count(*) from jsonb_array_elements(millrace_api.rpc_catalogue('{}') -> 'functions') as f where f ->> 'name' = 'sum'";
    assert_eq!(app.database.one(sql, &[]).await.get::<_, i64>(0), 1);
    println!("{refused} functions that are not there");
}

#[tokio::test]
async fn what_lies_in_public_takes_no_part_in_a_call() {
    let app = shapes().await;
    // Each fits what is passed better than Postgres' own, which takes values of any type.
    app.database
        .run(
            "create function public.planted(anyelement) returns text language plpgsql as $$ begin raise exception 'planted'; end $$;
             create function public.to_json(jsonb) returns json language sql as $$ select public.planted(1)::json $$;
             create function public.to_json(int) returns json language sql as $$ select public.planted(1)::json $$;
             create function public.to_json(shapes.pair) returns json language sql as $$ select public.planted(1)::json $$;
             create function public.concat(text, text) returns text language sql as $$ select public.planted(1) $$;
             create function public.concat(bigint, text, text) returns text language sql as $$ select public.planted(1) $$;
             create function public.joined(bigint, text) returns text language sql as $$ select public.planted(1) $$;
             create operator public.|| (leftarg = bigint, rightarg = text, function = public.joined);
             create function public.same(bigint, int) returns boolean language sql as $$ select public.planted(1)::boolean $$;
             create operator public.= (leftarg = bigint, rightarg = int, function = public.same);
             create function public.jsonb_build_object(text, bigint) returns jsonb language sql as $$ select public.planted(1)::jsonb $$;
             create function public.kept(int, shapes.pair) returns int language sql as $$ select $1 $$;
             create aggregate public.json_agg(int) (sfunc = int4pl, stype = int, initcond = '7');
             create aggregate public.json_agg(shapes.pair) (sfunc = public.kept, stype = int, initcond = '7')",
        )
        .await;
    let object = "application/vnd.pgrst.object+json";
    for (function, arguments, accept, body) in [
        ("sum", json!({"a": 1}), "*/*", "3"),
        ("echo", json!({"a": 1}), "*/*", r#"{"a": 1}"#),
        ("pair", json!({"a": 1}), "*/*", r#"{"a":1,"B c":"x"}"#),
        ("numbers", json!({"n": 2}), "*/*", "[1, 2]"),
        ("numbers", json!({"n": 1}), object, "1"),
        ("pairs", json!({"n": 1}), object, r#"{"a":1,"B c":"x"}"#),
    ] {
        let request = call(&app, function, &arguments).header("accept", accept);
        let answer = app.api.send(request).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, body),
            "{function}"
        );
    }
    let none = call(&app, "numbers", &json!({"n": 0})).header("accept", object);
    assert_eq!(app.api.send(none).await.code(), "PGRST116");
    assert_eq!(answer(&app, "nothing", &json!({})).await.status, 204);
}

#[tokio::test]
async fn an_overload_that_makes_calls_ambiguous_is_no_fault_of_the_client() {
    let app = shapes().await;
    app.database
        .run("create function shapes.sum(a int, c text default '') returns int language sql as 'select a'")
        .await;
    let ambiguous = answer(&app, "sum", &json!({"a": 1})).await;
    let message = "The request could not be served";
    assert_refused(
        &ambiguous,
        500,
        &refusal("42725", message, Value::Null, Value::Null),
    );
    assert_eq!(
        answer(&app, "sum", &json!({"a": 1, "b": 1})).await.text,
        "2"
    );
    let overload = answer(&app, "sum", &json!({"a": 1, "c": "x"})).await;
    assert_eq!(
        (overload.status, overload.code().as_str()),
        (404, "PGRST202")
    );
}

#[tokio::test]
async fn names_of_arguments_are_no_part_of_a_statement() {
    let app = shapes().await;
    for name in [
        "a => 1); drop table shapes.written; --",
        "a\"",
        "a' or '1'='1",
        "given.a",
        "$1",
        "a integer",
        "",
    ] {
        let answer = answer(&app, "sum", &json!({"a": 1, name: 1})).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "PGRST202"),
            "{name}"
        );
        let get = app
            .api
            .request(Method::GET, "/rpc/sum")
            .query(&[("a", "1"), (name, "1")]);
        assert_eq!(app.api.send(get).await.status, 404, "{name}");
    }
    assert_eq!(
        answer(&app, "nothing", &json!({})).await.status,
        204,
        "the table is still there"
    );
}

#[tokio::test]
async fn all_of_millrace_api_is_reachable_for_those_who_may_do_everything() {
    let app = App::start().await;
    let sql = "select p.proname::text from pg_proc p where p.pronamespace = 'millrace_api'::regnamespace and oidvectortypes(p.proargtypes) = 'jsonb'";
    let functions: BTreeSet<String> = app
        .database
        .all(sql, &[])
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    for function in &functions {
        let request = call(&app, function, &json!({})).header("content-profile", "millrace_api");
        let answer = app.api.send(request).await;
        // An empty request is none of theirs, mostly: that is theirs to say.
        assert!(
            !answer.text.contains("PGRST202"),
            "{function}: {}",
            answer.text
        );
    }
    assert!(functions.len() > 15 && functions.contains("collab_claim"));
    println!("{} functions of millrace_api", functions.len());
}

#[tokio::test]
async fn the_functions_login_may_execute_what_is_listed_and_nothing_else() {
    let database = Database::fresh().await;
    // What everybody may execute is not for this; service_api has two such functions, which a PostgREST calls before each request.
    let sql = "select format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) as signature
                 from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                where n.nspname not in ('pg_catalog', 'information_schema', 'millrace_api') and has_schema_privilege($1::text, n.oid, 'usage')
                  and has_function_privilege($1::text, p.oid, 'execute') and p.proname not in ('check_key', 'pre_request')";
    let open = database.all(sql, &[&database.functions_login()]).await;
    let open: BTreeSet<String> = open.iter().map(|row| row.get(0)).collect();
    let sql = "select format('%I.%I(%s)', schema_name, function_name, argument_types) from millrace.rpc_function where function_name <> '*'";
    let listed = database.all(sql, &[]).await;
    let listed: BTreeSet<String> = listed.iter().map(|row| row.get(0)).collect();
    assert_eq!(open, listed);
    assert_eq!(listed.len(), 6);

    // And each of them is one that is there.
    let sql = "select jsonb_array_length(millrace_api.rpc_catalogue('{}') -> 'functions')
                    - (select count(*)::int from pg_proc where pronamespace = 'millrace_api'::regnamespace and oidvectortypes(proargtypes) = 'jsonb')";
    assert_eq!(database.one(sql, &[]).await.get::<_, i32>(0), 6);
}

#[tokio::test]
async fn the_runbook_is_reachable_wherever_it_lies() {
    let database = Database::fresh().await;
    let application = Database::open(&database.unmigrated().await).await;
    application
        .run("create table public.job_runs (mine text)")
        .await;
    migrate(application.url()).await.expect("a migration");
    let path = Url::parse(application.url())
        .expect("a URL")
        .path()
        .to_owned();
    let mut login = Url::parse(&database.functions_url()).expect("a URL");
    login.set_path(&path);
    application
        .run("insert into millrace_runbook.jobs_queue (job_type) values ('ocr')")
        .await;
    let app = App::serve(application.with_functions_url(login.as_str()), &[]).await;

    let worker = "00000000-0000-4000-8000-000000000001";
    let claimed = answer(&app, "claim_next_job", &json!({"worker_id": worker})).await;
    assert_eq!(claimed.json()[0]["job_type"], "ocr", "{}", claimed.text);
    let resolve = json!({"job_id": claimed.json()[0]["id"], "worker_id": worker, "success": true});
    assert_eq!(answer(&app, "resolve_job", &resolve).await.status, 204);
    assert_eq!(
        answer(&app, "enqueue_cron_tasks", &json!({})).await.text,
        "0"
    );
}
