//! Mutants behind switches are the plainly changed programs; outcomes hold as long as what was asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::{
    list::{Genre, Mutant, place},
    outcomes::{Outcome, Outcomes},
    sites::{Without, sites},
    switch::{LIVE, REACHED, module, plain, switched},
};

/// A program with a place for every genre; `main` prints what a mutant can change.
const PROGRAM: &str = r#"
mod live_mutant;
#[derive(Clone, Debug)]
struct Pair { one: i32, two: i32 }
const SIX: i32 = 2 * 3;
const TWICE: fn(i32) -> i32 = |x| x * 2;
fn nested(a: i32, b: i32) -> i32 { a - b * (a + (b - 3)) }
fn sign(x: i32) -> &'static str { match x { 0 => "zero", n if n > 5 => "large", _ => "other" } }
fn added(n: i32) -> i32 { let mut sum = 10; sum += n * 2; sum }
fn first(one: i32, pair: Pair) -> Pair { Pair { one, ..pair } }
fn third(pair: Pair) -> Pair { Pair { one: 5, ..Pair::clone(&pair) } }
fn second(pair: &Pair) -> Pair { Pair { two: 3 + 4, ..pair.clone() } }
fn negative(x: i32) -> i32 { -x }
fn both(a: bool, b: &[i32]) -> bool { a && !b.is_empty() }
fn text(pair: &Pair) -> String { let name = format!("{pair:?}"); name }
fn bound(a: Option<i32>, b: i32) -> bool { if let Some(a) = a && a < b { true } else { false } }
fn main() {
    let pair = Pair { one: 1, two: 2 };
    print!("{} {} {} {} {} ", nested(2, 7), sign(0), sign(4), sign(6), added(3));
    print!("{:?} {:?} {:?} {} ", third(pair.clone()), first(9, pair.clone()), second(&pair), negative(5));
    print!("{} {} {} ", both(false, &[1]), both(true, &[]), both(true, &[1]));
    print!("{} {} {} {SIX}", TWICE(5), text(&pair), bound(Some(1), 2));
}
"#;

/// Every change of the program: the genre, the text around the change, the changed text in it, what takes its place.
const CHANGES: [(Genre, &str, &str, &str); 19] = [
    (Genre::FnValue, "a - b * (a + (b - 3))", "a - b * (a + (b - 3))", "-1"),
    (
        Genre::FnValue,
        "let name = format!(\"{pair:?}\"); name",
        "let name = format!(\"{pair:?}\"); name",
        "\"xyzzy\".into()",
    ),
    (Genre::BinaryOperator, "a - b * (", "-", "+"),
    (Genre::BinaryOperator, "a - b * (", "*", "+"),
    (Genre::BinaryOperator, "(a + (", "+", "*"),
    (Genre::BinaryOperator, "(b - 3)", "-", "/"),
    (Genre::BinaryOperator, "sum += n", "+=", "-="),
    (Genre::BinaryOperator, "n * 2", "*", "+"),
    (Genre::BinaryOperator, "a && !", "&&", "||"),
    (Genre::BinaryOperator, "n > 5", ">", "<"),
    (Genre::BinaryOperator, "a < b {", "<", ">"),
    (Genre::UnaryOperator, "{ -x", "-", ""),
    (Genre::UnaryOperator, "!b", "!", ""),
    (Genre::MatchArm, "0 => \"zero\",", "0 => \"zero\",", ""),
    (Genre::MatchArmGuard, "if n > 5", "n > 5", "true"),
    (Genre::BinaryOperator, "|x| x * 2", "*", "+"),
    (Genre::StructField, "one: 5, ..Pair", "one: 5,", ""),
    (Genre::StructField, "one, ..pair", "one,", ""),
    (Genre::StructField, "two: 3 + 4, ..", "two: 3 + 4,", ""),
];

fn mutant((genre, around, changed, replacement): (Genre, &str, &str, &str)) -> Mutant {
    let at = PROGRAM.find(around).unwrap();
    let start = at + around.find(changed).unwrap();
    Mutant {
        package: "program".to_owned(),
        file: "main.rs".to_owned(),
        at: start.to_string(),
        change: format!("replace {changed} with {replacement}"),
        genre,
        replacement: replacement.to_owned(),
        span: start..start + changed.len(),
        function: None,
        returns_impl: false,
    }
}

