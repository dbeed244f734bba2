//! Expressions whose times were worked out with a calendar and the news of when clocks change.

use millrace_tests::database::Database;

#[tokio::test]
async fn a_list_ends_with_its_window_or_its_length() {
    let database = Database::fresh().await;
    let count = async |arguments: &str| -> i64 {
        let sql = format!("select count(*) from millrace.cron_times({arguments})");
        database.one(&sql, &[]).await.get(0)
    };
    let day = "'*/10 * * * *', '2026-05-01 00:00+00', '2026-05-02 00:00+00'";
    assert_eq!(count(day).await, 144, "its end is in it, its start is not");
    assert_eq!(count(&format!("{day}, max => 7")).await, 7);
    assert_eq!(count(&format!("{day}, max => 0")).await, 0);
    assert_eq!(
        count("'* * * * *', '2026-05-02 00:00+00', '2026-05-01 00:00+00'").await,
        0
    );
    assert_eq!(
        count("'* * * * * *', '2026-05-01', '2026-06-01'").await,
        1000
    );
    assert_eq!(
        count("'0 0 30 2 *', '2026-05-01', '2030-05-01'").await,
        0,
        "what check_cron would have refused ends as well"
    );
    for never in ["infinity", "-infinity"] {
        let sql = format!("select millrace.cron_next('* * * * *', '{never}') is null");
        assert!(database.one(&sql, &[]).await.get::<_, bool>(0));
    }
}

/// Asserts what an expression is due at, as local times with their offsets.
async fn assert_due(
    database: &Database,
    expression: &str,
    zone: &str,
    after: &str,
    expected: &[&str],
) {
    let sql = "select to_char(t at time zone $3, 'YYYY-MM-DD HH24:MI:SS')
                 from millrace.cron_times($1, $2::text::timestamp at time zone $3, 'infinity', $3, $4) as t";
    let max = i32::try_from(expected.len()).expect("a few");
    let rows = database.all(sql, &[&expression, &after, &zone, &max]).await;
    let due: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(due, expected, "{expression} in {zone} after {after}");
}

