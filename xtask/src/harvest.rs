//! Documentation taken from source files: the module doc as Markdown, and the fields that YAML can give.

use std::path::Path;

use crate::files::read;

/// The module doc of a source file, its links turned by `link`: from a path such as `crate::rank::budget` to an address.
pub(crate) fn module_doc(path: &Path, link: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut out, mut fenced) = (String::new(), false);
    for line in read(path).lines().take_while(|line| line.starts_with("//!")) {
        let line = line.trim_start_matches("//!");
        let line = line.strip_prefix(' ').unwrap_or(line);
        // Where a link of rustdoc leads, of which the text has an address of its own here.
        if !fenced && line.starts_with("[`") && line.contains("`]: ") {
            continue;
        }
        if line.starts_with("```") {
            fenced = !fenced;
            // rustdoc runs a block without a language as Rust.
            out += if fenced && line == "```" { "```rust" } else { line };
        } else {
            out += &if fenced { line.to_owned() } else { linked(line, link) };
        }
        out.push('\n');
    }
    out
}

/// A line with rustdoc's links as Markdown's; where `link` knows no address, the text alone stays.
fn linked(line: &str, link: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(['[', '`']) {
        out += &rest[..at];
        rest = &rest[at..];
        // A bracket inside code is a shape or a range.
        let code = rest.starts_with('`').then(|| rest[1..].find('`')).flatten();
        if let Some(end) = code {
            out += &rest[..end + 2];
            rest = &rest[end + 2..];
            continue;
        }
        let Some((text, path, length)) = bracket(rest) else {
            out += &rest[..1];
            rest = &rest[1..];
            continue;
        };
        out += &match link(path) {
            _ if path.starts_with("http") => format!("[{text}]({path})"),
            Some(address) => format!("[{text}]({address})"),
            None => text.to_owned(),
        };
        rest = &rest[length..];
    }
    out + rest
}

/// The text, path and length of the link that a line begins with: `[text](path)`, or a name in code, `` [`path`] ``.
fn bracket(line: &str) -> Option<(&str, &str, usize)> {
    let text = line.strip_prefix('[')?.split(']').next().filter(|text| !text.contains('['))?;
    let after = line.get(text.len() + 2..)?;
    if let Some(path) = after.strip_prefix('(').and_then(|rest| Some(&rest[..rest.find(')')?])) {
        return Some((text, path, text.len() + path.len() + 4));
    }
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    Some((text, name, text.len() + 2))
}

/// Name and meaning of every field that YAML gives: of the first struct of a source file that can be read from YAML.
pub(crate) fn fields(path: &Path) -> Vec<(String, String)> {
    let text = read(path);
    let lines: Vec<&str> = text.lines().collect();
    let readable = |at: &usize| lines[*at].starts_with("#[derive") && lines[*at].contains("Deserialize");
    let found = (0..lines.len()).filter(readable).find_map(|at| {
        let mut rest = lines[at..].iter().copied().skip_while(|line| line.starts_with('#'));
        rest.next().filter(|line| line.starts_with("pub struct") && line.ends_with('{'))?;
        Some(members(rest))
    });
    found.unwrap_or_default()
}

fn members<'a>(body: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let (mut found, mut doc) = (Vec::new(), String::new());
    for line in body.take_while(|line| !line.starts_with('}')).map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            doc = if doc.is_empty() { text.to_owned() } else { format!("{doc} {text}") };
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            found.push((name.to_owned(), std::mem::take(&mut doc)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_rustdoc_become_links_of_the_guide() {
        let link = |path: &str| path.ends_with("budget").then(|| "axes/rank.md#budget".to_owned());
        let line =
            "in [`budget`](crate::rank::budget), `A: [runs, d_in]` in [0, 1) as [`norms`](kernels::norms), [`Budget`]";
        assert_eq!(
            linked(line, &link),
            "in [`budget`](axes/rank.md#budget), `A: [runs, d_in]` in [0, 1) as `norms`, `Budget`"
        );
    }
}
