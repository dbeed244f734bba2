//! What happens to due times that nobody saw in time, and on the days when the clocks change.

use millrace_tests::database::Database;

use super::{at_begin, count, create, history, next_run, round, round_at, shown};

/// Until here nobody called for 80 minutes and a bit: with a grace of two minutes 13:19 and 13:20 are still in time.
const LATER: &str = "2031-03-05 13:20:45+00";

#[tokio::test]
async fn while_none_is_missed_every_due_time_makes_a_job() {
    for catch_up in ["none", "one", "all"] {
        let database = at_begin().await;
        create(
            &database,
            &format!("'s', '*/10 * * * * *', 'q', 't', catch_up => '{catch_up}'"),
        )
        .await;
        assert_eq!(
            round_at(&database, "2031-03-05 12:01:30+00").await,
            6,
            "{catch_up}"
        );
        // The first of these was due two minutes ago to the instant.
        assert_eq!(
            round_at(&database, "2031-03-05 12:03:40+00").await,
            13,
            "{catch_up}"
        );
        assert!(
            history(&database, "s")
                .await
                .iter()
                .all(|line| line.ends_with("enqueued")),
            "{catch_up}"
        );
        assert_eq!(
            shown(&database, "s").await["last_due_at"],
            "2031-03-05T12:03:40+00:00",
            "{catch_up}"
        );
    }
}

#[tokio::test]
async fn catch_up_none_runs_what_is_still_in_time() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'none'").await;
    create(&database, "'d', '0 13 * * *', 'q', 't', catch_up => 'none'").await;
    assert_eq!(round_at(&database, LATER).await, 2);
    assert_eq!(
        history(&database, "s").await,
        [
            "05 12:01:00..05 13:18:45 missed",
            "05 13:19:00 enqueued",
            "05 13:20:00 enqueued"
        ]
    );
    assert_eq!(
        history(&database, "d").await,
        ["05 13:00:00..05 13:18:45 missed"]
    );
    assert_eq!(
        next_run(&database, "d").await.as_deref(),
        Some("2031-03-06 13:00:00")
    );
    assert_eq!(round(&database).await, 0);
}

#[tokio::test]
async fn catch_up_one_runs_the_last() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'one'").await;
    create(&database, "'d', '0 13 * * *', 'q', 't', catch_up => 'one'").await;
    assert_eq!(round_at(&database, LATER).await, 2);
    assert_eq!(
        history(&database, "s").await,
        ["05 12:01:00..05 13:20:00 missed", "05 13:20:00 enqueued"]
    );
    assert_eq!(
        history(&database, "d").await,
        ["05 13:00:00 enqueued"],
        "late, but not missed"
    );
    assert_eq!(
        shown(&database, "s").await["last_due_at"],
        "2031-03-05T13:20:00+00:00"
    );
    assert_eq!(
        next_run(&database, "s").await.as_deref(),
        Some("2031-03-05 13:21:00")
    );
}

#[tokio::test]
async fn catch_up_all_runs_each_a_bounded_number_at_a_time() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'all'").await;
    database.stop_clock_at(LATER).await;
    let mut jobs = Vec::new();
    while jobs.last() != Some(&0) {
        let row = database.one("select millrace.enqueue_due(30)", &[]).await;
        jobs.push(row.get::<_, i32>(0));
    }
    assert_eq!(jobs, [30, 30, 20, 0]);
    let history = history(&database, "s").await;
    assert_eq!(
        (history.len(), history[79].as_str()),
        (80, "05 13:20:00 enqueued")
    );
}

/// A schedule of every second, a week later: two rows of history, and no stepping through 600,000 due times.
#[tokio::test]
async fn a_long_outage_is_not_stepped_through() {
    let database = at_begin().await;
    create(&database, "'one', '* * * * * *', 'q', 't'").await;
    create(
        &database,
        "'none', '* * * * * *', 'q', 't', catch_up => 'none', grace => '0'",
    )
    .await;
    create(
        &database,
        "'skip', '* * * * * *', 'q', 't', catch_up => 'all', overlap => 'skip'",
    )
    .await;
    // Bursts: the last due time lies months back, among others as dense as can be.
    create(&database, "'burst', '* * * 10 3 *', 'q', 't'").await;
    assert_eq!(round_at(&database, "2031-11-12 12:00:30.5+00").await, 3);
    assert_eq!(
        history(&database, "one").await,
        ["05 12:00:31..12 12:00:30 missed", "12 12:00:30 enqueued"]
    );
    assert_eq!(
        history(&database, "none").await,
        ["05 12:00:31..12 12:00:30 missed"]
    );
    assert_eq!(
        history(&database, "skip").await,
        ["05 12:00:31 enqueued", "05 12:00:32..12 12:00:31 skipped"]
    );
    assert_eq!(
        history(&database, "burst").await,
        ["10 00:00:00..10 23:59:59 missed", "10 23:59:59 enqueued"]
    );
}

