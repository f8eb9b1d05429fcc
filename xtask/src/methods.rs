//! The guide's pages of methods and axes, from the registry and the documentation of its files.
//!
//! `just documents` writes them. A page that is there must say what the code says; a method whose page is not written yet is no
//! problem, because adding a method takes its own file and one line.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use serde_yaml::{Mapping, Value};
use variants::{
    preset::{self, Preset},
    role::Role,
    spec::VariantSpec,
};

use crate::{
    files::{below, read, stem},
    harvest,
};

/// Where the pages are.
const GUIDE: &str = "docs/src";
/// Where their sources are.
const SOURCES: &str = "crates/variants/src";

/// The axes whose values are files of a folder, and what each decides.
const AXES: [(&str, &str); 4] = [
    ("delta", "How the update is formed"),
    ("combine", "How the update meets the base"),
    ("init", "First values"),
    ("rank", "The rank over time"),
];

/// The rank at which compositions are shown.
const RANK: usize = 8;

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
    let mut pages = vec![("methods.md".to_owned(), index(&presets))];
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

/// A value of YAML in one line: a map's kind, with its other fields in brackets.
fn short(value: &Value) -> String {
    let scalar = |value: &Value| serde_yaml::to_string(value).unwrap_or_default().trim().to_owned();
    match value {
        Value::Null => "–".to_owned(),
        Value::Mapping(map) => match map.get("kind") {
            Some(kind) => format!("`{}`", scalar(kind)),
            None => scalar(value),
        },
        other => format!("`{}`", scalar(other)),
    }
}

fn fields(spec: &VariantSpec) -> Mapping {
    let value = serde_yaml::to_value(spec).unwrap_or_else(|error| unreachable!("a composition is YAML: {error}"));
    value.as_mapping().cloned().unwrap_or_default()
}

/// The page of all methods: what an axis is, and the table of presets over axes.
fn index(presets: &[&Preset]) -> String {
    let mut out = "# Methods\n\nA method is a choice on a few axes, and a *preset* is a published method: a named point in \
                   that space. With\nweights stored `[d_in, d_out]`, every adapted map computes `W' = combine(W0, s·ΔW)`.\n\n\
                   - [`delta`](axes/delta.md): how ΔW is formed\n- [`combine`](axes/combine.md): how ΔW meets W0\n\
                   - [`init`](axes/init.md): first values of drawn factors\n- `scaling`: the scale `s` as a function of the \
                   rank in use\n- [`rank_policy`](axes/rank.md): the rank over time\n- `train`: which roles train, at which \
                   rate and decay\n- `gradient`, `orthogonality`, `base`, `bias`, `dropout`: see \
                   [`with`](experiments.md#with)\n\nThe scope is low-rank, linear and mergeable updates. Any field of a \
                   preset can be overridden in an experiment,\nand [adding a preset](adding_a_method.md) takes one file and \
                   one line.\n\n| preset | delta | combine | init | scaling | rank policy | trains | also |\n\
                   |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let lora = fields(&variants::presets::lora::spec(RANK));
    for preset in presets {
        let spec = (preset.spec)(RANK);
        let map = fields(&spec);
        let cell = |key: &str| short(map.get(key).unwrap_or(&Value::Null));
        let adapts = |key: &str| if spec.delta.is_some() { cell(key) } else { "–".to_owned() };
        let trains = spec.roles().into_iter().filter(|role| spec.train.trains(*role) && *role != Role::Head);
        let trains: Vec<String> = trains.map(|role| short(&serde_yaml::to_value(role).unwrap_or_default())).collect();
        let also =
            ["gradient", "orthogonality", "base", "bias"].into_iter().filter(|key| map.get(*key) != lora.get(*key));
        let also: Vec<String> = also.map(|key| format!("{key} {}", cell(key))).collect();
        let _ = writeln!(
            out,
            "| [`{}`]({}) | {} | {} | {} | {} | {} | {} | {} |",
            preset.name,
            method_page(preset.name),
            cell("delta"),
            adapts("combine"),
            adapts("init"),
            adapts("scaling"),
            adapts("rank_policy"),
            if trains.is_empty() { "–".to_owned() } else { trains.join(", ") },
            also.join(", "),
        );
    }
    out + "\nThe head always trains. Roles that are not named keep their first values.\n"
}

/// The page of one preset.
fn method(root: &Path, preset: &Preset) -> String {
    let file = format!("{SOURCES}/presets/{}.rs", preset.name);
    let doc = harvest::module_doc(&root.join(&file), &|path| address(root, path));
    let mut out = format!("# `{}`\n\n{doc}\n", preset.name);
    if let Some(number) = preset.paper.strip_prefix("arXiv:") {
        let _ = writeln!(out, "Paper: [{}](https://arxiv.org/abs/{number}).\n", preset.paper);
    }
    let (mut spec, lora) = (fields(&(preset.spec)(RANK)), fields(&variants::presets::lora::spec(RANK)));
    spec.retain(|key, _| key.as_str() != Some("rank"));
    let is_lora = preset.name == "lora";
    let about = if is_lora { "Its composition" } else { "Where its composition differs from [`lora`](lora.md)" };
    if !is_lora {
        spec.retain(|key, value| lora.get(key) != Some(value));
    }
    let yaml = serde_yaml::to_string(&spec).unwrap_or_default();
    let _ = write!(out, "{about}, at rank {RANK}:\n\n```yaml\n{yaml}```\n\nSource: `{file}`.\n");
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
