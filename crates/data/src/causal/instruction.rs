//! Instruction data as JSONL: `{"prompt": .., "completion": ..}` or `{"messages": [{"role": .., "content": ..}, ..]}` in each line.
//!
//! The text of a prompt and its completion is the two joined as they are, after what the tokenizer's frame puts first; the
//! completion and the end token after it are learnt. Where neither the frame nor the prompt gives a token, the start token stands
//! first. The text of a conversation is the template's rendering without frame; the
//! assistant's turns are learnt, and the text ends with the end token, which is added where the rendering does not end with it.
//!
//! A turn begins where the rendering of the messages before it, with the generation prompt, ends, and ends where the rendering up to
//! and with it ends; white space that a template sets after an end token is no part of the turn. A template for which these are no
//! prefixes of the whole rendering is refused.
//!
//! The whole text is tokenised at once; a token that stands on both sides of a boundary is learnt.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use crate::batch::{Encoded, EncodedSet};
use crate::causal::chat::{ChatTemplate, Message};
use crate::causal::{Encoder, Item, at, of, utf8};
use crate::error::DataError;

/// One line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it says.
    pub content: Content,
    /// The line of the file, from 1.
    pub line: usize,
}

/// The two forms of a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A prompt and its completion.
    Pair {
        /// What the model reads.
        prompt: String,
        /// What it should say.
        completion: String,
    },
    /// A conversation that ends with the assistant.
    Chat(Vec<Message>),
}

impl Instruction {
    /// What the model reads before the last thing that it should say: the prompt, or the conversation before the last turn.
    pub(super) fn read(&self) -> (Option<&str>, &[Message]) {
        match &self.content {
            Content::Pair { prompt, .. } => (Some(prompt), &[]),
            Content::Chat(messages) => (None, &messages[..messages.len().saturating_sub(1)]),
        }
    }

    /// What the model should say: the completion, or the last turn.
    pub fn reference(&self) -> &str {
        match &self.content {
            Content::Pair { completion, .. } => completion,
            Content::Chat(messages) => messages.last().map_or("", |message| &message.content),
        }
    }
}

/// One instruction per line; blank lines are skipped, and so are keys beside those of the form.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Instruction>, DataError> {
    let text = utf8(file, bytes)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let items = lines.map(|(i, line)| Ok(Instruction { content: parse_line(file, i + 1, line)?, line: i + 1 }));
    let items: Vec<Instruction> = items.collect::<Result<_, DataError>>()?;
    if items.is_empty() {
        return Err(of(file, "has no lines", "give at least one line of JSON"));
    }
    Ok(items)
}

fn parse_line(file: &str, line: usize, text: &str) -> Result<Content, DataError> {
    const FORMS: &str =
        r#"write `{"prompt": "..", "completion": ".."}` or `{"messages": [{"role": "..", "content": ".."}, ..]}`"#;
    let wrong = |problem: String| at(file, line, &problem, FORMS);
    let value: Value = serde_json::from_str(text).map_err(|e| wrong(format!("not JSON: {e}")))?;
    let string = |key: &str| value[key].as_str().map(str::to_owned);
    match (string("prompt"), string("completion"), value.get("messages")) {
        (Some(_), Some(completion), None) if completion.is_empty() => Err(wrong("the completion is empty".to_owned())),
        (Some(prompt), Some(completion), None) => Ok(Content::Pair { prompt, completion }),
        (None, None, Some(messages)) => {
            let messages = Vec::<Message>::deserialize(messages);
            let messages = messages.map_err(|e| wrong(format!("`messages` are refused: {e}")))?;
            match messages.last().map(|message| message.role.as_str()) {
                Some(ASSISTANT) => Ok(Content::Chat(messages)),
                Some(role) => Err(wrong(format!("the last message is of `{role}`, but must be of `{ASSISTANT}`"))),
                None => Err(wrong("`messages` is empty".to_owned())),
            }
        }
        _ => Err(wrong(format!("found {}, but a line has either two strings or `messages`", keys(&value)))),
    }
}

/// The keys of an object in alphabetical order: the order of the file is kept or not by features that other crates turn on.
fn keys(value: &Value) -> String {
    let Some(object) = value.as_object() else {
        return "no object".to_owned();
    };
    let keys: BTreeSet<String> = object.keys().map(|key| format!("`{key}`")).collect();
    format!("an object with the keys {}", keys.into_iter().collect::<Vec<_>>().join(", "))
}

const ASSISTANT: &str = "assistant";

