//! Which files of a folder are a split of a task.

use std::collections::BTreeMap;

use super::registry::{Entry, Split};
use crate::error::DataError;
use crate::table::Format;

/// One file of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) path: String,
    pub(super) format: Format,
    /// Whether its columns are the benchmark's, not the hub's.
    pub(super) benchmark: bool,
}

/// The files of one task.
pub(super) struct Folder<'a> {
    entry: &'static Entry,
    place: &'a str,
    /// Path and name of every file.
    files: Vec<(&'a str, &'a str)>,
}

impl<'a> Folder<'a> {
    /// The files in folders that have a name of the task.
    pub(super) fn find(entry: &'static Entry, place: &'a str, paths: &'a [String]) -> Result<Self, DataError> {
        let of_task = |folder: &str| [entry.folder, entry.name].iter().any(|name| name.eq_ignore_ascii_case(folder));
        let split = paths.iter().filter_map(|path| Some((path.as_str(), path.split_once('/')?)));
        let inside = split.filter(|(_, (folder, name))| of_task(folder) && !name.contains('/'));
        let files: Vec<_> = inside.map(|(path, (_, name))| (path, name)).collect();
        let folder = Self { entry, place, files };
        if folder.files.is_empty() {
            let names = paths.iter().map(|path| path.split('/').next().unwrap_or(path));
            return Err(folder.lacks(format!("files in `{}` or `{}`", entry.folder, entry.name), names));
        }
        Ok(folder)
    }

    /// The files of a split, at least one.
    pub(super) fn required(&self, split: &Split) -> Result<Vec<Part>, DataError> {
        let parts = self.parts(split)?;
        if parts.is_empty() {
            let wanted = format!("`{}.tsv`, `{1}-*.parquet` or `{1}.jsonl` of the task", split.name, split.hub);
            return Err(self.lacks(wanted, self.files.iter().map(|&(path, _)| path)));
        }
        Ok(parts)
    }

    /// The files of a split, in order; none where it is absent.
    pub(super) fn parts(&self, split: &Split) -> Result<Vec<Part>, DataError> {
        // Files of one key belong together; two keys exclude each other.
        let mut sets: BTreeMap<(&str, &str, Kind), Vec<&str>> = BTreeMap::new();
        for &(path, name) in &self.files {
            let folder = &path[..path.len() - name.len()];
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            if let Some(kind) = self.kind(split, stem, name) {
                sets.entry((folder, extension, kind)).or_default().push(path);
            }
        }
        let mut found = sets.into_iter();
        let Some(((_, _, kind), mut paths)) = found.next() else { return Ok(Vec::new()) };
        let (task, place) = (self.entry.name.to_owned(), self.place.to_owned());
        let split = split.name.to_owned();
        if let Some((_, others)) = found.next() {
            let files = [paths[0], others[0]].join(", ");
            return Err(DataError::Ambiguous { task, place, split, files });
        }
        if let Kind::Shards(Some(expected)) = kind
            && expected != paths.len()
        {
            let (found, file) = (paths.len(), paths[0].to_owned());
            return Err(DataError::Shards { task, place, split, found, expected, file });
        }
        // By number, whether padded with zeros or not.
        paths.sort_by_key(|path| (path.len(), *path));
        let benchmark = kind == Kind::Benchmark;
        let format = |path: &str| if benchmark { Some(Format::Tsv) } else { Format::of(path) };
        let part = |&path: &&str| Some(Part { path: path.to_owned(), format: format(path)?, benchmark });
        Ok(paths.iter().filter_map(part).collect())
    }

    fn kind(&self, split: &Split, stem: &str, name: &str) -> Option<Kind> {
        if name == format!("{}.tsv", split.name) || Some(name) == self.msr_name(split) {
            return Some(Kind::Benchmark);
        }
        if !matches!(Format::of(name)?, Format::Parquet | Format::Jsonl) {
            return None;
        }
        match stem.strip_prefix(split.hub)? {
            "" => Some(Kind::Whole),
            shard => {
                let (index, total) = match shard.strip_prefix('-')?.split_once("-of-") {
                    Some((index, total)) => (index, Some(total.parse().ok()?)),
                    None => (&shard[1..], None),
                };
                index.bytes().all(|byte| byte.is_ascii_digit()).then_some(Kind::Shards(total))
            }
        }
    }

    /// Microsoft's test file is the benchmark's test split.
    fn msr_name(&self, split: &Split) -> Option<&'static str> {
        (self.entry.name == "mrpc" && split.name == "test").then_some("msr_paraphrase_test.txt")
    }

    /// The path of a file of this name.
    pub(super) fn named(&self, name: &str) -> Option<&'a str> {
        self.files.iter().find(|&&(_, other)| other == name).map(|&(path, _)| path)
    }

    /// An error that lists some of what is there instead.
    pub(super) fn lacks<'b>(&self, wanted: String, found: impl Iterator<Item = &'b str>) -> DataError {
        const SHOWN: usize = 8;
        let mut found: Vec<&str> = found.collect();
        found.dedup();
        let rest = found.len().saturating_sub(SHOWN);
        let mut list = found.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match (found.len(), rest) {
            (0, _) => list.push_str("no files"),
            (_, 0) => {}
            _ => list.push_str(&format!(" and {rest} more")),
        }
        DataError::NoFile {
            task: self.entry.name.to_owned(),
            place: self.place.to_owned(),
            wanted,
            found: list,
            remedy: "put there the benchmark's TSV files or the files of the dataset `nyu-mll/glue`".to_owned(),
        }
    }
}

/// What a split's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The benchmark's one file.
    Benchmark,
    /// The hub's one file.
    Whole,
    /// Some of the hub's, with their number if their names have it.
    Shards(Option<usize>),
}
