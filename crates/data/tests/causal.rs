//! Text for causal models: forms of files, masks token by token, exact match.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::batch::Encoded;
use data::causal::answer::{AnswerPattern, exact_match};
use data::causal::block::blocks;
use data::causal::chat::{ChatFiles, ChatTemplate, Date, Message};
use data::causal::{Encoder, instruction, pair};
use data::metric::perplexity;
use data::tokenize::Tokenizer;
use serde_json::{Value, json};

/// Words and marks as they come, `<eos>`, and `<bos>` before a framed text.
fn tokenizer() -> Tokenizer {
    let special = ["<unk>", "<bos>", "<eos>"];
    let words = ["user", "assistant", "system", ":", "\n", " ", "hi", "you", "name", "pub", "|", "so", "good", "."];
    let vocab: serde_json::Map<String, Value> =
        special.iter().chain(&words).enumerate().map(|(id, &token)| (token.to_owned(), json!(id))).collect();
    let added = special.iter().enumerate().map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    });
    let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\w+|\W"}, "behavior": "Removed", "invert": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}}},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}});
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

/// `role:content<eos>` and a line break; the prompt is `assistant:`.
const PLAIN: &str = "{{ bos_token }}{% for m in messages %}\n{{ m['role'] + ':' + m.content.strip() + eos_token }}\n{% endfor %}\n\
    {% if add_generation_prompt %}assistant:{% endif %}";

