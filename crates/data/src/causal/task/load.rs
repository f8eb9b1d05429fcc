//! From the files of a text task to tokens.

use super::{Form, LoadedText, TextSplit, TextTask};
use crate::audit::{self, fingerprint};
use crate::batch::EncodedSet;
use crate::causal::block::blocks;
use crate::causal::chat::{ChatFiles, ChatTemplate, Date};
use crate::causal::instruction::{self, Content, Instruction};
use crate::causal::pair::{self, TextPair};
use crate::causal::{Encoder, of};
use crate::error::DataError;
use crate::source::{self, Files};
use crate::task::{FieldHasher, Objective, TaskInfo};
use crate::tokenize::Tokenizer;

/// The day of every rendering: what the templates of Llama 3 say where there is no clock.
const DATE: Date = Date { year: 2024, month: 7, day: 26 };

/// The task as tokens, at most `max_len` per item. The chat template is read where there are conversations.
pub fn load<'a>(
    task: &'a TextTask,
    files: &dyn Files,
    tokenizer: &'a Tokenizer,
    chat: impl Into<ChatFiles<'a>>,
    max_len: usize,
) -> Result<LoadedText, DataError> {
    let problems = task.check();
    if !problems.is_empty() {
        return Err(DataError::OwnTask { task: task.name.clone(), problems });
    }
    let mut hasher = FieldHasher::default();
    hasher.field(task.name.as_bytes());
    hasher.field(form_name(task.form).as_bytes());
    let mut reader = Reader { task, tokenizer, chat: chat.into(), template: None, max_len, notes: Vec::new() };
    let mut file = |split: &str, path: &str, purpose| {
        let bytes = source::needed(&task.name, files, path)?;
        hasher.field(split.as_bytes());
        hasher.field(&bytes);
        reader.split(path, &bytes, purpose)
    };
    let purpose = if task.generates() { Purpose::Generate } else { Purpose::Learn };
    let (train, known) = file("train", &task.train, Purpose::Learn)?;
    let (dev, items) = file("dev", &task.dev, purpose)?;
    let shared = audit::shared_items_note(&task.dev, &known, &items);
    let test = task.test.as_ref().map(|path| Ok((path, file("test", path, purpose)?))).transpose()?;
    let (reading, hash) = (reader.identity(), hasher.finish());
    let mut notes = reader.notes;
    notes.extend(shared);
    notes.extend(test.as_ref().and_then(|(path, (_, items))| audit::shared_items_note(path, &known, items)));
    let (train, test) = (train.set, test.map(|(_, (split, _))| split));
    Ok(LoadedText { info: info(task), train, evaluation: vec![("dev".to_owned(), dev)], test, hash, reading, notes })
}

fn form_name(form: Form) -> &'static str {
    match form {
        Form::Pairs => "pairs",
        Form::Blocks => "blocks",
        Form::Instructions => "instructions",
    }
}

fn info(task: &TextTask) -> TaskInfo {
    let does = match task.form {
        Form::Pairs => "Continues the contexts",
        Form::Blocks => "Continues the text",
        Form::Instructions => "Answers the prompts",
    };
    TaskInfo {
        name: task.name.clone(),
        doc: format!("{does} of {}.", task.train),
        objective: Objective::Text,
        metrics: task.metrics(),
        splits: vec!["dev".to_owned()],
        pair: false,
    }
}

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its targets are learnt, or their likelihood is measured.
    Learn,
    /// Its items are generated as well.
    Generate,
}

struct Reader<'a> {
    task: &'a TextTask,
    tokenizer: &'a Tokenizer,
    chat: ChatFiles<'a>,
    /// Read with the first conversation.
    template: Option<ChatTemplate>,
    max_len: usize,
    notes: Vec<String>,
}

