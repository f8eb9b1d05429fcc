//! Held-out documents, and the tokens of them that a base predicts.

use std::path::Path;

use data::{
    batch::{Batch, Encoded, EncodedSet},
    mask::{self, MaskedBatch, Masking},
    tokenize::Tokenizer,
};
use experiment::cell::HeldOutText;
use models::{config::Config, tokens::Row};

use crate::{
    error::TrainError,
    pretrain::{held_out_documents, miniature},
    stop::Stop,
};

/// Most tokens of a document from a file; the rest is cut off.
const LONGEST: usize = 128;

/// One document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    /// Tokens that are read, some of them masked.
    ids: Vec<u32>,
    /// Their types; empty means all 0.
    types: Vec<u32>,
    /// Places whose state a token is predicted from, and the token.
    pub(super) targets: Vec<(usize, u32)>,
}

impl Document {
    pub(super) fn row(&self) -> Row<'_> {
        Row { ids: &self.ids, types: &self.types }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Every token but the first is predicted from those before it.
    fn causal(ids: Vec<u32>) -> Self {
        let targets = ids.iter().enumerate().skip(1).map(|(at, id)| (at - 1, *id)).collect();
        Self { ids, types: Vec::new(), targets }
    }

    /// Numbers that differ where documents do.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let lengths = [self.ids.len() as u32, self.targets.len() as u32];
        let targets = self.targets.iter().flat_map(|(at, id)| [*at as u32, *id]);
        lengths.into_iter().chain(self.ids.iter().copied()).chain(targets)
    }
}

/// The documents of a base that `held_out` names.
pub(super) fn documents(
    held_out: &HeldOutText,
    (model, config): (&str, &Config),
    tokenizer: &Tokenizer,
    stop: Stop<'_>,
) -> Result<Vec<Document>, TrainError> {
    if let Some(path) = &held_out.text {
        return of_file(path, held_out.documents, (config, tokenizer), stop);
    }
    let Some(text) = miniature::text_of(model).filter(|_| !config.is_causal()) else {
        let reason = "the text that it was pretrained on is not known; name a file: `forgetting: {text: FILE.txt}`";
        return Err(TrainError::foreign(model, reason.to_owned()));
    };
    Ok(held_out_documents(text, tokenizer, held_out.documents, stop)?.iter().flat_map(of_masked).collect())
}

/// The documents of a masked batch, without their padding.
fn of_masked(masked: &MaskedBatch) -> Vec<Document> {
    let MaskedBatch { batch: Batch { rows, seq, ids, types, lengths }, positions, targets } = masked;
    let document = |row: usize| {
        let start = row * seq;
        Document {
            ids: ids[start..][..lengths[row]].to_vec(),
            types: types[start..][..lengths[row]].to_vec(),
            targets: Vec::new(),
        }
    };
    let mut documents: Vec<Document> = (0..*rows).map(document).collect();
    for (position, id) in positions.iter().zip(targets) {
        let at = *position as usize;
        documents[at / seq].targets.push((at % seq, *id));
    }
    documents
}

/// The lines of a file that are not blank.
fn of_file(
    path: &str,
    documents: usize,
    (config, tokenizer): (&Config, &Tokenizer),
    stop: Stop<'_>,
) -> Result<Vec<Document>, TrainError> {
    let bytes = assets::file::read(Path::new(path)).map_err(|source| TrainError::io(path, source))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        TrainError::foreign(
            path,
            format!("line {line} is not UTF-8, but held-out text must be; save the file as UTF-8"),
        )
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(documents).collect();
    if lines.is_empty() {
        return Err(TrainError::foreign(
            path,
            "no line has text, but a document of held-out text is a line".to_owned(),
        ));
    }
    let found = if config.is_causal() {
        lines
            .iter()
            .map(|line| stop.check().and_then(|()| causal(line, config, tokenizer)))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        let encode = |line: &&str| {
            stop.check()?;
            Ok::<_, TrainError>(Encoded::labelled(tokenizer.encode(line, None, longest(config))?, 0.0))
        };
        let set = EncodedSet::whole(lines.iter().map(encode).collect::<Result<_, _>>()?);
        let all: Vec<usize> = (0..set.rows.len()).collect();
        let batch = Batch::gather(&set, &all, all.len(), tokenizer.pad_id()?);
        of_masked(&mask::mask(batch, &Masking::uniform(tokenizer)?, 0, 0))
    };
    if found.iter().all(|document| document.targets.is_empty()) {
        return Err(TrainError::foreign(path, "no document has a token to predict; give longer lines".to_owned()));
    }
    Ok(found)
}

fn longest(config: &Config) -> usize {
    LONGEST.min(config.longest())
}

fn causal(text: &str, config: &Config, tokenizer: &Tokenizer) -> Result<Document, TrainError> {
    Ok(Document::causal(tokenizer.encode(text, None, longest(config))?.ids))
}
