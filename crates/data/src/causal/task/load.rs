//! From the files of a text task to tokens.

use super::{Form, LoadedText, TextSplit, TextTask};
use crate::audit::{self, fingerprint};
use crate::batch::EncodedSet;
use crate::causal::block;
use crate::causal::chat::{ChatFiles, ChatTemplate, Date};
use crate::causal::instruction::{self, Content, Instruction};
use crate::causal::pair::{self, TextPair};
use crate::causal::{Encoder, of};
use crate::error::DataError;
use crate::holdout::{Holdout, TUNE};
use crate::source::{self, Files};
use crate::task::{FieldHasher, Objective, TaskInfo};
use crate::tokenize::Tokenizer;

/// The day of every rendering: what the templates of Llama 3 say where there is no clock.
const DATE: Date = Date { year: 2024, month: 7, day: 26 };

/// How files become tokens: by which tokenizer, by which chat template where there are conversations, at most how many tokens per item.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The files that a chat template is read from.
    pub chat: ChatFiles<'a>,
    /// Greatest number of tokens of an item.
    pub max_len: usize,
}

/// The task as tokens, at most `max_len` per item. The chat template is read where there are conversations.
pub fn load<'a>(
    task: &'a TextTask,
    files: &dyn Files,
    tokenizer: &'a Tokenizer,
    chat: impl Into<ChatFiles<'a>>,
    max_len: usize,
) -> Result<LoadedText, DataError> {
    let (mut reader, mut hasher) = begin(task, Reading { tokenizer, chat: chat.into(), max_len })?;
    let mut file = |split: &str, path: &str, purpose| {
        let bytes = source::needed(&task.name, files, path)?;
        hasher.field(split.as_bytes());
        hasher.field(&bytes);
        let items = reader.items(path, &bytes)?;
        reader.split(path, items, purpose)
    };
    let purpose = Purpose::of_evaluation(task);
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

/// The task with a split [`TUNE`] that is cut from its training file as its only one; no other file is read.
///
/// Cut off are contexts with all their completions, conversations and prompts with all their answers, or documents: a share of their
/// number, rounded up.
pub fn load_cut(
    task: &TextTask,
    files: &dyn Files,
    reading: Reading<'_>,
    holdout: Holdout,
) -> Result<LoadedText, DataError> {
    let (mut reader, mut hasher) = begin(task, reading)?;
    let path = &task.train;
    let bytes = source::needed(&task.name, files, path)?;
    for field in [b"train", &bytes[..], TUNE.as_bytes(), &holdout.share.to_le_bytes(), &holdout.seed.to_le_bytes()] {
        hasher.field(field);
    }
    let (kept, held) = reader.items(path, &bytes)?.part(&task.name, holdout)?;
    let sizes = (held.count(), kept.count());
    reader.notes.push(audit::cut_note(&task.name, TUNE, sizes, &format!("items of {path}")));
    let (train, _) = reader.split(path, kept, Purpose::Learn)?;
    let (tune, _) = reader.split(&format!("{path} ({TUNE})"), held, Purpose::of_evaluation(task))?;
    let mut info = info(task);
    info.splits = vec![TUNE.to_owned()];
    Ok(LoadedText {
        info,
        train: train.set,
        evaluation: vec![(TUNE.to_owned(), tune)],
        test: None,
        reading: reader.identity(),
        hash: hasher.finish(),
        notes: reader.notes,
    })
}

/// A task without problems, and what every hash of it begins with.
fn begin<'a>(task: &'a TextTask, reading: Reading<'a>) -> Result<(Reader<'a>, FieldHasher), DataError> {
    let problems = task.check();
    if !problems.is_empty() {
        return Err(DataError::OwnTask { task: task.name.clone(), problems });
    }
    let mut hasher = FieldHasher::default();
    hasher.field(task.name.as_bytes());
    hasher.field(form_name(task.form).as_bytes());
    let Reading { tokenizer, chat, max_len } = reading;
    Ok((Reader { task, tokenizer, chat, template: None, max_len, notes: Vec::new() }, hasher))
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

impl Purpose {
    /// Of what a task is judged on.
    fn of_evaluation(task: &TextTask) -> Self {
        if task.generates() { Self::Generate } else { Self::Learn }
    }
}

/// What a file holds.
enum Items {
    /// Plain text.
    Documents(Vec<String>),
    /// Contexts with their completions.
    Pairs(Vec<TextPair>),
    /// Prompts with completions, or conversations.
    Instructions(Vec<Instruction>),
}

impl Items {
    fn count(&self) -> usize {
        match self {
            Self::Documents(all) => all.len(),
            Self::Pairs(all) => all.len(),
            Self::Instructions(all) => all.len(),
        }
    }

    /// What stays in training, and what is held out. What the model reads is on one side alone, with all that it could answer.
    fn part(self, task: &str, holdout: Holdout) -> Result<(Self, Self), DataError> {
        Ok(match self {
            Self::Documents(all) => {
                let (kept, held) = holdout.part(task, all, Clone::clone)?;
                (Self::Documents(kept), Self::Documents(held))
            }
            Self::Pairs(all) => {
                let (kept, held) = holdout.part(task, all, |pair| pair.prompt.clone())?;
                (Self::Pairs(kept), Self::Pairs(held))
            }
            Self::Instructions(all) => {
                let (kept, held) = holdout.part(task, all, |item| fingerprint(&item.read()))?;
                (Self::Instructions(kept), Self::Instructions(held))
            }
        })
    }
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
    /// A file's items.
    fn items(&self, file: &str, bytes: &[u8]) -> Result<Items, DataError> {
        Ok(match self.task.form {
            Form::Blocks => Items::Documents(block::documents(file, bytes)?),
            Form::Pairs => Items::Pairs(pair::parse(file, bytes)?),
            Form::Instructions => Items::Instructions(instruction::parse(file, bytes)?),
        })
    }

    /// Items as tokens, and the fingerprint of each as the file has it.
    fn split(&mut self, file: &str, items: Items, purpose: Purpose) -> Result<(TextSplit, Vec<u64>), DataError> {
        let (split, items) = match items {
            Items::Documents(documents) => {
                let set = self.blocks(file, &documents)?;
                let items = set.rows.iter().map(|row| fingerprint(&row.ids)).collect();
                return Ok((TextSplit { set, ..TextSplit::default() }, items));
            }
            Items::Pairs(pairs) => {
                let items = pairs.iter().map(|pair| fingerprint(&(&pair.prompt, &pair.completion))).collect();
                (self.pairs(file, pairs, purpose)?, items)
            }
            Items::Instructions(found) => {
                let items = found.iter().map(|item| fingerprint(&item.content)).collect();
                (self.instructions(file, &found, purpose)?, items)
            }
        };
        let (rows, limit) = (split.set.rows.len(), self.max_len);
        let full = split.set.lengths().into_iter().filter(|&length| length >= limit).count();
        if full > 0 {
            self.notes.push(format!(
                "{file}: items that fill max_length ({limit} tokens), longer ones cut on the right: {full} of {rows}"
            ));
        }
        if purpose == Purpose::Generate {
            self.notes.push(format!("{file}: items to generate: {}", split.prompts.len()));
        }
        Ok((split, items))
    }

    fn blocks(&self, file: &str, documents: &[String]) -> Result<EncodedSet, DataError> {
        let block = self.task.block.unwrap_or(self.max_len);
        if block > self.max_len {
            let problem = format!("is `{block}`, but the length limit (max_length) is {}", self.max_len);
            return Err(of(
                &format!("task `{}`: block", self.task.name),
                &problem,
                "use a smaller block or raise max_length",
            ));
        }
        block::rows(file, documents, self.tokenizer, block)
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
