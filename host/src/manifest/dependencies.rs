//! `[component.x.dependencies]`: which components satisfy the imports of another, and what of its configuration they may
//! use. The rules are Spin's (its SIPs 020 and 023); of the places that a dependency may come from, this host has files and the
//! manifest's other components.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::raw::{RawComponent, RawDependency, RawInherit};

/// The sets of a component's configuration that a dependency can be given by name.
const CAPABILITIES: [&str; 7] = [
    "ai_models",
    "allowed_outbound_hosts",
    "environment",
    "files",
    "key_value_stores",
    "sqlite_databases",
    "variables",
];

/// A component that satisfies imports of another.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// Which imports it satisfies.
    pub name: DependencyName,
    /// The `.wasm` file.
    pub source: PathBuf,
    /// The export that satisfies them; without it, the one that is called as the import.
    pub export: Option<String>,
    /// What it may use of the configuration of the component that it is composed into.
    pub inherit: Inherit,
}

/// What a dependency may use of its component's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inherit {
    /// Everything.
    All,
    /// These sets, as [`CAPABILITIES`] names them; none at all unless something is said.
    Only(Vec<String>),
}

impl Inherit {
    /// Whether it may use a set.
    pub fn has(&self, capability: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(some) => some.iter().any(|one| one == capability),
        }
    }
}

/// A dependency's name: `namespace:package`, with `/interface` and `@version` where they matter, or the plain name of an import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DependencyName(String);

impl DependencyName {
    fn parse(name: &str) -> Result<Self> {
        let (path, version) = split_version(name);
        let words: Vec<&str> = path.split([':', '/']).collect();
        let is_plain = !path.contains([':', '/']);
        ensure!(
            words.iter().all(|word| is_kebab(word)) && (path.contains(':') || is_plain),
            "{name:?} is no dependency's name: namespace:package/interface@version, its last two parts optional, or a plain name"
        );
        ensure!(
            version.is_none_or(|version| !version.is_empty() && !is_plain),
            "{name:?}: the version is missing, or there is one where none can be"
        );
        Ok(Self(name.to_owned()))
    }

    /// Whether the dependency is to satisfy the import called `import`. What a name leaves out matches anything.
    pub fn matches(&self, import: &str) -> bool {
        let (path, version) = split_version(&self.0);
        let (import_path, import_version) = split_version(import);
        let package_alone = path.contains(':') && !path.contains('/');
        let same_path = match package_alone {
            true => import_path.split_once('/').is_some_and(|(p, _)| p == path),
            false => import_path == path,
        };
        same_path && (version.is_none() || version == import_version)
    }

    /// Whether it names a package as a whole, and so any of its interfaces.
    fn is_package(&self) -> bool {
        self.0.contains(':') && !self.0.contains('/')
    }
}

impl fmt::Display for DependencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn split_version(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((path, version)) => (path, Some(version)),
        None => (name, None),
    }
}

