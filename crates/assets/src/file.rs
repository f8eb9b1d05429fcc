//! Reads whole files of this machine, regular ones alone: a pipe waits for a writer that may never come, and a device has no end.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use record::PartsHash;
pub(crate) use record::regular::open;
pub use record::regular::read;

use crate::error::AssetError;

/// Most bytes of a configuration.
pub(crate) const CONFIGURATION: u64 = 16 << 20;
/// Most bytes of a tokenizer, or of an index of shards; the largest on the hub have some ten millions.
pub(crate) const TOKENS: u64 = 512 << 20;

/// Whether something has this name, readable or not. `Path::exists` is false for what cannot be looked at as well, such as links that
/// lead round in a circle; whoever opens them is told what they are.
pub fn is_there(path: &Path) -> bool {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    !fs::metadata(path).is_err_and(|error| absent(&error))
}

/// The bytes of a regular file of at most `most` bytes: a small kind of file that is large is another one, or damaged.
pub(crate) fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, AssetError> {
    let failed = |source: io::Error| AssetError::Io { path: path.to_owned(), source };
    let (file, length) = open(path).map_err(failed)?;
    let mut content = Vec::new();
    // A file may grow while it is read.
    file.take(most + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > most {
        let length = length.max(most + 1);
        return Err(AssetError::Foreign {
            path: path.to_owned(),
            reason: format!("it has {length} bytes, but a file of this kind has at most {most}; is it another one?"),
        });
    }
    Ok(content)
}

/// The SHA-256 of a regular file.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, _) = open(path)?;
    let (mut hash, mut part) = (PartsHash::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hash.finish()),
            read => hash.add(&part[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.txt");
        fs::write(&file, b"text").unwrap();
        assert_eq!(read(&file).unwrap(), b"text");
        let message = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(message(folder.path()), "is a folder, but only regular files are read; name a file inside it");
        assert_eq!(read(&folder.path().join("b.txt")).unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&file, &link).unwrap();
            assert_eq!(read(&link).unwrap(), b"text");
            let endless = "is a device, but only regular files are read; copy its content into a file and name that";
            assert_eq!(message(Path::new("/dev/zero")), endless);
            // Nobody writes into this pipe: opening it would wait for ever.
            let pipe = folder.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert!(message(&pipe).starts_with("is a pipe, but"));
            let (circle, dangling) = (folder.path().join("circle"), folder.path().join("dangling"));
            std::os::unix::fs::symlink(&circle, &circle).unwrap();
            std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).unwrap();
            assert_eq!(message(&circle), "is a link that leads round in a circle; put the file itself there");
            for (path, there) in
                [(&file, true), (&pipe, true), (&circle, true), (&dangling, false), (&file.join("x"), false)]
            {
                assert_eq!(is_there(path), there, "{}", path.display());
            }
        }
    }
}
