//! The manifest's text as Spin writes it, key for key. What other tools read is parsed and left alone (the fields with
//! an underscore); what Spin has and this host has not is parsed so that it can be refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The version alone, read before the rest: another version has other keys, and its error should say so.
#[derive(Deserialize)]
pub(super) struct Head {
    pub spin_manifest_version: toml::Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    #[serde(rename = "spin_manifest_version")]
    _version: toml::Value,
    pub application: RawApplication,
    #[serde(default)]
    pub variables: BTreeMap<String, RawVariable>,
    pub trigger: RawTriggers,
    #[serde(default)]
    pub component: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApplication {
    pub name: String,
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "authors")]
    _authors: Option<Vec<String>>,
    // Settings for other tools, which Spin itself does not read.
    #[serde(rename = "tool")]
    _tool: Option<toml::Table>,
    pub targets: Option<toml::Value>,
    pub trigger: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVariable {
    #[serde(default)]
    pub required: bool,
    pub default: Option<String>,
    // Nothing of a variable is ever logged, so a secret needs no more care than the others.
    #[serde(default, rename = "secret")]
    _secret: bool,
    #[serde(rename = "description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawComponent {
    pub source: toml::Value,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    // How to build a component is for the tool that builds it.
    #[serde(rename = "build")]
    _build: Option<RawBuild>,
    #[serde(rename = "tool")]
    _tool: Option<toml::Table>,
    pub allowed_http_hosts: Option<toml::Value>,
    pub ai_models: Option<toml::Value>,
    #[serde(default)]
    // Each is a table, or a version alone, which asks a registry.
    pub dependencies: BTreeMap<String, toml::Value>,
    pub dependencies_inherit_configuration: Option<bool>,
    pub exclude_files: Option<toml::Value>,
    #[serde(default)]
    pub files: Vec<RawMount>,
    pub key_value_stores: Option<toml::Value>,
    pub profile: Option<toml::Value>,
    pub sqlite_databases: Option<toml::Value>,
    pub targets: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDependency {
    pub path: Option<String>,
    pub component: Option<String>,
    pub export: Option<String>,
    pub inherit_configuration: Option<RawInherit>,
    pub version: Option<toml::Value>,
    pub package: Option<toml::Value>,
    pub registry: Option<toml::Value>,
    pub url: Option<toml::Value>,
    pub digest: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`inherit_configuration` must be true, false, or a list of names"
)]
pub(super) enum RawInherit {
    All(bool),
    Some(Vec<String>),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "an entry of `files` must be { source = \"…\", destination = \"…\" }"
)]
pub(super) enum RawMount {
    Placement { source: String, destination: String },
    Pattern(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBuild {
    #[serde(rename = "command")]
    _command: toml::Value,
    #[serde(rename = "workdir")]
    _workdir: Option<String>,
    #[serde(rename = "watch")]
    _watch: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTriggers {
    #[serde(default)]
    pub http: Vec<RawHttpTrigger>,
    #[serde(default)]
    pub cron: Vec<RawCronTrigger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttpTrigger {
    #[serde(rename = "id")]
    _id: Option<String>,
    pub component: Option<toml::Value>,
    pub components: Option<toml::Value>,
    pub route: RawRoute,
    pub executor: Option<RawExecutor>,
    pub static_response: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "`route` must be a path or { private = true }"
)]
pub(super) enum RawRoute {
    Path(String),
    Private { private: bool },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExecutor {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCronTrigger {
    #[serde(rename = "id")]
    _id: Option<String>,
    pub component: Option<toml::Value>,
    pub components: Option<toml::Value>,
    pub cron_expression: String,
}
