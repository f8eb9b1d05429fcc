//! Files of the repository: found, read, named.

use std::path::{Path, PathBuf};

/// Files below a folder with an extension, in the order of their paths; hidden folders and build outputs left out.
pub(crate) fn below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(below(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's text; empty where it cannot be read.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A path from the repository's root, with `/` between its parts.
pub(crate) fn shown(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect::<Vec<_>>().join("/")
}

/// A file's name without its extension.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Every Markdown document that a reader follows: those of the root, of the guide and of the folders that have one.
pub(crate) fn documents(root: &Path) -> Vec<PathBuf> {
    let at_root = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = at_root.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    found.extend(["bench", "crates", "docs", "notebooks", "scripts"].iter().flat_map(|at| below(&root.join(at), "md")));
    found.sort();
    found
}
