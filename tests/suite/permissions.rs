//! Who may do what in the database: the functions' role executes `millrace_api` and nothing else; the clients' role
//! executes the typed functions and touches no table.

use millrace_tests::database::Database;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// The signatures of all functions of a schema.
async fn functions(database: &Database, schema: &str) -> Vec<String> {
    let sql = "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = $1::text::regnamespace order by 1";
    database
        .all(sql, &[&schema])
        .await
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn relations(database: &Database, kinds: &str) -> Vec<String> {
    let sql = "select c.oid::regclass::text from pg_class c where c.relnamespace = 'millrace'::regnamespace and strpos($1, c.relkind::text) > 0 order by 1";
    database
        .all(sql, &[&kinds])
        .await
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn assert_denied(client: &Client, sql: &str) {
    let error = client.simple_query(sql).await.expect_err(sql);
    assert_eq!(
        error.code(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE),
        "{sql}: {error:?}"
    );
}

/// Every table and sequence refuses the role, by name and in fact; returns how many refusals that were.
async fn assert_tables_denied(database: &Database, client: &Client) -> usize {
    let tables = relations(database, "rpv").await;
    assert!(
        tables.len() > 20,
        "the catalogue shows {} tables",
        tables.len()
    );
    for table in &tables {
        for sql in [
            format!("select * from {table} limit 0"),
            format!("insert into {table} default values"),
            format!(
                "update {table} set {} where false",
                some_column(database, table).await
            ),
            format!("delete from {table} where false"),
            format!("truncate {table}"),
        ] {
            assert_denied(client, &sql).await;
        }
    }
    let sequences = relations(database, "S").await;
    for sequence in &sequences {
        assert_denied(client, &format!("select nextval('{sequence}')")).await;
    }
    tables.len() * 5 + sequences.len()
}

/// `column = column` of some column that an update may set.
async fn some_column(database: &Database, table: &str) -> String {
    let sql = "select format('%I = %I', attname, attname) from pg_attribute
                where attrelid = $1::text::regclass and attnum > 0 and attidentity = '' and not attisdropped order by attnum limit 1";
    database.one(sql, &[&table]).await.get(0)
}

async fn may_execute(client: &Client, function: &str) -> bool {
    client
        .query_one(
            "select has_function_privilege($1::text::regprocedure::oid, 'execute')",
            &[&function],
        )
        .await
        .expect(function)
        .get(0)
}

async fn assert_creates_nothing(client: &Client) {
    let schemas = client
        .query(
            "select nspname::text from pg_namespace
              where has_schema_privilege(oid, 'create') and nspname !~ '^pg_'
                -- before Postgres 15 everybody may create in public; the API's functions never look there
                and not (nspname = 'public' and current_setting('server_version_num')::int < 150000)",
            &[],
        )
        .await
        .expect("a list of schemas");
    let names: Vec<String> = schemas.iter().map(|row| row.get(0)).collect();
    assert!(names.is_empty(), "may create in {names:?}");
    for sql in [
        "create table millrace.t ()",
        "create function millrace_api.f() returns int language sql as 'select 1'",
        "create schema s",
    ] {
        assert_denied(client, sql).await;
    }
}

/// Functions can't be looked up in a schema that the role may not use, so signatures are resolved by the owner.
async fn executable(database: &Database, role: &str, schema: &str) -> (Vec<String>, Vec<String>) {
    let rows = database
        .all(
            "select p.oid::regprocedure::text, has_function_privilege($1::text, p.oid, 'execute') from pg_proc p
              where p.pronamespace = $2::text::regnamespace order by 1",
            &[&role, &schema],
        )
        .await;
    let (yes, no): (Vec<_>, Vec<_>) = rows
        .iter()
        .map(|row| (row.get::<_, String>(0), row.get::<_, bool>(1)))
        .partition(|(_, may)| *may);
    (
        yes.into_iter().map(|(name, _)| name).collect(),
        no.into_iter().map(|(name, _)| name).collect(),
    )
}

#[tokio::test]
async fn the_functions_role_executes_the_api_and_nothing_else() {
    let database = Database::fresh().await;
    let client = millrace::database::connect(&database.functions_url())
        .await
        .expect("the functions' login");

    let api = functions(&database, "millrace_api").await;
    assert!(!api.is_empty());
    for function in &api {
        assert!(
            may_execute(&client, function).await,
            "{function} is not executable"
        );
    }
    let (open, closed) = executable(&database, &database.functions_login(), "millrace").await;
    assert!(
        open.is_empty(),
        "private functions are executable: {open:?}"
    );
    assert_denied(&client, "select millrace.enqueue('q', 't')").await;
    assert_denied(&client, "select millrace.housekeep()").await;
    let denied = assert_tables_denied(&database, &client).await;
    assert_creates_nothing(&client).await;

    let task = json!({ "type": "t", "executorId": "e" });
    let answer: Value = client
        .query_one("select millrace_api.collab_assign($1)", &[&task])
        .await
        .expect("an assignment")
        .get(0);
    assert_eq!(answer["queued"], true);
    println!(
        "permissions of the functions' role: {} functions open, {} closed, {denied} table statements denied",
        api.len(),
        closed.len()
    );
}

#[tokio::test]
async fn the_clients_role_executes_typed_functions_and_touches_no_table() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    client
        .batch_execute("set role millrace_client")
        .await
        .expect("the clients' role");

    let denied = assert_tables_denied(&database, &client).await;
    assert_creates_nothing(&client).await;
    assert_denied(&client, "select millrace_api.collab_health('{}')").await;
    for internal in [
        "millrace.settle('{}')",
        "millrace.expire_leases(1)",
        "millrace.forget_jobs('{1}')",
        "millrace.make_partitions()",
        "millrace.tend(1)",
    ] {
        assert_denied(&client, &format!("select {internal}")).await;
    }

    // A whole life through the typed functions alone.
    let life = "
        select millrace.configure_queue('q', max_attempts => 2);
        select millrace.pause('q');
        select millrace.resume('q');
        select millrace.enqueue('q', 't', '{\"n\": 1}', idempotency_key => 'k');
        select millrace.report(c.job_id, c.lease_id, 'w', false, permanent => true) from millrace.claim('q', 'w') c;
        select millrace.replay(1);
        select millrace.extend_lease(c.job_id, c.lease_id, 'w') from millrace.claim('q', 'w') c;
        select millrace.cancel(2);
        select millrace.retry(2);
        select millrace.heartbeat('w', 'q', 'busy');
        select millrace.housekeep();
        select millrace.job_id(millrace.job_uuid(1));
        select millrace.job_state(2);";
    client
        .batch_execute(life)
        .await
        .unwrap_or_else(|e| panic!("{}", millrace_tests::database::explain(&e)));
    assert_eq!(
        millrace_tests::queue::state(&client, 2).await.as_deref(),
        Some("queued")
    );
    let (open, closed) = executable(&database, "millrace_client", "millrace").await;
    println!(
        "permissions of the clients' role: {} functions open, {} closed, {denied} table statements denied",
        open.len(),
        closed.len()
    );
}

#[tokio::test]
async fn everybody_else_executes_nothing() {
    let database = Database::fresh().await;
    for schema in ["millrace", "millrace_api"] {
        let (open, closed) = executable(&database, "public", schema).await;
        assert!(
            open.is_empty() && !closed.is_empty(),
            "everybody may execute {open:?}"
        );
    }
    // What runs with its owner's rights must not look where its caller can put things.
    let sql = "select p.oid::regprocedure::text from pg_proc p
                where p.pronamespace in ('millrace'::regnamespace, 'millrace_api'::regnamespace) and p.prosecdef
                  and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
    let open: Vec<String> = database
        .all(sql, &[])
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(open.is_empty(), "no fixed search_path: {open:?}");
}

/// A caller's own temporary objects must not be what the API's functions find.
#[tokio::test]
async fn temporary_objects_of_the_caller_change_nothing() {
    let database = Database::fresh().await;
    let client = millrace::database::connect(&database.functions_url())
        .await
        .expect("the functions' login");
    client
        .batch_execute(
            "create temp table job (id bigint); create temp table ready (job_id bigint);
             create function pg_temp.now() returns timestamptz language sql as 'select timestamptz ''2000-01-01''';
             create function pg_temp.jsonb_typeof(jsonb) returns text language sql as 'select ''hacked''';
             set search_path = pg_temp, public;",
        )
        .await
        .expect("temporary objects");
    let task = json!({ "type": "t", "executorId": "e", "payload": { "a": [1, null] } });
    let answer: Value = client
        .query_one("select millrace_api.collab_assign($1)", &[&task])
        .await
        .expect("an assignment")
        .get(0);
    assert_eq!(answer["queued"], true);
    let want = json!({ "executorId": "e", "workerId": "w" });
    let answer: Value = client
        .query_one("select millrace_api.collab_claim($1)", &[&want])
        .await
        .expect("a claim")
        .get(0);
    assert_eq!(answer["job"]["payload"], task["payload"]);
}
