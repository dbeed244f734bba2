//! `spin:postgres@4.2.0` for guests, with the behaviour of Spin's own host: a connection is taken from a pool
//! when it is opened and given back when the guest drops it, every statement is prepared anew, parameter types
//! are strict, and no transaction is rolled back in between. Whether an address may be reached at all is for
//! `allowed_outbound_hosts` to say.

#![allow(
    clippy::result_large_err,
    reason = "the interface's own error is what the guest is given"
)]

pub mod pool;
mod query;
mod values;

use std::sync::Arc;

use wasmtime::component::{Accessor, FutureReader, Resource, ResourceTableError, StreamReader};

use crate::runtime::bindings::Imports;
use crate::runtime::bindings::imports::spin::postgres::postgres as wit;
use crate::runtime::instance::InstanceState;
use pool::Lease;
pub use pool::Pools;

/// What a guest's connection handle stands for.
pub struct Connection(Arc<Lease>);

/// What a guest's connection-builder handle stands for.
#[derive(Clone)]
pub struct ConnectionBuilder {
    address: String,
    ca_root: Option<String>,
}

impl InstanceState {
    fn lease(&self, connection: &Resource<Connection>) -> Result<Arc<Lease>, wit::Error> {
        let connection = self.table.get(connection).map_err(lost)?;
        Ok(connection.0.clone())
    }

    fn keep(&mut self, lease: Arc<Lease>) -> Result<Resource<Connection>, wit::Error> {
        self.table.push(Connection(lease)).map_err(lost)
    }

    async fn open(
        &mut self,
        builder: ConnectionBuilder,
    ) -> Result<Resource<Connection>, wit::Error> {
        let component = self.component.clone();
        let lease = (component.databases)
            .lease(&builder.address, builder.ca_root.as_deref())
            .await?;
        self.keep(lease)
    }
}

fn lost(error: ResourceTableError) -> wit::Error {
    wit::Error::ConnectionFailed(format!("no such handle: {error}"))
}

/// Opens without holding the store, so that the instance's other requests go on meanwhile.
async fn open_beside<T>(
    accessor: &Accessor<T, Imports>,
    builder: ConnectionBuilder,
) -> Result<Resource<Connection>, wit::Error> {
    let component = accessor.with(|mut access| access.get().component.clone());
    let lease = (component.databases)
        .lease(&builder.address, builder.ca_root.as_deref())
        .await?;
    accessor.with(|mut access| access.get().keep(lease))
}

fn plain(address: String) -> ConnectionBuilder {
    ConnectionBuilder {
        address,
        ca_root: None,
    }
}

impl wit::Host for InstanceState {}

impl wit::HostConnection for InstanceState {
    async fn open(&mut self, address: String) -> Result<Resource<Connection>, wit::Error> {
        self.open(plain(address)).await
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        params: Vec<wit::ParameterValue>,
    ) -> Result<wit::RowSet, wit::Error> {
        query::query(self.lease(&connection)?, statement, params).await
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        params: Vec<wit::ParameterValue>,
    ) -> Result<u64, wit::Error> {
        query::execute(self.lease(&connection)?, statement, params).await
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl wit::HostConnectionBuilder for InstanceState {
    async fn new(&mut self, address: String) -> Resource<ConnectionBuilder> {
        // The interface leaves no way to refuse: a full table gives a handle that `build` will not find.
        self.table
            .push(plain(address))
            .unwrap_or_else(|_| Resource::new_own(u32::MAX))
    }

    async fn set_ca_root(
        &mut self,
        builder: Resource<ConnectionBuilder>,
        certificate: String,
    ) -> Result<(), wit::Error> {
        pool::check_certificate(&certificate)?;
        self.table.get_mut(&builder).map_err(lost)?.ca_root = Some(certificate);
        Ok(())
    }

    async fn build(
        &mut self,
        builder: Resource<ConnectionBuilder>,
    ) -> Result<Resource<Connection>, wit::Error> {
        let builder = self.table.get(&builder).map_err(lost)?.clone();
        self.open(builder).await
    }

    async fn drop(&mut self, builder: Resource<ConnectionBuilder>) -> wasmtime::Result<()> {
        // Not an error when it was never in the table, see `new`.
        _ = self.table.delete(builder);
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostConnectionWithStore<T> for Imports {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        address: String,
    ) -> Result<Resource<Connection>, wit::Error> {
        open_beside(accessor, plain(address)).await
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        params: Vec<wit::ParameterValue>,
    ) -> Result<
        (
            Vec<wit::Column>,
            StreamReader<wit::Row>,
            FutureReader<Result<(), wit::Error>>,
        ),
        wit::Error,
    > {
        let lease = accessor.with(|mut access| access.get().lease(&connection))?;
        let (columns, rows, end) = query::stream(lease, statement, params).await?;
        accessor
            .with(|mut access| {
                let rows = StreamReader::new(&mut access, rows)?;
                let end = FutureReader::new(&mut access, end)?;
                wasmtime::error::Ok((columns, rows, end))
            })
            .map_err(|error| wit::Error::Other(error.to_string()))
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        params: Vec<wit::ParameterValue>,
    ) -> Result<u64, wit::Error> {
        let lease = accessor.with(|mut access| access.get().lease(&connection))?;
        query::execute(lease, statement, params).await
    }
}

impl<T: Send + 'static> wit::HostConnectionBuilderWithStore<T> for Imports {
    async fn build_async(
        accessor: &Accessor<T, Self>,
        builder: Resource<ConnectionBuilder>,
    ) -> Result<Resource<Connection>, wit::Error> {
        let builder = accessor.with(|mut access| {
            let builder = access.get().table.get(&builder).map_err(lost)?;
            Ok::<_, wit::Error>(builder.clone())
        })?;
        open_beside(accessor, builder).await
    }
}
