//! `millrace doctor`: looks a database over and says what is wrong with it.

use anyhow::{Result, bail};
use tokio_postgres::Client;

use crate::database::{connect, without_credentials};
use crate::migrate::pending;

/// One thing that was looked at: what it is, and the fault if there is one.
struct Finding {
    what: &'static str,
    fault: Option<String>,
}

/// Prints one line for each thing it looks at; an error if any of them is wrong. It changes nothing.
pub async fn examine(database_url: &str) -> Result<()> {
    println!("{}", without_credentials(database_url));
    let client = connect(database_url).await?;
    let mut findings = vec![server_version(&client).await?];
    let (total, lacking) = pending(database_url).await?;
    findings.push(Finding {
        what: "migrations",
        fault: (lacking > 0)
            .then(|| format!("{lacking} of {total} are not applied: run `millrace migrate`")),
    });
    if lacking == 0 {
        findings.push(partitions(&client).await?);
        findings.push(misplaced_jobs(&client).await?);
        findings.push(schedules(&client).await?);
    }
    for Finding { what, fault } in &findings {
        println!("  {what}: {}", fault.as_deref().unwrap_or("good"));
    }
    match findings.iter().filter(|f| f.fault.is_some()).count() {
        0 => Ok(()),
        faults => bail!("{faults} of {} things are wrong", findings.len()),
    }
}

async fn server_version(client: &Client) -> Result<Finding> {
    let row = client
        .query_one(
            "select current_setting('server_version_num')::int / 10000",
            &[],
        )
        .await?;
    let major: i32 = row.get(0);
    Ok(Finding {
        what: "server version",
        fault: (major < 14).then(|| format!("{major} is older than 14")),
    })
}

async fn partitions(client: &Client) -> Result<Finding> {
    let sql = "select to_regclass('millrace.job_events_' || to_char(date_trunc('week', (now() at time zone 'UTC') + interval '7 days'), 'YYYYMMDD')) is not null";
    let ahead: bool = client.query_one(sql, &[]).await?.get(0);
    let fault = (!ahead)
        .then(|| "next week has none: have cron-enqueue, or millrace.housekeep(), called from a scheduler".to_owned());
    Ok(Finding {
        what: "partitions",
        fault,
    })
}

async fn misplaced_jobs(client: &Client) -> Result<Finding> {
    let count: i64 = client
        .query_one("select count(*) from millrace.misplaced_jobs()", &[])
        .await?
        .get(0);
    Ok(Finding {
        what: "jobs in exactly one state",
        fault: (count > 0).then(|| format!("{count} are not")),
    })
}

async fn schedules(client: &Client) -> Result<Finding> {
    let sql = "select count(*) from millrace.schedule s where millrace.is_overdue(s)";
    let count: i64 = client.query_one(sql, &[]).await?.get(0);
    let fault = (count > 0).then(|| {
        format!("{count} are overdue: have cron-enqueue, or millrace.enqueue_due(), called from a scheduler")
    });
    Ok(Finding {
        what: "schedules in time",
        fault,
    })
}
