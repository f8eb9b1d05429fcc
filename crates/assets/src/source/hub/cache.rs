//! The hub's cache on disk, as `huggingface_hub` lays it out: both fill it, and each uses what the other left.
//!
//! | below `models--org--name` | |
//! |---|---|
//! | `blobs/ETAG` | a file under its hash; `ETAG.incomplete` while it is downloaded |
//! | `snapshots/COMMIT/FILE` | a relative link to the blob |
//! | `refs/REVISION` | the commit that a branch or tag stood for when it was asked for |
//! | `.no_exist/COMMIT/FILE` | an empty file: the commit has no such file |
//!
//! Locks lie in `.locks/models--org--name/ETAG.lock` beside these folders.

use std::{
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::file;

/// Most bytes of a file under `refs`, which holds a commit.
const LONGEST_REFERENCE: u64 = 4096;

/// The folder of a cache that has one repository's files.
pub(super) struct Store {
    pub(super) folder: PathBuf,
    locks: PathBuf,
}

/// A commit whose files the cache has, at least some of them.
pub(super) struct Snapshot {
    pub(super) commit: String,
    pub(super) folder: PathBuf,
}

impl Store {
    pub(super) fn new(cache: &Path, name: &str) -> Self {
        Self { folder: cache.join(name), locks: cache.join(".locks").join(name) }
    }

    /// The files of a revision: of the commit itself, or of the one that a branch or tag stood for when it was last asked for.
    pub(super) fn snapshot(&self, revision: &str) -> Option<Snapshot> {
        let of = |commit: &str| {
            let folder = self.folder.join("snapshots").join(commit);
            folder.is_dir().then(|| Snapshot { commit: commit.to_owned(), folder })
        };
        if is_commit(revision)
            && let Some(found) = of(revision)
        {
            return Some(found);
        }
        let named = file::bounded(&self.folder.join("refs").join(revision), LONGEST_REFERENCE).ok()?;
        let commit = std::str::from_utf8(&named).ok()?.trim();
        if is_name(commit) { of(commit) } else { None }
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Keeps other processes from downloading the same file until the lock is dropped; `huggingface_hub` respects it too. None where the
    /// file system has no locks.
    pub(super) fn lock(&self, etag: &str) -> io::Result<Option<File>> {
        fs::create_dir_all(&self.locks)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(self.locks.join(format!("{etag}.lock")))?;
        match file.lock() {
            Ok(()) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A branch or tag stands for this commit from now on.
    pub(super) fn pin(&self, revision: &str, commit: &str) -> io::Result<()> {
        fs::create_dir_all(self.folder.join("snapshots").join(commit))?;
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        write_whole(&path, commit.as_bytes())
    }

    /// Puts a blob into the snapshot of a commit under its name in the repository.
    pub(super) fn link(&self, etag: &str, commit: &str, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join("snapshots").join(commit).join(name);
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        // Left over where a blob was deleted.
        let _ = fs::remove_file(&path);
        let up = "../".repeat(name.split('/').count() + 1);
        match symlink(&format!("{up}blobs/{etag}"), &path) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(path),
            Err(_) if cfg!(windows) => fs::copy(self.blob(etag), &path).map(|_| path),
            other => other.map(|()| path),
        }
    }

    /// Whether the hub said that a commit has no such file.
    pub(super) fn lacks(&self, commit: &str, name: &str) -> bool {
        self.folder.join(".no_exist").join(commit).join(name).exists()
    }

    pub(super) fn note_lack(&self, commit: &str, name: &str) -> io::Result<()> {
        write_whole(&self.folder.join(".no_exist").join(commit).join(name), b"")
    }
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), path)
}

/// Another process reads the old content or the new, never a part.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    // Threads of one process write drafts of their own too, or one would rename the other's away.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let (process, draft) = (std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed));
    let draft = folder.join(format!(".{}.{process}.{draft}", path.file_name().unwrap_or_default().display()));
    fs::write(&draft, content)?;
    fs::rename(&draft, path).inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// Whether a revision is a commit, of which the cache keeps a snapshot under its own name.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether a header's value can name a file: one of the cache's own, and none above it.
pub(super) fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether a relative path stays below where it starts.
pub(super) fn leads_down(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Where the hub's own programs look for its cache.
pub(super) fn folder(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let named = || variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
    named().unwrap_or_else(|| home(&variable).join("hub"))
}

/// The folder of the hub's own programs.
fn home(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let of_user = || Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("huggingface"));
    let usual = || std::env::home_dir().unwrap_or_default().join(".cache").join("huggingface");
    variable("HF_HOME").map(PathBuf::from).or_else(of_user).unwrap_or_else(usual)
}

/// The token of `HF_TOKEN`, or the one that `hf auth login` keeps.
pub(super) fn token(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let kept = || {
        let path = variable("HF_TOKEN_PATH").map_or_else(|| home(&variable).join("token"), PathBuf::from);
        String::from_utf8(file::bounded(&path, LONGEST_REFERENCE).ok()?).ok()
    };
    let token = variable("HF_TOKEN").or_else(kept)?.trim().to_owned();
    (!token.is_empty()).then_some(token)
}