fn template(source: &str, date: Option<Date>) -> ChatTemplate {
    let config =
        json!({"chat_template": source, "bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "pad_token": null});
    ChatTemplate::from_config(config.to_string().as_bytes(), date).unwrap()
}

fn message(content: &str) -> Vec<Message> {
    vec![Message { role: "user".to_owned(), content: content.to_owned() }]
}

/// Every token, those that are learnt between brackets.
fn marked(encoded: &Encoded) -> String {
    let tokenizer = tokenizer();
    assert_eq!((encoded.types.len(), encoded.label), (encoded.ids.len(), 0.0));
    let token = |id| tokenizer.token(id).unwrap().replace('\n', "\\n").replace(' ', "_");
    let mark = |(&id, &target): (&u32, &bool)| if target { format!("[{}]", token(id)) } else { token(id) };
    encoded.ids.iter().zip(&encoded.targets).map(mark).collect::<Vec<_>>().join(" ")
}

fn encode_line(line: &str, template: Option<&ChatTemplate>, max_len: usize) -> Result<String, String> {
    let tokenizer = tokenizer();
    let encoder = Encoder { file: "data.jsonl", tokenizer: &tokenizer, template, max_len };
    let items = instruction::parse("data.jsonl", line.as_bytes()).map_err(|e| e.to_string())?;
    encoder.instruction(&items[0]).map(|encoded| marked(&encoded)).map_err(|e| e.to_string())
}

#[track_caller]
fn check(line: &str, template: Option<&ChatTemplate>, max_len: usize, expected: Result<&str, &str>) {
    let found = encode_line(line, template, max_len);
    assert_eq!(found.as_deref().map_err(String::as_str), expected);
}

fn pairs(text: &str) -> Result<Vec<pair::TextPair>, String> {
    pair::parse("e2e.txt", text.as_bytes()).map_err(|e| e.to_string())
}

#[test]
fn a_pair_is_encoded_as_in_loralib() {
    let tokenizer = tokenizer();
    let encoder = Encoder { file: "e2e.txt", tokenizer: &tokenizer, template: None, max_len: 16 };
    let read = pairs("name : pub | so||you so good .\n").unwrap();
    let expected = "name _ : _ pub _ | _ so <bos> [_] [you] [_] [so] [_] [good]";
    assert_eq!(marked(&encoder.pair(&read[0]).unwrap()), expected);
    let whole = Encoder { max_len: 99, ..encoder };
    assert_eq!(marked(&whole.pairs(&read).unwrap().rows[0]), format!("{expected} [_] [.] [<eos>]"));
    assert_eq!(tokenizer.decode(&encoder.pair_prompt(&read[0]).unwrap(), false).unwrap(), "name : pub | so<bos>");
    let short = Encoder { max_len: 10, ..encoder };
    assert_eq!(
        short.pair(&read[0]).unwrap_err().to_string(),
        "e2e.txt:1: the item has 19 tokens and learns none before token 10; the first 10 (max_length) leave nothing to learn; raise \
         max_length or shorten the prompt"
    );
}

#[test]
fn consecutive_lines_of_a_context_share_their_references() {
    let items = pair::group(pairs("a||x\na||y \r\n\nb||z\na||w\n").unwrap());
    let found: Vec<_> = items.iter().map(|item| (item.prompt.as_str(), item.references.join(","), item.line)).collect();
    assert_eq!(found, [("a", "x,y".to_owned(), 1), ("b", "z".to_owned(), 4), ("a", "w".to_owned(), 5)]);
}

#[test]
fn lines_that_are_no_pairs_are_refused() {
    let error = |text: &str| pairs(text).unwrap_err();
    let one = "separate context and completion by one `||`";
    assert_eq!(error("a||b\nab\n"), format!("e2e.txt:2: found 0 `||`, but a line is `context||completion`; {one}"));
    assert_eq!(error("a||b||c"), format!("e2e.txt:1: found 2 `||`, but a line is `context||completion`; {one}"));
    assert_eq!(error("a||"), "e2e.txt:1: the completion is empty; fill it in or drop the line");
    assert_eq!(error(" \n"), "e2e.txt: has no lines; give at least one line `context||completion`");
    let error = pair::parse("e2e.txt", b"a||b\nc||\xff\n").unwrap_err().to_string();
    assert_eq!(error, "e2e.txt:2: byte `0xff` is not UTF-8; save the file as UTF-8");
}

#[test]
fn blocks_end_documents_and_drop_the_rest() {
    let tokenizer = tokenizer();
    let text = "hi you\nso\n\n \r\n\ngood .\n";
    let set = blocks("text.txt", text.as_bytes(), &tokenizer, 4).unwrap();
    let rows: Vec<String> = set.rows.iter().map(marked).collect();
    assert_eq!(rows, ["[hi] [_] [you] [\\n]", "[so] [<eos>] [good] [_]"], "`. <eos>` fill no block");
    let error = |block| blocks("text.txt", text.as_bytes(), &tokenizer, block).unwrap_err().to_string();
    assert_eq!(error(11), "text.txt: has 10 tokens, fewer than one block of 11; give more text or a smaller block");
    assert_eq!(error(1), "block: is `1`, but a token is predicted from one before it; use at least 2");
}

#[test]
fn prompts_with_completions() {
    let line = r#"{"id": 7, "prompt": "hi you ", "completion": "so good."}"#;
    let expected = "<bos> hi _ you _ [so] [_] [good] [.] [<eos>]";
    check(line, None, 99, Ok(expected));
    check(line, None, 7, Ok("<bos> hi _ you _ [so] [_]"));
    check(r#"{"prompt": "", "completion": "so"}"#, None, 99, Ok("<bos> [so] [<eos>]"));
    // The boundary cuts a word in two; the word is learnt.
    check(r#"{"prompt": "hi yo", "completion": "u so"}"#, None, 99, Ok("<bos> hi _ [you] [_] [so] [<eos>]"));
    let nothing =
        "the item has 10 tokens and learns none before token 5; the first 5 (max_length) leave nothing to learn";
    check(line, None, 5, Err(&format!("data.jsonl:1: {nothing}; raise max_length or shorten the prompt")));
}

/// A tokenizer like GPT-2's, whose frame adds nothing.
fn bare(tokenizer_config: &Value) -> Tokenizer {
    let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"?": 0, "end": 1, "hi": 2, "you": 3}, "unk_token": "?"}});
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    tokenizer.with_config(tokenizer_config.to_string().as_bytes()).unwrap()
}

