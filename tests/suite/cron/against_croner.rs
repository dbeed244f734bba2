//! The same questions to the database and to croner with chrono-tz, a hundred thousand of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use croner::Cron;
use millrace_tests::database::{Database, explain};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio_postgres::Client;

use super::expressions::{self, Case};
use super::rule::{self, Difference};
use super::setting;
use super::zones::{self, Zone};

/// Questions in one statement.
const BATCH: usize = 1000;

/// What came of the questions.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    agreeing: usize,
    never: usize,
    other_zone_data: usize,
    differences: BTreeMap<Difference, usize>,
    disagreements: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.cases += other.cases;
        self.agreeing += other.agreeing;
        self.never += other.never;
        self.other_zone_data += other.other_zone_data;
        for (difference, count) in other.differences {
            *self.differences.entry(difference).or_default() += count;
        }
        self.disagreements.extend(other.disagreements);
    }
}

async fn ask(client: &Client, cases: &[Case<'_>]) -> Vec<Option<DateTime<Utc>>> {
    let expressions: Vec<_> = cases.iter().map(|c| c.expression.as_str()).collect();
    let instants: Vec<_> = cases.iter().map(|c| c.after).collect();
    let zones: Vec<_> = cases.iter().map(|c| c.zone.tz.name()).collect();
    let sql = "select millrace.cron_next(e, a, z) \
               from unnest($1::text[], $2::timestamptz[], $3::text[]) with ordinality as c (e, a, z, n) order by n";
    let rows = client.query(sql, &[&expressions, &instants, &zones]).await;
    let rows = rows.unwrap_or_else(|e| panic!("a batch of questions: {}", explain(&e)));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Whether the database's time zone data is chrono-tz' around these instants.
pub async fn same_zone_data(
    client: &Client,
    zone: &Zone,
    instants: &[Option<DateTime<Utc>>],
) -> bool {
    let present: Vec<_> = instants.iter().flatten().collect();
    let sql = "select extract(epoch from (i at time zone $2) - (i at time zone 'UTC'))::int8 \
               from unnest($1::timestamptz[]) with ordinality as c (a, n), \
                    lateral (values (-26), (0), (26)) as h (hours), lateral (select a + hours * interval '1 hour' as i) as at order by n, hours";
    let rows = client.query(sql, &[&present, &zone.tz.name()]).await;
    let rows = rows.unwrap_or_else(|e| panic!("offsets: {}", explain(&e)));
    let theirs: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    theirs == rule::offsets_around(zone, instants)
}

/// Asks croner and the database the same questions.
async fn compare(client: &Client, cases: &[Case<'_>]) -> Tally {
    let mut tally = Tally::default();
    let answers = ask(client, cases).await;
    for (case, ours) in cases.iter().zip(answers) {
        let cron = Cron::from_str(&case.expression)
            .unwrap_or_else(|e| panic!("croner refuses {:?}: {e}", case.expression));
        let theirs = cron
            .find_next_occurrence(&case.after.with_timezone(&case.zone.tz), false)
            .map(|at| at.with_timezone(&Utc));
        tally.cases += 1;
        if theirs.as_ref().ok() == ours.as_ref() {
            tally.agreeing += 1;
            tally.never += usize::from(ours.is_none());
        } else if let Some(difference) = rule::difference(case, &cron, &theirs, ours) {
            *tally.differences.entry(difference).or_default() += 1;
        } else if !same_zone_data(
            client,
            case.zone,
            &[Some(case.after), ours, theirs.as_ref().ok().copied()],
        )
        .await
        {
            tally.other_zone_data += 1;
        } else {
            tally
                .disagreements
                .push(disagreement(case, ours, theirs.ok()));
        }
    }
    tally
}

/// Both sides of a disagreement, ready to be tried.
fn disagreement(case: &Case, ours: Option<DateTime<Utc>>, theirs: Option<DateTime<Utc>>) -> String {
    let after = case.after.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let zone = case.zone.tz.name();
    let expression = &case.expression;
    let mut text = format!("select millrace.cron_next('{expression}', '{after}', '{zone}');");
    _ = write!(text, " -- {ours:?}");
    _ = write!(
        text,
        "\n  Cron::from_str(\"{expression}\")?.find_next_occurrence(&DateTime::parse_from_rfc3339(\"{after}\")?\
         .with_timezone(&chrono_tz::Tz::from_str(\"{zone}\")?), false)? // {theirs:?}"
    );
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cron_next_agrees_with_croner() {
    let seed = setting("MILLRACE_CRON_SEED", 1);
    let wanted = usize::try_from(setting("MILLRACE_CRON_CASES", 100_000)).expect("a number");
    let began = Instant::now();
    let database = Database::fresh().await;
    let (zones, unknown) = zones::both_know(&database).await;
    let odd: Vec<_> = (0..zones.len()).filter(|i| zones[*i].odd).collect();
    let changes: usize = zones.iter().map(|zone| zone.changes.len()).sum();
    println!(
        "cron: {} zones with {changes} changes of clocks from 1975 to 2037, {unknown} more that the database refuses; seed {seed}",
        zones.len()
    );
    assert!(zones.len() > 400 && odd.len() > 15 && changes > 20_000);

    let shared = Arc::new((zones, odd));
    let mut workers = Vec::new();
    for worker in 0..2 {
        let (client, shared) = (database.connect().await, Arc::clone(&shared));
        workers.push(tokio::spawn(async move {
            let (zones, odd) = &*shared;
            let mut rng = StdRng::seed_from_u64(seed * 2 + worker);
            let mut tally = Tally::default();
            while tally.cases < wanted / 2 {
                let cases: Vec<_> = (0..BATCH)
                    .map(|_| expressions::case(&mut rng, zones, odd))
                    .collect();
                tally.add(compare(&client, &cases).await);
            }
            tally
        }));
    }
    let mut tally = Tally::default();
    for worker in workers {
        tally.add(worker.await.expect("a worker"));
    }
    println!(
        "cron against croner: {} cases in {:.0} s, {} agree ({} of them: never), {} left out for other time zone data, differences {:?}, {} disagree",
        tally.cases,
        began.elapsed().as_secs_f64(),
        tally.agreeing,
        tally.never,
        tally.other_zone_data,
        tally.differences,
        tally.disagreements.len()
    );
    let shown = tally.disagreements.iter().take(20).cloned();
    assert!(
        tally.disagreements.is_empty(),
        "{} cases disagree, such as\n{}",
        tally.disagreements.len(),
        shown.collect::<Vec<_>>().join("\n")
    );
    assert!(
        tally.other_zone_data * 50 <= tally.cases,
        "too many left out"
    );
}
