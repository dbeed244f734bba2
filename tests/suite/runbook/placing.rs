//! Where the runbook lies, what its functions look at, and who may use it.

use millrace::migrate::migrate;
use millrace_tests::database::{Database, explain};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use url::Url;

use super::{ANN, rows, select};

/// The schema of each of the runbook's objects, by name.
async fn placed(database: &Database) -> Vec<Value> {
    let sql = "select n.nspname as schema, count(*) as n
                 from (select relnamespace from pg_class where relname in ('jobs_queue', 'job_runs', 'cron_tasks') and relkind = 'v'
                       union all
                       select pronamespace from pg_proc where proname in ('claim_next_job', 'resolve_job', 'enqueue_cron_tasks') and prosecdef) as o (namespace)
                 join pg_namespace n on n.oid = o.namespace group by n.nspname having count(*) > 1";
    select(database, sql).await
}

/// A whole life through the schema's functions and relations.
async fn life(database: &Database, schema: &str) {
    database
        .run(&format!(
            "insert into {schema}.jobs_queue (job_type) values ('ocr');
             select {schema}.resolve_job(id, '{ANN}', false, 'broke') from {schema}.claim_next_job('{ANN}');
             update {schema}.jobs_queue set status = 'cancelled';
             update {schema}.jobs_queue set status = 'pending';
             insert into {schema}.cron_tasks (slug, job_type, cron_schedule) values ('s', 'ocr', '@daily');
             update {schema}.cron_tasks set active = false;
             select {schema}.enqueue_cron_tasks()"
        ))
        .await;
    let rows = select(database, &format!("select q.status, r.status as run from {schema}.jobs_queue q join {schema}.job_runs r on r.job_id = q.id")).await;
    assert_eq!(rows, [json!({ "status": "pending", "run": "failed" })]);
}

#[tokio::test]
async fn it_lies_in_public_where_the_names_are_free() {
    let database = Database::fresh().await;
    assert_eq!(
        placed(&database).await,
        [json!({ "schema": "public", "n": 6 })]
    );
    let schema = select(
        &database,
        "select to_regnamespace('millrace_runbook') as schema",
    )
    .await;
    assert_eq!(schema[0]["schema"], Value::Null);
    life(&database, "public").await;
}

#[tokio::test]
async fn where_a_name_is_taken_it_lies_in_a_schema_of_its_own() {
    let database = Database::fresh().await;
    let takes = [
        "create table public.job_runs (mine text); insert into public.job_runs values ('kept')",
        "create view public.cron_tasks as select 'kept' as mine",
        "create type public.jobs_queue as enum ('kept')",
        "create function public.resolve_job(text) returns text language sql as 'select $1'",
    ];
    for take in takes {
        let application = Database::open(&database.unmigrated().await).await;
        application.run(take).await;
        migrate(application.url()).await.expect("a migration");
        assert_eq!(
            placed(&application).await,
            [json!({ "schema": "millrace_runbook", "n": 6 })].as_slice(),
            "{take}"
        );
        life(&application, "millrace_runbook").await;
        assert_eq!(migrate(application.url()).await.expect("a second one"), 0);
        if take.contains("insert") {
            assert_eq!(
                select(&application, "select * from public.job_runs").await,
                [json!({ "mine": "kept" })]
            );
        }
        let client = application.connect().await;
        let sql = "set role millrace_client; set search_path = millrace_runbook; select enqueue_cron_tasks(); select count(*) from jobs_queue";
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|e| panic!("{}", explain(&e)));
    }
    println!("runbook: {} names that were taken", takes.len());
}

#[tokio::test]
async fn where_nothing_may_be_made_in_public_it_lies_in_a_schema_of_its_own() {
    let database = Database::fresh().await;
    let mut url = Url::parse(&database.unmigrated().await).expect("a URL");
    let name = url.path().trim_start_matches('/').to_owned();
    let server = Database::open(url.as_str()).await;
    server
        .run(&format!(
            "create role {name}_owner login nosuperuser password 'plain'; grant create on database {name} to {name}_owner;
             revoke create on schema public from public"
        ))
        .await;
    url.set_username(&format!("{name}_owner")).expect("a user");
    url.set_password(Some("plain")).expect("a password");
    migrate(url.as_str()).await.expect("a migration");
    let application = Database::open(url.as_str()).await;
    assert_eq!(
        placed(&application).await,
        [json!({ "schema": "millrace_runbook", "n": 6 })]
    );
    life(&application, "millrace_runbook").await;

    let server = Database::open(&database.unmigrated().await).await;
    server.run("drop schema public").await;
    migrate(server.url()).await.expect("a migration");
    life(&server, "millrace_runbook").await;
}

