//! Copies of the tree, in which code may be changed.

use std::{fs, path::Path, process::Command};

use crate::files::below;

/// Copies the tracked files.
pub(super) fn copy(root: &Path, copy: &Path) -> Result<(), String> {
    if copy.exists() {
        fs::remove_dir_all(copy).map_err(|error| error.to_string())?;
    }
    for name in tracked(root)? {
        let to = copy.join(&name);
        let folder = to.parent().unwrap_or(copy);
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        fs::copy(root.join(&name), to).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// The tracked files that are there, by their names from the root.
pub(super) fn tracked(root: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.map_err(|error| format!("git ls-files: {error}"))?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(names.split('\0').filter(|name| !name.is_empty() && root.join(name).is_file()).map(str::to_owned).collect())
}

/// A copy for cargo-mutants, which follows `mod` lines and expands no macro: the files of the registries are named at the end of their
/// module, where no compilation sees it.
pub(super) fn with_modules(root: &Path, to: &Path) -> Result<(), String> {
    copy(root, to)?;
    for path in below(&to.join("crates"), "rs") {
        let mut text = crate::files::read(&path);
        let inner = fs::read_dir(path.with_extension("")).into_iter().flatten().flatten();
        let names = inner.filter_map(|entry| Some(entry.path().file_name()?.to_str()?.strip_suffix(".rs")?.to_owned()));
        let unnamed: Vec<String> = names.filter(|name| !text.contains(&format!("mod {name};"))).collect();
        for name in &unnamed {
            text.push_str(&format!("#[cfg(any())]\nmod {name};\n"));
        }
        if !unnamed.is_empty() {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Brings the tracked files of a copy to the present state and writes what differs alone, so that cargo builds what differs alone.
/// `changed` has the text of a file that is not as it is in the tree.
pub(super) fn bring(root: &Path, copy: &Path, changed: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    for name in tracked(root)? {
        let content = match changed(&name) {
            Some(text) => text.into_bytes(),
            None => fs::read(root.join(&name)).map_err(|error| format!("{name}: {error}"))?,
        };
        put(&copy.join(&name), &content)?;
    }
    Ok(())
}

/// Writes a file whose content differs.
pub(super) fn put(path: &Path, content: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(|error| error.to_string())?;
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}
