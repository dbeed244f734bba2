//! Runs a guest's statements: all rows at once for the plain interface, row by row for the async one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream};
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};

use super::pool::{Lease, Running};
use super::values::{column, to_sql, to_values};
use crate::runtime::bindings::imports::spin::postgres::postgres as wit;
use wit::Error;

/// The most that the rows of one plain query may take in the host's memory, in bytes.
const MOST_BUFFERED: usize = 64 * 1024 * 1024;

/// The most rows handed to the guest at once.
const BATCH: usize = 64;

type Parameters = Vec<Box<dyn ToSql + Send + Sync>>;

fn parameters(values: &[wit::ParameterValue]) -> Result<Parameters, Error> {
    values
        .iter()
        .map(to_sql)
        .collect::<anyhow::Result<_>>()
        .map_err(|error| Error::BadParameter(format!("{error:?}")))
}

/// Runs a statement for its count of rows.
pub async fn execute(
    lease: Arc<Lease>,
    statement: String,
    values: Vec<wit::ParameterValue>,
) -> Result<u64, Error> {
    let parameters = parameters(&values)?;
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| p.as_ref() as _).collect();
    let mut running = Running::start(lease.clone());
    let result = lease.client()?.execute(&statement, &parameters).await;
    running.end();
    result.map_err(query_failed)
}

/// Runs a query and gathers its rows. Without a row there are no columns either, as on Spin.
pub async fn query(
    lease: Arc<Lease>,
    statement: String,
    values: Vec<wit::ParameterValue>,
) -> Result<wit::RowSet, Error> {
    let mut running = Running::start(lease.clone());
    let rows = gather(&lease, &statement, &values).await;
    running.end();
    let rows = rows?;
    Ok(wit::RowSet {
        columns: columns(rows.first()),
        rows: rows.iter().map(values_of).collect::<Result<_, _>>()?,
    })
}

async fn gather(
    lease: &Lease,
    statement: &str,
    values: &[wit::ParameterValue],
) -> Result<Vec<Row>, Error> {
    let stream = lease
        .client()?
        .query_raw(statement, parameters(values)?)
        .await;
    let mut stream = Box::pin(stream.map_err(query_failed)?);
    let mut rows = Vec::new();
    let mut size = 0;
    while let Some(row) = stream.next().await {
        let row = row.map_err(query_failed)?;
        size += row.raw_size_bytes();
        if size > MOST_BUFFERED {
            let why = format!("the result is over {MOST_BUFFERED} bytes");
            return Err(Error::QueryFailed(wit::QueryError::Text(why)));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn columns(row: Option<&Row>) -> Vec<wit::Column> {
    row.map(|row| row.columns().iter().map(column).collect())
        .unwrap_or_default()
}

fn values_of(row: &Row) -> Result<wit::Row, Error> {
    to_values(row).map_err(|error| Error::QueryFailed(wit::QueryError::Text(format!("{error:?}"))))
}

/// How a streamed query ends.
type Outcome = Result<(), Error>;

/// Starts a query and waits for its first row, so that an error before it is the call's own.
pub async fn stream(
    lease: Arc<Lease>,
    statement: String,
    values: Vec<wit::ParameterValue>,
) -> Result<
    (
        Vec<wit::Column>,
        Rows,
        impl Future<Output = wasmtime::Result<Outcome>> + Send + 'static,
    ),
    Error,
> {
    let parameters = parameters(&values)?;
    let mut running = Running::start(lease.clone());
    let rows = lease.client()?.query_raw(&statement, parameters).await;
    let rows = rows.inspect_err(|_| running.end()).map_err(query_failed)?;
    let mut rows = Box::pin(rows);
    let first = rows.next().await.transpose();
    let first = first.inspect_err(|_| running.end()).map_err(query_failed)?;
    let (tell, outcome) = oneshot::channel();
    let columns = columns(first.as_ref());
    // Once at its end, the driver's stream can't be asked again.
    if first.is_none() {
        running.end();
    }
    let rows = Rows {
        rows: first.is_some().then_some(rows),
        first,
        running,
        tell: Some(tell),
        _lease: lease,
    };
    // A guest that drops the rows unread has nothing left to be told.
    let end = async move { Ok(outcome.await.unwrap_or(Ok(()))) };
    Ok((columns, rows, end))
}

/// The rows of a query on their way to the guest; the connection stays taken until they end.
pub struct Rows {
    first: Option<Row>,
    /// `None` once at the end.
    rows: Option<Pin<Box<RowStream>>>,
    running: Running,
    tell: Option<oneshot::Sender<Outcome>>,
    _lease: Arc<Lease>,
}

impl Rows {
    fn poll_row(&mut self, cx: &mut Context<'_>) -> Poll<Option<wit::Row>> {
        let next = match (self.first.take(), &mut self.rows) {
            (Some(row), _) => Some(Ok(row)),
            (None, Some(rows)) => match rows.as_mut().poll_next(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
            (None, None) => None,
        };
        let outcome = match next {
            Some(Ok(row)) => match values_of(&row) {
                Ok(values) => return Poll::Ready(Some(values)),
                // The rest of the rows stays unread, so the connection is not reused.
                Err(error) => Err(error),
            },
            Some(Err(error)) => {
                self.running.end();
                Err(query_failed(error))
            }
            None => {
                self.running.end();
                Ok(())
            }
        };
        self.rows = None;
        if let Some(tell) = self.tell.take() {
            _ = tell.send(outcome);
        }
        Poll::Ready(None)
    }
}

impl<D> StreamProducer<D> for Rows {
    type Item = wit::Row;
    type Buffer = VecBuffer<wit::Row>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut batch = Vec::new();
        let mut result = StreamResult::Completed;
        while batch.len() < BATCH {
            match this.poll_row(cx) {
                Poll::Ready(Some(row)) => batch.push(row),
                Poll::Ready(None) => {
                    result = StreamResult::Dropped;
                    break;
                }
                Poll::Pending if !batch.is_empty() => break,
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            }
        }
        destination.set_buffer(batch.into());
        Poll::Ready(Ok(result))
    }
}

fn query_failed(error: tokio_postgres::Error) -> Error {
    let text = format!("{error:?}");
    Error::QueryFailed(match error.as_db_error() {
        None => wit::QueryError::Text(text),
        Some(db) => wit::QueryError::DbError(wit::DbError {
            as_text: text,
            severity: db.severity().to_owned(),
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            extras: extras(db),
        }),
    })
}

/// What else Postgres said, by the names that Spin gives it.
fn extras(db: &tokio_postgres::error::DbError) -> Vec<(String, String)> {
    let line = db.line().map(|line| line.to_string());
    [
        ("column", db.column()),
        ("constraint", db.constraint()),
        ("routine", db.routine()),
        ("hint", db.hint()),
        ("table", db.table()),
        ("datatype", db.datatype()),
        ("schema", db.schema()),
        ("file", db.file()),
        ("line", line.as_deref()),
        ("where_", db.where_()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
    .collect()
}
