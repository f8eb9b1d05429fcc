//! `tokenizer.json` and `tokenizer_config.json` that are broken, or another model's.

use serde_json::json;

use crate::{
    base::{Base, PREDICT},
    case::Case,
    rows,
};

fn edited(name: &str, edit: impl Fn(&mut Base) + Send + Sync + 'static) -> Case {
    Case::new(format!("tokenizer: {name}"), PREDICT, move |place| {
        let mut base = Base::new();
        edit(&mut base);
        base.put(place);
    })
}

fn file(name: &str, bytes: &'static [u8]) -> Case {
    Case::new(format!("tokenizer: {name}"), PREDICT, move |place| {
        Base::new().put(place);
        place.write("base/tokenizer.json", bytes);
    })
}

/// A chat template, which conversations ask for.
fn template(name: &str, template: impl Into<String>) -> Case {
    let template = template.into();
    Case::new(format!("chat template: {name}"), rows::RUN, move |place| {
        let chat =
            r#"{"messages": [{"role": "user", "content": "a film"}, {"role": "assistant", "content": "is good"}]}"#;
        rows::put_texts(place, "form: instructions", &format!("{chat}\n"), Some(&template));
    })
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        file("an empty file", b""),
        file("no JSON", b"<html>404</html>"),
        file("an empty object", b"{}"),
        file("cut short", b"{\"version\": \"1.0\", \"model\": {\"type\": \"Wor"),
        file("cut short inside its decoder", b"{\"version\": \"1.0\", \"decoder\": nu"),
        edited("no model", |base| base.tokenizer["model"] = json!(null)),
        edited("an unknown kind of model", |base| base.tokenizer["model"]["type"] = json!("Runes")),
        edited("an unknown pre-tokenizer", |base| base.tokenizer["pre_tokenizer"] = json!({"type": "Runes"})),
        edited("an unknown version", |base| base.tokenizer["version"] = json!("9.0")),
        edited("an id beyond the table", |base| base.tokenizer["model"]["vocab"]["film"] = json!(2_000_000)),
        edited("an id of 2^32", |base| base.tokenizer["model"]["vocab"]["film"] = json!(4_294_967_296_u64)),
        edited("an id below 0", |base| base.tokenizer["model"]["vocab"]["film"] = json!(-1)),
        edited("an added token beyond the table", |base| {
            base.tokenizer["added_tokens"][4]["id"] = json!(99);
            base.tokenizer["added_tokens"][4]["content"] = json!("<new>");
        }),
        edited("a frame of ids beyond the table", |base| {
            base.tokenizer["post_processor"]["cls"] = json!(["[CLS]", 70]);
        }),
        Case::new("tokenizer: a word that it lacks, and none for unknown ones", PREDICT, |place| {
            let mut base = Base::new();
            base.tokenizer["model"]["unk_token"] = json!("[NONE]");
            base.put(place);
            place.write("rows.tsv", "src\t1\t\ta zebra\n");
        }),
        edited("more words than the table", |base| {
            for word in 0..50 {
                base.tokenizer["model"]["vocab"][format!("w{word}")] = json!(16 + word);
            }
        }),
        edited("an expression that does not end", |base| {
            base.tokenizer["pre_tokenizer"] =
                json!({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false});
        }),
        Case::new("tokenizer: none", PREDICT, |place| {
            Base::new().put(place);
            std::fs::remove_file(place.inside().join("base/tokenizer.json")).unwrap();
        }),
        Case::new("tokenizer: a configuration that is no JSON", PREDICT, |place| {
            Base::new().put(place);
            place.write("base/tokenizer_config.json", "eos_token: x");
        }),
        template("a tag that does not end", "{% for m in messages %}"),
        template("an unknown filter", "{{ messages | runes }}"),
        template("a call of Python's insides", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        template("an exception of its own", "{{ raise_exception('roles must alternate') }}"),
        template(
            "a loop without end",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        ),
        template("a text that doubles sixty times", DOUBLING),
        template("a text that is repeated without end", "{{ 'a' * 99999999999 }}"),
        template("a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        template("another file", "{% include '/etc/passwd' %}"),
        template("braces in braces", "(".repeat(100) + "{{ " + &"(".repeat(20_000)),
    ]
}

const DOUBLING: &str =
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}";
