//! Makes sure that there is a Postgres to run: `DATABASE_URL`, or the server's programs on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Outcome, read, run, step};

const OLDEST: u32 = 14;

/// Does nothing where `DATABASE_URL` is set or the programs are found; as root on Debian installs them; else
/// says what to install.
pub fn ensure() -> Outcome {
    if std::env::var_os("DATABASE_URL").is_some() || find_programs().is_some() {
        return Ok(());
    }
    let has_apt = read(Command::new("apt-get").arg("--version")).is_ok();
    let is_root = read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !(has_apt && is_root) {
        return Err(format!(
            "no Postgres found. Install the server, version {OLDEST} or newer (Debian and Ubuntu: apt-get install postgresql; \
             macOS: brew install postgresql), or set DATABASE_URL to a server of yours"
        )
        .into());
    }
    install()?;
    find_programs()
        .map(drop)
        .ok_or_else(|| format!("Debian's postgresql is older than {OLDEST}").into())
}

/// The folder with `postgres` and `initdb` of the newest version that will do. The host looks in the same places.
fn find_programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"));
    let asked = read(Command::new("pg_config").arg("--bindir"))
        .ok()
        .map(|dir| PathBuf::from(dir.trim()));
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    debian
        .chain(asked)
        .chain(on_path)
        .filter_map(|dir| Some((version(&dir)?, dir)))
        .filter(|(v, _)| *v >= OLDEST)
        .max()
        .map(|(_, dir)| dir)
}

fn version(dir: &Path) -> Option<u32> {
    if !dir.join("initdb").exists() {
        return None;
    }
    // "postgres (PostgreSQL) 15.13 (Debian …)"
    let said = read(Command::new(dir.join("postgres")).arg("--version")).ok()?;
    said.split_whitespace()
        .nth(2)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// Installs Debian's package, but lets it make no cluster of its own: ours are private.
fn install() -> Outcome {
    step("installing Debian's postgresql");
    let settings = Path::new("/etc/postgresql-common/createcluster.d");
    let no_cluster = settings.join("millrace-setup.conf");
    fs::create_dir_all(settings)?;
    fs::write(&no_cluster, "create_main_cluster = false\n")?;
    let installed = run(Command::new("apt-get").args(["--quiet=2", "update"])).and_then(|()| {
        run(Command::new("apt-get")
            .args([
                "--quiet=2",
                "--yes",
                "--no-install-recommends",
                "install",
                "postgresql",
            ])
            .env("DEBIAN_FRONTEND", "noninteractive"))
    });
    let _ = fs::remove_file(&no_cluster);
    installed
}