#[test]
fn an_empty_prompt_is_the_start_token() {
    let of = |config: Value, line: Value| {
        let tokenizer = bare(&config);
        let encoder = Encoder { file: "data.jsonl", tokenizer: &tokenizer, template: None, max_len: 9 };
        let item = instruction::parse("data.jsonl", line.to_string().as_bytes()).unwrap().remove(0);
        let learnt = encoder.instruction(&item).map_err(|e| e.to_string())?;
        Ok::<_, String>((learnt.ids, learnt.targets, encoder.instruction_prompt(&item).unwrap()))
    };
    let named = json!({"bos_token": "end", "eos_token": "end"});
    let line = |prompt: &str| json!({"prompt": prompt, "completion": "hi you"});
    // What is learnt in training is what generation asks for: the first word after the start token.
    let expected = (vec![1, 2, 3, 1], vec![false, true, true, true], vec![1]);
    assert_eq!(of(named.clone(), line("")), Ok(expected.clone()));
    assert_eq!(of(named.clone(), line(" ")), Ok(expected), "this tokenizer drops white space");
    assert_eq!(of(named, line("you ")), Ok((vec![3, 2, 3, 1], vec![false, true, true, true], vec![3])));
    let error = of(json!({"eos_token": "end"}), line("")).unwrap_err();
    let wanted = "data.jsonl:1: the prompt is empty, and the tokenizer has no start token to stand for it; give a prompt, or name a \
                  `bos_token` in tokenizer_config.json";
    assert_eq!(error, wanted);
}

#[test]
fn items_that_lose_tokens_are_counted() {
    let tokenizer = tokenizer();
    let encoder = |max_len| Encoder { file: "e2e.txt", tokenizer: &tokenizer, template: None, max_len };
    let read = pairs("name||so\nname||so good .\n").unwrap();
    // `name <bos> _ so <eos>` has five tokens.
    assert_eq!([4, 5, 6, 99].map(|max_len| encoder(max_len).pairs(&read).unwrap().truncated), [2, 1, 1, 0]);
    let lines = json!({"prompt": "hi ", "completion": "you"}).to_string();
    let items = instruction::parse("x.jsonl", lines.as_bytes()).unwrap();
    assert_eq!([4, 5].map(|max_len| encoder(max_len).instructions(&items).unwrap().truncated), [1, 0]);
}

#[test]
fn conversations_learn_the_assistant() {
    let template = template(PLAIN, None);
    let line = r#"{"messages": [{"role": "system", "content": "so"}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "good."}, {"role": "user", "content": "assistant:you"},
        {"role": "assistant", "content": " you "}]}"#
        .replace('\n', "");
    let expected = "<bos> system : so <eos> \\n user : hi <eos> \\n assistant : [good] [.] [<eos>] \\n \
        user : assistant : you <eos> \\n assistant : [you] [<eos>] \\n";
    check(&line, Some(&template), 99, Ok(expected));
    let tokenizer = tokenizer();
    let encoder = Encoder { file: "data.jsonl", tokenizer: &tokenizer, template: Some(&template), max_len: 99 };
    let items = instruction::parse("data.jsonl", line.as_bytes()).unwrap();
    let prompt = tokenizer.decode(&encoder.instruction_prompt(&items[0]).unwrap(), false).unwrap();
    assert_eq!(prompt.rsplit('\n').next(), Some("assistant:"));
    assert_eq!((items[0].reference(), encoder.instructions(&items).unwrap().rows.len()), (" you ", 1));
}

#[test]
fn a_rendering_without_end_token_gets_one() {
    let template = template("{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}", None);
    let line = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]}"#;
    // Without a generation prompt the assistant's name is part of its turn; its line break too.
    check(line, Some(&template), 99, Ok("user : hi \\n [assistant] [:] [so] [\\n] [<eos>]"));
}

#[test]
fn a_template_that_changes_earlier_turns_is_refused() {
    let source = "{% for m in messages %}{{ m.role }}:{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}\n{% endfor %}";
    let template = template(source, None);
    let turn = |role: &str| json!({"role": role, "content": "hi"});
    let line = json!({"messages": [turn("user"), turn("assistant"), turn("user"), turn("assistant")]}).to_string();
    let problem = "the template renders message 2 differently within the whole conversation";
    let way_out = "split the conversation so that this turn is its last";
    check(&line, Some(&template), 99, Err(&format!("data.jsonl:1: {problem}; {way_out}")));
}

