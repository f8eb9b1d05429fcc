//! Downloads one file into the hub's cache: whole and with the hash that the hub names, or not at all.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha1::{Digest as _, Sha1};

use super::{
    Repository,
    cache::{Store, is_name},
    client::{Client, Reply},
};
use crate::{error::AssetError, file};

/// How often a download that was cut goes on before that is an error.
const ATTEMPTS: usize = 5;
/// Most bytes of a file whose size no server names.
const LARGEST_UNSIZED: u64 = 512 << 20;

/// Why a download stopped.
enum Stop {
    /// The connection; what arrived is kept.
    Cut(String),
    /// Anything that another attempt would not mend.
    Failed(String),
}

/// A file that the hub has.
struct Wanted<'a> {
    /// Its path below the endpoint.
    path: &'a str,
    etag: &'a str,
    size: Option<u64>,
}

impl Repository {
    /// Downloads a file; none where the repository has none of this name.
    pub(super) fn download(&self, client: &Client, store: &Store, name: &str) -> Result<Option<PathBuf>, AssetError> {
        // A branch may move between two files: what it stood for at the first file holds for all of them.
        let pinned = store.snapshot(&self.revision).map(|snapshot| snapshot.commit);
        let revision = pinned.as_deref().unwrap_or(&self.revision);
        if store.lacks(revision, name) {
            return Ok(None);
        }
        let failed = |reason: String| self.unreachable(&format!("`{name}`: {reason}"));
        let io = |source: io::Error| AssetError::Io { path: store.folder.clone(), source };
        let path = self.path_of(revision, name);
        let reply = client.get(&path, 0).map_err(failed)?;
        let commit = reply.about.commit.clone();
        let Some(()) = reply.found().map_err(failed)? else {
            if let Some(commit) = commit.filter(|commit| is_name(commit)) {
                // Only spares the next run a question.
                let _ = store.note_lack(&commit, name);
            }
            return Ok(None);
        };
        let commit = pinned.map_or_else(|| header("x-repo-commit", commit), Ok).map_err(failed)?;
        let etag = header("etag", reply.about.etag.clone()).map_err(failed)?;
        let size = reply.about.size.or_else(|| reply.length());
        fs::create_dir_all(store.folder.join("blobs")).map_err(io)?;
        let lock = store.lock(&etag).map_err(io)?;
        if !store.blob(&etag).exists() {
            let wanted = Wanted { path: &path, etag: &etag, size };
            wanted.fetch(client, &store.blob(&etag), reply).map_err(failed)?;
        }
        drop(lock);
        store.pin(&self.revision, &commit).map_err(io)?;
        store.link(&etag, &commit, name).map(Some).map_err(io)
    }
}

/// A value that names a file of the cache.
fn header(name: &str, value: Option<String>) -> Result<String, String> {
    let value = value.ok_or_else(|| format!("the answer has no header `{name}`; is HF_ENDPOINT a hub?"))?;
    if is_name(&value) { Ok(value) } else { Err(format!("the answer's header `{name}` is no hash")) }
}

