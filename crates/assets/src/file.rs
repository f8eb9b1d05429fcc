//! Reads whole files of this machine, regular ones alone: a pipe waits for a writer that may never come, and a device has no end.

use std::{
    fs::{self, FileType},
    io,
    path::Path,
};

/// The bytes of a regular file, or of the one that a link leads to.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?.file_type();
    if found.is_file() {
        return fs::read(path);
    }
    let kind = if found.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    let rule = "but only regular files are read";
    let way_out = if found.is_dir() { "name a file inside it" } else { "copy its content into a file and name that" };
    Err(io::Error::new(kind, format!("is {}, {rule}; {way_out}", name(found))))
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
        }
    }
}
