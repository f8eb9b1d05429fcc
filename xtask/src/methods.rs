//! The guide's pages of methods and axes, from the registry and the documentation of its files.
//!
//! `just documents` writes them. A page that is there must say what the code says; a method whose page is not written yet is no
//! problem, because adding a method takes its own file and one line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use variants::preset::{self, Preset, table::RANK};

use crate::{
    files::{below, read, stem},
    harvest,
};

/// Where the pages are.
const GUIDE: &str = "docs/src";
/// Where their sources are.
const SOURCES: &str = "crates/variants/src";

/// The axes whose values are files of a folder, and what each decides.
const AXES: [(&str, &str); 6] = [
    ("delta", "How the update is formed"),
    ("combine", "How the update meets the base"),
    ("init", "First values"),
    ("rank", "The rank over time"),
    ("base_update", "The base over time"),
    ("penalty", "Loss terms beside the task's"),
];

/// A page of the guide: its path under [`GUIDE`] and its text.
type Page = (String, String);

/// Which pages are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// One for everything that is registered.
    All,
    /// Those that are there; what was just added has none yet.
    Written,
}

/// Writes every page, and the list of them in SUMMARY.md.
pub(crate) fn write(root: &Path) -> std::io::Result<()> {
    let guide = root.join(GUIDE);
    for (path, text) in pages(root, Which::All) {
        let path = guide.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    let summary = guide.join("SUMMARY.md");
    fs::write(&summary, listed(&read(&summary), &titles(root, Which::All)))
}

/// Pages that are not what the code says, or that are about nothing.
pub(crate) fn stale(root: &Path) -> Vec<String> {
    let guide = root.join(GUIDE);
    let wanted = pages(root, Which::Written);
    let differs = |(path, text): &&Page| read(&guide.join(path)) != *text;
    let mut problems: Vec<String> = wanted.iter().filter(differs).map(|(path, _)| path.clone()).collect();
    let known: BTreeSet<&str> = wanted.iter().map(|(path, _)| path.as_str()).collect();
    for folder in ["methods", "axes"] {
        let found = below(&guide.join(folder), "md").into_iter().map(|path| format!("{folder}/{}.md", stem(&path)));
        problems.extend(found.filter(|path| !known.contains(path.as_str())));
    }
    let summary = read(&guide.join("SUMMARY.md"));
    if listed(&summary, &titles(root, Which::Written)) != summary {
        problems.push("SUMMARY.md".to_owned());
    }
    let stale = |path| format!("{GUIDE}/{path}: is not what the code says; `just documents` writes it");
    problems.into_iter().map(stale).collect()
}

fn method_page(name: &str) -> String {
    format!("methods/{name}.md")
}

/// Presets with a page, by name.
fn presets(root: &Path, which: Which) -> Vec<&'static Preset> {
    let has = |preset: &&Preset| which == Which::All || root.join(GUIDE).join(method_page(preset.name)).is_file();
    preset::all().into_iter().filter(has).collect()
}

/// Kinds of an axis with a section, by name.
fn kinds(root: &Path, axis: &str, which: Which) -> Vec<String> {
    let page = read(&root.join(GUIDE).join(format!("axes/{axis}.md")));
    let all = below(&root.join(SOURCES).join(axis), "rs").into_iter().map(|path| stem(&path));
    all.filter(|kind| which == Which::All || page.contains(&heading(kind))).collect()
}

fn pages(root: &Path, which: Which) -> Vec<Page> {
    let presets = presets(root, which);
    let mut pages =
        vec![("methods.md".to_owned(), index(&presets, &Counted { ratios: ratios(root), laws: laws(root) }))];
    pages.extend(presets.iter().map(|preset| (method_page(preset.name), method(root, preset))));
    pages.extend(AXES.iter().map(|(axis, title)| {
        let kinds = kinds(root, axis, which);
        (format!("axes/{axis}.md"), self::axis(root, axis, title, &kinds))
    }));
    pages
}

/// Paths of the pages below that of all methods, with their titles.
fn titles(root: &Path, which: Which) -> Vec<Page> {
    let of_preset = |preset: &&Preset| (method_page(preset.name), format!("`{}`", preset.name));
    let mut titles: Vec<Page> = presets(root, which).iter().map(of_preset).collect();
    titles.extend(AXES.iter().map(|(axis, title)| (format!("axes/{axis}.md"), format!("{title}: `{axis}`"))));
    titles
}

