//! `millrace up` as a developer runs it, over a state folder of the test's own.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use millrace::serve::{Host, Limits};
use tokio::sync::OnceCell;

use crate::api::Api;
use crate::app::{manifest, options};
use crate::database::scratch_folder;
use crate::program::{Program, command};
use crate::scratch::Scratch;

/// The last line of what `up` prints once it serves.
pub const READY: &str = "Ctrl-C ends it";

/// Runs `up` over the state in a folder, and returns it with what it said once it serves.
pub async fn up(scratch: &Scratch) -> (Program, String) {
    up_with(scratch, &[]).await
}

/// The same with more arguments.
pub async fn up_with(scratch: &Scratch, arguments: &[&str]) -> (Program, String) {
    let mut command = command(&["up", "--listen", "127.0.0.1:0", "--state"]);
    command.arg(scratch.path()).args(arguments);
    share_compiled(scratch).await;
    let program = Program::start(command);
    let said = program.until(READY).await;
    (program, said)
}

/// What is compiled is kept for all tests of this run, and made before the first `up` is waited for: to compile it takes long on a
/// busy machine, and is not what is tested here.
pub async fn share_compiled(scratch: &Scratch) {
    static COMPILED: OnceCell<PathBuf> = OnceCell::const_new();
    let compiled = COMPILED.get_or_init(async || {
        let folder = scratch_folder().join("compiled");
        std::fs::create_dir_all(&folder).expect("a folder");
        let folder = folder.canonicalize().expect("its path");
        let nowhere = [
            ("database_url", "postgres://127.0.0.1:1/none"),
            ("database_host", "postgres://127.0.0.1:1"),
        ];
        let nowhere = nowhere.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let host = Host::with_cache(Limits::default(), folder.clone()).expect("a host");
        let served = host.serve(options(manifest(), nowhere.into())).await;
        drop(served.expect("the application serves"));
        folder
    });
    let link = scratch.path().join("cache");
    if !link.exists() {
        symlink(compiled.await, link).expect("a link");
    }
}

/// A client with the key and at the address that `up` printed.
pub fn api(said: &str) -> Api {
    let word_after = |words: &str| {
        said.split(words)
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
    };
    let (url, key) = (word_after("Millrace serves "), word_after("API key "));
    Api::new(url.expect("an address"), key.expect("a key"))
}

/// The value of an export of what is being served.
pub fn export(scratch: &Scratch, name: &str) -> String {
    let exports = std::fs::read_to_string(scratch.path().join("env")).expect("the exports");
    let value = exports
        .split(&format!("export {name}='"))
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    value.unwrap_or_else(|| panic!("no {name}")).to_owned()
}
