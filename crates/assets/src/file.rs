//! Reads whole files of this machine, regular ones alone: a pipe waits for a writer that may never come, and a device has no end.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::Path,
};

use record::PartsHash;

use crate::error::AssetError;

/// Most bytes of a configuration.
pub(crate) const CONFIGURATION: u64 = 16 << 20;
/// Most bytes of a tokenizer, or of an index of shards; the largest on the hub have some ten millions.
pub(crate) const TOKENS: u64 = 512 << 20;

/// The bytes of a regular file, or of the one that a link leads to.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, length) = open(path)?;
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Whether something has this name, readable or not. `Path::exists` is false for what cannot be looked at as well, such as links that
/// lead round in a circle; whoever opens them is told what they are.
pub fn is_there(path: &Path) -> bool {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    !fs::metadata(path).is_err_and(|error| absent(&error))
}

/// What the system says of a path, in place of its number where that says little.
fn refused(error: io::Error) -> io::Error {
    #[cfg(unix)]
    if error.raw_os_error() == Some(LOOP) {
        let reason = "is a link that leads round in a circle; put the file itself there";
        return io::Error::new(error.kind(), reason);
    }
    error
}

/// `ELOOP`, which has no kind of its own yet.
#[cfg(target_os = "linux")]
const LOOP: i32 = 40;
#[cfg(all(unix, not(target_os = "linux")))]
const LOOP: i32 = 62;

/// Opens a regular file, or the one that a link leads to; its length too.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    let about = fs::metadata(path).map_err(refused)?;
    let found = about.file_type();
    if found.is_file() {
        return Ok((File::open(path)?, about.len()));
    }
    let kind = if found.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    let rule = "but only regular files are read";
    let way_out = if found.is_dir() { "name a file inside it" } else { "copy its content into a file and name that" };
    Err(io::Error::new(kind, format!("is {}, {rule}; {way_out}", name(found))))
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

fn name(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.is_fifo() {
            return "a pipe";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
        if found.is_socket() {
            return "a socket";
        }
    }
    if found.is_dir() { "a folder" } else { "no regular file" }
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
