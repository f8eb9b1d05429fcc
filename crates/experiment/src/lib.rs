//! From the YAML a researcher writes to the cells of a grid; every problem is found at once, before a device is touched.
//!
//! `text → Value → --set → document → checked rows → cells`. A variant is a preset with overrides, resolved at every rank; the
//! training recipe is the experiment's, with the task's and then the variant's overrides on top. Types and ranges, names, ranks
//! against the widths of the targeted maps, and policies against the length of each run are all checked here.
//!
//! ```
//! let yaml = "suite: glue_mini\nmodel: mini_roberta\ntasks: [sst]\nseeds: [0]\nvariants: [head_only]\n";
//! let errors = experiment::read(yaml, "experiments/x.yaml", "x", &[]).unwrap_err();
//! assert!(errors.to_string().contains("tasks[0] (line 3): unknown task `sst`, did you mean `sst2`?"));
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use record::{Contrast, Matching};
use serde_yaml::{Mapping, Value};
use variants::stream::Seeds;

use cell::Cell;
use document::Varied;
use start::StartFrom;
use tune::Tune;

mod bounds;
pub mod cell;
mod contrast;
pub mod controls;
mod document;
mod error;
mod expand;
mod fields;
mod foreign;
pub mod gain;
mod grid;
pub mod hyper;
pub mod launcher;
pub mod located;
pub mod matching;
mod overlay;
mod overrides;
mod path;
mod refusal;
pub mod schema;
mod set;
pub mod start;
pub mod suites;
pub mod tasks;
#[cfg(test)]
mod tests;
mod train_fields;
pub mod tune;
mod tuning;
mod yaml;

pub use error::{Problem, SpecErrors};
pub use yaml::text;

use error::Report;
use path::Path;

/// How many runs share a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CohortSize {
    /// What fits in memory.
    Auto,
    /// This many.
    Runs(usize),
}

/// An experiment that can be run. Made by [`read`] alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    name: String,
    suite: String,
    tasks: Vec<String>,
    cohort: CohortSize,
    cells: Vec<Cell>,
    baseline: Option<String>,
    contrasts: Vec<Contrast>,
    equivalence: Option<f64>,
    primary: Vec<String>,
    matching: Option<Matching>,
    text: String,
    overrides: Vec<String>,
    /// The text with the overrides.
    resolved: Value,
    /// The folder that relative paths are relative to.
    root: PathBuf,
    /// Whether it has any.
    has_paths: bool,
    /// The path that messages show, and the name where the file gives none: what it takes to read the text again.
    origin: String,
    default_name: String,
    /// Streams that do not follow the seed.
    streams: BTreeMap<String, u64>,
    /// What follows the seed beside the streams.
    vary: BTreeSet<Varied>,
    tune: Option<Tune>,
    launcher: Option<launcher::Slurm>,
}

impl Experiment {
    /// The name of its folder under `results/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data suite.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// The tasks, in the file's order.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// How many runs share a base.
    pub fn cohort(&self) -> CohortSize {
        self.cohort
    }

    /// Every run: by task, then variant, then rank, then seed, each in the file's order. Their ids differ.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The label that paired comparisons are made against.
    pub fn baseline(&self) -> Option<&str> {
        self.baseline.as_deref()
    }

    /// The questions that the file asks of its rows.
    pub fn contrasts(&self) -> &[Contrast] {
        &self.contrasts
    }

    /// How its variants are tuned, where they are. Its [`cells`](Self::cells) have the settings of the file until
    /// [`tuned`](Self::tuned) gives them those that were chosen.
    pub fn tune(&self) -> Option<&Tune> {
        self.tune.as_ref()
    }

    /// The streams' seeds of a run.
    pub(crate) fn seeds_of(&self, seed: u64) -> Seeds {
        expand::seeds(&self.streams, &self.vary, seed)
    }

    /// Differences smaller than this many points do not matter; none where the file does not say.
    pub fn equivalence(&self) -> Option<f64> {
        self.equivalence
    }

    /// Tasks, or `average`, whose comparisons are the primary family; empty where the file does not say.
    pub fn primary(&self) -> &[String] {
        &self.primary
    }

    /// What its rows have as much of as the baseline; none where the file does not say.
    pub fn matching(&self) -> Option<&Matching> {
        self.matching.as_ref()
    }

    /// What a cluster is asked for, where the file says; it changes no run.
    pub fn launcher(&self) -> Option<&launcher::Slurm> {
        self.launcher.as_ref()
    }

    /// The label of every row that the tables can have, in the file's order.
    pub fn labels(&self) -> Vec<String> {
        let mut labels = Vec::new();
        for (readout, _) in self.cells.iter().flat_map(|cell| cell.readouts(&[])) {
            if !labels.contains(&readout.label) {
                labels.push(readout.label);
            }
        }
        labels
    }

    /// The file, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The `--set` arguments, as given.
    pub fn overrides(&self) -> &[String] {
        &self.overrides
    }

    /// The first line of the comment that opens the file, and what the command line has changed of it; empty where there is neither.
    pub fn title(&self) -> String {
        let title = self.header().next().and_then(|line| line.strip_prefix('#')).unwrap_or_default().trim();
        if self.overrides.is_empty() {
            return title.to_owned();
        }
        format!("{title} With {}.", self.overrides.join(", ")).trim_start().to_owned()
    }

    /// The lines of the comment that opens the file, without the one that tells editors of a schema.
    fn header(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().take_while(|line| line.starts_with('#'));
        lines.skip_while(|line| line.starts_with("# yaml-language-server:"))
    }

