//! Finding Postgres' server programs on this machine. Standard library alone: `xtask` includes this file too, so that
//! what it installs and what the host starts are the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version that will do.
pub const OLDEST: u32 = 14;

/// The folder with `postgres` and `initdb` of the newest version that is new enough, or of `major` alone where a cluster
/// that is there already asks for it.
pub fn find(major: Option<u32>) -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = debian.map(|entry| entry.path().join("bin"));
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.filter(|output| output.status.success());
    let asked = asked.map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    debian
        .chain(asked)
        .chain(on_path)
        .filter_map(|folder| Some((version(&folder)?, folder)))
        .filter(|(version, _)| major.map_or(*version >= OLDEST, |major| *version == major))
        .max()
        .map(|(_, folder)| folder)
}

/// The major version of the server in `folder`, where `initdb` is too.
fn version(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").exists() {
        return None;
    }
    // "postgres (PostgreSQL) 15.13 (Debian …)"
    let said = Command::new(folder.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.split_whitespace()
        .nth(2)?
        .split('.')
        .next()?
        .parse()
        .ok()
}