impl Reader<'_> {
    /// A file's items as tokens, and the fingerprint of each as the file has it.
    fn split(&mut self, file: &str, bytes: &[u8], purpose: Purpose) -> Result<(TextSplit, Vec<u64>), DataError> {
        let (split, items) = match self.task.form {
            Form::Blocks => {
                let set = self.blocks(file, bytes)?;
                let items = set.rows.iter().map(|row| fingerprint(&row.ids)).collect();
                return Ok((TextSplit { set, ..TextSplit::default() }, items));
            }
            Form::Pairs => {
                let pairs = pair::parse(file, bytes)?;
                let items = pairs.iter().map(|pair| fingerprint(&(&pair.prompt, &pair.completion))).collect();
                (self.pairs(file, pairs, purpose)?, items)
            }
            Form::Instructions => {
                let found = instruction::parse(file, bytes)?;
                let items = found.iter().map(|item| fingerprint(&item.content)).collect();
                (self.instructions(file, &found, purpose)?, items)
            }
        };
        let (rows, limit) = (split.set.rows.len(), self.max_len);
        let full = split.set.lengths().into_iter().filter(|&length| length >= limit).count();
        if full > 0 {
            self.notes.push(format!(
                "{file}: items that fill max_len ({limit} tokens), longer ones cut on the right: {full} of {rows}"
            ));
        }
        if purpose == Purpose::Generate {
            self.notes.push(format!("{file}: items to generate: {}", split.prompts.len()));
        }
        Ok((split, items))
    }

    fn blocks(&self, file: &str, bytes: &[u8]) -> Result<EncodedSet, DataError> {
        let block = self.task.block.unwrap_or(self.max_len);
        if block > self.max_len {
            let problem = format!("is `{block}`, but the length limit (max_len) is {}", self.max_len);
            return Err(of(
                &format!("task `{}`: block", self.task.name),
                &problem,
                "use a smaller block or raise max_len",
            ));
        }
        blocks(file, bytes, self.tokenizer, block)
    }

    fn pairs(&self, file: &str, pairs: Vec<TextPair>, purpose: Purpose) -> Result<TextSplit, DataError> {
        let encoder = self.encoder(file);
        let mut split = TextSplit { set: encoder.pairs(&pairs)?, ..TextSplit::default() };
        if purpose == Purpose::Generate {
            for item in pair::group(pairs).into_iter().take(self.limit()) {
                split.prompts.push(encoder.pair_prompt(&item)?);
                split.references.push(item.references);
            }
        }
        Ok(split)
    }

    fn instructions(&mut self, file: &str, items: &[Instruction], purpose: Purpose) -> Result<TextSplit, DataError> {
        self.read_template(items)?;
        let encoder = self.encoder(file);
        let mut split = TextSplit { set: encoder.instructions(items)?, ..TextSplit::default() };
        if purpose == Purpose::Generate {
            for item in items.iter().take(self.limit()) {
                split.prompts.push(encoder.instruction_prompt(item)?);
                split.references.push(vec![item.reference().to_owned()]);
            }
        }
        Ok(split)
    }

    fn identity(&self) -> String {
        let mut hasher = FieldHasher::default();
        for token in [self.tokenizer.start_id(), self.tokenizer.end_id()] {
            hasher.field(token.ok().and_then(|id| self.tokenizer.token(id)).unwrap_or_default().as_bytes());
        }
        hasher.field(if self.tokenizer.cuts_left() { b"left" } else { b"right" });
        if let Some(template) = &self.template {
            template.identity(|part| hasher.field(part));
        }
        hasher.finish()
    }

    /// Tokenizers without a template do for prompts with completions.
    fn read_template(&mut self, items: &[Instruction]) -> Result<(), DataError> {
        if self.chat.tokenizer_config.is_none() && self.chat.template.is_none() {
            return Ok(());
        }
        if self.template.is_none() && items.iter().any(|item| matches!(item.content, Content::Chat(_))) {
            self.template = Some(ChatTemplate::read(self.chat, Some(DATE))?);
        }
        Ok(())
    }

    fn encoder<'e>(&'e self, file: &'e str) -> Encoder<'e> {
        Encoder { file, tokenizer: self.tokenizer, template: self.template.as_ref(), max_len: self.max_len }
    }

    fn limit(&self) -> usize {
        self.task.limit.unwrap_or(usize::MAX)
    }
}
