//! `init`: a commented experiment and an example task, to begin from.

use std::path::{Path, PathBuf};

use data::{suite, task::Example};
use record::write_atomic;

use crate::{
    failure::Failure,
    output::create_folder,
    terminal::{note, print},
};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab init                        my_study.yaml and the folder my_data here
  lora-lab init ~/studies/first        the same in another folder
  lora-lab run my_study                trains it in a minute, then prints its table

No file that is there is replaced.")]
pub(crate) struct Init {
    /// Where the files go; it is made where it is not there.
    #[arg(default_value = ".", value_name = "DIR")]
    pub folder: PathBuf,
}

/// The experiment.
const STUDY: &str = include_str!("init/my_study.yaml");
/// The task that the example rows are of.
const TASK: &str = "sst2";
/// Rows of the example's files.
const ROWS: [usize; 2] = [400, 100];

/// Writes the files.
pub(super) fn run(args: &Init) -> Result<(), Failure> {
    let dataset = suite::load(suite::GLUE_MINI, TASK)?;
    let evaluation = dataset.evaluation.first().map(|(_, examples)| examples.as_slice()).unwrap_or_default();
    let files = [
        ("my_study.yaml", STUDY.to_owned()),
        ("experiment.schema.json", experiment::schema::text()),
        ("my_data/train.csv", rows(&dataset.train, ROWS[0])),
        ("my_data/dev.csv", rows(evaluation, ROWS[1])),
    ];
    let at = |name: &str| args.folder.join(name);
    if let Some((name, _)) = files.iter().find(|(name, _)| at(name).symlink_metadata().is_ok()) {
        return Err(Failure::Input(format!(
            "{}: is there already, and nothing is replaced; name another folder: `lora-lab init DIR`",
            at(name).display()
        )));
    }
    create_folder(&at("my_data"))?;
    for (name, text) in &files {
        write_atomic(&at(name), text.as_bytes())?;
        note(&format!("wrote {}", at(name).display()));
    }
    let study = if args.folder == Path::new(".") {
        "my_study.yaml".to_owned()
    } else {
        at("my_study.yaml").display().to_string()
    };
    print(&format!("lora-lab check {study}\nlora-lab run {study}\n"))
}

/// The first examples as CSV, with the names of their classes.
fn rows(examples: &[Example], most: usize) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |example: &Example| {
        let label = if example.label > 0.5 { "positive" } else { "negative" };
        format!("{},{label}\n", quoted(&example.first))
    };
    std::iter::once("text,label\n".to_owned()).chain(examples.iter().take(most).map(line)).collect()
}
