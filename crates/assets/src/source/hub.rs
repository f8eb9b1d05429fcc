//! Files of a repository on the Hugging Face hub, through the cache that its own programs use.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use data::source::Files;
use hf_hub::{Cache, Repo, RepoType, api::sync::ApiBuilder};

use crate::{error::AssetError, file};

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

    fn repo(&self) -> Repo {
        let kind = if self.dataset { RepoType::Dataset } else { RepoType::Model };
        Repo::with_revision(self.name.clone(), kind, self.revision.clone())
    }

    /// A file that lies in the cache already. What leads out of the repository is in no cache.
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        self.cached_in(&cache(), file)
    }

    fn cached_in(&self, cache: &Cache, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(cache)?.join(file);
        (leads_down(file) && path.exists()).then_some(path)
    }

    /// The folder of a cache that has the repository's files.
    fn folder(&self, cache: &Cache) -> PathBuf {
        cache.path().join(self.repo().folder_name())
    }

    /// The folder of a cache that has the files of the revision: of the commit itself, or of the one that a branch or tag stood for when it
    /// was last asked for.
    fn snapshot(&self, cache: &Cache) -> Option<PathBuf> {
        let snapshots = self.folder(cache).join("snapshots");
        let of_commit = snapshots.join(&self.revision);
        if is_commit(&self.revision) && of_commit.is_dir() {
            return Some(of_commit);
        }
        let named = self.folder(cache).join("refs").join(&self.revision);
        let commit = file::bounded(&named, LONGEST_REFERENCE).ok()?;
        let commit = std::str::from_utf8(&commit).ok()?.trim();
        leads_down(commit).then(|| snapshots.join(commit)).filter(|snapshot| snapshot.is_dir())
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
        let api = self.api()?;
        match api.get(file) {
            Ok(path) => match damage(&path) {
                Some(reason) => Err(self.unreachable(&format!("`{file}` {reason}"))),
                None => Ok(Some(path)),
            },
            Err(error) if error.to_string().contains("404") => Ok(None),
            Err(error) => Err(self.unreachable(&error.to_string())),
        }
    }

    fn api(&self) -> Result<hf_hub::api::sync::ApiRepo, AssetError> {
        let mut builder = ApiBuilder::from_cache(cache()).with_progress(false);
        if let Some(endpoint) = variable("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint);
        }
        if let Ok(token) = std::env::var("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        let api = builder.build().map_err(|error| self.unreachable(&error.to_string()))?;
        Ok(api.repo(self.repo()))
    }

    fn unreachable(&self, reason: &str) -> AssetError {
        let folder = self.folder(&cache());
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

/// Most bytes of a file under `refs`, which holds a commit.
const LONGEST_REFERENCE: u64 = 4096;

/// What is wrong with a file that was downloaded just now, which is then taken out of the cache. The hub names large files by their SHA-256,
/// and the cache keeps a file under that name, to which the snapshot links.
fn damage(path: &Path) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let wanted = blob.file_name()?.to_str()?.to_owned();
    if wanted.len() != 64 || !wanted.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let found = file::sha256(&blob);
    if found.as_ref().is_ok_and(|found| *found == wanted) {
        return None;
    }
    let _ = std::fs::remove_file(&blob);
    let _ = std::fs::remove_file(path);
    Some(match found {
        Ok(found) => format!("has the hash {found}, but the hub says {wanted}; it was deleted, download it again"),
        Err(error) => format!("cannot be read: {error}"),
    })
}

/// Whether a revision is a commit, of which the cache keeps a snapshot under its own name.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether a relative path stays below where it starts.
fn leads_down(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// The hub's cache, where its own programs look for it.
fn cache() -> Cache {
    Cache::new(cache_folder(variable))
}

fn cache_folder(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let named = || variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
    let of_home = || Some(PathBuf::from(variable("HF_HOME")?).join("hub"));
    let of_user = || Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("huggingface").join("hub"));
    named().or_else(of_home).or_else(of_user).unwrap_or_else(|| Cache::default().path().clone())
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
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        if is_offline() {
            let Some(snapshot) = self.snapshot(&cache()) else {
                return Err(io::Error::other(self.unreachable("HF_HUB_OFFLINE is set").to_string()));
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_hubs_own_programs_look_for_it() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            cache_folder(move |wanted| set.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()))
        };
        assert_eq!(of(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/h/hub"));
        assert_eq!(of(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(of(&[("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert!(of(&[]).ends_with(".cache/huggingface/hub"));
    }

    #[test]
    fn a_commit_is_found_by_itself_and_a_branch_by_its_reference() {
        const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("models--acme--tiny");
        let put = |path: &str, content: &str| {
            let path = repository.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put(&format!("snapshots/{COMMIT}/config.json"), "{}");
        put("refs/main", COMMIT);
        put("refs/out", "../../..");
        put("secret", "s");
        let cache = Cache::new(root.path().to_owned());
        let found = |address: &str, file: &str| Repository::model(address).unwrap().cached_in(&cache, file);
        assert!(found("hf://acme/tiny", "config.json").is_some());
        assert!(found(&format!("hf://acme/tiny@{COMMIT}"), "config.json").is_some());
        let other = COMMIT.replace('0', "f");
        assert_eq!(found(&format!("hf://acme/tiny@{other}"), "config.json"), None);
        assert_eq!(found("hf://acme/tiny", "tokenizer.json"), None);
        assert_eq!((found("hf://acme/tiny@out", "secret"), found("hf://acme/tiny", "../../secret")), (None, None));
        let tiny = Repository::model("hf://acme/tiny").unwrap();
        for outside in ["../secret", "/etc/passwd", "a/../../b", ""] {
            assert!(tiny.fetch(outside).unwrap().is_none(), "{outside}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_download_that_is_not_what_the_hub_says_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let put = |blob: &str, content: &str| {
            let (blob, link) = (root.path().join(blob), root.path().join("model.safetensors"));
            std::fs::write(&blob, content).unwrap();
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&blob, &link).unwrap();
            (blob, link)
        };
        let right = record::sha256_hex(b"weights");
        assert_eq!(damage(&put(&right, "weights").1), None);
        assert_eq!(damage(&put("0123456789abcdef0123456789abcdef01234567", "small").1), None, "named by git");
        let (blob, link) = put(&right, "weigh");
        let said = damage(&link).unwrap();
        assert!(said.contains(&format!("but the hub says {right}")), "{said}");
        assert!(!blob.exists() && !link.exists());
    }
}
