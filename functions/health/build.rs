//! Tells the component the number of the newest migration that it was built with.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("../../sql");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut newest = 0;
    for file in folder.read_dir()? {
        let name = file?.file_name().into_string().unwrap_or_default();
        if let Some((number, _)) = name
            .strip_prefix('V')
            .and_then(|rest| rest.split_once("__"))
        {
            newest = newest.max(number.parse::<u32>()?);
        }
    }
    if newest == 0 {
        return Err("there is no migration in sql/".into());
    }
    println!("cargo::rustc-env=MILLRACE_NEWEST_MIGRATION={newest}");
    Ok(())
}
