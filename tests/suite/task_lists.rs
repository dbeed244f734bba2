//! Lists of tasks and their totals: what a plain query over everything says, at the price of a page.

use millrace_tests::database::Database;
use millrace_tests::queue::{transactions_beside_folds, untrue_counts};
use tokio_postgres::Client;

/// Something of everything that can become of a job, by chance: three queues, four types, three priorities.
const LIVES: &str = "
    create schema test;
    create function test.any(text[]) returns text language sql volatile as 'select $1[1 + floor(random() * cardinality($1))]';
    do $$ declare v_queue text; v_word text; begin
      for v_round in 1 .. 90 loop
        v_queue := test.any('{a,b,c}');
        perform millrace.enqueue_many((
          select jsonb_agg(jsonb_build_object('queue', v_queue, 'type', test.any('{t0,t1,t2,t3}'), 'priority', test.any('{1,5,5,9}')::int, 'max_attempts', 3,
                                              'concurrency_key', case when random() < 0.1 then test.any('{c0,c1,c2}') end))
            from generate_series(1, 30)));
        with claimed as materialized (select * from millrace.claim(v_queue, 'w', 20, lease => test.any('{1 second,1 day}')::interval)),
             told as (select c.*, test.any('{succeeded,succeeded,succeeded,failed,failed,permanent,postponed,none}') as outcome from claimed c)
        select count(*) from millrace.report_many((
          select coalesce(jsonb_agg(jsonb_build_object('job_id', t.job_id, 'lease_id', t.lease_id, 'worker', 'w', 'succeeded', t.outcome = 'succeeded',
                                                       'permanent', t.outcome = 'permanent', 'postponed_seconds', case t.outcome when 'postponed' then 0 end)), '[]')
            from told t where t.outcome <> 'none')) into v_word;
        for v_word in select unnest('{ready,parked,lease}'::text[]) loop
          execute format('select millrace.cancel(job_id) from (select job_id from millrace.%I order by random() limit 1) as j', v_word);
        end loop;
        perform millrace.retry(job_id, random() < 0.5) from (select job_id from millrace.finished where outcome = 'cancelled' order by random() limit 1) as j;
        perform millrace.retry(job_id, random() < 0.5) from (select job_id from millrace.dead_letter where retried_at is null order by random() limit 1) as j;
        perform millrace.replay(id) from (select id from millrace.dead_letter where retried_at is null order by random() limit 1) as j;
        perform millrace.fold(id, '0') from millrace.queue where random() < 0.1;
      end loop;
    end $$";

