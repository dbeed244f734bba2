//! `sync_outbox` and the relations beside it, as their document and its SQL use them.

use std::time::Instant;

use millrace_tests::database::{Database, refusal};
use serde_json::{Value, json};

use super::{Syncing, WORKSPACE, rebuild_all, upsert};

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_operations_and_its_sql_work_as_written() {
    let syncing = Syncing::start().await;
    let database = &syncing.app.database;
    let job = syncing.upsert(1, "Complete user interviews").await;
    let row = database
        .one(
            "select id::text, millrace.job_id(id) = job_id, workspace_id::text, operation, status, attempts, max_attempts, next_attempt_at <= now(), last_error,
                    created_at <= updated_at, processed_at is null, payload ->> 'operation'
               from sync_outbox where job_id = $1",
            &[&job],
        )
        .await;
    assert!(
        row.get::<_, bool>(1)
            && row.get::<_, bool>(7)
            && row.get::<_, bool>(9)
            && row.get::<_, bool>(10)
    );
    assert_eq!(
        (
            row.get::<_, &str>(2),
            row.get::<_, &str>(3),
            row.get::<_, &str>(4)
        ),
        (WORKSPACE, "UPSERT_EVENT", "PENDING")
    );
    assert_eq!(
        (
            row.get::<_, i32>(5),
            row.get::<_, i32>(6),
            row.get::<_, Option<&str>>(8)
        ),
        (0, 5, None)
    );
    syncing.run().await;

    let event = syncing.google.service(|google| google.live()[0].clone());
    assert_eq!(event.body["summary"], "Complete user interviews");
    assert_eq!(event.body["description"], "P1 blocking task");
    assert_eq!(
        event.body["start"],
        json!({"dateTime": "2025-01-15T14:00:00Z"})
    );
    let sql = "select google_event_id, event_type, calendar_id, event ->> 'title' from calendar_event_bindings where workspace_id = $1::text::uuid and source_type = 'task'";
    let binding = database.one(sql, &[&WORKSPACE]).await;
    assert_eq!(binding.get::<_, &str>(0), event.id);
    assert_eq!(
        (binding.get::<_, &str>(1), binding.get::<_, &str>(2)),
        ("BLOCKER_DEADLINE", "team@example.com")
    );

    let mut day = upsert(2, "A day");
    day["event"] = json!({"title": "A day", "start": "2025-01-15T00:00:00Z", "end": "2025-01-15T00:00:00Z", "isAllDay": true, "colorId": "7", "recurrence": ["RRULE:FREQ=WEEKLY"]});
    syncing.insert(&day).await;
    syncing.run().await;
    let event = syncing.google.service(|google| google.live()[1].clone());
    assert_eq!(
        (&event.body["start"], &event.body["end"]),
        (
            &json!({"date": "2025-01-15"}),
            &json!({"date": "2025-01-16"})
        )
    );
    assert_eq!(
        (&event.body["colorId"], &event.body["recurrence"]),
        (&json!("7"), &json!(["RRULE:FREQ=WEEKLY"]))
    );

    for job in [
        syncing.cancel(1).await,
        syncing.insert(&rebuild_all()).await,
    ] {
        syncing.run().await;
        assert_eq!(syncing.status(job).await, "COMPLETED");
    }
    assert_eq!(syncing.titles(), ["A day"]);
    let counts = database
        .all(
            "SELECT status, COUNT(*)\nFROM sync_outbox\nGROUP BY status;",
            &[],
        )
        .await;
    assert_eq!(
        (
            counts.len(),
            counts[0].get::<_, &str>(0),
            counts[0].get::<_, i64>(1)
        ),
        (1, "COMPLETED", 4)
    );
    let dead =
        "SELECT *\nFROM sync_outbox\nWHERE status = 'DEAD_LETTER'\nORDER BY updated_at DESC;";
    assert!(database.all(dead, &[]).await.is_empty());
    let cleanup = "SELECT cleanup_old_outbox_items(30); -- Delete items older than 30 days";
    assert_eq!(database.one(cleanup, &[]).await.get::<_, i64>(0), 0);
    database.set_clock_ahead(31.0 * 86400.0).await;
    assert_eq!(database.one(cleanup, &[]).await.get::<_, i64>(0), 4);
    assert!(
        database
            .all("select from sync_outbox", &[])
            .await
            .is_empty()
    );
    database.assert_no_job_misplaced().await;
}