#[test]
fn template_and_tokenizer_must_end_texts_alike() {
    let config = br#"{"chat_template": "{{ messages[0].content }}", "eos_token": "you"}"#;
    let template = ChatTemplate::from_config(config, None).unwrap();
    let problem = "the chat template ends texts with `you`, the tokenizer with `<eos>`";
    let way_out = "give the tokenizer the tokenizer_config.json of the template";
    let line = r#"{"messages": [{"role": "assistant", "content": "hi"}]}"#;
    check(line, Some(&template), 99, Err(&format!("data.jsonl:1: {problem}; {way_out}")));
    let tokenizer = tokenizer().with_config(config).unwrap();
    let encoder = Encoder { file: "data.jsonl", tokenizer: &tokenizer, template: Some(&template), max_len: 9 };
    let items = instruction::parse("data.jsonl", line.as_bytes()).unwrap();
    // The prompt of this template is an error: it reads a message that is not there.
    assert!(
        encoder.instruction(&items[0]).unwrap_err().to_string().starts_with("data.jsonl:1: tokenizer_config.json: ")
    );
}

#[test]
fn lines_of_no_form_are_refused() {
    let forms =
        r#"write `{"prompt": "..", "completion": ".."}` or `{"messages": [{"role": "..", "content": ".."}, ..]}`"#;
    let refused = |line: &str, problem: &str| check(line, None, 99, Err(&format!("data.jsonl:1: {problem}; {forms}")));
    refused("{", "not JSON: EOF while parsing an object at line 1 column 1");
    refused("[1]", "found no object, but a line has either two strings or `messages`");
    refused(
        r#"{"prompt": "a", "answer": "b"}"#,
        "found an object with the keys `answer`, `prompt`, but a line has either two strings or `messages`",
    );
    refused(r#"{"prompt": "a", "completion": ""}"#, "the completion is empty");
    refused(r#"{"messages": []}"#, "`messages` is empty");
    refused(
        r#"{"messages": [{"role": "user", "content": "hi"}]}"#,
        "the last message is of `user`, but must be of `assistant`",
    );
    refused(r#"{"messages": [{"role": "assistant"}]}"#, "`messages` are refused: missing field `content`");
    let way_out = "give the tokenizer_config.json of a chat model, or lines with `prompt` and `completion`";
    let none = format!("data.jsonl:1: `messages` need a chat template, and there is none; {way_out}");
    check(r#"{"messages": [{"role": "assistant", "content": "hi"}]}"#, None, 99, Err(&none));
    let error = instruction::parse("data.jsonl", b"\n\n").unwrap_err().to_string();
    assert_eq!(error, "data.jsonl: has no lines; give at least one line of JSON");
}

#[test]
fn templates_have_what_transformers_gives_them() {
    let render = |source: &str, date, content: &str| {
        template(source, date).render(&message(content), false).map_err(|e| e.to_string())
    };
    let day = Some(Date { year: 2024, month: 7, day: 6 });
    assert_eq!(render("{{ strftime_now('%d %b %Y, %B %m 100%%') }}", day, "").unwrap(), "06 Jul 2024, July 07 100%");
    let error = render("{{ strftime_now('%d') }}", None, "").unwrap_err();
    assert!(error.contains("the template asks for the date, and none is given"), "{error}");
    let error = render("{{ raise_exception('only ' + messages[0].content) }}", None, "pairs").unwrap_err();
    assert!(error.starts_with("tokenizer_config.json: chat_template: fails: "), "{error}");
    assert!(error.contains("the template says: only pairs"), "{error}");
    let json = render("{{ messages | tojson }}", None, "<a> 'b' é").unwrap();
    assert_eq!(json, r#"[{"role": "user", "content": "<a> 'b' é"}]"#);
    let loops =
        "{% for m in messages * 3 %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m['content'] }}{% endfor %}";
    assert_eq!(render(loops, None, "a").unwrap(), "a");
    let python =
        "{{ messages[0].content.split('b')[-1].upper() }}{{ messages[0].get('tools', 'x') }}{{ messages[0].tools }}";
    assert_eq!(render(python, None, "abc").unwrap(), "Cx");
    let scopes =
        "{%- set ns = namespace(n=0) -%}{%- for m in messages -%}{%- set ns.n = ns.n + 1 -%}{%- endfor -%}{{ ns.n }}";
    assert_eq!(render(scopes, None, "abc").unwrap(), "1");
    let error = ChatTemplate::from_config(b"{}", None).unwrap_err().to_string();
    assert!(error.starts_with("tokenizer_config.json: chat_template: is absent; "), "{error}");
    let error = ChatTemplate::from_config(br#"{"chat_template": "{% if %}"}"#, None).unwrap_err().to_string();
    assert!(error.starts_with("tokenizer_config.json: chat_template: is refused: "), "{error}");
    let listed = br#"{"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    assert_eq!(ChatTemplate::from_config(listed, None).unwrap().render(&message("a"), false).unwrap(), "d");
}

#[test]
fn the_last_answer_counts() {
    let gsm = AnswerPattern::new(r"#### (-?[\d.,]+)").unwrap();
    assert_eq!(gsm.find("so #### 1 and then\n#### 42 "), Some("42"));
    let generations = ["#### 7\n#### 42", "42", "#### 41"];
    assert_eq!(exact_match(&gsm, &generations, &["a #### 42", "#### 42", "#### 42"]).unwrap(), 1.0 / 3.0);
    assert_eq!(exact_match(&AnswerPattern::default(), &[" a b\n"], &["a b"]).unwrap(), 1.0);
    assert!(exact_match(&gsm, &[""; 0], &[""; 0]).unwrap().is_nan());
    let error = exact_match(&gsm, &["#### 1"], &["one"]).unwrap_err().to_string();
    assert_eq!(error, "answer_pattern: reference 1 has no answer: `one`; mend the expression or the reference");
    let error = AnswerPattern::new("(a)(b)").unwrap_err().to_string();
    assert_eq!(
        error,
        "answer_pattern: `(a)(b)` has 2 capture groups, but must have 1; write one group round the answer, as in `#### (.+)`"
    );
    assert!(AnswerPattern::new("(").unwrap_err().to_string().starts_with("answer_pattern: `(` is refused: "));
}

#[test]
fn perplexity_of_a_uniform_guess_is_the_number_of_choices() {
    assert!((perplexity(12.0 * 8f64.ln(), 12) - 8.0).abs() < 1e-12);
    assert!(perplexity(0.0, 0).is_nan());
}

#[test]
fn the_file_of_the_template_counts_before_the_entry() {
    let config = json!({"bos_token": "<s>", "chat_template": "entry"}).to_string();
    let read = |template: Option<&'static [u8]>, config: Option<&str>| {
        let files = ChatFiles { tokenizer_config: config.map(str::as_bytes), template };
        ChatTemplate::read(files, None).map_err(|error| error.to_string())
    };
    let render = |template: ChatTemplate| template.render(&message("a"), false).unwrap();
    assert_eq!(render(read(None, Some(&config)).unwrap()), "entry");
    assert_eq!(render(read(Some(b"{{ bos_token }} file"), Some(&config)).unwrap()), "<s> file");
    assert_eq!(render(read(Some(b"{{ messages[0].content }}"), None).unwrap()), "a");
    let error = read(Some(b"{% if %}"), Some(&config)).unwrap_err();
    assert!(error.starts_with("chat_template.jinja: is refused: "), "{error}");
    assert!(read(Some(b"\xff"), None).unwrap_err().contains("not UTF-8"));
    let error = read(Some(b"{{ raise_exception('no') }}"), None).unwrap().render(&message("a"), false).unwrap_err();
    assert!(error.to_string().starts_with("chat_template.jinja: fails: "), "{error}");
}

#[test]
fn a_template_has_values_with_an_end() {
    let config = json!({"chat_template": "{% set ns = namespace(s='') %}\n{% set ns.s = ns %}{{ ns }}"}).to_string();
    let error = ChatTemplate::from_config(config.as_bytes(), None).unwrap_err().to_string();
    assert!(error.contains("puts a namespace into a namespace in line 2"), "{error}");
    // As deep as the budget of steps lets it go: longer ones run out of it, and none runs out of stack.
    for (outer, inner) in [(1, 1000), (1, 40_000), (1, 70_000), (1, 99_999), (9, 99_999)] {
        let loops = format!("{{% for i in range({outer}) %}}{{% for j in range({inner}) %}}");
        let source = format!(
            "{{% set ns = namespace(s='a') %}}{loops}{{% set ns.s = [ns.s] %}}{{% endfor %}}{{% endfor %}}{{{{ ns.s|string|length }}}}"
        );
        match template(&source, None).render(&message("a"), false) {
            Ok(length) => assert_eq!(length, (2 * outer * inner + 3).to_string()),
            Err(error) => assert!(error.to_string().contains("takes more than") && outer * inner > 40_000, "{error}"),
        }
    }
}

#[test]
fn a_template_may_be_nested_as_deep_as_it_is_long() {
    const LONGEST: usize = 256 << 10;
    for (before, level, after) in [
        ("{% for ", "(", ""),
        ("{% set ", "(", ""),
        ("{{ ", "(", ""),
        ("{{ ", "[", ""),
        ("{{ ", "{0:", ""),
        ("{{ ", "a(", ""),
        ("{{ ", "a[", ""),
        ("{{ ", "not ", "1 }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ a", ".a", " }}"),
        ("{{ a", "|e", " }}"),
        ("{{ a", " is a", " }}"),
        ("{{ ", "1 if 1 else ", "1 }}"),
        ("", "{%if 1%}", ""),
        ("{% if 1 %}", "{%elif 1%}", "{% endif %}"),
        ("", "{%for i in a%}", ""),
        ("", "{%filter e%}", ""),
        ("", "{%macro a()%}", ""),
        ("{% set a = ", "namespace(", ""),
        ("{% set b = namespace %}", "{% set a = b %}{% set b = a %}", ""),
    ] {
        let levels = (LONGEST - before.len() - after.len()) / level.len();
        let source = [before, &level.repeat(levels), after].concat();
        let config = json!({ "chat_template": source }).to_string();
        // Read or refused: what must not be is a stack that overflows, which nothing catches.
        if let Ok(template) = ChatTemplate::from_config(config.as_bytes(), None) {
            drop(template.render(&message("a"), false));
        }
    }
    let config = json!({ "chat_template": "a".repeat(LONGEST + 1) }).to_string();
    let error = ChatTemplate::from_config(config.as_bytes(), None).unwrap_err().to_string();
    assert!(error.contains("has 262145 bytes, but 262144 are the most"), "{error}");
}

#[test]
fn a_template_has_a_budget_of_steps_and_bytes() {
    let endless = [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}",
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = (ns.s + ns.s)|list %}{% endfor %}{{ ns.s }}",
        "{{ ('a' * 99999999 ~ 'a' * 99999999)|length }}",
        "{% macro m(s) %}{{ m(s + s) }}{% endmacro %}{{ m('aa') }}",
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s|replace('a', 'aa') %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}{{ ns.s }}",
        "{{ '%999999999d'|format(1) }}",
        "{{ 'a'|indent(999999999, true) }}",
        "{{ 'a'.ljust(999999999) }}{{ 'a'.center(999999999) }}{{ 'a'|center(999999999) }}",
    ];
    for source in endless {
        let error = template(source, None).render(&message("a"), false).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer_config.json: chat_template: "), "{source}: {error}");
        assert!(error.contains("chat_template:1") || error.contains("recursion"), "{source}: {error}");
        assert!(error.ends_with("; mend the conversation or the template"), "{error}");
    }
    let error = template(endless[0], None).render(&message("a"), false).unwrap_err().to_string();
    assert!(error.contains("takes more than 500000 steps (or 32 MB) for one conversation"), "{error}");
    // What is long because the conversation is long is none of these.
    let long = "word ".repeat(1 << 20);
    let plain = template("{% for m in messages %}{{ m.role + ': ' + m.content|trim }}{% endfor %}", None);
    assert_eq!(plain.render(&message(&long), false).unwrap().len(), "user: ".len() + long.len() - 1);
    let bare = template("{% for m in messages %}{{ m.content }}{% endfor %}", None);
    let error = bare.render(&message(&"word ".repeat(4 << 20)), false).unwrap_err().to_string();
    assert!(error.contains("bytes of one conversation, but 16777216 are the most"), "{error}");
}