/// Draws lists and answers those on which a page or a total is not what a plain query says, whichever way is taken to it.
const COMPARISON: &str = "
    create table test.task as
      select j.id, j.type, j.priority, q.name as queue, s.status
        from millrace.job j
        join millrace.queue q on q.id = j.queue_id
        join (select r.job_id, case when r.attempts > 0 or r.retried then 'retrying' else 'pending' end as status from millrace.ready r
              union all select p.job_id, case when p.attempts > 0 or p.retried then 'retrying' else 'pending' end from millrace.parked p
              union all select e.job_id, 'processing' from millrace.lease e
              union all select f.job_id, case f.outcome when 'succeeded' then 'completed' else 'cancelled' end from millrace.finished f
              union all select d.job_id, 'failed' from millrace.dead_letter d) as s on s.job_id = j.id;
    create function test.disagreements(p_lists int) returns setof text language plpgsql as $$
    declare
      v        record;
      v_keys   bigint[];
      v_total  bigint;
      v_page   record;
      v_lanes  int[];
      v_way    text;
      v_walked bigint[];
    begin
      for v in select case when random() < 0.7 then test.any('{pending,retrying,processing,completed,failed,cancelled}') end as status,
                      case when random() < 0.5 then test.any('{t0,t1,t2,t3,none}') end as type, case when random() < 0.5 then test.any('{1,5,9,7}')::int end as priority,
                      case when random() < 0.5 then test.any('{a,b,c,none}') end as queue,
                      case when random() < 0.3 then floor(random() * 3000)::bigint end as before, test.any('{1,3,50,1000}')::int as size,
                      test.any('{0,0,1,10,100,500,1500,2600}')::bigint as skip
                 from generate_series(1, p_lists) loop
        select array(select t.id from test.task t
                      where coalesce(t.status = v.status, true) and coalesce(t.type = v.type, true) and coalesce(t.priority = v.priority, true)
                        and coalesce(t.queue = v.queue, true) and coalesce(t.id < v.before, true)
                      order by t.id desc offset v.skip limit v.size),
               (select count(*) from test.task t
                 where coalesce(t.status = v.status, true) and coalesce(t.type = v.type, true) and coalesce(t.priority = v.priority, true)
                   and coalesce(t.queue = v.queue, true))
          into v_keys, v_total;
        select * into v_page from millrace.task_page(v.status, v.type, v.priority, v.queue, v.before, v.size, v.skip);
        if (v_page.keys, v_page.total, millrace.task_total(v.status, v.type, v.priority, v.queue)) is distinct from (v_keys, v_total, v_total) then
          return next format('%s: %s of %s instead of %s of %s', v, v_page.keys, v_page.total, v_keys, v_total);
        end if;
        -- A page knows one way; the others must lead to the same.
        v_lanes := array(select l.id from millrace.lane l join millrace.queue q on q.id = l.queue_id
                          where coalesce(l.type = v.type, true) and coalesce(l.priority = v.priority, true) and coalesce(q.name = v.queue, true));
        foreach v_way in array case when v.status is null then '{lanes}' else '{status within lanes,lanes within status,both}' end::text[] loop
          v_walked := millrace.walk_tasks(v_way, v.status, v_lanes, false, coalesce(v.before, 9223372036854775807), v.skip, v.size, 1000000);
          if v_walked <> v_keys then
            return next format('%s, %s: %s instead of %s', v, v_way, v_walked, v_keys);
          end if;
        end loop;
      end loop;
    end $$";

#[tokio::test]
async fn lists_are_what_a_plain_query_says() {
    const LISTS: i32 = 400;
    let database = Database::fresh().await;
    database.run(LIVES).await;
    database.set_clock_ahead(60.0).await;
    database
        .run("select millrace.expire_leases(id) from millrace.queue")
        .await;
    assert_eq!(untrue_counts(database.client()).await, [""; 0]);
    let counted = "select string_agg(format('%s %s', n, status), ', ' order by status), count(*) from (select status, sum(n) as n from millrace.task_counts() group by 1) as c";
    let counted = database.one(counted, &[]).await;
    let (shown, statuses): (String, i64) = (counted.get(0), counted.get(1));
    assert_eq!(
        statuses, 6,
        "there are tasks of every status, and only {shown}"
    );
    let beside: i64 = database
        .one("select count(*) from millrace.ready r join millrace.lane l on l.id = r.lane_id where l.alone", &[])
        .await
        .get(0);
    let parked: i64 = database
        .one("select count(*) from millrace.parked", &[])
        .await
        .get(0);
    assert!(
        beside > 0 && parked > 0,
        "some lie beside their lane, some are parked"
    );
    database.run(COMPARISON).await;
    let wrong = database
        .all("select test.disagreements($1) limit 5", &[&LISTS])
        .await;
    let mut wrong: Vec<String> = wrong.iter().map(|row| row.get(0)).collect();
    // As where there are many more: a walk through a status that goes a little way at first.
    let walk = "millrace.walk_status(text, text, int[], millrace.task_sizes, bigint, bigint, bigint, bigint)";
    database.rewrite_function(walk, ":= 1000", ":= 4").await;
    let again = database
        .all("select test.disagreements($1) limit 5", &[&LISTS])
        .await;
    wrong.extend(again.iter().map(|row| row.get::<_, String>(0)));
    println!("task lists: twice {LISTS} lists of {shown} compared");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `old` and `new` in this order, all of `new` and most of `old` done: who looks for completed ones of `old` from the newest on meets none for long.
#[tokio::test]
async fn a_page_is_full_also_where_what_it_shows_is_all_old() {
    let database = Database::fresh().await;
    for (job_type, tasks, done) in [("old", 600, 500), ("new", 2500, 2500)] {
        database
            .run(&format!(
                "do $$ begin
                   for n in 1 .. {tasks} / 100 loop
                     perform millrace.enqueue_many((select jsonb_agg('{{\"queue\": \"q\", \"type\": \"{job_type}\"}}'::jsonb) from generate_series(1, 100)));
                   end loop;
                   for n in 1 .. {done} / 100 loop
                     perform millrace.report_many((select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'succeeded', true))
                                                     from millrace.claim('q', 'w', 100, '{job_type}') as c));
                   end loop;
                 end $$"
            ))
            .await;
    }
    let sizes = "millrace.task_sizes('completed', 'old', null, null)";
    let way: String = database
        .one(
            &format!("select millrace.task_way('completed', {sizes}, 50, 50)"),
            &[],
        )
        .await
        .get(0);
    assert_eq!(way, "status within lanes");
    let given_up: bool = database
        .one(&format!("select millrace.walk_tasks('{way}', 'completed', ({sizes}).lanes, false, 9223372036854775807, 0, 50, 1200) is null"), &[])
        .await
        .get(0);
    assert!(given_up, "it looks at no more than it is told to");
    let (keys, total) = page(
        &database,
        "p_status => 'completed', p_type => 'old', p_limit => 50, p_offset => 0",
    )
    .await;
    assert_eq!((keys.first(), keys.len(), total), (Some(&500), 50, 500));
}

