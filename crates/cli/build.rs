//! Takes the code identity when the binary is built: a hash of `crates/`, `Cargo.toml` and `Cargo.lock`, the
//! commit, and whether the two differ. Sets `cfg(git_history)` where the sources are a full clone, and `cfg(namespaces)` where the machine
//! lets a user mount file systems of his own, for the tests that need one. Lists the experiments that come with the program.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes the list of the experiments that come with the program.
fn ship_experiments(root: &Path) {
    let folder = root.join("experiments");
    println!("cargo:rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    let line = |path: &PathBuf| {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string())
    };
    let list: String = files.iter().map(line).collect();
    let text = format!("pub(crate) const EXPERIMENTS: &[(&str, &str)] = &[\n{list}];\n");
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    if let Err(error) = std::fs::write(out.join("experiments.rs"), text) {
        println!("cargo:error=the list of experiments cannot be written: {error}");
    }
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    ship_experiments(&root);
    let sources = ["crates", "Cargo.toml", "Cargo.lock"];
    let tracked = git(&root, &[&["ls-files", "-z", "--"][..], &sources].concat());
    let files: Option<Vec<&str>> = tracked.as_deref().map(|list| list.split('\0').filter(|f| !f.is_empty()).collect());
    let hash = match files.filter(|files| !files.is_empty()) {
        Some(files) => record::code_hash_of_files(&root, files),
        None => record::code_hash(&root), // a source archive without history
    };
    let commit = git(&root, &["rev-parse", "HEAD"]).map_or("unknown".to_owned(), |c| c.trim().to_owned());
    let status = git(&root, &[&["status", "--porcelain", "--"][..], &sources].concat());
    let dirty = status.is_none_or(|status| !status.trim().is_empty());
    println!("cargo:rustc-check-cfg=cfg(git_history)");
    let shallow = git(&root, &["rev-parse", "--is-shallow-repository"]);
    if shallow.is_some_and(|answer| answer.trim() == "false") {
        println!("cargo:rustc-cfg=git_history");
    }
    println!("cargo:rustc-check-cfg=cfg(namespaces)");
    let mounts = Command::new("unshare").args(["-Urm", "sh", "-c", "mount -t tmpfs none /tmp"]).output();
    if mounts.is_ok_and(|output| output.status.success()) {
        println!("cargo:rustc-cfg=namespaces");
    }
    println!("cargo:rustc-env=LORA_LAB_CODE_HASH={}", hash.unwrap_or_else(|_| "unknown".to_owned()));
    println!("cargo:rustc-env=LORA_LAB_COMMIT={commit}");
    println!("cargo:rustc-env=LORA_LAB_DIRTY={dirty}");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    println!("cargo:rustc-env=LORA_LAB_BURN={}", version(&lock, "burn"));
    for path in sources
        .iter()
        .map(|s| root.join(s))
        .chain([".git/HEAD", ".git/index", ".git/logs/HEAD"].iter().map(|p| root.join(p)))
    {
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
}

/// The version of a package in a lock file.
fn version(lock: &str, package: &str) -> String {
    let entry = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown").to_owned()
}
