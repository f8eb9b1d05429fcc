//! The folder of a case: `inside`, where the program runs, and what lies around it, which nobody may touch.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A folder of one case.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// What nobody told the program to touch.
const NEIGHBOUR: &str = "neighbour.safetensors";

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inside")).unwrap();
        fs::write(folder.path().join(NEIGHBOUR), b"not yours").unwrap();
        Self { folder }
    }

    pub(crate) fn inside(&self) -> PathBuf {
        self.folder.path().join("inside")
    }

    /// Writes a file below `inside`, with its folders.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.inside().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn json(&self, name: &str, value: &Value) {
        self.write(name, value.to_string());
    }

    /// Everything outside `inside`, and everything inside that is not where the program was told to write.
    pub(crate) fn untold(&self, told: &[&str]) -> Vec<String> {
        let (mut folders, mut found) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                let shown = path.strip_prefix(self.folder.path()).unwrap().to_string_lossy().into_owned();
                if told.iter().any(|told| Path::new(&shown).starts_with(Path::new("inside").join(told))) {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    let meta = fs::symlink_metadata(&path).unwrap();
                    found.push(format!("{shown} {} {:?}", meta.len(), meta.modified().unwrap()));
                }
            }
        }
        found.sort();
        found
    }
}