/// Few that fit, all of them older than 20,000 that a walk from the new end would pass: those are retrying, or were cancelled.
#[tokio::test]
async fn few_behind_many_of_a_sibling_are_found_from_the_old_end() {
    const MANY: i64 = 20_000;
    let database = Database::fresh().await;
    // All of one lane, so that no other way is better than to walk through the status.
    database
        .run(
            "create function test_enqueue(v_count int, v_delay int) returns void language sql as $$
               select millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'q', 'type', 't', 'delay_seconds', v_delay)) from generate_series(1, v_count))) $$;
             create function test_work(v_ok boolean) returns bigint language sql as $$
               select count(*) from millrace.report_many((
                 select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'succeeded', v_ok, 'retry_after_seconds', case when not v_ok then 86400 end))
                   from millrace.claim('q', 'w', 1000) as c)) $$;
             select test_enqueue(199, 86400);
             select test_enqueue(199, 0);
             select test_work(true)",
        )
        .await;
    database
        .run(&format!(
            "do $$ begin
               for n in 1 .. {MANY} / 1000 loop
                 perform test_enqueue(1000, 0);
                 perform test_work(false);
                 perform test_enqueue(1000, 0);
                 perform millrace.cancel(r.job_id) from (select job_id from millrace.ready order by job_id desc limit 1000) as r;
                 perform millrace.fold(id, '0') from millrace.queue;
               end loop;
             end $$"
        ))
        .await;
    database.run("vacuum analyze").await;
    let mut shown = Vec::new();
    for (status, first) in [("pending", 199), ("completed", 398)] {
        for (skip, size) in [(0, 50), (60, 50), (149, 50), (190, 9)] {
            let list = format!("p_status => '{status}', p_limit => 50, p_offset => {skip}");
            let (keys, total) = page(&database, &list).await;
            let expected: Vec<i64> = (0..size).map(|n| first - skip - n).collect();
            assert_eq!((keys, total), (expected, 199), "{list}");
            let arguments = format!("'{status}', null, null, null, null, 50, {skip}");
            shown.push(least(database.client(), &arguments).await);
        }
        let before = format!(
            "p_status => '{status}', p_limit => 50, p_offset => 10, p_before => {}",
            first - 20
        );
        let expected: Vec<i64> = (0..50).map(|n| first - 31 - n).collect();
        assert_eq!(page(&database, &before).await, (expected, 199));
    }
    println!("plans: few behind {MANY} of a sibling touch {shown:?} pages");
    // A walk through all of them touches 500 to 1,000.
    assert!(shown.iter().all(|pages| *pages < 300), "{shown:?}");
}

