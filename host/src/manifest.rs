//! Reads `spin.toml` (manifest version 2) into what the host serves. A key that the host does not know or
//! does not support is an error that names it: a setting that is silently ignored is a setting that lies.

mod dependencies;
mod files;
mod raw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use dependencies::{Dependency, DependencyName, Inherit};
pub use files::Mount;

use crate::variables::{Name, Template};
use anyhow::{Context, Result, bail, ensure};
use raw::{Head, RawComponent, RawManifest, RawRoute, RawTriggers, RawVariable};

/// An application as its manifest describes it, every reference checked, no variable resolved yet.
pub struct Manifest {
    /// The application's name.
    pub application: String,
    /// `[variables]`, by name.
    pub variables: BTreeMap<Name, Variable>,
    /// `[component.x]`, by id.
    pub components: BTreeMap<String, Component>,
    /// `[[trigger.http]]`, in the manifest's order.
    pub http: Vec<HttpTrigger>,
    /// `[[trigger.cron]]`, in the manifest's order.
    pub cron: Vec<CronTrigger>,
}

/// An application variable: where it has no default, a value must be given at start.
pub struct Variable {
    /// The value when none is given; `None` is `required = true`.
    pub default: Option<String>,
}

/// One component and all that it may see or reach.
pub struct Component {
    /// The `.wasm` file.
    pub source: PathBuf,
    /// What `spin:variables` answers, still as templates over the application's variables.
    pub variables: BTreeMap<Name, Template>,
    /// The guest's whole environment.
    pub environment: BTreeMap<String, String>,
    /// The hosts it may call, still as templates.
    pub allowed_outbound_hosts: Vec<Template>,
    /// The folders it may read.
    pub files: Vec<Mount>,
    /// The components that satisfy its imports, as far as the host does not.
    pub dependencies: Vec<Dependency>,
}

/// `[[trigger.http]]` with a public route.
pub struct HttpTrigger {
    /// The component's id.
    pub component: String,
    /// The route as written.
    pub route: String,
}

/// `[[trigger.cron]]`.
pub struct CronTrigger {
    /// The component's id.
    pub component: String,
    /// The cron expression as written.
    pub expression: String,
}

impl Manifest {
    /// Reads a manifest; component sources resolve relative to its folder.
    ///
    /// # Errors
    /// An unreadable file, and everything [`Manifest::parse`] refuses.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the manifest {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).with_context(|| format!("in {}", path.display()))
    }

    /// Parses a manifest's text.
    ///
    /// # Errors
    /// Anything unknown, unsupported, missing or contradictory, by the name of its key.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let head: Head = toml::from_str(text)?;
        ensure!(
            head.spin_manifest_version.as_integer() == Some(2),
            "spin_manifest_version is {}, only 2 is supported",
            head.spin_manifest_version
        );
        let raw: RawManifest = toml::from_str(text)?;
        refuse(
            "application",
            &[
                ("targets", raw.application.targets.is_some()),
                ("trigger", raw.application.trigger.is_some()),
            ],
        )?;
        let variables = parse_variables(raw.variables)?;
        let dependencies = (raw.component.keys())
            .map(|id| dependencies::parse(id, &raw.component, folder))
            .collect::<Result<Vec<_>>>()?;
        let components = raw
            .component
            .into_iter()
            .zip(dependencies)
            .map(|((id, component), dependencies)| {
                let parsed = parse_component(&id, component, folder, &variables)?;
                let parsed = Component {
                    dependencies,
                    ..parsed
                };
                Ok((id, parsed))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        let (http, cron) = parse_triggers(raw.trigger, &components)?;
        Ok(Self {
            application: raw.application.name,
            variables,
            components,
            http,
            cron,
        })
    }
}

fn parse_variables(raw: BTreeMap<String, RawVariable>) -> Result<BTreeMap<Name, Variable>> {
    raw.into_iter()
        .map(|(name, variable)| {
            let at = || format!("in [variables] {name}");
            let parsed = Name::parse(&name).with_context(at)?;
            if variable.required && variable.default.is_some() {
                bail!("variable {name} is `required` and has a `default`: choose one");
            }
            if !variable.required && variable.default.is_none() {
                bail!("variable {name} needs either `required = true` or a `default`");
            }
            let default = variable.default;
            Ok((parsed, Variable { default }))
        })
        .collect()
}

