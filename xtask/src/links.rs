//! Links between the documents lead somewhere: the file is there, and so is the heading. So do paths of the repository that a
//! document names. Nothing is asked of the network.

use std::path::{Component, Path, PathBuf};

use crate::{
    files::{documents, read, shown},
    markdown,
};

/// Folders of the repository; a name in code that begins with one is a path.
const FOLDERS: [&str; 9] =
    ["bench", "crates", "docs", "examples", "experiments", "notebooks", "results", "scripts", "xtask"];

/// Every link and path that leads nowhere.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let all = documents(root);
    all.iter().flat_map(|document| of_document(root, document)).collect()
}

fn of_document(root: &Path, document: &Path) -> Vec<String> {
    let (text, place) = (read(document), shown(root, document));
    let links = markdown::links(&text).into_iter().filter(|(_, target)| !is_outside(target));
    let dead_links = links.filter_map(|(line, target)| {
        let why = dead(root, document, &text, &target)?;
        Some(format!("{place}:{line}: links to `{target}`, {why}"))
    });
    let paths = markdown::code(&text).into_iter().filter(|(_, code)| is_path(code));
    let dead_paths = paths.filter(|(_, path)| !root.join(path).exists());
    let dead_paths = dead_paths.map(|(line, path)| format!("{place}:{line}: names `{path}`, which is not there"));
    let parts = markdown::included(&text).into_iter();
    let dead_parts = parts.filter(|(_, path)| !document.parent().is_some_and(|folder| folder.join(path).is_file()));
    let dead_parts = dead_parts.map(|(line, path)| format!("{place}:{line}: includes `{path}`, which is not there"));
    let dead_links = dead_links.chain(dead_parts);
    // A changelog names what was.
    dead_links.chain(dead_paths.filter(|_| place != "CHANGELOG.md")).collect()
}

/// Why a link of a document leads nowhere, where it does not.
fn dead(root: &Path, document: &Path, text: &str, target: &str) -> Option<&'static str> {
    let guide = plain(&root.join("docs/src"));
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { plain(document) } else { plain(&document.parent()?.join(file)) };
    let linked = if file.is_empty() { text.to_owned() } else { read(&path) };
    if !path.exists() {
        Some("which is not there")
    } else if plain(document).starts_with(&guide) && !path.starts_with(&guide) {
        Some("which is not in the guide, so its HTML has no such page; name the file without a link")
    } else if !anchor.is_empty() && !markdown::anchors(&linked).iter().any(|found| found == anchor) {
        Some("which has no such heading")
    } else {
        None
    }
}

fn is_outside(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Whether code in a document is a path of the repository, and not a pattern or a command.
fn is_path(code: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    FOLDERS.iter().any(|folder| code.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
        && code.chars().all(plain)
        && !code.contains("..")
        // What a reader is told to make.
        && !code.contains("/my_")
}

/// A path without `..`, so that paths can be compared.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir && out.file_name().is_some() {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_patterns_and_commands() {
        assert!(is_path("crates/cli/src/commands/run.rs") && is_path("results/paper/claims.md"));
        assert!(!is_path("results/*/runs") && !is_path("results/<name>/tables") && !is_path("crates/x.rs --help"));
        assert!(!is_path("results") && !is_path("crates/variants/src/presets/my_lora.rs") && !is_path("resultsets/x"));
    }
}
