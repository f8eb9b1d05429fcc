//! Where files come from: this crate opens none, its callers bring them.

use std::collections::BTreeMap;
use std::io;

use crate::error::DataError;

/// A folder of files that somebody else reads.
pub trait Files {
    /// The bytes of a file; none where there is no such file.
    fn read(&self, relative: &str) -> io::Result<Option<Vec<u8>>>;

    /// Every relative path under the folder, sorted, with `/` between parts.
    fn list(&self) -> io::Result<Vec<String>>;

    /// What messages call the folder.
    fn place(&self) -> String;
}

/// Files in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryFiles {
    /// Bytes by relative path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl MemoryFiles {
    /// The folder with one more file.
    pub fn with(mut self, relative: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(relative.to_owned(), bytes.into());
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, relative: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(relative).cloned())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

/// The bytes of a file that may be absent.
pub(crate) fn read(files: &dyn Files, relative: &str) -> Result<Option<Vec<u8>>, DataError> {
    files.read(relative).map_err(|source| DataError::Io { at: format!("{}/{relative}", files.place()), source })
}

/// Every path of a folder.
pub(crate) fn list(files: &dyn Files) -> Result<Vec<String>, DataError> {
    files.list().map_err(|source| DataError::Io { at: files.place(), source })
}

/// The bytes of a file that a user's task names.
pub(crate) fn needed(task: &str, files: &dyn Files, path: &str) -> Result<Vec<u8>, DataError> {
    if let Some(bytes) = read(files, path)? {
        return Ok(bytes);
    }
    let paths = list(files)?;
    let names: Vec<&str> = paths.iter().map(String::as_str).collect();
    let found = if names.is_empty() { "no files".to_owned() } else { format!("{} others", names.len()) };
    let remedy = suggest::nearest(path, names)
        .map_or_else(|| "put it there, or correct the path".to_owned(), |nearest| format!("did you mean `{nearest}`?"));
    let wanted = format!("file `{path}`");
    Err(DataError::NoFile { task: task.to_owned(), place: files.place(), wanted, found, remedy })
}
