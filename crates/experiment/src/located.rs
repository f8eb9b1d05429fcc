//! Paths of an experiment: as written, which is what records keep, and where that is from here.
//!
//! A relative path is relative to the file's folder, or to the folder that the file's `root` names. The hub's addresses and the embedded
//! models' names are no paths.

use std::{
    ffi::OsStr,
    fmt,
    ops::Deref,
    path::{Component, Path, PathBuf},
};

use assets::source::hub::SCHEME;
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

/// A path or a name. It is compared, recorded and hashed as it was written, and opened where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Located {
    written: String,
    place: String,
}

impl Located {
    /// What `written` is where relative paths are relative to `root`.
    pub fn under(root: &Path, written: &str) -> Self {
        let place = if is_relative(written) { place(root, written) } else { written.to_owned() };
        Self { written: written.to_owned(), place }
    }

    /// The same, of what [`locate`] has made of it.
    pub(crate) fn at(root: &Path, place: &str) -> Self {
        match place.strip_prefix(&marked(root)) {
            Some(written) if !root.as_os_str().is_empty() => Self::under(root, written),
            _ => place.into(),
        }
    }

    /// As the file has it.
    pub fn written(&self) -> &str {
        &self.written
    }
}

/// Where it is from the present folder.
impl Deref for Located {
    type Target = str;

    fn deref(&self) -> &str {
        &self.place
    }
}

impl AsRef<OsStr> for Located {
    fn as_ref(&self) -> &OsStr {
        self.place.as_ref()
    }
}

impl AsRef<Path> for Located {
    fn as_ref(&self) -> &Path {
        self.place.as_ref()
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl PartialEq for Located {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Located {}

impl From<String> for Located {
    fn from(written: String) -> Self {
        Self { place: written.clone(), written }
    }
}

impl From<&str> for Located {
    fn from(written: &str) -> Self {
        written.to_owned().into()
    }
}

impl From<Located> for String {
    fn from(located: Located) -> Self {
        located.written
    }
}

/// The folder that relative paths of a file are relative to: the file's own, or the one that its `root` names from there.
pub(crate) fn root(origin: &str, written: Option<&str>) -> PathBuf {
    let folder = Path::new(origin).parent().unwrap_or(Path::new(""));
    tidy(&written.map_or_else(|| folder.to_owned(), |written| folder.join(written)))
}

/// The experiment as it was run, in the folder of its results.
pub const EXPERIMENT: &str = "experiment.yaml";

/// The folder that paths of a study's recipes are relative to, for a file among its results; none where no study around it says.
pub(crate) fn root_of_study(file: &Path) -> Option<PathBuf> {
    let path =
        file.ancestors().skip(1).take(DEPTH).map(|folder| folder.join(EXPERIMENT)).find(|path| path.is_file())?;
    let document =
        crate::yaml::parse(&assets::file::read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok())?).ok()?;
    let written = document.get("root").and_then(Value::as_str);
    Some(root(&path.display().to_string(), written))
}

/// Folders from a snapshot of a trial up to its study: snapshots, run, runs, tune, study.
const DEPTH: usize = 6;

/// A path without `.` and, where it can be told from the path alone, without `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            part => tidied.push(part),
        }
    }
    tidied
}

/// The way from a folder to another; the absolute path where nothing but the file system's own root leads to both.
pub(crate) fn way(from: &Path, to: &Path) -> PathBuf {
    let absolute = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        tidy(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    };
    let (from, to) = (absolute(from), absolute(to));
    let shared = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    if shared < 2 {
        return to;
    }
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(shared)).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

/// Whether what is written is a path that depends on where it is relative to.
fn is_relative(written: &str) -> bool {
    !written.starts_with(SCHEME) && !Path::new(written).is_absolute()
}

/// Where a relative path is.
fn place(root: &Path, written: &str) -> String {
    if root.as_os_str().is_empty() { written.to_owned() } else { format!("{}/{written}", root.display()) }
}

/// What comes before a path that was relative: the same folder for whoever opens it, and unlike any absolute path that leads into the root.
fn marked(root: &Path) -> String {
    format!("{}/./", root.display())
}

/// Whether a model's name is a path: one that is none is an embedded model's, unless a folder is called so.
pub(crate) fn is_path(name: &str, root: &Path) -> bool {
    name.contains(['/', '.']) || root.join(name).is_dir()
}

/// Puts every path of an experiment where it is, before its fields are read; whether there was a relative one.
pub(crate) fn locate(document: &mut Value, root: &Path) -> bool {
    let Value::Mapping(fields) = document else { return false };
    let mut any = false;
    let is_path = |written: &str| is_path(written, root);
    let mut put = |value: Option<&mut Value>, is_path: &dyn Fn(&str) -> bool| {
        if let Some(value) = value
            && let Some(written) = value.as_str().filter(|written| is_path(written) && is_relative(written))
        {
            any = true;
            *value = Value::from(if root.as_os_str().is_empty() { written.to_owned() } else { marked(root) + written });
        }
    };
    put(fields.get_mut("data"), &|_| true);
    put(fields.get_mut("model"), &is_path);
    put(fields.get_mut("measure").and_then(|measure| measure.get_mut("forgetting")?.get_mut("text")), &|_| true);
    for entry in fields.get_mut("variants").and_then(Value::as_sequence_mut).into_iter().flatten() {
        put(entry.get_mut("model"), &is_path);
    }
    let is_adapter = |written: &str| root.join(written).exists();
    for task in fields.get_mut("tasks").and_then(Value::as_sequence_mut).into_iter().flatten() {
        put(task.get_mut("start_from"), &is_adapter);
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_relative_to_its_file_or_to_what_its_root_names() {
        for (origin, written, wanted) in [
            ("x.yaml", None, ""),
            ("experiments/x.yaml", None, "experiments"),
            ("experiments/x.yaml", Some(".."), ""),
            ("/a/b/x.yaml", Some("../c/./d"), "/a/c/d"),
            ("../x.yaml", Some(".."), "../.."),
            ("a/x.yaml", Some("/data"), "/data"),
        ] {
            assert_eq!(root(origin, written), Path::new(wanted), "{origin} {written:?}");
        }
    }

    #[test]
    fn a_path_is_recorded_as_written_and_opened_where_it_is() {
        let located = Located::under(Path::new("/a"), "data/glue");
        assert_eq!((located.written(), &*located), ("data/glue", "/a/data/glue"));
        assert_eq!(serde_json::to_value(&located).unwrap(), "data/glue");
        assert_eq!(Located::at(Path::new("/a"), "/a/./data/glue"), located);
        // One that was written in full stays so, also where it leads into the root.
        assert_eq!(Located::at(Path::new("/a"), "/a/data/glue").written(), "/a/data/glue");
        for written in ["hf://org/name", "/data/glue"] {
            assert_eq!(&*Located::under(Path::new("/a"), written), written);
        }
        assert_eq!(&*Located::under(Path::new(""), "data"), "data");
    }

    #[test]
    fn the_way_between_two_folders_leads_there() {
        for (from, to, wanted) in [
            ("/p/results/x", "/p", "../.."),
            ("/p/results/x", "/p/experiments", "../../experiments"),
            ("/p", "/p", "."),
            ("/p/results/x", "/elsewhere", "/elsewhere"),
        ] {
            assert_eq!(way(Path::new(from), Path::new(to)), Path::new(wanted), "{from} {to}");
        }
    }
}
