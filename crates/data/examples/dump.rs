//! Writes the corpus, the tasks and the tokenizer as text under a folder, for reading and for other tools.

use std::fs::{create_dir_all, write};
use std::path::Path;

use data::corpus::{Corpus, Text};
use data::suite;
use data::task::{Example, TaskInfo};
use data::tokenize::build_tokenizer_json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: dump <folder> <documents>")?;
    let documents: u64 = arguments.next().ok_or("usage: dump <folder> <documents>")?.parse()?;
    let folder = Path::new(&folder);
    create_dir_all(folder)?;
    write(folder.join("tokenizer.json"), build_tokenizer_json())?;
    let line = |(first, second): (String, Option<String>)| format!("{first}\t{}\n", second.unwrap_or_default());
    for (name, text) in [("corpus.tsv", Text::Pairs), ("stories.tsv", Text::Stories)] {
        let corpus = Corpus::of(text, 0);
        write(folder.join(name), (0..documents).map(|i| line(corpus.document(i))).collect::<String>())?;
    }
    for (suite, info) in all()? {
        let dataset = suite::load(suite, &info.name)?;
        let splits = [("train".to_owned(), dataset.train), ("test".to_owned(), dataset.test)];
        for (split, examples) in splits.into_iter().chain(dataset.evaluation) {
            let line = |e: &Example| format!("{}\t{}\t{}\n", e.label, e.first, e.second.as_deref().unwrap_or_default());
            write(
                folder.join(format!("{suite}-{}-{split}.tsv", info.name)),
                examples.iter().map(line).collect::<String>(),
            )?;
        }
    }
    Ok(())
}

fn all() -> Result<Vec<(&'static str, TaskInfo)>, data::error::DataError> {
    let tasks =
        |suite| suite::tasks(suite).map(|tasks| tasks.into_iter().map(|task| (suite, task)).collect::<Vec<_>>());
    Ok(suite::suites().into_iter().map(tasks).collect::<Result<Vec<_>, _>>()?.concat())
}