impl Encoder<'_> {
    /// The tokens of an item and which of them are learnt.
    pub fn instruction(&self, item: &Instruction) -> Result<Encoded, DataError> {
        self.limited(self.instruction_item(item)?)
    }

    fn instruction_item(&self, item: &Instruction) -> Result<Item, DataError> {
        let (leading, text, learnt) = match &item.content {
            Content::Pair { prompt, completion } => {
                let text = format!("{prompt}{completion}");
                let learnt = prompt.len()..text.len();
                (self.tokenizer.leading()?, text, vec![learnt])
            }
            Content::Chat(messages) => {
                let (text, learnt) = self.turns(self.template_for(item)?, messages, item.line)?;
                (Vec::new(), text, learnt)
            }
        };
        let prompt = learnt.first().map_or("", |turn| &text[..turn.start]);
        let mut ids = self.begun(leading, prompt, item.line)?;
        let mut targets = vec![false; ids.len()];
        for (id, Range { start, end }) in self.tokenizer.spans(&text)? {
            ids.push(id);
            // A token without letters of its own belongs where it stands.
            targets.push(learnt.iter().any(|turn| start < turn.end && end.max(start + 1) > turn.start));
        }
        if item.is_pair() || !text.trim_end().ends_with(&self.end()?) {
            ids.push(self.tokenizer.end_id()?);
            targets.push(true);
        }
        Ok(Item { line: item.line, ids, targets })
    }

    /// What stands before the text of an item. Where a prompt gives no token, the start token stands for it: the first token of a
    /// completion is predicted from something, in training as in generation.
    fn begun(&self, leading: Vec<u32>, prompt: &str, line: usize) -> Result<Vec<u32>, DataError> {
        let blank = leading.is_empty() && prompt.trim().is_empty();
        if !blank || !self.tokenizer.encode_plain(prompt, false)?.is_empty() {
            return Ok(leading);
        }
        let start = self.tokenizer.start_id().map_err(|_| {
            let problem = "the prompt is empty, and the tokenizer has no start token to stand for it";
            at(self.file, line, problem, "give a prompt, or name a `bos_token` in tokenizer_config.json")
        })?;
        Ok(vec![start])
    }

    /// Every item, in order.
    pub fn instructions(&self, items: &[Instruction]) -> Result<EncodedSet, DataError> {
        self.set(items.iter().map(|item| self.instruction_item(item)))
    }

    /// What a generation starts from: the prompt, or the conversation before the last turn, whole.
    pub fn instruction_prompt(&self, item: &Instruction) -> Result<Vec<u32>, DataError> {
        match &item.content {
            Content::Pair { prompt, .. } => {
                let mut ids = self.begun(self.tokenizer.leading()?, prompt, item.line)?;
                ids.extend(self.tokenizer.encode_plain(prompt, false)?);
                Ok(ids)
            }
            Content::Chat(messages) => {
                let before = &messages[..messages.len().saturating_sub(1)];
                let text = self.rendered(self.template_for(item)?, before, true, item.line)?;
                let mut ids = self.begun(Vec::new(), &text, item.line)?;
                ids.extend(self.tokenizer.encode_plain(&text, false)?);
                Ok(ids)
            }
        }
    }

    /// The rendering of a conversation, and the bytes of it that the assistant says.
    fn turns(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        line: usize,
    ) -> Result<(String, Vec<Range<usize>>), DataError> {
        let whole = self.rendered(template, messages, false, line)?;
        let end_token = self.end()?;
        let mut turns = Vec::new();
        for (i, _) in messages.iter().enumerate().filter(|(_, message)| message.role == ASSISTANT) {
            let before = self.rendered(template, &messages[..i], true, line)?;
            let with = self.rendered(template, &messages[..=i], false, line)?;
            if !whole.starts_with(&with) || !with.starts_with(&before) {
                let problem =
                    format!("the template renders message {} differently within the whole conversation", i + 1);
                return Err(at(self.file, line, &problem, "split the conversation so that this turn is its last"));
            }
            let trimmed = with.trim_end();
            let end = if trimmed.ends_with(&end_token) { trimmed.len() } else { with.len() };
            turns.push(before.len()..end);
        }
        Ok((whole, turns))
    }

    fn rendered(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        generation_prompt: bool,
        line: usize,
    ) -> Result<String, DataError> {
        template.render(messages, generation_prompt).map_err(|e| match e {
            DataError::Text { place, problem, way_out } => at(self.file, line, &format!("{place} {problem}"), &way_out),
            other => other,
        })
    }

    fn template_for(&self, item: &Instruction) -> Result<&ChatTemplate, DataError> {
        const FILE: &str = "give the tokenizer_config.json of a chat model, or lines with `prompt` and `completion`";
        let refused = |problem: &str, way_out| at(self.file, item.line, problem, way_out);
        let template =
            self.template.ok_or_else(|| refused("`messages` need a chat template, and there is none", FILE))?;
        // Otherwise no turn would end with what the tokenizer takes for the end.
        match (template.end_token(), self.end()?) {
            (Some(theirs), ours) if theirs != ours => {
                let problem = format!("the chat template ends texts with `{theirs}`, the tokenizer with `{ours}`");
                Err(refused(&problem, "give the tokenizer the tokenizer_config.json of the template"))
            }
            _ => Ok(template),
        }
    }

    /// The end token as text.
    fn end(&self) -> Result<String, DataError> {
        Ok(self.tokenizer.token(self.tokenizer.end_id()?).unwrap_or_default())
    }
}

impl Instruction {
    fn is_pair(&self) -> bool {
        matches!(self.content, Content::Pair { .. })
    }
}