/// SUMMARY.md with the pages of methods and axes below that of all methods.
fn listed(summary: &str, pages: &[Page]) -> String {
    let mut out = String::new();
    for line in summary.lines().filter(|line| !line.contains("](methods/") && !line.contains("](axes/")) {
        out += line;
        out.push('\n');
        if line.ends_with("](methods.md)") {
            for (path, title) in pages {
                let _ = writeln!(out, "  - [{title}]({path})");
            }
        }
    }
    out
}

/// Where a path of rustdoc leads in the guide, from a page in a folder of it.
fn address(root: &Path, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split("::").map(|part| part.trim_start_matches("mod@")).collect();
    let last = *parts.last()?;
    if preset::all().iter().any(|preset| preset.name == last) {
        return Some(format!("../{}", method_page(last)));
    }
    let all =
        AXES.iter().flat_map(|(axis, _)| kinds(root, axis, Which::All).into_iter().map(move |kind| (*axis, kind)));
    let found = all.into_iter().find(|(axis, kind)| kind == last || parts.ends_with(&[axis, kind, last]));
    found.map(|(axis, kind)| format!("../axes/{axis}.md#{kind}"))
}

fn heading(kind: &str) -> String {
    format!("## `{kind}`\n")
}

/// The rows of the registry's table of presets: the names of the axes, then every preset with its values.
fn table() -> (Vec<String>, Vec<Vec<String>>) {
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split(" |").map(|cell| cell.trim().to_owned()).collect() };
    let text = variants::preset::table::presets();
    let mut rows = text.lines().filter(|line| !line.starts_with("|---")).map(cells);
    (rows.next().unwrap_or_default(), rows.collect())
}

/// The page of all methods: what an axis is, and the table of presets over axes.
fn index(presets: &[&Preset], counted: &Counted) -> String {
    let (axes, rows) = table();
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = format!("{INTRODUCTION}\n{}|{}\n", line(&axes), "---|".repeat(axes.len()));
    for mut row in rows {
        if let Some(preset) = presets.iter().find(|preset| row.first() == Some(&format!("`{}`", preset.name))) {
            row[0] = format!("[`{}`]({})", preset.name, method_page(preset.name));
            out += &line(&row);
        }
    }
    out += &facts(presets, counted);
    out
}

/// The table of what each method trains, where it can go, what it is held against and what a step of it takes.
fn facts(presets: &[&Preset], counted: &Counted) -> String {
    let mut out = format!(
        "\n## What each is\nEvery [law](architecture.md) is tested on every method, and all but the mixtures of experts can be merged; how many say something of a method \
         is counted by `just laws` (a law of penalties says nothing of a method without one). Numbers are of one map of {0} inputs and {0} \
         outputs at rank {1}. PEFT's form is what `lora-lab export` writes. Twenty optimizer steps are held against PEFT, in f64, or against the \
         paper's equations written out in torch. The last two columns are the time of a training step over LoRA's, on the CPU and on a card \
         (`bench/step.md`).\n\n| method | trains | numbers | mergeable | PEFT | laws | steps held against | step, CPU | step, card \
         |\n|---|---|---|---|---|---|---|---|---|\n",
        variants::preset::table::WIDTH,
        variants::preset::table::RANK,
    );
    let known = |name: &String| presets.iter().any(|preset| preset.name == name);
    for [name, roles, numbers, peft, held] in variants::preset::table::facts().into_iter().filter(|row| known(&row[0]))
    {
        let shown = |from: &BTreeMap<String, String>| from.get(&name).cloned().unwrap_or_else(|| "–".to_owned());
        let ([cpu, card], laws) = (counted.ratios.each_ref().map(shown), shown(&counted.laws));
        let is_mergeable = presets.iter().any(|preset| preset.name == name && preset.at(RANK).unmergeable().is_none());
        let mergeable = if is_mergeable { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "| `{name}` | {roles} | {numbers} | {mergeable} | {peft} | {laws} | {held} | {cpu} | {card} |"
        );
    }
    out
}

/// What was counted and measured of methods, by name.
struct Counted {
    /// Time of a step over LoRA's, on the CPU and on a card.
    ratios: [BTreeMap<String, String>; 2],
    /// Laws that say something of it.
    laws: BTreeMap<String, String>,
}

