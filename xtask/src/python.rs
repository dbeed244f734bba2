//! The other people's Python clients that the suite runs (`tests/clients/`): Python, and their packages from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{Outcome, read, run, step};
use crate::debian;

/// The oldest version that they run on: `tests/clients/requirements.txt` is made for it.
const OLDEST: (u32, u32) = (3, 9);

/// Where they are.
const FOLDER: &str = "tests/clients";

/// What pip says, of all its words, when the registry cannot be reached.
const OUT_OF_REACH: [&str; 8] = [
    "NameResolutionError",
    "NewConnectionError",
    "ConnectTimeoutError",
    "ConnectionResetError",
    "ConnectionRefusedError",
    "ReadTimeoutError",
    "ProxyError",
    "Network is unreachable",
];

/// Prints the version, where a virtual environment with pip can be made.
const VERSION: &str =
    "import sys, venv, ensurepip; print(sys.version_info.major, sys.version_info.minor)";

/// Does nothing where Python is found, with venv and pip; as root on Debian installs them; else says what to install.
pub fn ensure() -> Outcome {
    if is_there() {
        return Ok(());
    }
    if debian::can_install() {
        debian::install(&["python3", "python3-venv"])?;
    }
    match is_there() {
        true => Ok(()),
        false => Err(format!(
            "the tests need Python {}.{} or newer, with venv and pip (Debian and Ubuntu: apt-get install python3 python3-venv; \
             macOS: brew install python)",
            OLDEST.0, OLDEST.1
        )
        .into()),
    }
}

/// Whether there is a Python that is new enough, and whole.
fn is_there() -> bool {
    let version = read(Command::new("python3").args(["-c", VERSION])).unwrap_or_default();
    let mut numbers = version.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        _ => false,
    }
}

/// Installs exactly the packages of `requirements.txt` into a virtual environment, unless they are there. If the registry is out
/// of reach, returns a sentence that says so, for the tests that have to be left out.
pub fn packages() -> Outcome<Option<String>> {
    let wanted = fs::read(in_folder("requirements.txt"))?;
    // A copy of what is in the environment, written when everything is in its place.
    let installed = in_folder(".venv/requirements.txt");
    let python = in_folder(".venv/bin/python");
    // It is a link to the Python that made the environment, which may be gone by now.
    if fs::read(&installed).is_ok_and(|installed| installed == wanted)
        && read(Command::new(&python).arg("--version")).is_ok()
    {
        return Ok(None);
    }
    step("installing the Python clients that the tests run");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(in_folder(".venv")))?;
    let output = Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--retries=1",
        ])
        .args([
            "--disable-pip-version-check",
            "--require-hashes",
            "--only-binary=:all:",
        ])
        .arg("--requirement")
        .arg(in_folder("requirements.txt"))
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        fs::write(installed, wanted)?;
        return Ok(None);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    match OUT_OF_REACH.into_iter().find(|words| said.contains(words)) {
        Some(words) => Ok(Some(format!("PyPI is out of reach ({words})"))),
        None => Err(format!("pip install in {FOLDER} failed: {}", said.trim()).into()),
    }
}

fn in_folder(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
