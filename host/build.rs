//! The migrations are part of the program: a new or changed file in `sql/` makes it out of date.

fn main() {
    println!("cargo:rerun-if-changed=../sql");
}
