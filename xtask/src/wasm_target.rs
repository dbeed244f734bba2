//! Makes sure that rustc can build for wasm32-wasip2.
//!
//! `rustup target add` does it where rustup's server can be reached. Where only package registries can be, the
//! target's standard library is built from Debian's packages: `rust-src` of exactly rustc's version has the source,
//! `wasi-libc` has the C library that it links. Neither is installed; both are unpacked into a scratch folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build;
use crate::command::{Outcome, read, run, step};

const TARGET: &str = "wasm32-wasip2";
/// Debian's releases that may carry what we look for, tried as one archive.
const SUITES: [&str; 4] = ["trixie", "trixie-backports", "forky", "sid"];
const LIBC_FILES: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];

/// Installs the target's standard library if rustc hasn't got it.
pub fn ensure() -> Outcome {
    let sysroot = PathBuf::from(read(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
    let lib = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    if is_complete(&lib) {
        return Ok(());
    }
    step(&format!("installing the Rust target {TARGET}"));
    // What was built against another standard library can't be linked with this one, and cargo would not notice.
    let _ = fs::remove_dir_all(build::root().join("target").join(TARGET));
    if let Err(error) = read(Command::new("rustup").args(["target", "add", TARGET])) {
        let reason = error.to_string();
        step(&format!(
            "rustup can't ({}): building it from Debian's packages",
            first_line(&reason)
        ));
        build_from_debian(&sysroot, &lib).map_err(|e| {
            format!("{e}\n  Install the target by hand, for example with `rustup target add {TARGET}`, and try again.")
        })?;
    }
    if is_complete(&lib) {
        Ok(())
    } else {
        Err(format!("{} is still incomplete", lib.display()).into())
    }
}

fn is_complete(lib: &Path) -> bool {
    let has_std = fs::read_dir(lib).is_ok_and(|mut entries| {
        entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("libstd-")))
    });
    has_std && lib.join("self-contained/libc.a").exists()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn build_from_debian(sysroot: &Path, lib: &Path) -> Outcome {
    let scratch = build::root().canonicalize()?.join(".millrace/setup");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let version = rustc_version()?;

    step(&format!("fetching rust-src {version} and wasi-libc"));
    let unpacked = fetch(
        &scratch,
        &[format!("rust-src={version}*"), "wasi-libc".to_owned()],
    )?;
    let source = PlacedSource::place(
        sysroot,
        &unpacked.join(format!("usr/src/rustc-{version}/library")),
    )?;

    step("building the standard library (half a minute)");
    let built = build_std(&scratch)?;
    drop(source);

    copy_into(lib, &built, |name| {
        name.ends_with(".rlib") && !name.starts_with("libempty")
    })?;
    let libc = unpacked.join("usr/lib").join(TARGET);
    copy_into(&lib.join("self-contained"), &libc, |name| {
        LIBC_FILES.contains(&name)
    })?;
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

fn rustc_version() -> Outcome<String> {
    let said = read(Command::new("rustc").arg("--version"))?;
    let version = said
        .split_whitespace()
        .nth(1)
        .ok_or("rustc --version says no version")?;
    Ok(version.to_owned())
}

/// Downloads `packages` with a throw-away apt configuration, signatures checked against Debian's keyring, and unpacks
/// them. The machine's own lists and packages stay as they are.
fn fetch(scratch: &Path, packages: &[String]) -> Outcome<PathBuf> {
    let apt = scratch.join("apt");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    let mirror = debian_mirror()?;
    let sources: String = SUITES
        .iter()
        .map(|suite| format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n"))
        .collect();
    fs::write(apt.join("sources.list"), sources)?;
    fs::write(apt.join("status"), "")?;
    let options = [
        format!(
            "Dir::Etc::SourceList={}",
            apt.join("sources.list").display()
        ),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::State::status={}", apt.join("status").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        "APT::Sandbox::User=".to_owned(), // apt's own user may not write here
    ];
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command
            .arg("--quiet=2")
            .args(options.iter().flat_map(|o| ["--option", o]));
        command
    };
    run(apt_get().arg("update"))?;
    let downloads = scratch.join("packages");
    fs::create_dir_all(&downloads)?;
    run(apt_get()
        .arg("download")
        .args(packages)
        .current_dir(&downloads))?;

    let unpacked = scratch.join("unpacked");
    for package in fs::read_dir(&downloads)? {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package?.path())
            .arg(&unpacked))?;
    }
    Ok(unpacked)
}

/// The address of the Debian archive that this machine's own apt sources name.
fn debian_mirror() -> Outcome<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|e| e.path()));
    }
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .ok_or_else(|| "no Debian archive among this machine's apt sources".into())
}

/// The standard library's source in the place where `-Zbuild-std` looks for it, for as long as this lives.
struct PlacedSource(Option<PathBuf>);

impl PlacedSource {
    fn place(sysroot: &Path, library: &Path) -> Outcome<Self> {
        let place = sysroot.join("lib/rustlib/src/rust/library");
        if place.exists() {
            return Ok(Self(None)); // rustup's rust-src component: not ours to remove
        }
        // Under another name until it is whole: an interrupted copy must not pass for rustup's own.
        let partial = place.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(|e| format!("{}: {e}", partial.display()))?;
        run(Command::new("cp")
            .arg("--recursive")
            .arg(library.join("."))
            .arg(&partial))?;
        fs::rename(&partial, &place)?;
        Ok(Self(Some(place)))
    }
}

impl Drop for PlacedSource {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            let _ = fs::remove_dir_all(place);
        }
    }
}

/// Builds an empty crate, and with it std, and returns the folder of the libraries.
fn build_std(scratch: &Path) -> Outcome<PathBuf> {
    let empty = scratch.join("empty");
    fs::create_dir_all(empty.join("src"))?;
    fs::write(
        empty.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
    )?;
    fs::write(empty.join("src/lib.rs"), "")?;
    let target = empty.join("target");
    run(build::cargo([
        "build",
        "--release",
        "-Zbuild-std=std,panic_abort",
        "--target",
        TARGET,
    ])
    .current_dir(&empty)
    .env("RUSTC_BOOTSTRAP", "1")
    .env("RUSTFLAGS", "-C embed-bitcode=yes") // so that what links it may use LTO
    .env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join(TARGET).join("release/deps"))
}

fn copy_into(destination: &Path, source: &Path, wanted: impl Fn(&str) -> bool) -> Outcome {
    fs::create_dir_all(destination).map_err(|e| format!("{}: {e}", destination.display()))?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            fs::copy(entry.path(), destination.join(entry.file_name()))?;
        }
    }
    Ok(())
}
