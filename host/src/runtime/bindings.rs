//! The interfaces of others that this host implements or calls, generated from `wit/`, and the smallest of them:
//! a component's variables.

use wasmtime::component::{Accessor, HasData};

use super::instance::InstanceState;
use crate::variables::Name;
use imports::spin::variables::variables;

/// What a component may import beside WASI.
pub mod imports {
    wasmtime::component::bindgen!({
        inline: "
            package millrace:host;
            world imports {
                import spin:postgres/postgres@4.2.0;
                import spin:variables/variables@3.0.0;
            }
        ",
        path: ["../wit/spin-postgres@4.2.0", "../wit/spin-variables@3.0.0"],
        world: "millrace:host/imports",
        imports: { default: async },
        with: {
            "spin:postgres/postgres.connection": crate::postgres::Connection,
            "spin:postgres/postgres.connection-builder": crate::postgres::ConnectionBuilder,
        },
    });
}

/// What a component exports to be run by a cron trigger.
pub mod cron {
    wasmtime::component::bindgen!({
        path: "../wit/fermyon-spin-cron@2.0.0",
        world: "spin-cron",
        exports: { default: async },
    });
}

/// Gives the generated code an instance's state to work on.
pub struct Imports;

impl HasData for Imports {
    type Data<'a> = &'a mut InstanceState;
}

impl variables::Host for InstanceState {}

impl<T: Send + 'static> variables::HostWithStore<T> for Imports {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<String, variables::Error> {
        let component = accessor.with(|mut access| access.get().component.clone());
        let name =
            Name::parse(&name).map_err(|error| variables::Error::InvalidName(error.to_string()))?;
        (component.variables.get(&name).cloned()).ok_or_else(|| {
            variables::Error::Undefined(format!("no variable for {:?}.\"{name}\"", component.id))
        })
    }
}
