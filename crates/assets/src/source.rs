//! Where models and data come from: what is built in, a folder, or the Hugging Face hub.
//!
//! | written | meaning |
//! |---|---|
//! | `mini_roberta` | an embedded model, see `lora-lab list models` |
//! | `path/to/folder` | a folder with config.json, tokenizer.json and model.safetensors, or its shards with their index |
//! | `hf://org/name@revision` | the same files of a repository on the hub; `@revision` may be left out |
//!
//! The hub's files lie in its own cache (`HF_HOME`), which other programs share. What lies there is used as it is; the rest is
//! downloaded, with the token in `HF_TOKEN` or the one that `hf auth login` keeps. `HF_HUB_OFFLINE=1` downloads nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use data::source::Files;
use models::{
    backbone::draw_pooler,
    catalog,
    config::{Config, ConfigFile},
    error::ModelError,
    weights::Weights,
};

use crate::{
    error::AssetError,
    file::{self, CONFIGURATION, TOKENS},
};

pub mod hub;
pub mod raw;
mod shards;

use hub::Repository;
use shards::{shards, tensors};

/// What a model or dataset is called in YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Comes with the build.
    Embedded(&'static str),
    /// A folder of this machine.
    Folder(PathBuf),
    /// A repository on the hub.
    Hub(Repository),
}

/// Reads a model's name. A name that is no folder is one of the embedded.
pub fn model(name: &str) -> Result<Origin, AssetError> {
    if name.starts_with(hub::SCHEME) {
        return Ok(Origin::Hub(Repository::model(name)?));
    }
    if let Some(found) = catalog::MODELS.iter().find(|model| model.name == name) {
        return Ok(Origin::Embedded(found.name));
    }
    let path = PathBuf::from(name);
    if path.is_dir() || name.contains('/') || name.starts_with('.') {
        return Ok(Origin::Folder(path));
    }
    Ok(catalog::find(name).map(|found| Origin::Embedded(found.name))?)
}

/// What keeps a model or its data from being read: a folder that is not there. The hub is asked when a run starts.
pub fn absent(name: &str, data: Option<&str>) -> Option<AssetError> {
    if let Ok(Origin::Folder(path)) = model(name)
        && let Some(why) = no_folder(&path)
    {
        return Some(foreign(
            &path,
            format!(
                "{why}; a model is a folder with config.json, tokenizer.json and model.safetensors, `hf://org/name`, or a name from \
                 `lora-lab list models`"
            ),
        ));
    }
    files(data?).err()
}

/// Why a path is no folder; none where it is one.
fn no_folder(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("is a file".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
            Some("no such folder".to_owned())
        }
        Err(error) if path.is_symlink() => Some(format!("a link that leads to no folder ({error})")),
        Err(error) => Some(format!("cannot be opened ({error})")),
    }
}

fn foreign(path: &Path, reason: impl Into<String>) -> AssetError {
    AssetError::Foreign { path: path.to_owned(), reason: reason.into() }
}

/// The configuration of a model, without its weights and without a download; none where its files are not at hand, as those of a
/// study whose results somebody else looks at.
pub fn config(name: &str) -> Result<Option<Config>, AssetError> {
    match model(name)? {
        Origin::Embedded(name) => Ok(Some(catalog::find(name)?.config()?)),
        Origin::Folder(folder) if !folder.is_dir() => Ok(None),
        Origin::Folder(folder) => Ok(Some(read_config(&folder.join(CONFIG))?)),
        Origin::Hub(repository) => match repository.cached(CONFIG) {
            Some(path) => Ok(Some(read_config(&path)?)),
            None => Ok(catalog::known(&repository.name).map(Config::read).transpose()?),
        },
    }
}

/// Whether every file of a model is at hand, so that it is opened without a download.
pub fn is_here(name: &str) -> bool {
    let Ok(origin) = model(name) else { return false };
    let Origin::Hub(repository) = origin else { return absent(name, None).is_none() };
    let beside = [CONFIG, TOKENIZER].iter().all(|file| repository.cached(file).is_some());
    let here = repository.clone();
    let need = |file: &str| here.cached(file).ok_or_else(|| foreign(Path::new(name), format!("`{file}` is missing")));
    let cached: Box<Find> = Box::new(move |file| Ok(repository.cached(file)));
    beside && shards(&need, &*cached).is_ok()
}

/// The bytes of a model's tokenizer.
#[derive(Debug)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, where there is one.
    pub config: Option<Vec<u8>>,
}

/// The tokenizer of a model as [`config`] gives its configuration: none where its files are not at hand. An embedded model's fits it.
pub fn tokenizer(name: &str) -> Result<Option<TokenizerFiles>, AssetError> {
    let origin = model(name)?;
    let found = |file: &str| match &origin {
        Origin::Embedded(_) => None,
        Origin::Folder(folder) => Some(folder.join(file)).filter(|path| file::is_there(path)),
        Origin::Hub(repository) => repository.cached(file),
    };
    let Some(path) = found(TOKENIZER) else { return Ok(None) };
    let config = found(TOKENIZER_CONFIG).map(|path| file::bounded(&path, CONFIGURATION)).transpose()?;
    Ok(Some(TokenizerFiles { tokenizer: file::bounded(&path, TOKENS)?, config }))
}

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// A folder of templates that transformers chooses by name.
const MORE_TEMPLATES: &str = "additional_chat_templates";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn read_config(path: &Path) -> Result<Config, AssetError> {
    let content = file::bounded(path, CONFIGURATION)?;
    Config::read(&content).map_err(|error| foreign(path, error.to_string()))
}