    /// The experiment as a file in `folder`, from which it is read as it is here: with its overrides, and with paths that are found from
    /// there. The comment that opens the file stays.
    pub fn resolved(&self, folder: &std::path::Path) -> Result<String, String> {
        let way = located::way(folder, &self.root).display().to_string();
        let schema = |line: &&str| line.starts_with("# yaml-language-server:");
        let written: String = self.text.split_inclusive('\n').skip_while(schema).collect();
        if self.overrides.is_empty() && !self.has_paths {
            return Ok(written);
        }
        if self.overrides.is_empty() && self.resolved.get("root").is_none() {
            // As written, every comment included.
            let end = if written.ends_with('\n') { "" } else { "\n" };
            let text =
                format!("{}{end}# Relative paths are relative to this folder.\n{}", written, yaml_line("root", &way)?);
            // Not of a file that is one map in braces, or that ends within a text.
            if yaml::parse(&text).is_ok_and(|read| read.get("root").and_then(Value::as_str) == Some(&way)) {
                return Ok(text);
            }
        }
        let mut fields = self.resolved.clone();
        if let Some(fields) = fields.as_mapping_mut().filter(|_| self.has_paths) {
            fields.insert("root".into(), way.into());
        }
        let header: Vec<&str> = self.header().skip(1).collect();
        let body = serde_yaml::to_string(&fields).map_err(|error| error.to_string())?;
        let header = header.into_iter().fold(String::new(), |all, line| all + line + "\n");
        Ok(format!("# {}\n{header}{body}", self.title()))
    }
}

/// A key with a text as its value, quoted where YAML asks for it.
fn yaml_line(key: &str, value: &str) -> Result<String, String> {
    let fields = Mapping::from_iter([(Value::from(key), Value::from(value))]);
    serde_yaml::to_string(&fields).map_err(|error| error.to_string())
}

/// An adapter that runs start from must have their tensors.
fn check_adapters(document: &document::Document, cells: &[Cell], report: &mut Report) {
    for task in &document.tasks {
        let Some(from) = &task.start_from else { continue };
        for cell in cells.iter().filter(|cell| cell.id.task == task.name) {
            if let Some(StartFrom::Adapter(written)) = &cell.recipe.start_from
                && let Err(error) = start::check(written, &cell.recipe)
            {
                report.add(&from.at, format!("`{}` cannot start there: {error}", cell.id.variant));
                break;
            }
        }
    }
}

/// How many adapters a run is beside follows from where it starts.
fn check_counts(rows: &[grid::Row], document: &document::Document, report: &mut Report) {
    for row in rows {
        let written = row.specs.iter().map(|spec| spec.base_update.adapters()).max().unwrap_or_default();
        if written > 0 {
            let at = document.variants[row.entry].at.key("with");
            report.add(
                &at,
                format!("base_update.adapters is `{written}`, but they are counted from the tasks' `start_from`; leave it out"),
            );
        }
    }
}

/// Reads an experiment. `origin` is the path that messages show, `default_name` the file's stem, and `overrides` are
/// `key=value` with a dotted key, such as `variants.lora.train.learning_rate=1e-3`.
pub fn read(text: &str, origin: &str, default_name: &str, overrides: &[String]) -> Result<Experiment, SpecErrors> {
    let experiment = read_untuned(text, origin, default_name, overrides)?;
    tuning::check_settings(&experiment)?;
    Ok(experiment)
}

/// The same, whose settings are not looked at.
fn read_untuned(text: &str, origin: &str, default_name: &str, overrides: &[String]) -> Result<Experiment, SpecErrors> {
    let mut report = Report::default();
    let text = yaml::without_mark(text);
    let mut root = match yaml::parse(text) {
        Ok(root) => root,
        Err(reason) => {
            report.add(&Path::default(), reason);
            return Err(report.into_errors(origin, text, &[]));
        }
    };
    let sets = overrides::apply(&mut root, overrides, &mut report);
    let resolved = root.clone();
    let folder = located::root(origin, root.get("root").and_then(Value::as_str));
    let has_paths = located::locate(&mut root, &folder);
    let mut document = document::read(&root, default_name, &mut report);
    if let Some(document) = &mut document {
        matching::choose(document, &mut report);
    }
    let rows = document.as_ref().map(|document| grid::check(document, &mut report)).unwrap_or_default();
    if let Some(document) = &document {
        check_counts(&rows, document, &mut report);
    }
    let (Some(document), true) = (document, report.is_empty()) else {
        return Err(report.into_errors(origin, text, &sets));
    };
    let cells = expand::cells(&document, &rows, &sets, &folder);
    check_adapters(&document, &cells, &mut report);
    matching::verify(&document, &cells, &mut report);
    let contrasts = contrast::resolve(&document.contrasts, &cells, &mut report);
    let tune = tuning::resolve(&document, &cells, &mut report);
    let tasks: Vec<String> = document.tasks.iter().map(|task| task.name.clone()).collect();
    contrast::check_primary(&document.primary, &tasks, &mut report);
    if !report.is_empty() {
        return Err(report.into_errors(origin, text, &sets));
    }
    Ok(Experiment {
        cells,
        contrasts,
        tasks,
        equivalence: document.equivalence,
        primary: document.primary.into_iter().map(|(_, name)| name).collect(),
        matching: document.matching.map(|matching| matching.value),
        name: document.name,
        suite: document.suite,
        cohort: document.cohort,
        baseline: document.baseline,
        text: text.to_owned(),
        overrides: overrides.to_vec(),
        resolved,
        root: folder,
        has_paths,
        origin: origin.to_owned(),
        default_name: default_name.to_owned(),
        streams: document.streams,
        vary: document.vary,
        tune,
        launcher: document.launcher,
    })
}
