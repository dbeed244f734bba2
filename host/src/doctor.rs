//! `millrace doctor`: looks a database over and says what is wrong with it.

use anyhow::{Result, bail};
use tokio_postgres::Client;

use crate::database::{connect, without_credentials};
use crate::migrate::pending;

/// A drain notes that it looked once a minute, and a tick, which wakes it where something is due, comes about as often.
const MOST_MINUTES: i64 = 5;

/// One thing that was looked at: what it is, and the fault if there is one.
struct Finding {
    what: String,
    fault: Option<String>,
}

/// Prints one line for each thing it looks at; an error if any of them is wrong. It changes nothing.
pub async fn examine(database_url: &str) -> Result<()> {
    println!("{}", without_credentials(database_url));
    let client = connect(database_url).await?;
    let mut findings = vec![server_version(&client).await?];
    let (total, lacking) = pending(database_url).await?;
    findings.push(Finding {
        what: "migrations".to_owned(),
        fault: (lacking > 0)
            .then(|| format!("{lacking} of {total} are not applied: run `millrace migrate`")),
    });
    if lacking == 0 {
        findings.push(partitions(&client).await?);
        findings.push(misplaced_jobs(&client).await?);
        findings.push(schedules(&client).await?);
        findings.extend(channels(&client).await?);
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
        what: "server version".to_owned(),
        fault: (major < 14).then(|| format!("{major} is older than 14")),
    })
}

async fn partitions(client: &Client) -> Result<Finding> {
    let sql = "select to_regclass('millrace.job_events_' || to_char(date_trunc('week', (now() at time zone 'UTC') + interval '7 days'), 'YYYYMMDD')) is not null";
    let ahead: bool = client.query_one(sql, &[]).await?.get(0);
    let fault = (!ahead)
        .then(|| "next week has none: have cron-enqueue, or millrace.housekeep(), called from a scheduler".to_owned());
    Ok(Finding {
        what: "partitions".to_owned(),
        fault,
    })
}

async fn misplaced_jobs(client: &Client) -> Result<Finding> {
    let count: i64 = client
        .query_one("select count(*) from millrace.misplaced_jobs()", &[])
        .await?
        .get(0);
    Ok(Finding {
        what: "jobs in exactly one state".to_owned(),
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
        what: "schedules in time".to_owned(),
        fault,
    })
}

/// Each channel as its drain last said, and whether jobs wait for one that does not run.
async fn channels(client: &Client) -> Result<Vec<Finding>> {
    let sql = "select c.queue, c.state, coalesce(c.detail, ''), coalesce(millrace.due_in(c.queue) = 0, false),
                      (extract(epoch from millrace.clock() - c.seen_at) / 60)::bigint
                 from millrace.channel c order by c.queue";
    let rows = client.query(sql, &[]).await?;
    let channels = rows.iter().map(|row| {
        let (queue, state, detail) = (row.get::<_, &str>(0), row.get(1), row.get(2));
        Finding {
            what: format!("channel {queue}"),
            fault: channel_fault(state, detail, row.get(3), row.get(4)),
        }
    });
    Ok(channels.collect())
}

/// What is wrong with a channel that said so some minutes ago.
fn channel_fault(state: &str, detail: &str, is_due: bool, minutes: i64) -> Option<String> {
    match (state, is_due) {
        ("misconfigured", _) => Some(format!("misconfigured: {detail}")),
        ("idle", true) => Some(format!("jobs are due, and it is idle: {detail}")),
        (_, true) if minutes >= MOST_MINUTES => Some(format!(
            "jobs are due, and its drain last looked {minutes} minutes ago: is it served, and does a scheduler call cron-enqueue?"
        )),
        _ => None,
    }
}