impl Wanted<'_> {
    /// Downloads beside the blob's place, looks at size and hash, and gives the file its name.
    fn fetch(&self, client: &Client, blob: &Path, first: Reply) -> Result<(), String> {
        let part = blob.with_file_name(format!("{}.incomplete", self.etag));
        let mut first = Some(first);
        for attempt in 1..=ATTEMPTS {
            match self.go_on(client, &part, first.take()) {
                Ok(()) => break,
                Err(Stop::Cut(_)) if attempt < ATTEMPTS => {}
                Err(Stop::Cut(reason)) => return Err(format!("{reason}; the same command goes on where it stopped")),
                Err(Stop::Failed(reason)) => return Err(reason),
            }
        }
        if let Some(damage) = self.damage(&part) {
            let _ = fs::remove_file(&part);
            return Err(format!("{damage}; it was deleted, download it again"));
        }
        let synced = File::open(&part).and_then(|file| file.sync_all());
        synced.and_then(|()| fs::rename(&part, blob)).map_err(|error| format!("{}: {error}", blob.display()))
    }

    /// Downloads what is not there yet.
    fn go_on(&self, client: &Client, part: &Path, first: Option<Reply>) -> Result<(), Stop> {
        let there = fs::metadata(part).map_or(0, |about| about.len());
        // Without a size, or beyond it, nothing says what lies there.
        let there = if self.size.is_some_and(|size| there <= size) { there } else { 0 };
        if there > 0 && Some(there) == self.size {
            return Ok(());
        }
        let reply = match first.filter(|_| there == 0) {
            Some(reply) => reply,
            None => client.get(self.path, there).map_err(Stop::Cut)?,
        };
        reply.found().map_err(Stop::Cut)?.ok_or_else(|| Stop::Failed("is gone".to_owned()))?;
        if reply.about.etag.as_deref() != Some(self.etag) {
            return Err(Stop::Failed("changed while it was downloaded; run the same command again".to_owned()));
        }
        self.receive(part, if reply.goes_on_from(there) { there } else { 0 }, reply)
    }

    /// Appends a response's body to the first `there` bytes of the file.
    fn receive(&self, part: &Path, there: u64, reply: Reply) -> Result<(), Stop> {
        let disk = |error: io::Error| Stop::Failed(format!("{}: {error}", part.display()));
        let mut file = File::options().create(true).truncate(false).write(true).open(part).map_err(disk)?;
        file.set_len(there).map_err(disk)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(there)).map_err(disk)?;
        let most = self.size.unwrap_or(LARGEST_UNSIZED);
        // One byte more, so that a body that is too long is seen.
        let mut body = reply.response.into_body().into_reader().take((most - there).saturating_add(1));
        let (mut have, mut bytes) = (there, vec![0; 1 << 18]);
        loop {
            let read = match body.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(Stop::Cut(format!("cut after {have} bytes: {error}"))),
            };
            file.write_all(&bytes[..read]).map_err(disk)?;
            have += read as u64;
        }
        match self.size {
            Some(size) if have < size => Err(Stop::Cut(format!("cut after {have} of {size} bytes"))),
            _ => Ok(()),
        }
    }

    /// What is wrong with a file that arrived. A hash of 64 digits is the file's SHA-256; one of 40 is that of git's blob, or, from mirrors,
    /// the file's SHA-1. Where an endpoint names files otherwise, the size alone is looked at.
    fn damage(&self, part: &Path) -> Option<String> {
        self.damaged(part).unwrap_or_else(|error| Some(format!("cannot be read: {error}")))
    }

    fn damaged(&self, part: &Path) -> io::Result<Option<String>> {
        let length = fs::metadata(part)?.len();
        if let Some(size) = self.size.filter(|size| *size != length) {
            return Ok(Some(format!("does not have the {size} bytes that the hub says")));
        }
        if self.size.is_none() && length > LARGEST_UNSIZED {
            return Ok(Some(format!("has more than {LARGEST_UNSIZED} bytes, and the hub does not say how many")));
        }
        let wanted = self.etag.to_ascii_lowercase();
        let is_hash = wanted.bytes().all(|c| c.is_ascii_hexdigit());
        let found = match wanted.len() {
            64 if is_hash => file::sha256(part)?,
            40 if is_hash => {
                let blob = sha1(part, &format!("blob {length}\0"))?;
                if blob != wanted && sha1(part, "")? == wanted { wanted.clone() } else { blob }
            }
            _ => return Ok(None),
        };
        Ok((found != wanted).then(|| format!("has the hash {found}, but the hub says {wanted}")))
    }
}

/// The SHA-1 of some text and the content of a file.
fn sha1(path: &Path, before: &str) -> io::Result<String> {
    let (mut file, _) = file::open(path)?;
    let mut hash = Sha1::new();
    hash.update(before);
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&bytes[..read]),
        }
    }
}