/// A payload of the document's with one field set otherwise.
fn with(pointer: &str, value: Value) -> Value {
    let mut payload = upsert(1, "first");
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    payload.pointer_mut(parent).expect("its parent")[field] = value;
    payload
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_payload_is_refused_by_the_field() {
    let database = Database::fresh().await;
    let cases = [
        ("/operation", json!("UPDATE"), "payload.operation"),
        ("/operation", json!(null), "payload.operation"),
        ("/workspaceId", json!("not a uuid"), "payload.workspaceId"),
        ("/workspaceId", json!(null), "payload.workspaceId"),
        ("/calendarId", json!(""), "payload.calendarId"),
        ("/calendarId", json!(7), "payload.calendarId"),
        ("/sourceType", json!("story"), "payload.sourceType"),
        ("/sourceId", json!("7"), "payload.sourceId"),
        ("/eventType", json!("PARTY"), "payload.eventType"),
        ("/event", json!(null), "payload.event"),
        ("/event", json!("text"), "payload.event"),
        ("/event/title", json!(""), "payload.event.title"),
        (
            "/event/title",
            json!("é".repeat(501)),
            "payload.event.title",
        ),
        ("/event/title", json!(null), "payload.event.title"),
        ("/event/start", json!("tomorrow"), "payload.event.start"),
        (
            "/event/start",
            json!("2025-02-30T14:00:00Z"),
            "payload.event.start",
        ),
        (
            "/event/start",
            json!("2025-01-15T14:00:00"),
            "payload.event.start",
        ),
        ("/event/start", json!("2025-01-15"), "payload.event.start"),
        (
            "/event/end",
            json!("2025-01-14T14:00:00Z"),
            "payload.event.end",
        ),
        ("/event/end", json!({}), "payload.event.end"),
        ("/event/isAllDay", json!("yes"), "payload.event.isAllDay"),
        (
            "/event/recurrence",
            json!("RRULE:FREQ=DAILY"),
            "payload.event.recurrence",
        ),
        (
            "/event/recurrence",
            json!(["DAILY"]),
            "payload.event.recurrence",
        ),
        (
            "/event/recurrence",
            json!(["RRULE:FREQ=DAILY\r\nX:1"]),
            "payload.event.recurrence",
        ),
        ("/event/location", json!(["here"]), "payload.event.location"),
        ("/event/colorId", json!(7), "payload.event.colorId"),
        (
            "/event/description",
            json!("x".repeat(8193)),
            "payload.event.description",
        ),
        ("/event/color", json!("7"), "payload.event.color"),
        ("/extra", json!(1), "payload.extra"),
    ];
    for (pointer, value, field) in &cases {
        let payload = with(pointer, value.clone());
        let sql = "insert into sync_outbox (payload) values ($1)";
        let error = database
            .client()
            .execute(sql, &[&payload])
            .await
            .expect_err(field);
        let (code, hint) = refusal(&error);
        let message = error
            .as_db_error()
            .map_or("", |said| said.message())
            .to_owned();
        assert_eq!(
            (code.as_str(), hint.as_str()),
            ("PT400", "invalid_request"),
            "{message}"
        );
        assert!(
            message.starts_with(&format!("{field} ")),
            "{pointer}: {message}"
        );
    }
    for good in [
        with("/event/title", json!("é".repeat(500))),
        with("/event/start", json!("2025-01-15T14:00:00.123+05:30")),
        with(
            "/event/recurrence",
            json!(["RRULE:FREQ=DAILY", "EXDATE;TZID=UTC:20250116T140000"]),
        ),
        with("/event/location", json!(null)),
        with("/sourceType", json!("project_review")),
    ] {
        database
            .client()
            .execute("insert into sync_outbox (payload) values ($1)", &[&good])
            .await
            .expect("taken");
    }
    println!("{} malformed payloads refused by their field", cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_stand_for_what_the_payload_leaves_out_and_must_not_contradict_it() {
    let database = Database::fresh().await;
    let sql = "insert into sync_outbox (workspace_id, operation, payload) values ($1::text::uuid, $2, $3) returning payload";
    let short = json!({"calendarId": "team@example.com"});
    let payload: Value = database
        .one(sql, &[&WORKSPACE, &"REBUILD_ALL", &short])
        .await
        .get(0);
    assert_eq!(payload, rebuild_all());
    for (workspace, operation) in [
        (WORKSPACE, "CANCEL_EVENT"),
        ("5e5e5e5e-0000-4222-8333-444444444444", "REBUILD_ALL"),
    ] {
        let error = database
            .client()
            .query(sql, &[&workspace, &operation, &rebuild_all()])
            .await;
        assert_eq!(refusal(&error.expect_err("refused")).0, "PT400");
    }
    for column in [
        "id, payload) values (gen_random_uuid()",
        "status, payload) values ('COMPLETED'",
        "attempts, payload) values (1",
    ] {
        let sql = format!("insert into sync_outbox ({column}, $1)");
        let error = database
            .client()
            .execute(&sql, &[&rebuild_all()])
            .await
            .expect_err(column);
        assert_eq!(refusal(&error).0, "PT400", "{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_returns_is_what_is_read_afterwards() {
    let database = Database::fresh().await;
    database.stop_clock_at("2026-11-22 12:00:00Z").await;
    let read =
        "select to_jsonb(o) from sync_outbox o where job_id = millrace.job_id($1::text::uuid)";
    for (columns, values) in [
        ("", ""),
        (", next_attempt_at", ", '2026-11-22 13:00:00Z'"),
        (
            ", next_attempt_at, max_attempts",
            ", '2026-11-22 11:00:00Z', 9",
        ),
    ] {
        let sql = format!(
            "insert into sync_outbox (payload{columns}) values ($1{values}) returning to_jsonb(sync_outbox)"
        );
        let written: Value = database.one(&sql, &[&rebuild_all()]).await.get(0);
        let id = written["id"].as_str().expect("an id").to_owned();
        let found: Value = database.one(read, &[&id]).await.get(0);
        assert_eq!(written, found, "{columns}");
        for set in [
            "next_attempt_at = '2026-11-22 15:00:00Z'",
            "status = 'CANCELLED'",
            "status = 'PENDING'",
        ] {
            let sql = format!(
                "update sync_outbox set {set} where id = $1::text::uuid returning to_jsonb(sync_outbox)"
            );
            let written: Value = database.one(&sql, &[&id]).await.get(0);
            let found: Value = database.one(read, &[&id]).await.get(0);
            assert_eq!(written, found, "{set}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_updated_as_far_as_that_makes_sense() {
    let syncing = Syncing::start().await;
    let database = &syncing.app.database;
    let job = syncing.upsert(1, "first").await;
    let set = |what: &str| format!("update sync_outbox set {what} where job_id = {job}");
    database.run(&set("status = 'CANCELLED'")).await;
    assert_eq!(syncing.status(job).await, "CANCELLED");
    database
        .run(&set(
            "status = 'PENDING', attempts = 0, last_error = null, processed_at = null",
        ))
        .await;
    assert_eq!(syncing.status(job).await, "PENDING");
    database
        .run(&set("next_attempt_at = now() + interval '1 hour'"))
        .await;
    syncing.run().await;
    assert_eq!(syncing.status(job).await, "PENDING");
    for refused in [
        "status = 'COMPLETED'",
        "status = 'PROCESSING'",
        "payload = '{}'",
        "attempts = 3",
        "max_attempts = 9",
        "last_error = 'x'",
        "id = gen_random_uuid()",
    ] {
        let error = database
            .client()
            .execute(&set(refused), &[])
            .await
            .expect_err(refused);
        assert_eq!(refusal(&error).0, "PT400", "{refused}");
    }
    let error = database
        .client()
        .execute("delete from sync_outbox", &[])
        .await;
    assert_eq!(refusal(&error.expect_err("refused")).0, "PT405");
    let error = database
        .client()
        .execute(
            "insert into calendar_event_bindings (source_type) values ('task')",
            &[],
        )
        .await;
    assert_eq!(refusal(&error.expect_err("refused")).0, "PT405");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_for_its_clients_alone() {
    let database = Database::fresh().await;
    let sql = "select r, t, has_table_privilege(r, t, 'select'), has_table_privilege(r, t, 'insert')
                 from unnest(array['millrace_functions', 'millrace_client']) as r,
                      unnest(array['sync_outbox', 'calendar_event_bindings', 'google_connections', 'millrace.google_connection', 'millrace.calendar_binding', 'millrace.circuit_breaker']) as t";
    for row in database.all(sql, &[]).await {
        let (role, table): (&str, &str) = (row.get(0), row.get(1));
        let may = role == "millrace_client" && !table.starts_with("millrace.");
        assert_eq!(row.get::<_, bool>(2), may, "{role} reads {table}");
        assert_eq!(
            row.get::<_, bool>(3),
            may && table == "sync_outbox",
            "{role} writes {table}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_relations_are_in_public_where_nothing_is_in_their_way() {
    let database = Database::fresh().await;
    let sql = "select to_regclass('public.sync_outbox') is not null, to_regnamespace('millrace_calendar') is null";
    let row = database.one(sql, &[]).await;
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));
}

/// So many items: most done, every hundredth dead, some waiting; and as many jobs of another queue beside them.
async fn fill(database: &Database, items: i64) {
    let sql = "do $$
               declare
                 v_queue text;
               begin
                 for v_round in 1 .. {rounds} loop
                   foreach v_queue in array array['calendar', 'other'] loop
                     perform count(*) from millrace.enqueue_many((
                       select jsonb_agg(jsonb_build_object('queue', v_queue, 'type', 'UPSERT_EVENT', 'payload', '{payload}'::jsonb)) from generate_series(1, 500)));
                     if v_round <= {rounds} * 8 / 10 then
                       perform count(*) from millrace.report_many((
                         select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w',
                                                             'succeeded', c.job_id % 100 <> 0, 'permanent', true))
                           from millrace.claim(v_queue, 'w', 500) as c));
                     end if;
                   end loop;
                 end loop;
               end
               $$";
    let sql = sql
        .replace("{rounds}", &(items / 500).to_string())
        .replace("{payload}", &upsert(1, "first").to_string());
    database.run(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_monitoring_stays_fast_at_a_hundred_thousand_items() {
    let database = Database::fresh().await;
    let mut counted = Vec::new();
    for (items, analyzed) in [(10_000, false), (90_000, false), (0, true)] {
        fill(&database, items).await;
        if analyzed {
            database.run("analyze").await;
        }
        for (name, sql) in [
            (
                "by status",
                "SELECT status, COUNT(*) FROM sync_outbox GROUP BY status",
            ),
            (
                "dead",
                "SELECT * FROM sync_outbox WHERE status = 'DEAD_LETTER' ORDER BY updated_at DESC",
            ),
        ] {
            let began = Instant::now();
            let plan: Value = database
                .one(
                    &format!("explain (analyze, buffers, timing off, format json) {sql}"),
                    &[],
                )
                .await
                .get(0);
            let pages = ["Shared Hit Blocks", "Shared Read Blocks"]
                .map(|it| plan[0]["Plan"][it].as_i64().expect("pages"));
            let pages = pages.iter().sum::<i64>();
            counted.push((name, pages));
            println!(
                "{name}, {items} more items, analyzed: {analyzed}: {pages} pages, {:?}",
                began.elapsed()
            );
        }
    }
    // In proportion to what is read, whatever the statistics say: ten times as many items, and as many dead ones.
    for name in ["by status", "dead"] {
        let pages: Vec<i64> = counted
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, pages)| *pages)
            .collect();
        assert!(
            pages[1] < pages[0] * 15 && pages[2] < pages[0] * 15,
            "{name}: {pages:?}"
        );
    }
    assert!(counted[1].1 < 10_000, "dead letters alone");
}
