//! Lists the migrations, so that every file in `migrations/` runs.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("migrations");
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut list = String::from("[\n");
    for file in files {
        // 0001_initial.sql
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let (version, name) = name.split_once('_').expect("a number and a name");
        let version: i64 = version.parse().expect("a number");
        let (name, path) = (name.replace('_', " "), file.display().to_string());
        writeln!(list, "    ({version}, {name:?}, include_str!({path:?})),").expect("written");
    }
    list.push_str("]\n");
    let target = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("migrations.rs");
    fs::write(target, list).expect("written");
}
