//! The other people's clients and tools that the suite runs (`tests/clients/`): Node.js, and their packages from npm.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{Outcome, read, step};
use crate::debian;

/// The oldest version that they run on.
const OLDEST: u32 = 20;

/// Where they are.
const FOLDER: &str = "tests/clients";

/// How npm names an error that means that the registry cannot be reached.
const OUT_OF_REACH: [&str; 8] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ETIMEDOUT",
    "ERR_SOCKET_TIMEOUT",
];

/// Does nothing where Node.js and npm are found; as root on Debian installs them; else says what to install.
pub fn ensure() -> Outcome {
    if is_there() {
        return Ok(());
    }
    if debian::can_install() {
        debian::install(&["nodejs", "npm"])?;
    }
    match is_there() {
        true => Ok(()),
        false => Err(format!(
            "the tests need Node.js {OLDEST} or newer, and npm (Debian and Ubuntu: apt-get install nodejs npm; macOS: brew install node)"
        )
        .into()),
    }
}

/// Whether there is an npm, and a Node.js that is new enough.
fn is_there() -> bool {
    let version = read(Command::new("node").arg("--version")).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next();
    let is_new = major
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= OLDEST);
    is_new && read(Command::new("npm").arg("--version")).is_ok()
}

/// Installs exactly the packages of the lock file, unless they are there. If the registry is out of reach, returns a sentence that
/// says so, for the tests that have to be left out.
pub fn packages() -> Outcome<Option<String>> {
    let modified = |file: &str| fs::metadata(Path::new(FOLDER).join(file))?.modified();
    // npm writes the second when it has put everything in its place.
    let installed = modified("node_modules/.package-lock.json");
    if installed.is_ok_and(|installed| {
        modified("package-lock.json").is_ok_and(|locked| installed >= locked)
    }) {
        return Ok(None);
    }
    step("installing the clients that the tests run");
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--fetch-retries=1"])
        .current_dir(FOLDER)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match OUT_OF_REACH.into_iter().find(|code| said.contains(code)) {
        Some(code) => Ok(Some(format!("npm's registry is out of reach ({code})"))),
        None => Err(format!("npm ci in {FOLDER} failed: {}", said.trim()).into()),
    }
}