#[tokio::test]
async fn a_caller_s_own_objects_and_path_change_nothing() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "insert into jobs_queue (job_type) values ('ocr');
             set role millrace_client;
             create temp table jobs_queue (id bigint); create temp table job (id bigint); create temp table cron_tasks (id bigint);
             create function pg_temp.format(text, text) returns text language sql as 'select ''select 1''';
             create function pg_temp.left(text, int) returns text language sql as 'select ''''';
             set search_path = pg_temp, public",
        )
        .await
        .expect("temporary objects");
    let claimed = rows(
        &client,
        &format!("select * from public.claim_next_job('{ANN}')"),
    )
    .await
    .expect("a claim");
    assert_eq!(claimed[0]["job_type"], "ocr");
    client
        .batch_execute(&format!(
            "set search_path = ''; select public.resolve_job(1, '{ANN}', false, 'broke');
             update public.jobs_queue set scheduled_for = scheduled_for + interval '1 hour';
             insert into public.cron_tasks (slug, job_type, cron_schedule) values ('s', 'ocr', '@daily');
             update public.cron_tasks set cron_schedule = '@hourly'; delete from public.cron_tasks"
        ))
        .await
        .unwrap_or_else(|e| panic!("{}", explain(&e)));
    let row = &rows(&client, "select last_error, status from public.jobs_queue")
        .await
        .expect("the job")[0];
    assert_eq!(row, &json!({ "last_error": "broke", "status": "retry" }));
    let sql = "select p.oid::regprocedure::text as f from pg_proc p
                where p.pronamespace = 'public'::regnamespace and not (p.prosecdef and p.proconfig @> array['search_path=pg_catalog, pg_temp'])";
    assert_eq!(select(&database, sql).await, Vec::<Value>::new());
}

/// Whoever may create in `public` can give an expression a closer match than the catalogue has; the owner's migration must not
/// take it up, neither at once nor for the views' readers.
#[tokio::test]
async fn what_others_planted_in_public_is_not_taken_up() {
    let database = Database::fresh().await;
    let application = Database::open(&database.unmigrated().await).await;
    let functions = [
        "format(text, text)",
        "format(text, name)",
        "format(text, text, text)",
        "format(text, name, text)",
        "quote_ident(name)",
        "left(name, int)",
        "has_schema_privilege(oid, text)",
    ];
    let spring = "returns text language plpgsql as 'begin raise exception ''planted''; end'";
    for function in functions {
        application
            .run(&format!("create function public.{function} {spring}"))
            .await;
    }
    application
        .run(&format!(
            "create function public.spring(jsonb, jsonb) {spring};
             create operator public.->> (leftarg = jsonb, rightarg = jsonb, function = public.spring);
             create operator public.? (leftarg = jsonb, rightarg = jsonb, function = public.spring)"
        ))
        .await;
    let sprung = "set search_path = public; select quote_ident(rolname) from pg_roles";
    let sprung = application.client().batch_execute(sprung).await;
    let sprung = explain(&sprung.expect_err("what is planted"));
    assert!(sprung.contains("planted"), "{sprung}");
    application.run("reset search_path").await;

    migrate(application.url()).await.expect("a migration");
    assert_eq!(
        placed(&application).await,
        [json!({ "schema": "public", "n": 6 })]
    );
    life(&application, "public").await;
}

/// A condition of the reader's own, which the planner takes for the cheapest of all, sees what the view shows and nothing else.
#[tokio::test]
async fn a_reader_s_condition_sees_no_other_queue() {
    let database = Database::fresh().await;
    for queue in ["jobs", "other"] {
        let mark = if queue == "jobs" { "shown" } else { "secret" };
        database
            .run(&format!(
                "select millrace.enqueue('{queue}', '{mark}', jsonb_build_object('mark', '{mark}')) from generate_series(1, 5);
                 select millrace.enqueue('{queue}', '{mark}', jsonb_build_object('mark', '{mark}'), concurrency_key => 'k') from generate_series(1, 2);
                 select count(*) from millrace.claim('{queue}', '{mark}', 4);
                 select millrace.report(e.job_id, e.lease_id, e.worker, e.job_id % 2 = 0, error => '{mark}', permanent => true)
                   from millrace.lease e where e.worker = '{mark}' and e.lease_id % 4 <> 0;
                 select millrace.cancel(min(r.job_id)) from millrace.ready r join millrace.job j on j.id = r.job_id where j.type = '{mark}';
                 select millrace.create_schedule('{mark}', '@daily', '{queue}', '{mark}', jsonb_build_object('mark', '{mark}'))"
            ))
            .await;
    }
    let client = database.connect().await;
    client
        .batch_execute(
            "set role millrace_client;
             create function pg_temp.peek(anyelement) returns boolean language plpgsql cost 0.0000001
               as 'begin if $1::text ~ ''secret'' then raise exception ''read %'', $1; end if; return true; end'",
        )
        .await
        .expect("a function of the reader's");
    for (view, columns, shown) in [
        (
            "jobs_queue",
            &["payload", "job_type", "last_error", "status"][..],
            7,
        ),
        ("job_runs", &["error_message", "status"], 4),
        ("cron_tasks", &["payload", "job_type", "slug"], 1),
    ] {
        for column in columns {
            let sql =
                format!("select count(*) as n from public.{view} where pg_temp.peek({column})");
            let counted = rows(&client, &sql)
                .await
                .unwrap_or_else(|e| panic!("{sql}: {}", explain(&e)));
            assert_eq!(counted, [json!({ "n": shown })], "{sql}");
        }
    }
}

/// What a role may do with each relation and function of the runbook, and of the messages and service_api, in few letters:
/// sel, ins, upd, del, exe.
async fn rights(database: &Database, role: &str) -> Value {
    let sql = format!(
        "select jsonb_object_agg(o.name, o.rights) as rights from (
           select c.relname::text, concat_ws(' ', case when has_any_column_privilege('{role}', c.oid, 'select') then 'sel' end,
                    case when has_any_column_privilege('{role}', c.oid, 'insert') then 'ins' end,
                    case when has_any_column_privilege('{role}', c.oid, 'update') then 'upd' end,
                    case when has_table_privilege('{role}', c.oid, 'delete') then 'del' end,
                    case when has_table_privilege('{role}', c.oid, 'truncate, references, trigger') then 'more' end)
             from pg_class c where c.relname in ('jobs_queue', 'job_runs', 'cron_tasks', 'email_message', 'sms_message')
           union all
           select p.proname, case when has_function_privilege('{role}', p.oid, 'execute') then 'exe' else '' end
             from pg_proc p where p.pronamespace in ('public'::regnamespace, 'comms'::regnamespace, 'service_api'::regnamespace)
         ) as o (name, rights) where o.rights <> ''"
    );
    select(database, &sql).await[0]["rights"].clone()
}

#[tokio::test]
async fn browsers_may_do_nothing_and_workers_what_they_need() {
    let database = Database::fresh().await;
    // As Supabase sets up its databases: whatever is made in public is everybody's.
    let supabase = Database::open(&database.unmigrated().await).await;
    supabase
        .run(
            "grant usage on schema public to anon, authenticated, service_role;
             alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
             alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
             alter default privileges in schema public grant all on sequences to anon, authenticated, service_role",
        )
        .await;
    migrate(supabase.url()).await.expect("a migration");
    let open = json!({ "check_key": "exe", "pre_request": "exe" });
    let worker = json!({
        "check_key": "exe", "pre_request": "exe", "fetch_next_task": "exe", "report_task_result": "exe", "extend_lease": "exe",
        "create_and_enqueue_email": "exe", "create_and_enqueue_sms": "exe", "claim_next_job": "exe", "resolve_job": "exe", "enqueue_cron_tasks": "exe",
        "create_and_enqueue_email_from": "exe", "create_and_enqueue_sms_from": "exe", "put_email_template": "exe", "put_sms_template": "exe",
        "drop_email_template": "exe", "drop_sms_template": "exe", "suppress": "exe", "lift_suppression": "exe", "suppressions": "exe",
        "cleanup_old_outbox_items": "exe",
        "jobs_queue": "sel ins upd", "job_runs": "sel", "cron_tasks": "sel ins upd del"
    });
    for database in [&database, &supabase] {
        for role in ["anon", "authenticated"] {
            assert_eq!(rights(database, role).await, open, "{role}");
        }
        for role in ["millrace_client", "service_role"] {
            assert_eq!(rights(database, role).await, worker, "{role}");
        }
        // And in fact, not only by the catalogue.
        let client = database.connect().await;
        for role in ["anon", "authenticated", "millrace_functions"] {
            for sql in [
                "select from jobs_queue",
                "insert into jobs_queue (job_type) values ('x')",
                "delete from cron_tasks",
                "select from job_runs",
            ] {
                let sql = format!("reset role; set role {role}; {sql}");
                let error = client.batch_execute(&sql).await.expect_err(&sql);
                assert_eq!(
                    error.code(),
                    Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                    "{sql}"
                );
            }
        }
        for role in ["millrace_client", "service_role"] {
            client.batch_execute("reset role").await.expect("the owner");
            let sql = format!(
                "set role {role}; insert into jobs_queue (job_type) values ('x'); select count(*) from jobs_queue; select count(*) from job_runs;
                 select resolve_job(id, '{ANN}', true) from claim_next_job('{ANN}');
                 insert into cron_tasks (slug, job_type, cron_schedule) values ('s', 'x', '@daily'); delete from cron_tasks; select enqueue_cron_tasks()"
            );
            client
                .batch_execute(&sql)
                .await
                .unwrap_or_else(|e| panic!("{role}: {}", explain(&e)));
        }
    }
}
