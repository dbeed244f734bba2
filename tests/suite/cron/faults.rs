//! What is refused, and where the fault is.

use std::str::FromStr as _;

use croner::Cron;
use millrace_tests::database::{Database, refusal};

#[tokio::test]
async fn faults_are_refused_at_their_place() {
    let database = Database::fresh().await;
    let long = format!("0 0 * * {}1", "1,".repeat(100));
    let cases: &[(&str, &str)] = &[
        ("0 24 * * *", "character 3 (hour): 24 is not from 0 to 23"),
        ("60 * * * *", "character 1 (minute): 60 is not from 0 to 59"),
        (
            "60 * * * * *",
            "character 1 (second): 60 is not from 0 to 59",
        ),
        (
            "  5 60 * * * *",
            "character 5 (minute): 60 is not from 0 to 59",
        ),
        ("0 0 0 * *", "character 5 (day): 0 is not from 1 to 31"),
        ("0 0 1,32 * *", "character 7 (day): 32 is not from 1 to 31"),
        ("0 0 32W * *", "character 5 (day): 32 is not from 1 to 31"),
        ("0 0 * 0 *", "character 7 (month): 0 is not from 1 to 12"),
        (
            "0 0 * 1-13 *",
            "character 9 (month): 13 is not from 1 to 12",
        ),
        ("0 0 * * 8", "character 9 (weekday): 8 is not from 0 to 7"),
        (
            "0 99999999999999999999 * * *",
            "character 3 (hour): 99999999999999999999 is not from 0 to 23",
        ),
        (
            "0 0 * JANUARY *",
            "character 7 (month): JANUARY is neither a number nor a name from JAN to DEC",
        ),
        (
            "0 0 * MON *",
            "character 7 (month): MON is neither a number nor a name from JAN to DEC",
        ),
        (
            "0 0 * ANF *",
            "character 7 (month): ANF is neither a number nor a name from JAN to DEC",
        ),
        (
            "0 0 * * mon,foo",
            "character 13 (weekday): FOO is neither a number nor a name from SUN to SAT",
        ),
        ("0 mon * * *", "character 3 (hour): MON is not a number"),
        ("0 L * * *", "character 3 (hour): L is not a number"),
        ("0 0 L-3 * *", "character 5 (day): L is not a number"),
        ("0 0 1-5W * *", "character 7 (day): 5W is not a number"),
        ("22-2 * * * *", "character 1 (minute): 22-2 runs backwards"),
        (
            "0 0 * * sat-mon",
            "character 9 (weekday): SAT-MON runs backwards",
        ),
        (
            "5/15 * * * *",
            "character 2 (minute): a step needs * or a range before it",
        ),
        (
            "/15 * * * *",
            "character 1 (minute): a step needs * or a range before it",
        ),
        (
            "*/0 * * * *",
            "character 3 (minute): a step of 0 is not from 1 to 60",
        ),
        (
            "*/90 * * * *",
            "character 3 (minute): a step of 90 is not from 1 to 60",
        ),
        (
            "0 1-5/99999999999 * * *",
            "character 7 (hour): a step of 99999999999 is not from 1 to 24",
        ),
        ("*/ * * * *", "character 3 (minute): a number is missing"),
        ("1- * * * *", "character 3 (minute): a number is missing"),
        ("1,,2 * * * *", "character 3 (minute): a number is missing"),
        ("1, * * * *", "character 3 (minute): a number is missing"),
        ("0 0 * * +", "character 10 (weekday): a number is missing"),
        (
            "0 1-2-3 * * *",
            "character 6 (hour): - is not expected here",
        ),
        ("*5 * * * *", "character 2 (minute): 5 is not expected here"),
        ("-5 * * * *", "character 1 (minute): - is not expected here"),
        (
            "1.5 * * * *",
            "character 2 (minute): . is not expected here",
        ),
        ("0 ? * * *", "character 3 (hour): ? is not expected here"),
        ("0 +1 * * *", "character 3 (hour): + is not expected here"),
        ("0 0 ?,1 * *", "character 5 (day): ? is not expected here"),
        (
            "1,* * * * *",
            "character 3 (minute): * does not stand in a list",
        ),
        (
            "0 0 * * *,1",
            "character 9 (weekday): * does not stand in a list",
        ),
        (
            "0 0 * * L",
            "character 9 (weekday): L needs a weekday before it",
        ),
        (
            "0 0 * * #2",
            "character 9 (weekday): #2 needs a weekday before it",
        ),
        (
            "0 0 * * *#2",
            "character 9 (weekday): #2 needs a weekday before it",
        ),
        (
            "0 0 * * MON#6",
            "character 12 (weekday): #6 is not from #1 to #5, nor #L",
        ),
        (
            "0 0 * * 1,MON#",
            "character 14 (weekday): # is not from #1 to #5, nor #L",
        ),
        ("0 0 1#2 * *", "character 6 (day): # is not expected here"),
        (
            "",
            "character 1 (expression): ends after 0 fields; five are needed, or six with the seconds first",
        ),
        (
            "* * * *",
            "character 8 (expression): ends after 4 fields; five are needed, or six with the seconds first",
        ),
        (
            "0 0 1 1 * 1 2030",
            "character 13 (expression): a seventh field; years can't be said",
        ),
        (
            "@reboot",
            "character 1 (nickname): @reboot is no time: it means the start of a machine, and there is none here",
        ),
        (
            " @fortnightly",
            "character 2 (nickname): not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly",
        ),
        (
            "@daily 5",
            "character 1 (nickname): not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly",
        ),
        (
            "0 0 30 2 *",
            "character 5 (day): this never comes: no month that is meant has such a day",
        ),
        (
            "0 0 31 4,6,9-11/2 ?",
            "character 5 (day): this never comes: no month that is meant has such a day",
        ),
        (
            "0 0 30 2 +MON",
            "character 5 (day): this never comes: no month that is meant has such a day",
        ),
        (
            "0 0 1 * +MON#2",
            "character 5 (day): this never comes: no month that is meant has such a day",
        ),
        (
            &long,
            "character 201 (expression): longer than 200 characters",
        ),
    ];
    for (expression, fault) in cases {
        for sql in [
            "select millrace.check_cron($1)",
            "select millrace.cron_next($1, 'epoch')",
            "select millrace.cron_times($1, 'epoch', '1990-01-01')",
        ] {
            let answer = database.client().query(sql, &[expression]).await;
            let never_comes = fault.contains("never comes");
            let Err(error) = answer else {
                assert!(never_comes && sql.contains("cron_"), "{expression}: {sql}");
                continue;
            };
            assert_eq!(
                refusal(&error),
                ("PT400".to_owned(), "invalid_cron".to_owned()),
                "{expression}: {error:?}"
            );
            let message = error.as_db_error().expect("a refusal").message();
            assert_eq!(message, format!("cron expression, {fault}"), "{expression}");
        }
    }
    // Spring's lost hour, each year: the rule of the European Union has no end so far.
    let sql = "select millrace.check_cron('* 3 * MAR SUNL', 'Europe/Vilnius')";
    let lost = database.client().query(sql, &[]).await;
    let lost = lost.expect_err("no such time");
    assert_eq!(
        lost.as_db_error().expect("a refusal").message(),
        "cron expression, character 5 (day): this never comes: it is what the clocks of Europe/Vilnius skip"
    );
    let none = database
        .client()
        .query("select millrace.check_cron(null)", &[])
        .await;
    assert_eq!(refusal(&none.expect_err("no expression")).1, "invalid_cron");
    println!("cron: {} faults at their places", cases.len());
}