/// A model's files, read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The configuration.
    pub config: Config,
    /// Names of the outputs of its classification head, where config.json gives them any.
    pub labels: Option<Vec<String>>,
    /// Why that head cannot be used for a task here, where config.json says that it answers another question.
    pub other_head: Option<String>,
    /// tokenizer.json
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, where there is one.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `chat_template.jinja`, where there is one.
    pub chat_template: Option<Vec<u8>>,
    /// Every tensor of the file or files.
    pub weights: Weights,
    /// SHA-256 of configuration, tokenizer and weights.
    pub hash: String,
    /// What is passed over, or was drawn because it is not there.
    pub notes: Vec<String>,
}

/// Where a file of a model lies; none where it has no such file.
type Find = dyn Fn(&str) -> Result<Option<PathBuf>, AssetError>;

/// Reads a model, downloading what is missing.
pub fn open(name: &str) -> Result<Checkpoint, AssetError> {
    if let Some(absent) = absent(name, None) {
        return Err(absent);
    }
    let folder = match model(name)? {
        Origin::Embedded(name) => return embedded(name),
        other => finder(other),
    };
    let need = |file: &str| {
        folder(file)?.ok_or_else(|| {
            foreign(
                Path::new(name),
                format!("`{file}` is missing; it lies beside the weights of every model on the hub"),
            )
        })
    };
    let config_path = need(CONFIG)?;
    let config_bytes = file::bounded(&config_path, CONFIGURATION)?;
    let ConfigFile { config, labels, other_head, mut notes } =
        ConfigFile::read(&config_bytes).map_err(|error| foreign(&config_path, error.to_string()))?;
    let tokenizer = file::bounded(&need(TOKENIZER)?, TOKENS)?;
    let mut hash = record::PartsHash::default();
    hash.add(&config_bytes);
    hash.add(&tokenizer);
    let mut weights = Weights::default();
    for path in shards(&need, &folder)? {
        let content = tensors(&path)?;
        weights.add(&content, config.prefixes()).map_err(|error| foreign(&path, error.to_string()))?;
        hash.add(&content);
    }
    notes.extend(draw_pooler(&config, &mut weights));
    if Path::new(name).join(MORE_TEMPLATES).is_dir() {
        notes.push(format!("{MORE_TEMPLATES}: templates beside the default one are not used"));
    }
    let beside = |file: &str| folder(file)?.map(|path| file::bounded(&path, CONFIGURATION)).transpose();
    let (tokenizer_config, chat_template) = (beside(TOKENIZER_CONFIG)?, beside(CHAT_TEMPLATE)?);
    let hash = hash.finish();
    Ok(Checkpoint { config, labels, other_head, tokenizer, tokenizer_config, chat_template, weights, hash, notes })
}

/// Looks for a file of a model. What is there and is no file is found too, so that reading it says what it is.
fn finder(origin: Origin) -> Box<Find> {
    match origin {
        Origin::Hub(repository) => Box::new(move |file| repository.fetch(file)),
        Origin::Folder(folder) => Box::new(move |file| Ok(Some(folder.join(file)).filter(|path| file::is_there(path)))),
        Origin::Embedded(_) => Box::new(|_| Ok(None)),
    }
}

fn embedded(name: &str) -> Result<Checkpoint, AssetError> {
    let files = catalog::find(name)?;
    let mut bytes = [files.config, files.tokenizer].concat();
    bytes.extend(files.weights.unwrap_or(b"random 0"));
    Ok(Checkpoint {
        config: files.config()?,
        labels: None,
        other_head: None,
        tokenizer: files.tokenizer.to_vec(),
        tokenizer_config: None,
        chat_template: None,
        weights: files.weights()?,
        hash: record::sha256_hex(&bytes),
        notes: Vec::new(),
    })
}

/// A folder of this machine as data.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Files for Folder {
    fn read(&self, relative: &str) -> io::Result<Option<Vec<u8>>> {
        match file::read(&self.0.join(relative)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        walk(if self.0.as_os_str().is_empty() { Path::new(".") } else { &self.0 }, "", &mut found)?;
        found.sort();
        Ok(found)
    }

    fn place(&self) -> String {
        if self.0.as_os_str().is_empty() { ".".to_owned() } else { self.0.display().to_string() }
    }
}

/// Depth of a dataset's folders that is looked into.
const DEEPEST: usize = 4;

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if !entry.path().is_dir() {
            found.push(name);
        } else if name.split('/').count() < DEEPEST {
            walk(&entry.path(), &format!("{name}/"), found)?;
        }
    }
    Ok(())
}

/// The files that a `data:` names.
pub fn files(written: &str) -> Result<Box<dyn Files>, AssetError> {
    if written.starts_with(hub::SCHEME) {
        return Ok(Box::new(Repository::dataset(written)?));
    }
    let path = PathBuf::from(written);
    if path.is_dir() {
        return Ok(Box::new(Folder(path)));
    }
    Err(foreign(&path, "no such folder; `data` is a folder of this machine or `hf://org/name`"))
}

/// Why a model's tensors do not fit it, with the file.
pub fn named(name: &str, error: ModelError) -> AssetError {
    match error {
        ModelError::Tensors(_) | ModelError::Config(_) => foreign(Path::new(name), error.to_string()),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