fn is_kebab(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !word.ends_with('-')
        && !word.contains("--")
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Reads the dependencies of the component `id`. `all` are the manifest's components: a dependency may be one of them.
pub(super) fn parse(
    id: &str,
    all: &BTreeMap<String, RawComponent>,
    folder: &Path,
) -> Result<Vec<Dependency>> {
    let component = &all[id];
    let for_all = component.dependencies_inherit_configuration;
    let mut dependencies = Vec::new();
    for (name, value) in &component.dependencies {
        let place = || format!("in component.{id}.dependencies.{name:?}");
        let raw = read(value).with_context(place)?;
        ensure!(
            for_all.is_none() || raw.inherit_configuration.is_none(),
            "component.{id} has both `dependencies_inherit_configuration` and, for {name:?}, `inherit_configuration`: choose one"
        );
        let inherit = match (for_all, &raw.inherit_configuration) {
            (Some(true), _) | (_, Some(RawInherit::All(true))) => Inherit::All,
            (_, Some(RawInherit::Some(names))) => Inherit::Only(names.clone()),
            _ => Inherit::Only(Vec::new()),
        };
        dependencies.push(one(name, &raw, inherit, all, folder).with_context(place)?);
    }
    Ok(dependencies)
}

/// Takes a dependency apart. Those that would have to be fetched are refused by the key that says so.
fn read(value: &toml::Value) -> Result<RawDependency> {
    if value.is_str() {
        bail!(
            "a version alone asks a registry, which is not supported by this host: write {{ path = \"…\" }}"
        );
    }
    let raw: RawDependency = value.clone().try_into()?;
    let elsewhere = [
        ("registry", &raw.registry),
        ("package", &raw.package),
        ("version", &raw.version),
        ("url", &raw.url),
        ("digest", &raw.digest),
    ];
    if let Some((key, _)) = elsewhere.iter().find(|(_, value)| value.is_some()) {
        bail!("`{key}` is not supported by this host: write {{ path = \"…\" }}");
    }
    Ok(raw)
}

fn one(
    name: &str,
    raw: &RawDependency,
    inherit: Inherit,
    all: &BTreeMap<String, RawComponent>,
    folder: &Path,
) -> Result<Dependency> {
    let name = DependencyName::parse(name)?;
    ensure!(
        raw.export.is_none() || !name.is_package(),
        "`export` needs the name of an interface, not that of a whole package"
    );
    if let Inherit::Only(names) = &inherit {
        for one in names {
            ensure!(
                CAPABILITIES.contains(&one.as_str()),
                "`inherit_configuration` names {one:?}, which is none of {}",
                CAPABILITIES.join(", ")
            );
        }
    }
    let source = match (&raw.path, &raw.component) {
        (Some(path), None) => path.as_str(),
        (None, Some(id)) => source_of(id, all)?,
        _ => bail!("it needs either a `path` or a `component`"),
    };
    Ok(Dependency {
        name,
        source: folder.join(source),
        export: raw.export.clone(),
        inherit,
    })
}

fn source_of<'a>(id: &str, all: &'a BTreeMap<String, RawComponent>) -> Result<&'a str> {
    let Some(component) = all.get(id) else {
        bail!("`component` names {id}, which is not in [component]");
    };
    ensure!(
        component.dependencies.is_empty(),
        "`component` names {id}, which has dependencies itself: that is not supported by this host"
    );
    (component.source.as_str())
        .with_context(|| format!("`component` names {id}, whose `source` is no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_the_imports_that_it_describes() {
        for (name, imports) in [
            ("a:b/c@0.1.0", ["a:b/c@0.1.0"].as_slice()),
            ("a:b/c", &["a:b/c@0.1.0", "a:b/c"]),
            ("a:b", &["a:b/c@0.1.0", "a:b/d"]),
            ("a:b@0.1.0", &["a:b/c@0.1.0"]),
            ("find-it", &["find-it"]),
        ] {
            let name = DependencyName::parse(name).unwrap();
            assert!(imports.iter().all(|import| name.matches(import)), "{name}");
        }
        for (name, imports) in [
            ("a:b/c@0.1.0", ["a:b/c", "a:b/c@0.1.1"].as_slice()),
            ("a:b/c", &["a:b/d", "a:b/c-d@0.1.0", "a:b"]),
            ("a:b", &["a:bb/c", "b", "a:b"]),
            ("find-it", &["find", "a:find-it/x"]),
        ] {
            let name = DependencyName::parse(name).unwrap();
            assert!(!imports.iter().any(|import| name.matches(import)), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "", "a:", ":b", "a:b/", "a:b@", "a@1.0.0", "a/b", "a b", "a--b",
        ] {
            assert!(DependencyName::parse(name).is_err(), "{name}");
        }
    }

    /// The dependencies of `component.c` in a manifest whose table of them has `lines`.
    fn dependencies(lines: &str) -> Result<Vec<Dependency>> {
        let text = format!(
            "spin_manifest_version = 2\n[application]\nname = \"a\"\n[trigger]\n\
             [component.c]\nsource = \"c.wasm\"\n{lines}\n[component.d]\nsource = \"d.wasm\"\n"
        );
        let mut manifest = super::super::Manifest::parse(&text, Path::new("/app"))?;
        Ok(manifest.components.remove("c").unwrap().dependencies)
    }

    #[test]
    fn a_dependency_is_a_file_or_another_component() {
        let table = |rest: &str| format!("[component.c.dependencies]\n\"a:b/c\" = {rest}");
        let found = dependencies(&table("{ path = \"x.wasm\" }")).unwrap();
        assert_eq!(found[0].source, Path::new("/app/x.wasm"));
        assert_eq!(found[0].inherit, Inherit::Only(Vec::new()));
        let rest = "{ component = \"d\", export = \"e:f/g\", inherit_configuration = [\"files\"] }";
        let found = dependencies(&table(rest)).unwrap();
        assert_eq!(found[0].source, Path::new("/app/d.wasm"));
        assert_eq!(found[0].export.as_deref(), Some("e:f/g"));
        assert!(found[0].inherit.has("files") && !found[0].inherit.has("variables"));
        let all = "dependencies_inherit_configuration = true\n";
        let all = format!("{all}{}", table("{ path = \"x.wasm\" }"));
        assert_eq!(dependencies(&all).unwrap()[0].inherit, Inherit::All);
    }

    #[test]
    fn what_is_wrong_with_a_dependency_is_said_by_its_name() {
        for (rest, why) in [
            ("{ path = \"x\", colour = 1 }", "colour"),
            ("{ export = \"e\" }", "either a `path` or a `component`"),
            (
                "{ path = \"x\", component = \"d\" }",
                "either a `path` or a `component`",
            ),
            (
                "{ component = \"e\" }",
                "names e, which is not in [component]",
            ),
            (
                "{ component = \"c\" }",
                "names c, which has dependencies itself",
            ),
            (
                "{ path = \"x\", inherit_configuration = [\"all\"] }",
                "\"all\", which is none of",
            ),
            (
                "{ path = \"x\", inherit_configuration = 1 }",
                "must be true, false, or a list",
            ),
        ] {
            let lines = format!("[component.c.dependencies]\n\"a:b/c\" = {rest}");
            let error = format!("{:#}", dependencies(&lines).unwrap_err());
            assert!(
                error.contains("component.c.dependencies.\"a:b/c\""),
                "{error}"
            );
            assert!(error.contains(why), "{error}");
        }
        let both = "dependencies_inherit_configuration = false\n[component.c.dependencies]\n\
                    \"a:b\" = { path = \"x\", inherit_configuration = true }";
        let error = format!("{:#}", dependencies(both).unwrap_err());
        assert!(error.contains("choose one"), "{error}");
        let whole = "[component.c.dependencies]\n\"a:b\" = { path = \"x\", export = \"e:f/g\" }";
        let error = format!("{:#}", dependencies(whole).unwrap_err());
        assert!(
            error.contains("`export` needs the name of an interface"),
            "{error}"
        );
    }
}
