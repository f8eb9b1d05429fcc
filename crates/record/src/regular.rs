//! Reads whole files, regular ones alone: a pipe waits for a writer that may never come, and a device has no end.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::Path,
};

/// The bytes of a regular file, or of the one that a link leads to.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, length) = open(path)?;
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.read_to_end(&mut content)?;
    Ok(content)
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
pub fn open(path: &Path) -> io::Result<(File, u64)> {
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
