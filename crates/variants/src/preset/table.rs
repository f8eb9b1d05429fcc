//! The axes and the presets as tables in Markdown, from the registries: what the documents show.

use serde_yaml::{Mapping, Value};

use super::Parity;
use crate::{
    base_update, combine,
    delta::{self, DeltaSpec},
    init,
    peft::NoPeftForm,
    penalty::{self, AnyPenalty},
    presets::lora,
    rank,
    role::Role,
    spec::{VariantSpec, role_name},
};

/// An axis as the table of axes has it.
struct Row {
    /// The field of [`VariantSpec`].
    field: &'static str,
    /// Where its mechanisms are, from the crate's `src`.
    place: &'static str,
    what: &'static str,
    /// Its kinds, where it has a registry or an enum.
    kinds: Vec<&'static str>,
}

/// Every field of [`VariantSpec`], in its order.
fn rows() -> Vec<Row> {
    let row = |field, place, what, kinds: &[&'static str]| Row { field, place, what, kinds: kinds.to_vec() };
    let deltas: Vec<_> = delta::defaults().iter().map(delta::DeltaSpec::kind).collect();
    let combines: Vec<_> = combine::defaults().iter().map(combine::CombineSpec::kind).collect();
    let inits: Vec<_> = init::defaults().iter().map(init::AnyInit::kind).collect();
    let policies: Vec<_> = rank::defaults().iter().map(|policy| policy.declaration().kind).collect();
    let over_time: Vec<_> = base_update::defaults().iter().map(|kind| kind.declaration().kind).collect();
    let more = penalty::all().into_iter().filter(|penalty| *penalty != AnyPenalty::Orthogonality);
    let penalties: Vec<_> = more.map(AnyPenalty::kind).collect();
    let scalings = ["alpha_over_rank", "alpha_over_sqrt_rank", "constant"];
    vec![
        row("rank", "spec.rs", "rank of `ΔW`; a map may have its own", &[]),
        row("alpha", "spec.rs", "`α` of the scale; a run and a map may have their own", &[]),
        row("dropout", "dropout.rs", "share of the adapter's input that a training step drops", &[]),
        row("delta", "delta", "how `ΔW` is formed; `null` adapts nothing", &deltas),
        row("combine", "combine", "how `ΔW` meets `W0`", &combines),
        row("init", "init", "first values of the drawn factors", &inits),
        row("scaling", "scaling.rs", "the scale `s` as a function of the rank in use", &scalings),
        row("train", "role.rs", "which roles train, at which rate and decay", &[]),
        row("rank_policy", "rank", "rank over time", &policies),
        row("gradient", "gradient.rs", "what the optimizer sees of the gradient of `B`", &["plain", "preconditioned"]),
        row(
            "orthogonality",
            "penalty/orthogonality.rs",
            "weight of the penalty on factors that are not orthonormal",
            &[],
        ),
        row("base", "base.rs", "whether the base trains", &["frozen", "norms", "trained"]),
        row("bias", "base.rs", "which biases of the base train", &["none", "all", "lora_only"]),
        row("base_update", "base_update", "the base over time", &over_time),
        row("penalties", "penalty", "weights of further loss terms beside the task's", &penalties),
        row("layers", "layers.rs", "which layers train at a step", &["all", "sampled"]),
        row(
            "bilevel",
            "bilevel.rs",
            "whether training has two levels, on two parts of the examples",
            &["none", "alternating"],
        ),
    ]
}

/// One line per field of [`VariantSpec`], with the kinds that the registries have.
pub fn axes() -> String {
    let mut out = "| axis | file or folder | what varies | kinds |\n|---|---|---|---|\n".to_owned();
    for Row { field, place, what, kinds } in rows() {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
        out += &format!("| `{field}` | `crates/variants/src/{place}` | {what} | {} |\n", kinds.join(", "));
    }
    out
}

/// One line per preset: its values on every axis but the rank, which is the user's to choose. An empty cell is LoRA's value.
pub fn presets() -> String {
    let of = |preset: &super::Preset| (preset.name, [RANK, 2 * RANK].map(|rank| fields((preset.spec)(rank))));
    let all: Vec<_> = super::all().into_iter().map(of).collect();
    let lora = fields(lora::spec(RANK));
    let keys: Vec<&str> = lora.keys().filter_map(Value::as_str).filter(|key| *key != "rank").collect();
    let mut out = format!("| preset | {} |\n|---|{}\n", keys.join(" | "), "---|".repeat(keys.len()));
    for (name, [fields, twice]) in &all {
        let is_lora = *name == lora::PRESET.name;
        let cell = |key: &&str| {
            let own = fields.get(*key).filter(|own| is_lora || Some(*own) != lora.get(*key));
            let grows = own.is_some_and(|own| twice.get(*key) != Some(own));
            match own.and_then(Value::as_f64).filter(|_| grows) {
                Some(number) => format!("{:.1}·rank", number / RANK as f64),
                None => own.map(shown).unwrap_or_default(),
            }
        };
        out += &format!("| `{name}` | {} |\n", keys.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    out
}

/// One line per preset and field that is worth tuning in it beside the learning rate, with its values at rank 8.
pub fn knobs() -> String {
    let mut out = "| preset | field | values at rank 8 |\n|---|---|---|\n".to_owned();
    for preset in super::all() {
        for knob in (preset.knobs)(RANK) {
            let shown = |value: &f64| if *value < 1.0 { format!("{value:?}") } else { format!("{value:.1}") };
            let values: Vec<String> = knob.values.iter().map(shown).collect();
            let values: Vec<&str> = values.iter().map(|value| value.strip_suffix(".0").unwrap_or(value)).collect();
            out += &format!("| `{}` | `with.{}` | {} |\n", preset.name, knob.path, values.join(", "));
        }
    }
    out
}

/// One line per preset: what trains beside the head, how many numbers that is on one map, how PEFT gets it, and what its steps are held
/// against.
pub fn facts() -> Vec<[String; 5]> {
    let of = |preset: &super::Preset| {
        let ranked = (preset.spec)(RANK).delta.is_none_or(|delta| delta.is_ranked());
        let rank = if ranked { RANK } else { 0 };
        let spec = (preset.spec)(rank);
        let beside = |role: &Role| !matches!(role, Role::Head | Role::Embedding) && spec.train.trains(*role);
        let roles: Vec<String> = spec.roles().into_iter().filter(beside).map(role_name).collect();
        let count = preset.parameters.map_or_else(|| "–".to_owned(), |count| count(WIDTH, WIDTH, rank).to_string());
        let exact = spec.combine.is_additive() && spec.delta.as_ref().is_some_and(DeltaSpec::is_low_rank);
        let peft = match spec.peft_form() {
            Ok(form) => form.peft_type().to_owned(),
            Err(NoPeftForm::NoAdapter) => "a merged checkpoint".to_owned(),
            Err(NoPeftForm::NoCounterpart) if spec.unmergeable().is_some() => "–".to_owned(),
            Err(NoPeftForm::NoCounterpart) if exact => "LORA by `--svd`, exact at the update's rank".to_owned(),
            Err(NoPeftForm::NoCounterpart) => "LORA by `--svd`, approximate".to_owned(),
        };
        let held = match preset.parity {
            Parity::Peft => "PEFT".to_owned(),
            Parity::EquationsAndPeft => "the equations in torch, with which PEFT agrees".to_owned(),
            Parity::Equations => "the equations in torch".to_owned(),
            Parity::Untested(why) => why.to_owned(),
        };
        [preset.name.to_owned(), roles.join(", "), count, peft, held]
    };
    super::all().into_iter().map(of).collect()
}

/// Both sides of the map on which [`facts`] counts.
pub const WIDTH: usize = 768;

/// A rank at which every preset is valid; of a kind's parameters those that follow from it are not shown, and a number is shown per rank.
pub const RANK: usize = 8;

fn fields(spec: VariantSpec) -> Mapping {
    match serde_yaml::to_value(spec) {
        Ok(Value::Mapping(fields)) => fields,
        other => unreachable!("a composition is a mapping of its fields: {other:?}"),
    }
}

/// A value in few words: of a mechanism its kind, and its parameter where it has just one.
fn shown(value: &Value) -> String {
    let Value::Mapping(fields) = value else { return scalar(value) };
    let is_tag = |key: &Value| matches!(key.as_str(), Some("kind" | "state"));
    // A list is its file's to explain, too.
    let is_short = |(key, value): &(&Value, &Value)| key.as_str() != Some(OF_SEVERAL_KINDS) && !value.is_sequence();
    let fields = fields.iter().filter(is_short);
    let (tag, rest): (Vec<_>, Vec<_>) = fields.partition(|(key, _)| is_tag(key));
    let pair = |(key, value): &(&Value, &Value)| format!("{} {}", scalar(key), shown(value));
    let mut words: Vec<String> = tag.into_iter().map(|(_, value)| scalar(value)).collect();
    // Several parameters of a kind are its file's to explain.
    if words.is_empty() || rest.len() == 1 {
        words.extend(rest.iter().map(pair));
    }
    if words.is_empty() { "all".to_owned() } else { words.join(", ") }
}

/// A field that several kinds have and the documents of each explain, which a cell has no room for.
const OF_SEVERAL_KINDS: &str = "weight_decay_toward";

fn scalar(value: &Value) -> String {
    let written = serde_yaml::to_string(value).unwrap_or_default();
    let word = written.trim();
    NEWER.iter().find(|(recorded, _)| *recorded == word).map_or(word, |(_, newer)| newer).to_owned()
}

/// Words of records that have a clearer one, which YAML takes too.
const NEWER: [(&str, &str); 2] = [("anchored", "residual_init"), ("triangular", "qr")];

#[cfg(test)]
mod tests {
    use super::*;

    /// What `experiment` tunes and the guide shows: half of, once and twice alpha, two budgets, powers of two around LoRA+'s 16.
    #[test]
    fn the_table_of_knobs_has_every_field_that_is_worth_tuning() {
        let table = knobs();
        for line in [
            "| `lora` | `with.alpha` | 8, 16, 32 |",
            "| `adalora` | `with.alpha` | 42.7, 85.3, 170.7 |",
            "| `adalora` | `with.init.std` | 0.02, 0.05 |",
            "| `adalora` | `with.rank_policy.target_rank` | 4, 5 |",
            "| `lora_plus` | `with.train.b.lr_multiplier` | 4, 8, 16, 32, 64 |",
            "| `vera` | `with.delta.d_initial` | 1e-7, 0.1, 1 |",
        ] {
            assert!(table.lines().any(|other| other == line), "{line} in\n{table}");
        }
        assert!(!table.contains("head_only"));
        let targets = |rank| (super::super::find("adalora").unwrap().knobs)(rank).pop().unwrap().values;
        assert_eq!([1, 3, 12].map(targets), [vec![1.0], vec![1.0, 2.0], vec![6.0, 8.0]]);
    }

    #[test]
    fn the_table_of_axes_has_every_field_in_its_order() {
        let named: Vec<&str> = rows().iter().map(|row| row.field).collect();
        let fields = fields(lora::spec(RANK));
        assert_eq!(named, fields.keys().filter_map(Value::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn the_documents_show_these_tables() {
        let document = include_str!("../../../../ARCHITECTURE.md");
        assert_eq!(
            [axes().lines().count(), presets().lines().count()],
            [rows().len(), super::super::all().len()].map(|n| n + 2)
        );
        assert!(document.contains(&axes()) && document.contains(&presets()), "run `just documents`");
    }

    #[test]
    fn a_preset_shows_what_it_sets_otherwise_than_lora() {
        let table = presets();
        let row =
            |name: &str| table.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_default();
        let set = |name: &str| row(name).split('|').skip(2).map(str::trim).filter(|cell| !cell.is_empty()).count();
        assert_eq!((set("dora"), set("rslora"), set("head_only")), (1, 1, 1), "{table}");
        assert!(row("lora_fa").contains("| a frozen |"), "{table}");
        assert!(row("adalora").contains("| 10.7·rank |"), "{table}");
        assert!(row("olora").contains("| residual_init, start qr |"), "{table}");
    }
}
