//! `millrace new-handler NAME`: a handler in Rust to begin with, in a checkout of Millrace: its crate, its place in the workspace, and its
//! component, route and variable in `spin.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use toml_edit::{DocumentMut, InlineTable, Item, TableLike, value};

use crate::manifest::Manifest;

/// The longest name: it becomes part of a variable's name and of a file's.
const LONGEST: usize = 40;

/// What the crate is made of, below its folder. In these and in [`COMPONENT`], `NAME` is the handler's name, `VARIABLE` the same as
/// part of a variable, and `FILE` the name of what cargo builds.
const FILES: [(&str, &str); 2] = [
    ("Cargo.toml", include_str!("new_handler/manifest.template")),
    ("src/lib.rs", include_str!("new_handler/handler.template")),
];

/// What is added at the end of `spin.toml`.
const COMPONENT: &str = include_str!("new_handler/component.template");

/// Makes the handler in the checkout at `root`, and returns what to do next.
///
/// # Errors
/// A name that is no name, or is taken; a folder that is no checkout; a file that can't be read or written. Nothing is written unless
/// all of it can be made.
pub fn new_handler(root: &Path, name: &str) -> Result<String> {
    let name = Name::parse(name)?;
    let read = |file: &str| {
        fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {file}: this has to be done in a checkout of Millrace, where its spin.toml is"))
    };
    let (workspace, manifest) = (read("Cargo.toml")?, read("spin.toml")?);
    read("functions/worker/Cargo.toml")?;
    let folder = format!("functions/{}", name.component());
    ensure!(
        !root.join(&folder).exists(),
        "there is a folder {folder} already"
    );
    let workspace = with_member(&workspace, &folder).context("in Cargo.toml")?;
    let manifest = with_component(&manifest, &name, root).context("in spin.toml")?;

    for (file, template) in FILES {
        let path = root.join(&folder).join(file);
        fs::create_dir_all(path.parent().unwrap_or(root))
            .and_then(|()| fs::write(&path, name.fill(template)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    for (file, text) in [("Cargo.toml", workspace), ("spin.toml", manifest)] {
        fs::write(root.join(file), text).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(name.fill(
        "functions/channel-NAME/src/lib.rs is the handler of the queue NAME; spin.toml and Cargo.toml know it.\n\
         Build it and serve it:\n\
         \n    cargo xtask up\n\
         \nGive it a job, in another shell in this folder, and see what becomes of it:\n\
         \n    eval \"$(cargo xtask env)\"\n    \
         curl -s \"$MILLRACE_URL/api/collab/task.assign\" -H \"x-api-key: $COLLAB_API_KEY\" -H 'content-type: application/json' \\\n      \
         -d '{\"type\": \"greet\", \"executorId\": \"NAME\", \"payload\": {\"name\": \"Ada\"}}'\n    \
         curl -s -X POST \"$MILLRACE_URL/channels/NAME\" -H \"x-api-key: $COLLAB_API_KEY\"\n    \
         curl -s \"$MILLRACE_URL/api/collab/jobs/recent?executorId=NAME\" -H \"x-api-key: $COLLAB_API_KEY\"\n",
    ))
}

/// The name of a queue and its handler: words of letters and digits, with hyphens between them. That is what names a component to Spin
/// (which has words begin with a letter), and with underscores a variable.
struct Name(String);

impl Name {
    fn parse(text: &str) -> Result<Self> {
        let is_word = |word: &str| {
            let mut characters = word.chars();
            characters.next().is_some_and(|c| c.is_ascii_lowercase())
                && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        ensure!(
            text.len() <= LONGEST && text.split('-').all(is_word),
            "{text:?} is no name for a handler: it has up to {LONGEST} characters, in words of lower-case letters and digits that \
             begin with a letter and have single hyphens between them, such as \"slack\" or \"push-android\""
        );
        Ok(Self(text.to_owned()))
    }

    /// The component's id, its crate's name and its folder's.
    fn component(&self) -> String {
        format!("channel-{}", self.0)
    }

    fn variable(&self) -> String {
        format!("{}_greeting", self.0.replace('-', "_"))
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("FILE", &self.component().replace('-', "_"))
            .replace("VARIABLE", &self.0.replace('-', "_"))
            .replace("NAME", &self.0)
    }
}

/// The workspace's manifest with another member, beside the other functions.
fn with_member(text: &str, folder: &str) -> Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let Some(members) = document
        .get_mut("workspace")
        .and_then(|workspace| workspace.get_mut("members"))
        .and_then(Item::as_array_mut)
    else {
        bail!("it has no [workspace] with members");
    };
    let is_before = |member: &str| member.starts_with("functions/") && member < folder;
    let before = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.as_str().is_some_and(is_before));
    let place = before.map(|(place, _)| place + 1).max();
    members.insert(place.unwrap_or(members.len()), folder);
    Ok(document.to_string())
}

/// `spin.toml` with the handler's variable and component, held against what the host takes.
fn with_component(text: &str, name: &Name, root: &Path) -> Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let component = name.component();
    let components = document.get("component").and_then(Item::as_table_like);
    ensure!(
        components.is_none_or(|components| !components.contains_key(&component)),
        "there is a component {component} already"
    );
    let route = format!("/channels/{}", name.0);
    ensure!(
        !has_route(&document, &route),
        "there is a route {route} already"
    );
    let Some(variables) = document
        .get_mut("variables")
        .and_then(Item::as_table_like_mut)
    else {
        bail!("it has no [variables]");
    };
    add_variable(variables, name)?;
    add_channel(variables, name);
    let mut text = document.to_string();
    text.push_str(&name.fill(COMPONENT));
    Manifest::parse(&text, root).context("with the new component")?;
    Ok(text)
}

fn has_route(document: &DocumentMut, route: &str) -> bool {
    let triggers = document
        .get("trigger")
        .and_then(|trigger| trigger.get("http"));
    let triggers = triggers.and_then(Item::as_array_of_tables);
    triggers.is_some_and(|triggers| {
        let mut routes = triggers.iter().filter_map(|trigger| trigger.get("route"));
        routes.any(|known| known.as_str() == Some(route))
    })
}

fn add_variable(variables: &mut dyn TableLike, name: &Name) -> Result<()> {
    let variable = name.variable();
    ensure!(
        !variables.contains_key(&variable),
        "there is a variable {variable} already"
    );
    let mut described = InlineTable::new();
    described.insert("default", "Hello".into());
    variables.insert(&variable, value(described));
    if let Some(mut key) = variables.key_mut(&variable) {
        let comment = format!("# What the handler of the queue {} greets with.\n", name.0);
        key.leaf_decor_mut().set_prefix(comment);
    }
    Ok(())
}

/// Adds it to the default of the variable `channels`, by which the application knows what to wake.
fn add_channel(variables: &mut dyn TableLike, name: &Name) {
    let default = variables
        .get_mut("channels")
        .and_then(|channels| channels.get_mut("default"));
    if let Some(default) = default
        && let Some(known) = default.as_str()
    {
        let known = known
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let all: Vec<_> = known.chain([name.0.as_str()]).collect();
        *default = value(all.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_hyphens() {
        for name in ["slack", "push-android", "a1"] {
            assert!(Name::parse(name).is_ok(), "{name}");
        }
        let long = "a".repeat(LONGEST + 1);
        for name in [
            "", "Slack", "1a", "a--b", "-a", "a-", "a_b", "a.b", "a/b", "../a", "a-1", "é", &long,
        ] {
            assert!(Name::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_member_stands_among_the_functions_and_comments_stay() {
        let text = "# The workspace.\n[workspace] # here\nmembers = [\"host\", \"functions/assign\", \"functions/rpc\", \"tests\"]\n";
        let text = with_member(text, "functions/channel-slack").unwrap();
        assert_eq!(
            text,
            "# The workspace.\n[workspace] # here\nmembers = [\"host\", \"functions/assign\", \"functions/channel-slack\", \"functions/rpc\", \"tests\"]\n"
        );
    }

    const MANIFEST: &str = "# First.\nspin_manifest_version = 2\n[application]\nname = \"a\"\n[variables]\n# One.\n\
        one = { default = \"1\" }\nchannels = { default = \"email, sms\" } # who\n[[trigger.http]] # t\nroute = \"/channels/taken\"\n\
        component = \"c\"\n[component.c]\nsource = \"c.wasm\"\n";

    /// The manifest with every variable that the template refers to.
    fn manifest() -> String {
        let names = COMPONENT.split("{{ ").skip(1);
        let names = names.filter_map(|rest| rest.split(" }}").next());
        let mut lines: Vec<_> = names
            .filter(|name| !name.starts_with("VARIABLE"))
            .map(|name| format!("{name} = {{ default = \"\" }}\n"))
            .collect();
        lines.sort();
        lines.dedup();
        MANIFEST.replace("# One.", &format!("{}# One.", lines.concat()))
    }

    #[test]
    fn the_manifest_keeps_its_words_and_gains_a_component() {
        let before = manifest();
        let name = Name::parse("push-android").unwrap();
        let after = with_component(&before, &name, Path::new("/app")).unwrap();
        for line in before.lines().filter(|line| !line.starts_with("channels")) {
            assert!(after.contains(line), "{line}");
        }
        for line in [
            "channels = { default = \"email,sms,push-android\" } # who",
            "# What the handler of the queue push-android greets with.\npush_android_greeting = { default = \"Hello\" }\n",
            "route = \"/channels/push-android\"\ncomponent = \"channel-push-android\"\n",
            "component/channel_push_android.wasm\"",
            "queue = \"push-android\"\n",
        ] {
            assert!(after.contains(line), "{line} in\n{after}");
        }
        let again = with_component(&after, &name, Path::new("/app")).unwrap_err();
        assert!(format!("{again:#}").contains("a component channel-push-android already"));
    }

    #[test]
    fn what_is_taken_is_refused() {
        let name = Name::parse("taken").unwrap();
        let error = with_component(&manifest(), &name, Path::new("/app")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a route /channels/taken already")
        );
        let text = manifest().replace("one = ", "slack_greeting = ");
        let name = Name::parse("slack").unwrap();
        let error = with_component(&text, &name, Path::new("/app")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a variable slack_greeting already")
        );
    }
}