fn parse_component(
    id: &str,
    raw: RawComponent,
    folder: &Path,
    application: &BTreeMap<Name, Variable>,
) -> Result<Component> {
    let place = format!("component.{id}");
    refuse(
        &place,
        &[
            ("allowed_http_hosts", raw.allowed_http_hosts.is_some()),
            ("ai_models", raw.ai_models.is_some()),
            ("exclude_files", raw.exclude_files.is_some()),
            ("key_value_stores", raw.key_value_stores.is_some()),
            ("profile", raw.profile.is_some()),
            ("sqlite_databases", raw.sqlite_databases.is_some()),
            ("targets", raw.targets.is_some()),
        ],
    )?;
    let Some(source) = raw.source.as_str() else {
        bail!(
            "{place}: `source` must be a path: the table form (url, digest, registry) is not supported by this host"
        );
    };
    let template = |text: &str, place: &str| -> Result<Template> {
        let template = Template::parse(text).with_context(|| format!("in {place}"))?;
        for name in template.names() {
            ensure!(
                application.contains_key(name),
                "{place} names the variable {name}, which is not in [variables]"
            );
        }
        Ok(template)
    };
    let variables = raw
        .variables
        .into_iter()
        .map(|(name, text)| {
            let place = format!("{place}.variables.{name}");
            let name = Name::parse(&name).with_context(|| format!("in {place}"))?;
            Ok((name, template(&text, &place)?))
        })
        .collect::<Result<_>>()?;
    let allowed_outbound_hosts = raw
        .allowed_outbound_hosts
        .iter()
        .map(|text| template(text, &format!("{place}.allowed_outbound_hosts")))
        .collect::<Result<_>>()?;
    let files = files::parse(raw.files, folder).with_context(|| format!("in {place}.files"))?;
    Ok(Component {
        source: folder.join(source),
        variables,
        environment: raw.environment,
        allowed_outbound_hosts,
        files,
        dependencies: Vec::new(),
    })
}

fn parse_triggers(
    raw: RawTriggers,
    components: &BTreeMap<String, Component>,
) -> Result<(Vec<HttpTrigger>, Vec<CronTrigger>)> {
    let component = |kind: &str, value: Option<toml::Value>| -> Result<String> {
        match value {
            Some(toml::Value::String(id)) if components.contains_key(&id) => Ok(id),
            Some(toml::Value::String(id)) => {
                bail!("[[trigger.{kind}]] names the component {id}, which is not in [component]")
            }
            Some(_) => bail!(
                "[[trigger.{kind}]]: an inline `component` table is not supported by this host"
            ),
            None => bail!("[[trigger.{kind}]] needs a `component`"),
        }
    };
    let mut http = Vec::new();
    for trigger in raw.http {
        refuse(
            "[[trigger.http]]",
            &[
                ("components", trigger.components.is_some()),
                ("static_response", trigger.static_response.is_some()),
            ],
        )?;
        if let Some(executor) = trigger.executor {
            ensure!(
                executor.kind == "http",
                "[[trigger.http]]: `executor` of type {:?} is not supported by this host",
                executor.kind
            );
        }
        let component = component("http", trigger.component)?;
        match trigger.route {
            RawRoute::Path(route) => http.push(HttpTrigger { component, route }),
            // A private endpoint has no route; this host has no service chaining that would reach it.
            RawRoute::Private { private: true } => {}
            RawRoute::Private { private: false } => {
                bail!(
                    "[[trigger.http]] of {component}: `route` must be a path or {{ private = true }}"
                )
            }
        }
    }
    let cron = raw
        .cron
        .into_iter()
        .map(|trigger| {
            refuse(
                "[[trigger.cron]]",
                &[("components", trigger.components.is_some())],
            )?;
            Ok(CronTrigger {
                component: component("cron", trigger.component)?,
                expression: trigger.cron_expression,
            })
        })
        .collect::<Result<_>>()?;
    Ok((http, cron))
}