/// The last due time is found by halves: it must be the one that stepping finds.
#[tokio::test]
async fn the_last_due_time_is_the_last() {
    let database = at_begin().await;
    let expressions = [
        "* * * * * *",
        "7,11 */3 * * * *",
        "*/15 9-17 * * MON-FRI",
        "30 2 * * *",
        "0 0 1 * *",
        "* * * 10 3 *",
        "59 59 23 L * *",
        "0 12 * * FRI#2",
    ];
    let sql = "with probe as (
                 select e as expression, z as zone, timestamptz '2031-03-05 12:00:30+00' + i * interval '21 hours 13 minutes 17.25 seconds' as now
                   from unnest($1::text[]) e, unnest(array['UTC', 'Europe/Berlin', 'America/New_York']) z, generate_series(0, 50) i
               ), span as (
                 select p.*, millrace.cron_next(p.expression, '2031-03-05 12:00:30+00', p.zone) as first from probe p
               ), found as (
                 select s.*, millrace.last_due(jsonb_populate_record(null::millrace.schedule, jsonb_build_object('expression', s.expression, 'time_zone', s.zone)), s.first, s.now) as last
                   from span s where s.first <= s.now
               )
               select count(*), count(*) filter (where f.last > f.now or millrace.cron_next(f.expression, f.last, f.zone) <= f.now
                                                    or millrace.cron_next(f.expression, f.last - interval '1 microsecond', f.zone) <> f.last)
                 from found f";
    let row = database
        .one(sql, &[&expressions.map(str::to_owned).to_vec()])
        .await;
    let (probes, wrong): (i64, i64) = (row.get(0), row.get(1));
    println!("schedules: the last of the due times in {probes} spans, {wrong} wrong");
    assert!(probes > 500);
    assert_eq!(wrong, 0);
}

/// One day in Berlin, a call each ten minutes; the due times that made jobs, in UTC.
async fn day_in_berlin(expression: &str, noon_before: &str) -> Vec<String> {
    let database = Database::fresh().await;
    database.stop_clock_at(noon_before).await;
    create(
        &database,
        &format!(
            "'s', '{expression}', 'q', 't', time_zone => 'Europe/Berlin', catch_up => 'none', grace => '10 minutes'"
        ),
    )
    .await;
    for ten_minutes in 1..=6 * 24 {
        let sql = format!(
            "select (timestamptz '{noon_before}' + {ten_minutes} * interval '10 minutes')::text"
        );
        let instant: String = database.one(&sql, &[]).await.get(0);
        round_at(&database, &instant).await;
    }
    let history = history(&database, "s").await;
    assert_eq!(
        i64::try_from(history.len()).expect("a count"),
        count(&database, "job").await
    );
    history
}

#[tokio::test]
async fn a_fixed_time_comes_once_on_the_days_when_the_clocks_change() {
    assert_eq!(
        day_in_berlin("30 2 * * *", "2031-03-29 12:00:00+00").await,
        ["30 01:00:00 enqueued"],
        "02:30 is skipped: as soon as the gap is over"
    );
    assert_eq!(
        day_in_berlin("30 2 * * *", "2031-10-25 12:00:00+00").await,
        ["26 00:30:00 enqueued"],
        "02:30 comes twice: at the first"
    );
}

#[tokio::test]
async fn an_interval_stays_what_it_is_on_the_days_when_the_clocks_change() {
    for noon_before in ["2031-03-29 12:00:00+00", "2031-10-25 12:00:00+00"] {
        assert_eq!(
            day_in_berlin("*/30 * * * *", noon_before).await.len(),
            48,
            "24 real hours of {noon_before}"
        );
    }
}
