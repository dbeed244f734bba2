//! Installing Debian's packages, where this is Debian or its like and we are root.

use std::process::Command;

use crate::command::{Outcome, read, run, step};

/// Whether packages can be installed here.
pub fn can_install() -> bool {
    let has_apt = read(Command::new("apt-get").arg("--version")).is_ok();
    has_apt && read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Installs `packages` and what they need, no more.
pub fn install(packages: &[&str]) -> Outcome {
    step(&format!("installing Debian's {}", packages.join(" and ")));
    run(Command::new("apt-get").args(["--quiet=2", "update"]))?;
    run(Command::new("apt-get")
        .args(["--quiet=2", "--yes", "--no-install-recommends", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
