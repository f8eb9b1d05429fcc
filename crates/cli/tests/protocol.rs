//! A protocol precedes its study: the commit that settled an experiment's contrasts is in the history of the code that made its records.
//!
//! Records from before this rule existed cannot keep it; their studies are named in [`EARLIER`], and their documents say so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// The last commit before the rule. Contrasts that are in it, as they are today, were settled before.
const BEFORE_THE_RULE: &str = "385d687c8b74ef4ebc6cf8b9bd70d954f5ec317d";

/// Studies with contrasts from before the rule. It holds for one of them too as soon as its contrasts change.
const EARLIER: [&str; 2] = ["dylora_glue", "fairness"];

/// A clone and what is asked of it.
struct History {
    root: PathBuf,
    before: String,
}

impl History {
    fn git(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("git").arg("-C").arg(&self.root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn has(&self, commit: &str) -> bool {
        self.git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_some()
    }

    /// Whether `earlier` is in the history of `later`, or is it.
    fn precedes(&self, earlier: &str, later: &str) -> bool {
        self.git(&["merge-base", "--is-ancestor", earlier, later]).is_some()
    }

    /// The experiment's contrasts at a commit: the lines of the block without comments and white space at their ends.
    fn contrasts(&self, commit: &str, experiment: &str) -> Vec<String> {
        let text = self.git(&["show", &format!("{commit}:experiments/{experiment}.yaml")]).unwrap_or_default();
        let plain = |line: &str| line.split(" #").next().unwrap_or_default().trim_end().to_owned();
        let lines = text.lines().map(plain).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut block = lines.skip_while(|line| !line.starts_with("contrasts:"));
        let head: Vec<String> = block.next().into_iter().collect();
        head.into_iter().chain(block.take_while(|line| line.starts_with([' ', '-']))).collect()
    }

    /// The commit since which the contrasts are what they are in HEAD; none where there are none.
    fn settled(&self, experiment: &str) -> Option<String> {
        let today = self.contrasts("HEAD", experiment);
        if today.is_empty() {
            return None;
        }
        let log = self.git(&["log", "--format=%H", "HEAD", "--", &format!("experiments/{experiment}.yaml")])?;
        log.lines().take_while(|commit| self.contrasts(commit, experiment) == today).last().map(str::to_owned)
    }

    /// Committed studies by name, each with the commits of the code that made its records.
    fn studies(&self) -> Vec<(String, BTreeSet<String>)> {
        let list = self.git(&["ls-tree", "-r", "--name-only", "HEAD", "--", "results"]).unwrap_or_default();
        let name = |path: &str| path.split('/').nth(1).map(str::to_owned);
        let records: Vec<&str> = list.lines().filter(|path| path.ends_with("/record.json")).collect();
        let names: BTreeSet<String> = records.iter().filter_map(|path| name(path)).collect();
        let commits = |study: &String| {
            let own = records.iter().filter(|path| path.starts_with(&format!("results/{study}/")));
            own.map(|path| self.commit_of(path)).collect()
        };
        names.into_iter().map(|study| (study.clone(), commits(&study))).collect()
    }

    fn commit_of(&self, record: &str) -> String {
        let text = self.git(&["show", &format!("HEAD:{record}")]).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["code"]["commit"].as_str().unwrap().to_owned()
    }

    /// What breaks the rule, and how many studies it was held against.
    fn problems(&self, earlier: &[&str]) -> (Vec<String>, usize) {
        let (mut problems, mut held) = (Vec::new(), 0);
        for (study, commits) in self.studies() {
            let Some(settled) = self.settled(&study) else { continue };
            if self.precedes(&settled, &self.before) {
                if !earlier.contains(&study.as_str()) {
                    problems.push(format!("{study}: its contrasts are from before the rule, but no list says so"));
                }
                continue;
            }
            held += 1;
            for commit in commits.iter().filter(|commit| !self.precedes(&settled, commit)) {
                let why = if self.has(commit) { "has no such contrasts" } else { "is not in this history" };
                problems.push(format!(
                    "{study}: its contrasts were settled by {settled}, but the code of its records, {commit}, {why}; commit the \
                     experiment first, then build and run it"
                ));
            }
        }
        (problems, held)
    }
}

#[test]
#[cfg_attr(not(git_history), ignore = "needs the git history: a full clone, neither an archive nor a shallow clone")]
fn contrasts_were_committed_before_their_studies_ran() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let history = History { root, before: BEFORE_THE_RULE.to_owned() };
    assert!(history.has(BEFORE_THE_RULE), "not checked: {BEFORE_THE_RULE} is not in this history");
    let (problems, held) = history.problems(&EARLIER);
    println!("{held} studies with contrasts since the rule; from before it: {}", EARLIER.join(", "));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A repository with one study, whose contrasts are settled in the order that `steps` says.
fn repository(steps: &[&dyn Fn(&Path)]) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let history = History { root: root.to_owned(), before: String::new() };
    history.git(&["init", "--quiet"]).unwrap();
    let mut commits = Vec::new();
    for step in steps {
        step(root);
        history.git(&["add", "--all"]).unwrap();
        let name = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
        history.git(&[&name[..], &["commit", "--quiet", "--allow-empty", "--message", "step"]].concat()).unwrap();
        commits.push(history.git(&["rev-parse", "HEAD"]).unwrap().trim().to_owned());
    }
    (folder, commits)
}

fn write(root: &Path, path: &str, text: &str) {
    std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    std::fs::write(root.join(path), text).unwrap();
}

#[test]
#[cfg_attr(not(git_history), ignore = "needs git, of which a full clone is the sign")]
fn a_question_that_came_after_the_run_is_found() {
    let asked = "contrasts:   # why\n  - {variant: dora, against: lora}\nseeds: [0]\n";
    let other = "contrasts:\n  - {variant: vera, against: lora}\nseeds: [0]\n";
    let experiment = |text: &'static str| move |root: &Path| write(root, "experiments/one.yaml", text);
    let record = |root: &Path| {
        let history = History { root: root.to_owned(), before: String::new() };
        let head = history.git(&["rev-parse", "HEAD"]).unwrap();
        let text = format!("{{\"code\": {{\"commit\": \"{}\"}}}}", head.trim());
        write(root, "results/one/runs/lora/record.json", &text);
    };
    let none = experiment("seeds: [0]\n");
    let comment = experiment("# Of a pilot.\ncontrasts:\n  - {variant: dora, against: lora}\nseeds: [0, 1]\n");
    let problems = |steps: &[&dyn Fn(&Path)], earlier: &[&str], before: usize| {
        let (folder, commits) = repository(steps);
        let history = History { root: folder.path().to_owned(), before: commits[before].clone() };
        history.problems(earlier)
    };
    let (asked, other) = (experiment(asked), experiment(other));
    assert_eq!(problems(&[&none, &asked, &record], &[], 0), (Vec::new(), 1), "asked, then run");
    assert_eq!(
        problems(&[&none, &asked, &record, &comment], &[], 0),
        (Vec::new(), 1),
        "words around it change nothing"
    );
    let (late, held) = problems(&[&none, &record, &asked], &[], 0);
    assert!(held == 1 && late.len() == 1 && late[0].contains("has no such contrasts"), "{late:?}");
    let (changed, _) = problems(&[&none, &other, &record, &asked], &[], 0);
    assert_eq!(changed.len(), 1, "another question than the one that was run: {changed:?}");
    assert_eq!(problems(&[&asked, &record], &["one"], 0), (Vec::new(), 0), "from before, and said");
    let (unsaid, _) = problems(&[&asked, &record], &[], 0);
    assert!(unsaid.len() == 1 && unsaid[0].contains("no list says so"), "{unsaid:?}");
    let (again, held) = problems(&[&asked, &record, &other], &["one"], 0);
    assert!(held == 1 && again.len() == 1, "a study from before whose questions change is held to the rule: {again:?}");
}
