//! Links between the documents lead somewhere: the file is there, and so is the heading. Nothing is asked of the network.

use std::path::{Component, Path, PathBuf};

use crate::{
    files::{documents, read, shown},
    markdown,
};

/// Every link that leads nowhere.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let all = documents(root);
    all.iter().flat_map(|document| of_document(root, document)).collect()
}

fn of_document(root: &Path, document: &Path) -> Vec<String> {
    let (text, place) = (read(document), shown(root, document));
    let in_guide = document.starts_with(root.join("docs/src"));
    let links = markdown::links(&text).into_iter().filter(|(_, target)| !is_outside(target));
    let judged = links.filter_map(|(line, target)| {
        let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
        let path = if file.is_empty() { document.to_owned() } else { plain(&document.parent()?.join(file)) };
        let problem = if !path.exists() {
            "which is not there"
        } else if in_guide && !path.starts_with(plain(&root.join("docs/src"))) {
            "which is not in the guide, so its HTML has no such page; name the file without a link"
        } else if !anchor.is_empty() && !markdown::anchors(&read(&path)).iter().any(|found| found == anchor) {
            "which has no such heading"
        } else {
            return None;
        };
        Some(format!("{place}:{line}: links to `{target}`, {problem}"))
    });
    judged.collect()
}

fn is_outside(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
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
