//! Building the workspace: the functions for WebAssembly, the host natively, one target folder for both.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Outcome, read, run, step};

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs this program, with `arguments`.
pub fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Set by cargo for this program alone; inherited, it would make every build look changed.
    command.env_remove("CARGO_MANIFEST_DIR");
    // spin.toml names the components by their path, so they are there whatever this machine is set to.
    command
        .env("CARGO_TARGET_DIR", root().join("target"))
        .args(arguments);
    command
}

/// Where a native program of the workspace is once it is built.
pub fn program_path(name: &str) -> PathBuf {
    root().join("target/debug").join(name)
}

/// Builds a native program. With the whole workspace selected, its dependencies have the features that the tests
/// need too, so that `up`, `test` and `bench` share one build of them.
pub fn program(name: &str) -> Outcome {
    step(&format!("building {name} (the first time takes minutes)"));
    run(&mut cargo(["build", "--workspace", "--bin", name]))
}

/// Builds the application's components.
pub fn functions() -> Outcome {
    step("building the functions");
    component_cargo("build", "functions", &[])
}

/// Builds the small components that the tests serve to see how the host behaves.
pub fn fixtures() -> Outcome {
    step("building the test components");
    component_cargo("build", "tests/fixtures", &[])
}

/// The lints once more as the target sees the functions: code behind `cfg(target_family = "wasm")` is compiled only there.
pub fn lint_functions() -> Outcome {
    step("looking the functions over");
    component_cargo("clippy", "functions", &["--", "--deny", "warnings"])
}

/// Runs a cargo command on all components under `folder`, for their target and in their profile.
fn component_cargo(command: &str, folder: &str, more: &[&str]) -> Outcome {
    let packages = packages_in(folder)?;
    run(cargo([
        command,
        "--target",
        "wasm32-wasip2",
        "--profile",
        "component",
    ])
    .args(
        packages
            .iter()
            .map(|package| format!("--package={package}")),
    )
    .args(more))
}

/// The names of the components' packages under `folder`: every workspace member there that builds a cdylib.
fn packages_in(folder: &str) -> Outcome<Vec<String>> {
    let mut packages = Vec::new();
    let entries = std::fs::read_dir(root().join(folder)).map_err(|e| format!("{folder}: {e}"))?;
    for entry in entries {
        let manifest = entry?.path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else {
            continue;
        };
        if text.contains("cdylib") {
            let path = manifest.display().to_string();
            let id = read(&mut cargo(["pkgid", "--manifest-path", &path]))?;
            packages.push(id.trim().to_owned());
        }
    }
    packages.sort();
    Ok(packages)
}