/// Queues that have nothing to tell cost a list little, and one that names its queue nothing.
#[tokio::test]
async fn empty_queues_cost_a_total_little() {
    let database = Database::fresh().await;
    database
        .run("do $$ begin for n in 1 .. 30 loop perform millrace.enqueue('q', 't'); perform millrace.enqueue('r', 't'); end loop; end $$")
        .await;
    let (all, one) = (
        "select millrace.task_total(null, null, null, null)",
        "select millrace.task_total(null, null, null, 'q')",
    );
    let mut touched = Vec::new();
    for queues in [0, 500] {
        database
            .run(&format!(
                "do $$ begin for n in 1 .. {queues} loop perform millrace.enqueue('empty' || n, 't'); end loop;
                   perform millrace.cancel(job_id) from millrace.ready join millrace.lane l on l.id = lane_id join millrace.queue q on q.id = l.queue_id where q.name like 'empty%';
                   perform millrace.fold(id, '0') from millrace.queue;
                   perform millrace.enqueue('q', 't');
                 end $$"
            ))
            .await;
        for sql in [all, one] {
            database.one(sql, &[]).await; // plans and catalogue, once
            touched.push(buffers(database.client(), sql).await);
        }
    }
    println!(
        "totals beside 500 empty queues: {touched:?} pages, of all and of one queue, before and after"
    );
    let ran = transactions_beside_folds(database.client()).await;
    assert!(
        touched[2] < touched[0] + 500 * (3 + 3 * ran),
        "a few probes for each: {touched:?}, beside {ran} transactions"
    );
    assert!(touched[3] < touched[1] + 100, "{touched:?}");
    let total: i64 = database.one(one, &[]).await.get(0);
    assert_eq!(total, 32);
    let total: i64 = database.one(all, &[]).await.get(0);
    assert_eq!(total, 562);
    assert_eq!(untrue_counts(database.client()).await, [""; 0]);
}

async fn page(database: &Database, list: &str) -> (Vec<i64>, i64) {
    let mut arguments = list.to_owned();
    for name in ["p_status", "p_type", "p_priority", "p_queue", "p_before"] {
        if !list.contains(name) {
            arguments.push_str(&format!(", {name} => null"));
        }
    }
    let row = database
        .one(
            &format!("select keys, total from millrace.task_page({arguments})"),
            &[],
        )
        .await;
    (row.get(0), row.get(1))
}

/// Jobs of four queues, ten types and three priorities; most succeeded, some failed, are retried, were cancelled or run, the newest tenth is pending.
async fn fill(database: &Database, jobs: i64) {
    let sql = "do $$
               declare
                 v_queue text;
                 v_done  int;
               begin
                 for v_round in 1 .. {rounds} loop
                   v_queue := 'q' || v_round % 4;
                   perform count(*) from millrace.enqueue_many((
                     select jsonb_agg(jsonb_build_object('queue', v_queue, 'type', 't' || n % 10, 'priority', (array[1, 5, 9])[1 + n % 3])) from generate_series(1, 1000) as n));
                   if v_round <= {rounds} * 9 / 10 then
                     with claimed as materialized (select * from millrace.claim(v_queue, 'w', 1000))
                     select count(*) from millrace.report_many((
                       select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w', 'succeeded', c.job_id / 10 % 20 > 1,
                                                           'permanent', c.job_id / 10 % 20 = 1, 'retry_after_seconds', case c.job_id / 10 % 20 when 0 then 86400 end))
                         from claimed c)) into v_done;
                   end if;
                   perform millrace.fold(id, '0') from millrace.queue where name = v_queue;
                 end loop;
               end
               $$;
               select count(millrace.cancel(job_id)) from (select job_id from millrace.ready where job_id % 50 = 7) as r;
               select count(*) from millrace.claim('q1', 'w', 500, lease => '1 day');
               select millrace.enqueue('q2', 'rare')";
    database
        .run(&sql.replace("{rounds}", &(jobs / 1000).to_string()))
        .await;
    database.run("vacuum analyze").await;
}