/// Compiles a program in a folder.
fn compile(folder: &Path, text: &str, mutants: u32) {
    fs::write(folder.join("main.rs"), text).unwrap();
    fs::write(folder.join("live_mutant.rs"), module(mutants)).unwrap();
    let output = Command::new("rustc").args(["--edition", "2024", "main.rs"]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

fn says(folder: &Path, variable: (&str, &str)) -> String {
    let output = Command::new(folder.join("main")).env(variable.0, variable.1).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_switched_mutant_is_the_plainly_changed_program() {
    let folder = tempfile::tempdir().unwrap();
    let mutants = CHANGES.map(mutant);
    let indexed: Vec<(usize, &Mutant)> = mutants.iter().enumerate().collect();
    let found = sites(PROGRAM, &indexed).unwrap();
    assert_eq!(found.without, []);
    let mut first = Vec::new();
    let mut numbers = vec![0; mutants.len()];
    let mut next = 1;
    for site in &found.sites {
        first.push(next);
        for (index, _) in &site.alternatives {
            numbers[*index] = next;
            next += 1;
        }
    }
    let plainly: Vec<String> = indexed
        .iter()
        .map(|one| {
            compile(folder.path(), &plain(PROGRAM, &[*one]).text, next);
            says(folder.path(), (LIVE, "0"))
        })
        .collect();
    compile(folder.path(), &switched(PROGRAM, &found.sites, &first, &BTreeSet::new()).text, next);
    let unchanged = says(folder.path(), (LIVE, "0"));
    for (index, mutant) in &indexed {
        let said = says(folder.path(), (LIVE, &numbers[*index].to_string()));
        assert_eq!(said, plainly[*index], "{}", mutant.change);
        assert_ne!(said, unchanged, "{}", mutant.change);
    }

    let reached = folder.path().join("reached");
    says(folder.path(), (REACHED, reached.to_str().unwrap()));
    let reached = fs::read_to_string(reached).unwrap();
    let reached: BTreeSet<u32> = reached.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(reached, first.into_iter().collect());
}

#[test]
fn what_cannot_be_decided_while_the_program_runs_has_no_site() {
    let mut returns_impl = mutant(CHANGES[0]);
    returns_impl.returns_impl = true;
    let changes = [
        mutant((Genre::BinaryOperator, "2 * 3", "*", "+")),
        mutant((Genre::BinaryOperator, "= a && a <", "&&", "||")),
        mutant((Genre::BinaryOperator, "a - b * (", "-", "=>")),
        returns_impl,
    ];
    let indexed: Vec<(usize, &Mutant)> = changes.iter().enumerate().collect();
    let found = sites(PROGRAM, &indexed).unwrap();
    assert!(found.sites.is_empty());
    let why: Vec<Without> = found.without.iter().map(|(_, why)| *why).collect();
    assert_eq!(why, [Without::NotSwitched, Without::NotSwitched, Without::NotParsed, Without::NotSwitched]);
}

#[test]
fn a_place_in_the_switched_text_belongs_to_its_mutant_or_to_the_site_around() {
    let mutants = [mutant(CHANGES[2]), mutant(CHANGES[4])];
    let indexed: Vec<(usize, &Mutant)> = mutants.iter().enumerate().collect();
    let found = sites(PROGRAM, &indexed).unwrap();
    let written = switched(PROGRAM, &found.sites, &[1, 2], &BTreeSet::new());
    let at = |part: &str| written.text.find(part).unwrap();
    assert_eq!(written.mutants_at(at("(a + b * (a")), [0]);
    assert_eq!(written.mutants_at(at("a * (b - 3)")), [1]);
    assert_eq!(written.mutants_at(at("a - b * ((match")), [0]);
    assert_eq!(written.mutants_at(at("a + (b - 3))")), [1]);
    assert!(written.mutants_at(at("fn sign")).is_empty());
    assert_eq!(written.before(at("fn sign")), PROGRAM.find("fn sign"));
    // Without the outer one, the inner stays.
    let written = switched(PROGRAM, &found.sites, &[1, 2], &BTreeSet::from([0]));
    assert!(written.text.contains("{ a - b * ((match crate::live_mutant::of(2, 1)"), "{}", written.text);
}

#[test]
fn an_outcome_holds_as_long_as_what_was_asked_is_the_same() {
    let root = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        assert!(Command::new("git").args(arguments).current_dir(&root).status().unwrap().success());
    };
    let write = |name: &str, text: &str| fs::write(root.path().join("crates/program").join(name), text).unwrap();
    fs::create_dir_all(root.path().join("crates/program")).unwrap();
    write("main.rs", PROGRAM);
    write("tests.rs", "");
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    let file = "crates/program/main.rs".to_owned();
    let (noticed, survives) =
        (Mutant { file: file.clone(), ..mutant(CHANGES[0]) }, Mutant { file, ..mutant(CHANGES[2]) });
    let known = || Outcomes::of(root.path(), "program").unwrap();
    known().put(&noticed, Outcome::Noticed, Some("test".to_owned())).unwrap();
    known().put(&survives, Outcome::Survives, None).unwrap();
    assert_eq!((known().get(&noticed), known().get(&survives)), (Some(Outcome::Noticed), Some(Outcome::Survives)));
    write("tests.rs", "// another test");
    assert_eq!((known().get(&noticed), known().get(&survives)), (Some(Outcome::Noticed), None));
    write("main.rs", "// another program");
    assert_eq!((known().get(&noticed), known().get(&survives)), (None, None));
}

#[test]
fn a_name_of_cargo_mutants_has_a_place_and_a_change() {
    let (at, change) = place("crates/a/src/b.rs:12:3: replace <impl A for B>::c -> d with Ok(())").unwrap();
    assert_eq!((at.as_str(), change.as_str()), ("12:3", "replace <impl A for B>::c -> d with Ok(())"));
}