#[tokio::test]
async fn the_clocks_change_as_debians_cron_says() {
    let database = Database::fresh().await;
    let (berlin, spring, autumn) = ("Europe/Berlin", "2026-03-28 12:00", "2026-10-24 12:00");
    let cases: &[(&str, &str, &str, &[&str])] = &[
        // The hour from 02:00 is skipped on 29 March.
        (
            "30 2 * * *",
            berlin,
            spring,
            &["2026-03-29 03:00:00", "2026-03-30 02:30:00"],
        ),
        (
            "0 2 * * *",
            berlin,
            spring,
            &["2026-03-29 03:00:00", "2026-03-30 02:00:00"],
        ),
        (
            "0 3 * * *",
            berlin,
            spring,
            &["2026-03-29 03:00:00", "2026-03-30 03:00:00"],
        ),
        (
            "0,30 2-3 * * *",
            berlin,
            spring,
            &[
                "2026-03-29 03:00:00",
                "2026-03-29 03:30:00",
                "2026-03-30 02:00:00",
            ],
        ),
        (
            "*/15 2 * * *",
            berlin,
            spring,
            &["2026-03-30 02:00:00", "2026-03-30 02:15:00"],
        ),
        (
            "30 * * * *",
            berlin,
            "2026-03-29 01:00",
            &["2026-03-29 01:30:00", "2026-03-29 03:30:00"],
        ),
        (
            "0 */2 * * *",
            berlin,
            "2026-03-28 23:30",
            &["2026-03-29 00:00:00", "2026-03-29 04:00:00"],
        ),
        (
            "15,45 30 2 * * *",
            berlin,
            spring,
            &["2026-03-29 03:00:00", "2026-03-30 02:30:15"],
        ),
        (
            "* 30 2 * * *",
            berlin,
            spring,
            &["2026-03-30 02:30:00", "2026-03-30 02:30:01"],
        ),
        // It comes twice on 25 October.
        (
            "30 2 * * *",
            berlin,
            autumn,
            &["2026-10-25 02:30:00", "2026-10-26 02:30:00"],
        ),
        (
            "0,30 2 * * *",
            berlin,
            autumn,
            &[
                "2026-10-25 02:00:00",
                "2026-10-25 02:30:00",
                "2026-10-26 02:00:00",
            ],
        ),
        (
            "*/30 2 * * *",
            berlin,
            autumn,
            &[
                "2026-10-25 02:00:00",
                "2026-10-25 02:30:00",
                "2026-10-25 02:00:00",
                "2026-10-25 02:30:00",
                "2026-10-26 02:00:00",
            ],
        ),
        // (The second 02:10: a fixed time has been, and what follows the clock goes on.)
        (
            "30 2 * * *",
            berlin,
            "2026-10-25 02:10",
            &["2026-10-26 02:30:00"],
        ),
        (
            "0,30 2-3 * * *",
            berlin,
            "2026-10-25 02:10",
            &["2026-10-25 03:00:00"],
        ),
        (
            "30 * * * *",
            berlin,
            "2026-10-25 02:10",
            &["2026-10-25 02:30:00", "2026-10-25 03:30:00"],
        ),
        (
            "0 * * * *",
            berlin,
            "2026-10-25 01:30",
            &[
                "2026-10-25 02:00:00",
                "2026-10-25 02:00:00",
                "2026-10-25 03:00:00",
            ],
        ),
        (
            "@hourly",
            berlin,
            "2026-10-25 01:30",
            &[
                "2026-10-25 02:00:00",
                "2026-10-25 02:00:00",
                "2026-10-25 03:00:00",
            ],
        ),
        (
            "@daily",
            berlin,
            "2026-10-24 23:30",
            &["2026-10-25 00:00:00", "2026-10-26 00:00:00"],
        ),
        // New York skips and repeats other hours on other days.
        (
            "30 2 * * SUN",
            "America/New_York",
            "2026-03-07 12:00",
            &["2026-03-08 03:00:00", "2026-03-15 02:30:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31 12:00",
            &["2026-11-01 01:30:00", "2026-11-02 01:30:00"],
        ),
        // Half an hour on an island: 02:00 to 02:30 is skipped, 01:30 to 02:00 comes twice.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03 12:00",
            &["2026-10-04 02:30:00", "2026-10-05 02:15:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04 12:00",
            &["2026-04-05 01:45:00", "2026-04-06 01:45:00"],
        ),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-05 01:00",
            &[
                "2026-04-05 01:45:00",
                "2026-04-05 01:45:00",
                "2026-04-05 02:45:00",
            ],
        ),
        // Midnight itself is skipped.
        (
            "@daily",
            "America/Havana",
            "2026-03-07 12:00",
            &["2026-03-08 01:00:00", "2026-03-09 00:00:00"],
        ),
        // The last hour of a Saturday is skipped.
        (
            "30 23 * * SAT",
            "America/Nuuk",
            "2026-03-27 12:00",
            &["2026-03-29 00:00:00", "2026-04-04 23:30:00"],
        ),
        // Two hours, at the bottom of the world.
        (
            "30 1,2 * * *",
            "Antarctica/Troll",
            "2026-03-28 12:00",
            &["2026-03-29 03:00:00", "2026-03-30 01:30:00"],
        ),
        // Three hours still count as a change of the clocks; a day that was left out does not.
        (
            "0 3 * * *",
            "Antarctica/Casey",
            "2011-10-27 12:00",
            &["2011-10-28 05:00:00", "2011-10-29 03:00:00"],
        ),
        (
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29 08:00",
            &["2011-12-29 09:00:00", "2011-12-31 09:00:00"],
        ),
        (
            "0 * * * *",
            "Pacific/Apia",
            "2011-12-29 22:30",
            &["2011-12-29 23:00:00", "2011-12-31 00:00:00"],
        ),
    ];
    for (expression, zone, after, expected) in cases {
        // Nothing may depend on the session's own time zone, which has the very same changes here.
        for session in ["UTC", zone] {
            database.run(&format!("set timezone to '{session}'")).await;
            assert_due(&database, expression, zone, after, expected).await;
        }
    }
    println!("cron by hand: {} cases of changing clocks", cases.len());
}

