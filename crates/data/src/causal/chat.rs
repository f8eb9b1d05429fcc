//! Conversations as text, by `chat_template.jinja`, or else by the `chat_template` of `tokenizer_config.json`.
//!
//! A template is Jinja with the settings of `transformers`: `trim_blocks`, `lstrip_blocks`, loop controls, Python's methods of
//! strings and maps, `tojson` without HTML escapes, `raise_exception`, `strftime_now`. Not provided: the tag `generation`, tools,
//! documents, named templates beside the default one. A template comes from strangers, so it has a budget of steps and bytes.

mod namespaces;

use std::collections::BTreeMap;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::causal::{of, utf8};
use crate::error::DataError;
use crate::tokenize::{read_config, special};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// The day that `strftime_now` gives: a rendering that read the clock would differ from day to day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: u16,
    /// The month, from 1.
    pub month: u8,
    /// The day, from 1.
    pub day: u8,
}

/// The files that a chat template may be in.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChatFiles<'a> {
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<&'a [u8]>,
    /// `chat_template.jinja`, where transformers has saved it since 4.52. It counts where both have one, as there.
    pub template: Option<&'a [u8]>,
}

impl<'a> From<Option<&'a [u8]>> for ChatFiles<'a> {
    fn from(tokenizer_config: Option<&'a [u8]>) -> Self {
        Self { tokenizer_config, template: None }
    }
}

/// Renders conversations.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Where the template lies.
    place: &'static str,
    /// `bos_token` and its like, by name.
    tokens: BTreeMap<&'static str, String>,
}

const PLACE: &str = "tokenizer_config.json: chat_template";
const FILE: &str = "chat_template.jinja";
const NAME: &str = "chat_template";
/// Steps of one rendering. minijinja counts one for an instruction and one for 64 bytes that are made, so that this bounds memory too, to
/// 32 MB. The templates of the hub take some tens of steps a turn.
const STEPS: u64 = 500_000;
/// Most bytes of a template; the hub's have some thousands.
const LONGEST_TEMPLATE: usize = 256 << 10;
/// Stack of the thread that reads or renders a template, of which the system gives what is used. minijinja follows brackets one call within
/// another, which leaves 4 KiB for each byte of the longest template, and so it writes lists in lists, of which every one more costs steps.
const STACK: usize = 1 << 30;
/// Most bytes of a rendered conversation: some million tokens.
const LONGEST: usize = 16 << 20;
const TOKENS: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

impl ChatTemplate {
    /// Reads the template of a `tokenizer_config.json`: a string, or the one named `default` of a list.
    ///
    /// Without a `date`, a template that calls `strftime_now` fails.
    pub fn from_config(config: &[u8], date: Option<Date>) -> Result<Self, DataError> {
        Self::read(Some(config).into(), date)
    }

    /// Reads the template of `chat_template.jinja`, or else of `tokenizer_config.json`, as [`from_config`](Self::from_config) does.
    pub fn read(files: ChatFiles<'_>, date: Option<Date>) -> Result<Self, DataError> {
        let config = files.tokenizer_config.map_or(Ok(Json::Null), read_config)?;
        let listed = config[NAME].as_array().into_iter().flatten().find(|entry| entry["name"] == "default");
        let (place, source) = match files.template {
            Some(bytes) => (FILE, Some(utf8(FILE, bytes)?)),
            None => (PLACE, config[NAME].as_str().or_else(|| listed?["template"].as_str())),
        };
        let source = source.ok_or_else(|| {
            of(PLACE, "is absent", "use the tokenizer of a chat model, or data with `prompt` and `completion`")
        })?;
        let tokens = TOKENS.into_iter().filter_map(|key| Some((key, special::token(&config, key)?)));
        if source.len() > LONGEST_TEMPLATE {
            let problem = format!("has {} bytes, but {LONGEST_TEMPLATE} are the most", source.len());
            return Err(of(place, &problem, "take what the template does not need out of it"));
        }
        if let Some(line) = namespaces::nested(source) {
            return Err(of(
                place,
                &format!("puts a namespace into a namespace in line {line}, where it may hold itself and have no end"),
                "mend the template; keep texts, numbers or messages in a namespace",
            ));
        }
        let environment = on_a_large_stack(place, || {
            environment(source.to_owned(), date).map_err(|e| {
                of(place, &format!("is refused: {e:#}"), "mend the template; it must do without `generation` tags")
            })
        })?;
        Ok(Self { environment, place, tokens: tokens.collect() })
    }

