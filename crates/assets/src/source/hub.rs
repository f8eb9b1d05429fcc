//! Files of a repository on the Hugging Face hub, through the cache that its own programs use.

use std::{io, path::PathBuf};

use data::source::Files;
use hf_hub::{Cache, Repo, RepoType, api::sync::ApiBuilder};

use crate::error::AssetError;

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
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && part != ".."
        };
        if name.split('/').count() > 2 || !name.split('/').all(plain) || !revision.split('/').all(plain) {
            return Err(AssetError::Foreign {
                path: PathBuf::from(written),
                reason: "not an address on the hub; write `hf://org/name` or `hf://org/name@revision`".to_owned(),
            });
        }
        Ok(Self { name: name.to_owned(), revision: revision.to_owned(), dataset })
    }

    fn repo(&self) -> Repo {
        let kind = if self.dataset { RepoType::Dataset } else { RepoType::Model };
        Repo::with_revision(self.name.clone(), kind, self.revision.clone())
    }

    /// A file that lies in the cache already.
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        Cache::from_env().repo(self.repo()).get(file)
    }

    /// A file from the cache, or downloaded into it; none where the repository has no such file.
    ///
    /// Offline, a file that is not in the cache is an error where the repository is not there at all, and none where it is.
    pub fn fetch(&self, file: &str) -> Result<Option<PathBuf>, AssetError> {
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
        let api = self.api()?;
        match api.get(file) {
            Ok(path) => Ok(Some(path)),
            Err(error) if error.to_string().contains("404") => Ok(None),
            Err(error) => Err(self.unreachable(&error.to_string())),
        }
    }

    fn api(&self) -> Result<hf_hub::api::sync::ApiRepo, AssetError> {
        let mut builder = ApiBuilder::from_env().with_progress(false);
        if let Ok(token) = std::env::var("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        let api = builder.build().map_err(|error| self.unreachable(&error.to_string()))?;
        Ok(api.repo(self.repo()))
    }

    fn unreachable(&self, reason: &str) -> AssetError {
        let kind = if self.dataset { "datasets--" } else { "models--" };
        let folder = Cache::from_env().path().join(format!("{kind}{}", self.name.replace('/', "--")));
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

/// Whether nothing may be downloaded.
fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()))
}

impl Files for Repository {
    fn read(&self, relative: &str) -> io::Result<Option<Vec<u8>>> {
        match self.fetch(relative) {
            Ok(Some(path)) => std::fs::read(path).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        if is_offline() {
            let folder = Cache::from_env().path().join(format!("datasets--{}", self.name.replace('/', "--")));
            let commit = std::fs::read_to_string(folder.join("refs").join(&self.revision))
                .unwrap_or_else(|_| self.revision.clone());
            let snapshot = folder.join("snapshots").join(commit.trim());
            if !snapshot.is_dir() {
                return Err(io::Error::other(self.unreachable("HF_HUB_OFFLINE is set").to_string()));
            }
            super::walk(&snapshot, "", &mut found)?;
        } else {
            let info = self.api().and_then(|api| api.info().map_err(|error| self.unreachable(&error.to_string())));
            let info = info.map_err(|error| io::Error::other(error.to_string()))?;
            found.extend(info.siblings.into_iter().map(|file| file.rfilename));
        }
        found.sort();
        Ok(found)
    }

    fn place(&self) -> String {
        format!("{SCHEME}{}", self.name)
    }
}
