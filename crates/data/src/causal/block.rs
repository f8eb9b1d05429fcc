//! Plain text in blocks of equal length.
//!
//! A document is a run of lines without a blank one; its line breaks are kept. The stream is every document's tokens without frame,
//! each followed by the end token. It is cut into blocks; the rest that fills none is dropped. Every token is a target, except that
//! nothing predicts the first of a block.

use crate::batch::{Encoded, EncodedSet};
use crate::causal::{of, utf8};
use crate::error::DataError;
use crate::tokenize::Tokenizer;

/// The documents of a file.
pub(super) fn documents(file: &str, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let lines: Vec<&str> = utf8(file, bytes)?.lines().collect();
    let documents = lines.split(|line| line.trim().is_empty()).filter(|document| !document.is_empty());
    Ok(documents.map(|document| document.join("\n")).collect())
}

/// The text of a file as rows of `block` tokens.
pub fn blocks(file: &str, bytes: &[u8], tokenizer: &Tokenizer, block: usize) -> Result<EncodedSet, DataError> {
    rows(file, &documents(file, bytes)?, tokenizer, block)
}

/// Documents, one after the other, as rows of `block` tokens.
pub(super) fn rows(
    file: &str,
    documents: &[String],
    tokenizer: &Tokenizer,
    block: usize,
) -> Result<EncodedSet, DataError> {
    if block < 2 {
        let rule = format!("is `{block}`, but a token is predicted from one before it");
        return Err(of("block", &rule, "use at least 2"));
    }
    let end = tokenizer.end_id()?;
    let mut stream = Vec::new();
    for document in documents {
        stream.extend(tokenizer.encode_plain(document, false)?);
        stream.push(end);
    }
    if stream.len() < block {
        let problem = format!("has {} tokens, fewer than one block of {block}", stream.len());
        return Err(of(file, &problem, "give more text or a smaller block"));
    }
    let rows = stream.chunks_exact(block).map(|ids| Encoded::causal(ids.to_vec(), vec![true; block]));
    Ok(EncodedSet::whole(rows.collect()))
}
