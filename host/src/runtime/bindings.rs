//! The interfaces of others that this host implements or calls, generated from `wit/`, and the smallest of them:
//! a component's variables.

use wasmtime::component::{Accessor, HasData};

use super::instance::InstanceState;
use crate::variables::Name;
use imports::fermyon::spin::variables as sync_variables;
use imports::spin::variables::variables;

/// What a component may import beside WASI.
pub mod imports {
    wasmtime::component::bindgen!({
        inline: "
            package millrace:host;
            world imports {
                import spin:postgres/postgres@4.2.0;
                import spin:variables/variables@3.0.0;
                import fermyon:spin/variables@2.0.0;
            }
        ",
        path: ["../wit/spin-postgres@4.2.0", "../wit/spin-variables@3.0.0", "../wit/fermyon-spin-variables@2.0.0"],
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

/// Why a component does not get a variable.
enum NoValue {
    InvalidName(String),
    Undefined(String),
}

impl InstanceState {
    fn variable(&self, name: &str) -> Result<String, NoValue> {
        let name = Name::parse(name).map_err(|error| NoValue::InvalidName(error.to_string()))?;
        let value = self.component.variables.get(&name).cloned();
        value.ok_or_else(|| {
            let id = &self.component.id;
            NoValue::Undefined(format!("no variable for {id:?}.\"{name}\""))
        })
    }
}

impl variables::Host for InstanceState {}

impl<T: Send + 'static> variables::HostWithStore<T> for Imports {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<String, variables::Error> {
        let value = accessor.with(|mut access| access.get().variable(&name));
        value.map_err(|why| match why {
            NoValue::InvalidName(why) => variables::Error::InvalidName(why),
            NoValue::Undefined(why) => variables::Error::Undefined(why),
        })
    }
}

/// The same for guests of WASI 0.2, which call it without waiting.
impl sync_variables::Host for InstanceState {
    async fn get(&mut self, name: String) -> Result<String, sync_variables::Error> {
        self.variable(&name).map_err(|why| match why {
            NoValue::InvalidName(why) => sync_variables::Error::InvalidName(why),
            NoValue::Undefined(why) => sync_variables::Error::Undefined(why),
        })
    }
}