#[tokio::test]
async fn a_time_zone_is_a_place_or_utc() {
    let database = Database::fresh().await;
    let check = "select millrace.check_cron('* * * * *', $1)";
    for zone in [
        "UTC",
        "utc",
        "GMT",
        "Etc/UTC",
        "Etc/GMT+5",
        "Europe/Berlin",
        "europe/berlin",
        "America/Argentina/Ushuaia",
        "America/Port-au-Prince",
    ] {
        database.one(check, &[&zone]).await;
    }
    for zone in [
        "",
        " ",
        "CET",
        "cest",
        "EST",
        "PST",
        "+3",
        "-03:30",
        "FOO+3",
        "FOO-3BAR",
        "Europe/Berlin3",
        "Europe/Atlantis",
        "Berlin",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "localtime",
        "Factory",
        "Europe/Berlin ",
        "../etc/passwd",
        "Europe",
    ] {
        let answer = database.client().query_one(check, &[&zone]).await;
        let error = answer.expect_err(zone);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_time_zone".to_owned()),
            "{zone}"
        );
    }
    let none = database
        .client()
        .query("select millrace.check_cron('* * * * *', null)", &[])
        .await;
    assert_eq!(refusal(&none.expect_err("no zone")).1, "invalid_time_zone");
}

/// What only one side takes. Everything that both refuse, and that both take, is in the other tests.
#[tokio::test]
async fn where_croner_takes_another_syntax() {
    let database = Database::fresh().await;
    let only_ours = [
        "@midnight",    // crontab(5) has it
        "0 0 * * 1-5L", // as 1-5#L
    ];
    let only_croners = [
        "1,,2 * * * *", // croner passes over the empty place: a slip of the hand
        "*/90 * * * *", // croner: minute 0 alone, but every 90 minutes is meant
        "0 0 * * L",    // croner: never due
        "0 0 30 2 *",   // the same, 3,000 years later
        "0 0 ?/2 * *",  // croner: */2
        "0 0 * * JAN",  // croner puts 1 for JAN wherever it stands
        "0 0 * */MON *",
        "0 0 0 1 1 * 2030", // a year
    ];
    let (mut ours, mut theirs) = (0, 0);
    for expression in only_ours {
        database
            .one("select millrace.check_cron($1)", &[&expression])
            .await;
        assert!(
            Cron::from_str(expression).is_err(),
            "croner takes {expression} by now"
        );
        ours += 1;
    }
    for expression in only_croners {
        let answer = database
            .client()
            .query("select millrace.check_cron($1)", &[&expression])
            .await;
        assert_eq!(refusal(&answer.expect_err(expression)).1, "invalid_cron");
        assert!(
            Cron::from_str(expression).is_ok(),
            "croner refuses {expression} by now"
        );
        theirs += 1;
    }
    println!(
        "cron: {ours} expressions are taken here and not by croner, {theirs} the other way round"
    );
}
