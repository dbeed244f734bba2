//! Application variables: their names, `{{ name }}` templates over them, and where their values come from.
//! The rules are Spin's. Values are never logged, shown in errors, or printed by Debug: any may be a secret.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail, ensure};

use crate::manifest::Variable;

/// The environment variables that set application variables, upper-cased name after this prefix.
const ENVIRONMENT_PREFIX: &str = "SPIN_VARIABLE_";

/// A variable's name: lower-case ASCII letters, digits and single underscores, a letter first, no underscore last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// A name that Spin would refuse, with the reason.
    pub fn parse(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if let Some(c) = name.chars().find(|c| !allowed(*c)) {
            bail!(
                "{name:?}: invalid character {c:?}: a variable's name has only lower-case letters, digits and underscores"
            );
        }
        ensure!(
            name.starts_with(|c: char| c.is_ascii_lowercase()),
            "{name:?}: a variable's name starts with a lower-case letter"
        );
        ensure!(
            !name.ends_with('_') && !name.contains("__"),
            "{name:?}: a variable's name has underscores only singly and inside"
        );
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Text with `{{ name }}` places in it.
pub struct Template(Vec<Part>);

enum Part {
    Text(String),
    Variable(Name),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// `{{` that is never closed, or a bad name between the braces.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                bail!("unmatched '{{{{' in a template");
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Variable(Name::parse(name.trim())?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The variables that it names.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// The text with every variable's value in its place.
    ///
    /// # Errors
    /// A variable that `values` does not have.
    pub fn resolve(&self, values: &Values) -> Result<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Variable(name) => match values.0.get(name) {
                    Some(value) => text.push_str(value),
                    None => bail!("the variable {name} has no value"),
                },
            }
        }
        Ok(text)
    }
}

/// As written in the manifest, so that an error can quote it without showing a value.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Variable(name) => write!(f, "{{{{ {name} }}}}"),
        })
    }
}

/// The value of every application variable.
pub struct Values(BTreeMap<Name, String>);

impl Values {
    /// Settles every variable: an explicit value wins over the environment, which wins over the default.
    ///
    /// `environment` is asked for `SPIN_VARIABLE_<NAME>`; a hermetic caller answers `None` to all.
    ///
    /// # Errors
    /// A required variable without a value (all of them at once), an explicit one that the manifest does not have.
    pub fn settle(
        variables: &BTreeMap<Name, Variable>,
        explicit: &BTreeMap<String, String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        for name in explicit.keys() {
            ensure!(
                variables.contains_key(name.as_str()),
                "a value is given for the variable {name}, which is not in [variables]"
            );
        }
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, variable) in variables {
            let from_environment = || environment(&environment_key(name));
            let value = (explicit.get(&name.0).cloned())
                .or_else(from_environment)
                .or_else(|| variable.default.clone());
            match value {
                Some(value) => _ = values.insert(name.clone(), value),
                None => missing.push(format!("{name} ({})", environment_key(name))),
            }
        }
        ensure!(
            missing.is_empty(),
            "required variables without a value: {}",
            missing.join(", ")
        );
        Ok(Self(values))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn environment_key(name: &Name) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", name.0.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(list: &[(&str, Option<&str>)]) -> BTreeMap<Name, Variable> {
        list.iter()
            .map(|(name, default)| {
                let default = default.map(str::to_owned);
                (Name::parse(name).unwrap(), Variable { default })
            })
            .collect()
    }

    fn map(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn names_follow_spins_rule() {
        for good in ["a", "abc", "a1b2c3", "a_1", "a_1_b_3"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "aX", "1bc", "_x", "x.y", "x_", "a__b", "x-y"] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn templates_resolve_and_show_themselves_unresolved() {
        let variables = variables(&[("host", Some("db")), ("port", Some("5432"))]);
        let values = Values::settle(&variables, &BTreeMap::new(), |_| None).unwrap();
        let template = Template::parse("postgres://{{host}}:{{ port }}/x").unwrap();
        assert_eq!(template.resolve(&values).unwrap(), "postgres://db:5432/x");
        assert_eq!(template.to_string(), "postgres://{{ host }}:{{ port }}/x");
        assert_eq!(Template::parse("").unwrap().resolve(&values).unwrap(), "");
        assert!(Template::parse("a {{ b").is_err());
        assert!(Template::parse("{{ Bad }}").is_err());
    }

    #[test]
    fn explicit_wins_over_environment_wins_over_default() {
        let variables = variables(&[
            ("a", Some("default")),
            ("b", Some("default")),
            ("c", Some("default")),
        ]);
        let environment = |key: &str| {
            ["SPIN_VARIABLE_A", "SPIN_VARIABLE_B"]
                .contains(&key)
                .then(|| "env".to_owned())
        };
        let values = Values::settle(&variables, &map(&[("a", "explicit")]), environment).unwrap();
        let shown = Template::parse("{{ a }} {{ b }} {{ c }}")
            .unwrap()
            .resolve(&values)
            .unwrap();
        assert_eq!(shown, "explicit env default");
    }

    #[test]
    fn every_missing_variable_is_named_with_how_to_set_it() {
        let variables = variables(&[("database_url", None), ("key", None), ("ok", Some(""))]);
        let error = Values::settle(&variables, &BTreeMap::new(), |_| None)
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            error,
            "required variables without a value: database_url (SPIN_VARIABLE_DATABASE_URL), key (SPIN_VARIABLE_KEY)"
        );
        let error = Values::settle(&variables, &map(&[("typo", "x")]), |_| None)
            .err()
            .unwrap();
        assert!(error.to_string().contains("typo"));
    }
}