/// The counts of `bench/laws.csv`, such as `34 of 36`.
fn laws(root: &Path) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut cells = line.split(',').map(str::to_owned);
        Some((cells.next()?, format!("{} of {}", cells.next()?, cells.next()?)))
    };
    read(&root.join("bench/laws.csv")).lines().skip(1).filter_map(row).collect()
}

/// The ratios of `bench/step.md`, on the CPU and on a card, by the name of the row.
fn ratios(root: &Path) -> [BTreeMap<String, String>; 2] {
    let text = read(&root.join("bench/step.md"));
    let rows = text.split("```text").nth(1).unwrap_or_default().split("```").next().unwrap_or_default();
    [1, 2].map(|column| {
        let pair = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ratio = words.get(column).filter(|word| word.parse::<f64>().is_ok())?;
            Some((words.first()?.to_string(), ratio.to_string()))
        };
        rows.lines().filter_map(pair).collect()
    })
}

/// What stands before the table.
const INTRODUCTION: &str = "\
# Methods

A method is a choice on a few axes. A *preset* is a named point in that space: a published method, or a reference point
such as `full`. With weights stored `[d_in, d_out]`, an adapted map computes `W' = combine(W0, s·ΔW)`.

- [`delta`](axes/delta.md): how ΔW is formed
- [`combine`](axes/combine.md): how ΔW meets W0
- [`init`](axes/init.md): first values of the factors that are drawn
- `scaling`: the scale `s` as a function of the rank in use
- `train`: which roles train, at which rate and decay
- [`rank_policy`](axes/rank.md): the rank over time
- [`base_update`](axes/base_update.md): the base over time
- `layers`: which layers train at a step
- `bilevel`: whether some roles train on examples that are held out from the others
- [`penalties`, `orthogonality`](axes/penalty.md): loss terms beside the task's
- `alpha`, `dropout`, `gradient`, `base`, `bias`: see [`with`](experiments.md#with)

The scope is linear, mergeable updates, mixtures of them, and sequences of tasks. An experiment can override any field of a preset, and
[adding a preset](adding_a_method.md) takes one file and one line. An empty cell is LoRA's value; the head always trains.
";

/// The page of one preset.
fn method(root: &Path, preset: &Preset) -> String {
    let file = format!("{SOURCES}/presets/{}.rs", preset.name);
    let doc = harvest::module_doc(&root.join(&file), &|path| address(root, path));
    let mut out = format!("# `{}`\n\n{doc}\n", preset.name);
    if let Some(number) = preset.paper.strip_prefix("arXiv:") {
        let _ = writeln!(out, "Paper: [{}](https://arxiv.org/abs/{number}).\n", preset.paper);
    }
    let (axes, rows) = table();
    let row = rows.into_iter().find(|row| row.first() == Some(&format!("`{}`", preset.name))).unwrap_or_default();
    let about =
        if preset.name == "lora" { "Its value on every axis" } else { "Where it differs from [`lora`](lora.md)" };
    let _ = write!(out, "{about}:\n\n| axis | value |\n|---|---|\n");
    for (axis, value) in axes.iter().zip(&row).skip(1).filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "| `{axis}` | {value} |");
    }
    let _ = write!(out, "\nSource: `{file}`.\n");
    out
}

/// The page of one axis: its own documentation, and a section for every kind.
fn axis(root: &Path, axis: &str, title: &str, kinds: &[String]) -> String {
    let folder = root.join(SOURCES).join(axis);
    let doc = |path: &Path| harvest::module_doc(path, &|path| address(root, path));
    let mut out = format!("# {title}: `{axis}`\n\n{}\n", doc(&folder.with_extension("rs")));
    for kind in kinds {
        let path = folder.join(kind).with_extension("rs");
        let _ = write!(out, "{}\n{}\n", heading(kind), doc(&path));
        let fields = harvest::fields(&path);
        if !fields.is_empty() {
            out += "| field | meaning |\n|---|---|\n";
            for (name, meaning) in fields {
                let _ = writeln!(out, "| `{name}` | {} |", meaning.replace('|', "\\|"));
            }
            out.push('\n');
        }
        let _ = writeln!(out, "Source: `{SOURCES}/{axis}/{kind}.rs`.\n");
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}