#[tokio::test]
async fn days_of_months_and_weeks() {
    let database = Database::fresh().await;
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "0 0 L * *",
            "2027-12-15",
            &["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31"],
        ),
        (
            "0 0 L 2 *",
            "2026-01-01",
            &["2026-02-28", "2027-02-28", "2028-02-29"],
        ),
        ("0 0 29 2 *", "2096-01-01", &["2096-02-29", "2104-02-29"]),
        ("0 0 29 2 +SUN", "2073-01-01", &["2088-02-29", "2128-02-29"]),
        (
            "0 0 31 * *",
            "2026-01-31",
            &["2026-03-31", "2026-05-31", "2026-07-31", "2026-08-31"],
        ),
        (
            "0 0 15W * *",
            "2026-07-01",
            &[
                "2026-07-15",
                "2026-08-14",
                "2026-09-15",
                "2026-10-15",
                "2026-11-16",
            ],
        ),
        ("0 0 1W * *", "2026-07-15", &["2026-08-03", "2026-09-01"]),
        (
            "0 0 31W * *",
            "2027-01-01",
            &["2027-01-29", "2027-03-31", "2027-05-31"],
        ),
        (
            "0 0 LW * *",
            "2026-01-01",
            &["2026-01-30", "2026-02-27", "2026-03-31"],
        ),
        (
            "0 0 1,L,LW * *",
            "2026-05-15",
            &["2026-05-29", "2026-05-31", "2026-06-01", "2026-06-30"],
        ),
        ("0 0 * * MON#2", "2026-05-01", &["2026-05-11", "2026-06-08"]),
        (
            "0 0 * * mon-tue#1",
            "2026-05-01",
            &["2026-05-04", "2026-05-05", "2026-06-01", "2026-06-02"],
        ),
        (
            "0 0 * * 5L",
            "2026-05-01",
            &["2026-05-29", "2026-06-26", "2026-07-31"],
        ),
        ("0 0 * * fril", "2026-05-01", &["2026-05-29"]),
        ("0 0 * * FRI#L", "2026-05-01", &["2026-05-29"]),
        ("0 0 * * 7#5", "2026-05-01", &["2026-05-31", "2026-08-30"]),
        ("0 0 * * 0", "2026-05-01", &["2026-05-03", "2026-05-10"]),
        ("0 0 * * 7", "2026-05-01", &["2026-05-03", "2026-05-10"]),
        (
            "0 0 * * SAT-SUN",
            "2026-05-01",
            &["2026-05-02", "2026-05-03", "2026-05-09"],
        ),
        ("0 0 * * 5-7/2", "2026-05-02", &["2026-05-03", "2026-05-08"]),
        // Either the day or the weekday; both with +; what is only * or ? says nothing, but */2 does.
        (
            "0 0 13 * FRI",
            "2026-02-10",
            &[
                "2026-02-13",
                "2026-02-20",
                "2026-02-27",
                "2026-03-06",
                "2026-03-13",
            ],
        ),
        (
            "0 0 13 * +FRI",
            "2026-02-10",
            &["2026-02-13", "2026-03-13", "2026-11-13"],
        ),
        (
            "0 0 1-7 * +MON",
            "2026-05-01",
            &["2026-05-04", "2026-06-01"],
        ),
        ("0 0 13 * ?", "2026-02-10", &["2026-02-13", "2026-03-13"]),
        ("0 0 ? * FRI", "2026-02-10", &["2026-02-13", "2026-02-20"]),
        (
            "0 0 */10 * MON",
            "2026-05-01",
            &["2026-05-04", "2026-05-11", "2026-05-18", "2026-05-21"],
        ),
        ("0 0 1 1,JUL *", "2026-05-01", &["2026-07-01", "2027-01-01"]),
        (
            "0 0 1 */5 *",
            "2026-05-01",
            &["2026-06-01", "2026-11-01", "2027-01-01"],
        ),
        (
            "0 0 1 nov-DEC *",
            "2026-11-05",
            &["2026-12-01", "2027-11-01"],
        ),
        ("@yearly", "2026-05-01", &["2027-01-01", "2028-01-01"]),
        ("@Annually", "2026-05-01", &["2027-01-01"]),
        ("@monthly", "2026-05-01", &["2026-06-01"]),
        ("@weekly", "2026-05-01", &["2026-05-03"]),
        (" @midnight ", "2026-05-01", &["2026-05-02"]),
        ("\t0  0 * * *", "2026-05-01", &["2026-05-02"]),
    ];
    for (expression, after, expected) in cases {
        let midnights: Vec<_> = expected
            .iter()
            .map(|day| format!("{day} 00:00:00"))
            .collect();
        let expected: Vec<_> = midnights.iter().map(String::as_str).collect();
        assert_due(&database, expression, "UTC", after, &expected).await;
    }
    println!("cron by hand: {} cases of days", cases.len());
}

#[tokio::test]
async fn times_of_day() {
    let database = Database::fresh().await;
    let cases: &[(&str, &[&str])] = &[
        (
            "10-50/20 8 * * *",
            &[
                "2026-05-01 08:10:00",
                "2026-05-01 08:30:00",
                "2026-05-01 08:50:00",
                "2026-05-02 08:10:00",
            ],
        ),
        ("*/60 */24 * * *", &["2026-05-02 00:00:00"]),
        (
            "*/25 * * * *",
            &[
                "2026-05-01 07:25:00",
                "2026-05-01 07:50:00",
                "2026-05-01 08:00:00",
            ],
        ),
        ("59 23 31 12 *", &["2026-12-31 23:59:00"]),
        (
            "*/20 59 7 * * *",
            &[
                "2026-05-01 07:59:00",
                "2026-05-01 07:59:20",
                "2026-05-01 07:59:40",
                "2026-05-02 07:59:00",
            ],
        ),
        (
            "50,5,10-12/2 7 * * *",
            &[
                "2026-05-01 07:05:00",
                "2026-05-01 07:10:00",
                "2026-05-01 07:12:00",
                "2026-05-01 07:50:00",
            ],
        ),
        ("05 007 * * *", &["2026-05-01 07:05:00"]),
    ];
    for (expression, expected) in cases {
        assert_due(&database, expression, "UTC", "2026-05-01 07:00", expected).await;
    }
    // Strictly after, to the microsecond.
    assert_due(
        &database,
        "0 8 * * *",
        "UTC",
        "2026-05-01 08:00:00",
        &["2026-05-02 08:00:00"],
    )
    .await;
    assert_due(
        &database,
        "0 8 * * *",
        "UTC",
        "2026-05-01 07:59:59.999999",
        &["2026-05-01 08:00:00"],
    )
    .await;
    assert_due(
        &database,
        "0 8 * * *",
        "UTC",
        "2026-05-01 08:00:00.000001",
        &["2026-05-02 08:00:00"],
    )
    .await;
}