/// The pages that a page of tasks touches, the least of three.
async fn least(client: &Client, arguments: &str) -> i64 {
    let sql = format!("select * from millrace.task_page({arguments})");
    let mut least = i64::MAX;
    for _ in 0..3 {
        least = least.min(buffers(client, &sql).await);
    }
    least
}

/// The pages that a query touches.
async fn buffers(client: &Client, sql: &str) -> i64 {
    let sql = format!("explain (analyze, buffers, timing off, format json) {sql}");
    let plan: serde_json::Value = client.query_one(&sql, &[]).await.expect(&sql).get(0);
    let pages = |name: &str| plan[0]["Plan"][name].as_i64().expect("a count of pages");
    pages("Shared Hit Blocks") + pages("Shared Read Blocks")
}

#[tokio::test]
async fn pages_touch_little_at_any_size() {
    let database = Database::fresh().await;
    // 12 and 40 lanes where a type or a priority is given; an entry of an index may cost a look at its row.
    let lists = [
        ("null, null, null, null, null, 50, 0", 900),
        ("null, null, null, null, 9000, 50, 0", 900),
        ("'pending', null, null, null, null, 50, 0", 900),
        ("'retrying', null, null, null, null, 50, 0", 900),
        ("'processing', null, null, null, null, 50, 0", 900),
        ("'completed', null, null, null, null, 50, 0", 900),
        ("'failed', null, null, null, null, 50, 0", 900),
        ("'cancelled', null, null, null, null, 50, 0", 900),
        ("null, 't1', null, null, null, 50, 0", 1500),
        ("null, 't1', 5, 'q2', null, 50, 0", 900),
        ("null, null, 5, null, null, 50, 0", 3000),
        ("'completed', 't1', null, null, null, 50, 0", 3000),
        ("'failed', 't1', null, null, null, 50, 0", 3000),
        ("'pending', 't1', null, 'q3', null, 50, 0", 900),
        ("'retrying', 't1', 5, null, null, 50, 0", 1500),
        // One there is, among all that are pending; of these there are none.
        ("'pending', 'rare', null, null, null, 50, 0", 900),
        ("'failed', 'rare', null, null, null, 50, 0", 900),
        ("null, 'none', null, null, null, 50, 0", 900),
        // As far from both ends as can be: keys alone, out of an index.
        ("null, null, null, null, null, 50, 50000", 900),
        ("null, 't1', null, null, null, 50, 5000", 6000),
    ];
    let mut before = Vec::new();
    for jobs in [20_000, 80_000] {
        fill(&database, jobs).await;
        let mut touched = Vec::new();
        for (arguments, most) in &lists {
            let pages = least(database.client(), arguments).await;
            assert!(
                pages <= *most,
                "{arguments} touches {pages} pages, {most} at most"
            );
            touched.push(pages);
        }
        if !before.is_empty() {
            for (((arguments, _), few), many) in lists.iter().zip(&before).zip(&touched) {
                println!("plans: tasks {arguments} touch {few} pages at 20,000, {many} at 100,000");
            }
        }
        before = touched;
    }
    assert_eq!(untrue_counts(database.client()).await, [""; 0]);
    let looks = "select coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::bigint from pg_stat_xact_user_tables
                  where schemaname = 'millrace' and relname in ('job', 'ready', 'lease', 'dead_letter') or relname like 'finished%'";
    let client = database.client();
    client.batch_execute("begin").await.expect("a transaction");
    let before: i64 = client.query_one(looks, &[]).await.expect("a count").get(0);
    let total = "select millrace.task_total('completed', 't1', null, null) + millrace.task_total(null, null, 5, 'q1'), (select sum(n)::bigint from millrace.task_counts())";
    let total = client.query_one(total, &[]).await.expect("totals");
    let after: i64 = client.query_one(looks, &[]).await.expect("a count").get(0);
    client.batch_execute("commit").await.expect("a transaction");
    assert_eq!((after - before, total.get::<_, i64>(1)), (0, 100_002));
}
