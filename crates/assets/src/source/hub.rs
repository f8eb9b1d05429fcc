//! Files of a repository on the Hugging Face hub, through the cache that its own programs use.

use std::{
    io,
    path::{Path, PathBuf},
};

use data::source::Files;

use crate::{error::AssetError, file};

mod cache;
mod client;
mod download;

use cache::{Store, leads_down};
use client::Client;

/// What an address on the hub starts with.
pub const SCHEME: &str = "hf://";

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `org/name`
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    dataset: bool,
}

impl Repository {
    /// `hf://org/name[@revision]` of a model.
    pub fn model(written: &str) -> Result<Self, AssetError> {
        Self::read(written, false)
    }

    /// `hf://org/name[@revision]` of a dataset.
    pub fn dataset(written: &str) -> Result<Self, AssetError> {
        Self::read(written, true)
    }

    fn read(written: &str, dataset: bool) -> Result<Self, AssetError> {
        let rest = written.strip_prefix(SCHEME).unwrap_or(written);
        let (name, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !part.starts_with('.')
        };
        if name.split('/').count() > 2 || !name.split('/').all(plain) || !revision.split('/').all(plain) {
            return Err(AssetError::Foreign {
                path: PathBuf::from(written),
                reason: "not an address on the hub; write `hf://org/name` or `hf://org/name@revision`".to_owned(),
            });
        }
        Ok(Self { name: name.to_owned(), revision: revision.to_owned(), dataset })
    }

    /// A file that lies in the cache already. What leads out of the repository is in no cache.
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        self.cached_in(&self.store(&cache::folder(variable)), file)
    }

    fn cached_in(&self, store: &Store, file: &str) -> Option<PathBuf> {
        let path = store.snapshot(&self.revision)?.folder.join(file);
        (leads_down(file) && path.exists()).then_some(path)
    }

    /// What a cache has of the repository.
    fn store(&self, cache: &Path) -> Store {
        Store::new(cache, &format!("{}--{}", self.kind(), self.name.replace('/', "--")))
    }

    /// The hub's word for the kind of repository.
    fn kind(&self) -> &'static str {
        if self.dataset { "datasets" } else { "models" }
    }

    /// Where the hub has a file.
    fn path_of(&self, revision: &str, file: &str) -> String {
        let kind = if self.dataset { "/datasets" } else { "" };
        format!("{kind}/{}/resolve/{}/{}", self.name, revision.replace('/', "%2F"), escaped(file))
    }

    /// Where the hub says which files there are.
    fn list_path(&self, revision: &str) -> String {
        format!("/api/{}/{}/revision/{}", self.kind(), self.name, revision.replace('/', "%2F"))
    }

    /// A file from the cache, or downloaded into it; none where the repository has no such file.
    ///
    /// Offline, a file that is not in the cache is an error where the repository is not there at all, and none where it is.
    pub fn fetch(&self, file: &str) -> Result<Option<PathBuf>, AssetError> {
        if !leads_down(file) {
            return Ok(None); // a list of the hub's or a user's may name anything
        }
        if let Some(path) = self.cached(file) {
            return Ok(Some(path));
        }
        if is_offline() {
            return if self.cached("config.json").is_some() {
                Ok(None)
            } else {
                Err(self.unreachable("HF_HUB_OFFLINE is set"))
            };
        }
        self.download(&self.client()?, &self.store(&cache::folder(variable)), file)
    }

    fn client(&self) -> Result<Client, AssetError> {
        Client::from_environment().map_err(|reason| self.unreachable(&reason))
    }

    /// The names of all files, at the commit that the cache has or will have.
    fn listed(&self, client: &Client, store: &Store) -> Result<Vec<String>, AssetError> {
        let pinned = store.snapshot(&self.revision).map(|snapshot| snapshot.commit);
        let path = self.list_path(pinned.as_deref().unwrap_or(&self.revision));
        let (commit, files) = client.list(&path).map_err(|reason| self.unreachable(&reason))?;
        if let Some(commit) = commit.filter(|commit| pinned.is_none() && cache::is_name(commit)) {
            let pinned = store.pin(&self.revision, &commit);
            pinned.map_err(|source| AssetError::Io { path: store.folder.clone(), source })?;
        }
        Ok(files)
    }

    fn unreachable(&self, reason: &str) -> AssetError {
        let folder = self.store(&cache::folder(variable)).folder;
        let wanted = if self.dataset {
            "the dataset's files"
        } else {
            "config.json, tokenizer.json and model.safetensors (or its shards and their index)"
        };
        AssetError::Hub {
            name: format!("{SCHEME}{}@{}", self.name, self.revision),
            reason: reason.to_owned(),
            way_out: format!(
                "put {wanted} into a folder and name that folder instead, or copy the hub's cache of another machine to {}",
                folder.display()
            ),
        }
    }
}

/// A file's name as a part of an address.
fn escaped(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    file.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether nothing may be downloaded.
fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()))
}

impl Files for Repository {
    fn read(&self, relative: &str) -> io::Result<Option<Vec<u8>>> {
        match self.fetch(relative) {
            Ok(Some(path)) => file::read(&path).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let store = self.store(&cache::folder(variable));
        let mut found = if is_offline() {
            let snapshot = store.snapshot(&self.revision);
            let snapshot =
                snapshot.ok_or_else(|| self.unreachable("HF_HUB_OFFLINE is set")).map_err(io::Error::other)?;
            let mut found = Vec::new();
            super::walk(&snapshot.folder, "", &mut found)?;
            found
        } else {
            self.client().and_then(|client| self.listed(&client, &store)).map_err(io::Error::other)?
        };
        found.sort();
        Ok(found)
    }

    fn place(&self) -> String {
        format!("{SCHEME}{}", self.name)
    }
}

#[cfg(test)]
mod tests;
