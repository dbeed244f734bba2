//! Which functions can be called, and what they look like. The database says so (`millrace_api.rpc_catalogue`, over the list
//! `millrace.rpc_function` and Postgres' own catalogue); an instance asks once a minute.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_kit::auth::Scope;
use millrace_kit::{database, log};
use serde::Deserialize;

use crate::refusal::Refusal;

/// For how long an instance asks nobody.
const KEPT: Duration = Duration::from_secs(60);

/// What the instance knows. It is never locked across an await.
static CACHE: Mutex<Option<Kept>> = Mutex::new(None);

fn cache() -> MutexGuard<'static, Option<Kept>> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Kept {
    catalogue: Arc<Catalogue>,
    at: Instant,
}

/// The functions, and the profiles that they are called under, the default one first.
#[derive(Deserialize)]
pub struct Catalogue {
    pub profiles: Vec<String>,
    functions: Vec<Function>,
}

/// A function. Its identifiers were quoted by Postgres.
#[derive(Deserialize)]
pub struct Function {
    profile: String,
    pub name: String,
    /// Its quoted name with its schema.
    pub call: String,
    /// What a caller must be allowed to do.
    pub scope: Scope,
    /// Other names of its parameters, and the names.
    aliases: BTreeMap<String, String>,
    /// The type of its one parameter, if that has no name: it takes the whole body.
    pub body: Option<String>,
    pub returns: Returns,
    pub parameters: Vec<Parameter>,
}

/// What a function returns.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Returns {
    /// Nothing.
    Void,
    /// One value or row.
    One,
    /// Any number of values or rows.
    Set,
}

/// A parameter that has a name.
#[derive(Deserialize)]
pub struct Parameter {
    pub name: String,
    /// Whether it has no default.
    pub required: bool,
    /// The column, with its type, that holds its value.
    pub column: String,
    /// How that column is passed to the function.
    pub argument: String,
}

impl Catalogue {
    /// The function of this name that is called under this profile.
    pub fn find(&self, profile: &str, name: &str) -> Option<&Function> {
        self.of_profile(profile)
            .find(|function| function.name == name)
    }

    /// All functions of a profile.
    pub fn of_profile(&self, profile: &str) -> impl Iterator<Item = &Function> {
        let functions = self.functions.iter();
        functions.filter(move |function| function.profile == profile)
    }
}

impl Function {
    /// Whether its one argument is the whole body of a request.
    pub fn takes_whole_body(&self) -> bool {
        self.body.is_some()
    }

    /// The parameter's own name, where `key` may be another name of it.
    pub fn parameter_name<'a>(&'a self, key: &'a str) -> &'a str {
        self.aliases.get(key).map_or(key, String::as_str)
    }

    /// Whether arguments of these names, or other names of parameters, make a call: each is a parameter, none comes twice, and
    /// all required ones are there.
    pub fn takes(&self, keys: &[&str]) -> bool {
        let mut names: Vec<_> = keys.iter().map(|key| self.parameter_name(key)).collect();
        names.sort_unstable();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        let known = |name: &&str| self.parameters.iter().any(|it| it.name == *name);
        let mut required = self.parameters.iter().filter(|it| it.required);
        !twice && names.iter().all(known) && required.all(|it| names.contains(&it.name.as_str()))
    }
}

/// What was read, and when.
pub struct Known {
    catalogue: Arc<Catalogue>,
    new: bool,
}

impl Known {
    /// Whether it was read for this very request.
    pub fn is_new(&self) -> bool {
        self.new
    }
}

impl std::ops::Deref for Known {
    type Target = Catalogue;

    fn deref(&self) -> &Catalogue {
        &self.catalogue
    }
}

/// The catalogue as the instance knows it.
pub fn kept() -> Option<Known> {
    let cache = cache();
    let kept = cache.as_ref().filter(|kept| kept.at.elapsed() < KEPT)?;
    Some(Known {
        catalogue: kept.catalogue.clone(),
        new: false,
    })
}

/// The catalogue as the database has it.
///
/// # Errors
/// As PostgREST where it cannot read its schema cache: 503 `PGRST000` without a connection, 503 `PGRST002` otherwise.
pub async fn read() -> Result<Known, Refusal> {
    let statement = "select millrace_api.rpc_catalogue($1::text::jsonb)::text";
    let text = database::query_text("rpc_catalogue", statement, vec!["{}".to_owned()])
        .await
        .map_err(Refusal::no_catalogue)?
        .unwrap_or_default();
    let catalogue: Catalogue = serde_json::from_str(&text).map_err(|_| {
        log::line(format_args!("rpc_catalogue answered with something else"));
        Refusal::internal()
    })?;
    let catalogue = Arc::new(catalogue);
    *cache() = Some(Kept {
        catalogue: catalogue.clone(),
        at: Instant::now(),
    });
    Ok(Known {
        catalogue,
        new: true,
    })
}
