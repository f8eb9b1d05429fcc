//! `tensorboard`: an experiment's records as event files.

use std::path::{Path, PathBuf};

use record::{Store, write_atomic};
use tensorboard::study::{EventFile, Study, files, is_own};

use super::results::{self, Found};
use crate::{
    failure::Failure,
    output::create_folder,
    terminal::{note, print},
};

/// Arguments of `tensorboard`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab tensorboard dylora_glue                 then `tensorboard --logdir results/dylora_glue/tensorboard`
  lora-lab tensorboard dylora_glue compare_tuned --out boards
  lora-lab tensorboard x.yaml --set train.steps=500

Every run has a folder with its losses, rates, norms and evaluations over steps, its settings and its results for the tab HPARAMS, where
the seeds of a row are one group. The experiment's file is in the tab TEXT. A record has no time of every step: steps lie evenly between
a run's beginning and its end. stdout has the folder of every experiment.")]
pub(crate) struct TensorBoard {
    /// Studies: names, folders under the results, or experiments' files.
    #[arg(required = true, value_name = "STUDY")]
    pub experiments: Vec<PathBuf>,
    /// Folder in which every experiment gets a folder of its name; by default `tensorboard` in that of its results.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Read the file with an override. The results keep the overrides of their run, so a study's name needs none.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Writes the event files of every experiment.
pub(super) fn run(args: &TensorBoard, results: &Path) -> Result<(), Failure> {
    for name in &args.experiments {
        let Found { settled, store, records } = results::find(name, &args.set, results)?;
        let experiment = &settled.experiment;
        let (title, yaml) = (experiment.title(), results::text(experiment, &store)?);
        let about = Study { name: experiment.name(), title: &title, yaml: &yaml };
        let folder = folder(args, &store, experiment.name())?;
        let files = files(&about, &records);
        files.iter().try_for_each(|file| write(&folder, file))?;
        note(&format!("{}: {} runs", experiment.name(), records.len()));
        print(&format!("{}\n", folder.display()))?;
    }
    Ok(())
}

/// Where the files of an experiment go.
fn folder(args: &TensorBoard, store: &Store, name: &str) -> Result<PathBuf, Failure> {
    let Some(out) = &args.out else { return Ok(store.directory().join("tensorboard")) };
    let absolute = std::path::absolute(out)?;
    if let Some(runs) = record::runs_around(&absolute) {
        return Err(Failure::Input(format!(
            "{}: lies in {}, which has the runs of an experiment; give another `--out`",
            out.display(),
            runs.display()
        )));
    }
    Ok(out.join(name))
}

/// Writes one file, in the place of those that an earlier call left there: TensorBoard would show both as one run.
fn write(folder: &Path, file: &EventFile) -> Result<(), Failure> {
    let folder = folder.join(&file.folder);
    create_folder(&folder)?;
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_own(&name) && name != file.name.as_str() && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(write_atomic(&folder.join(&file.name), &file.bytes)?)
}