/// Keys that Spin knows and this host does not serve are parsed only to be refused by name.
fn refuse(place: &str, keys: &[(&str, bool)]) -> Result<()> {
    for (key, present) in keys {
        ensure!(!present, "{place}: `{key}` is not supported by this host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"a\"\n";

    fn error(text: &str) -> String {
        match Manifest::parse(text, Path::new("/app")) {
            Ok(_) => panic!("this manifest should have been refused:\n{text}"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn with_component(lines: &str) -> String {
        format!(
            "{HEAD}[[trigger.http]]\nroute = \"/\"\ncomponent = \"c\"\n[component.c]\nsource = \"c.wasm\"\n{lines}"
        )
    }

    #[test]
    fn a_whole_manifest_parses() {
        let text = r#"
            spin_manifest_version = 2
            [application]
            name = "queue"
            version = "1.0.0"
            description = "d"
            authors = ["a"]
            [variables]
            host = { default = "localhost", description = "where" }
            key = { required = true, secret = true }
            [[trigger.http]]
            id = "t"
            route = "/a/..."
            component = "a"
            executor = { type = "http" }
            [[trigger.http]]
            route = { private = true }
            component = "a"
            [[trigger.cron]]
            component = "tick"
            cron_expression = "0 * * * * *"
            [component.a]
            source = "a.wasm"
            variables = { url = "postgres://{{ host }}/x" }
            environment = { TZ = "UTC" }
            allowed_outbound_hosts = ["postgres://{{ host }}:5432"]
            [component.a.build]
            command = "cargo build"
            watch = ["src"]
            [component.tick]
            source = "t.wasm"
        "#;
        let manifest = Manifest::parse(text, Path::new("/app")).unwrap();
        assert_eq!(manifest.application, "queue");
        assert_eq!(manifest.http.len(), 1);
        assert_eq!(manifest.http[0].route, "/a/...");
        assert_eq!(manifest.cron[0].expression, "0 * * * * *");
        assert_eq!(manifest.components["a"].source, Path::new("/app/a.wasm"));
        assert_eq!(manifest.variables.len(), 2);
    }

    #[test]
    fn another_manifest_version_is_refused_before_its_keys() {
        let text = "spin_manifest_version = \"1\"\nname = \"old\"\n";
        assert!(
            error(text).contains("only 2 is supported"),
            "{}",
            error(text)
        );
    }

    #[test]
    fn an_unknown_key_is_named_wherever_it_stands() {
        for (text, key) in [
            (format!("colour = 1\n{HEAD}[trigger]\n"), "colour"),
            (format!("{HEAD}colour = 1\n[trigger]\n"), "colour"),
            (with_component("colour = 1\n"), "colour"),
            (
                with_component("[component.c.build]\ncommand = \"x\"\ncolour = 1\n"),
                "colour",
            ),
            (
                with_component("[variables]\nv = { default = \"\", colour = 1 }\n"),
                "colour",
            ),
            (
                with_component("[[trigger.redis]]\nchannel = \"x\"\n"),
                "redis",
            ),
            (with_component("[[trigger.cron]]\ncolour = 1\n"), "colour"),
        ] {
            assert!(error(&text).contains(key), "{}", error(&text));
        }
    }

    #[test]
    fn what_spin_has_and_this_host_has_not_is_refused_by_name() {
        for key in [
            "exclude_files = [\"x\"]",
            "key_value_stores = [\"default\"]",
            "sqlite_databases = [\"default\"]",
            "ai_models = [\"llama2-chat\"]",
            "allowed_http_hosts = [\"a\"]",
            "[component.c.dependencies]\n\"a:b\" = \"1\"",
            "[component.c.dependencies]\n\"a:b\" = { version = \"1\", registry = \"r\" }",
            "[component.c.dependencies]\n\"a:b\" = { url = \"u\", digest = \"d\" }",
        ] {
            let refusal = error(&with_component(&format!("{key}\n")));
            assert!(refusal.contains("not supported by this host"), "{refusal}");
        }
        let text = with_component("").replace("\"c.wasm\"", "{ url = \"u\", digest = \"d\" }");
        assert!(error(&text).contains("component.c: `source` must be a path"));
    }

    #[test]
    fn references_must_lead_somewhere() {
        let text = with_component("").replace("component = \"c\"", "component = \"d\"");
        assert!(error(&text).contains("names the component d"));
        let text = with_component("variables = { u = \"{{ nowhere }}\" }\n");
        assert!(error(&text).contains("component.c.variables.u names the variable nowhere"));
        let text = with_component("allowed_outbound_hosts = [\"http://{{ nowhere }}\"]\n");
        assert!(error(&text).contains("names the variable nowhere"));
    }

    #[test]
    fn a_variable_has_a_default_or_is_required() {
        let text = with_component("[variables]\nv = { secret = true }\n");
        assert!(error(&text).contains("variable v needs either"));
        let text = with_component("[variables]\nv = { required = true, default = \"x\" }\n");
        assert!(error(&text).contains("variable v is `required` and has a `default`"));
        let text = with_component("[variables]\nV = { default = \"x\" }\n");
        assert!(error(&text).contains("V"));
    }
}