    /// What the configuration names as `eos_token`.
    pub fn end_token(&self) -> Option<&str> {
        self.tokens.get("eos_token").map(String::as_str)
    }

    /// Everything that a rendering depends on besides the conversation.
    pub(crate) fn identity(&self, mut field: impl FnMut(&[u8])) {
        // The environment holds the template that it was made with.
        field(
            self.environment
                .get_template(NAME)
                .map(|template| template.source().to_owned())
                .unwrap_or_default()
                .as_bytes(),
        );
        for (name, token) in &self.tokens {
            field(name.as_bytes());
            field(token.as_bytes());
        }
    }

    /// The text of a conversation; with `generation_prompt`, up to where the assistant's answer begins.
    pub fn render(&self, messages: &[Message], generation_prompt: bool) -> Result<String, DataError> {
        let mut context: BTreeMap<&str, Value> =
            self.tokens.iter().map(|(&key, token)| (key, Value::from(token.as_str()))).collect();
        let turn = |m: &Message| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
        context.insert("messages", messages.iter().map(turn).collect());
        context.insert("add_generation_prompt", Value::from(generation_prompt));
        let context = Value::from_pairs(context);
        let render = || {
            let rendered = self.environment.get_template(NAME).and_then(|template| template.render(context));
            rendered.map_err(|e| {
                let megabytes = STEPS * 64 / 1_000_000;
                let problem = match e.kind() {
                    ErrorKind::OutOfFuel => {
                        format!("takes more than {STEPS} steps (or {megabytes} MB) for one conversation: {e:#}")
                    }
                    _ => format!("fails: {e:#}"),
                };
                of(self.place, &problem, "mend the conversation or the template")
            })
        };
        let text = on_a_large_stack(self.place, render)?;
        if text.len() > LONGEST {
            let problem = format!("makes {} bytes of one conversation, but {LONGEST} are the most", text.len());
            return Err(of(self.place, &problem, "shorten the conversation, or mend the template"));
        }
        Ok(text)
    }
}

/// Runs what follows a template one call within another in a thread of [`STACK`] bytes. Errors of minijinja end in there, since one can hold
/// the template's values.
fn on_a_large_stack<T: Send>(place: &str, work: impl FnOnce() -> Result<T, DataError> + Send) -> Result<T, DataError> {
    thread::scope(|scope| {
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let started = started.map_err(|e| of(place, &format!("cannot be read: {e}"), "free some memory"))?;
        started.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn environment(source: String, date: Option<Date>) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS));
    // An error would otherwise copy every value of the template in builds with debug assertions.
    environment.set_debug(false);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", |value: Value| {
        let failed = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PythonJson);
        value.serialize(&mut serializer).map_err(failed)?;
        Ok::<_, Error>(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
    });
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, format!("the template says: {message}")))
    });
    environment.add_function("strftime_now", move |format: String| match date {
        Some(date) => strftime(date, &format).map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem)),
        None => Err(Error::new(ErrorKind::InvalidOperation, "the template asks for the date, and none is given")),
    });
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// The parts of Python's `strftime` that name a day.
fn strftime(date: Date, format: &str) -> Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = MONTHS.get(usize::from(date.month).wrapping_sub(1));
    let month = month.ok_or_else(|| format!("the date has month {}, but months are 1 to 12", date.month))?;
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('Y') => text += &date.year.to_string(),
            Some('m') => text += &format!("{:02}", date.month),
            Some('d') => text += &format!("{:02}", date.day),
            Some('B') => text += month,
            Some('b') => text += &month[..3],
            Some('%') => text.push('%'),
            _ => return Err(format!("`strftime_now` knows %Y, %m, %d, %B, %b and %%, not all of `{format}`")),
        }
    }
    Ok(text)
}

/// JSON as Python's `json.dumps` writes it: a space after commas and colons.
struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
