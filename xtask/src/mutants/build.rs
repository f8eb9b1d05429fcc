//! Builds one crate with all its mutants behind switches. What the compiler refuses there is taken out, and compiled plainly, which says
//! whether it is a program at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{
    WORK,
    list::Mutant,
    say,
    sites::{Site, Without, sites},
    switch::{Written, module, plain, switched},
    tree,
};

/// One crate in a copy of the tree.
pub(super) struct Crate<'a> {
    pub(super) root: &'a Path,
    pub(super) tree: PathBuf,
    pub(super) package: String,
    /// The list of all mutants, this crate's among them.
    pub(super) mutants: &'a [Mutant],
    files: BTreeMap<String, File>,
    /// The number of every mutant, and its site's.
    pub(super) numbers: BTreeMap<usize, (u32, u32)>,
    /// What is not behind a switch.
    pub(super) dropped: BTreeSet<usize>,
    /// What is no program.
    pub(super) unviable: BTreeSet<usize>,
    last: u32,
}

/// One file of the crate.
struct File {
    source: String,
    sites: Vec<Site>,
    /// The number of each site's first mutant.
    first: Vec<u32>,
    mutants: Vec<usize>,
}

/// What the compiler complains about: places of files, the main ones first.
struct Complaint {
    spans: Vec<(String, Range<usize>)>,
    text: String,
}

impl<'a> Crate<'a> {
    /// The sites of a crate's mutants; `plain` is the copy that they were listed in, `known` what an earlier build dropped, with whether
    /// it is a program.
    pub(super) fn new(
        root: &'a Path,
        (plain, tree): (&Path, PathBuf),
        package: &str,
        mutants: &'a [Mutant],
        known: &BTreeMap<usize, bool>,
    ) -> Result<Self, String> {
        let mut of_file: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, mutant) in mutants.iter().enumerate().filter(|(_, mutant)| mutant.package == package) {
            of_file.entry(&mutant.file).or_default().push(index);
        }
        let mut this = Self {
            root,
            tree,
            package: package.to_owned(),
            mutants,
            files: BTreeMap::new(),
            numbers: BTreeMap::new(),
            dropped: known.keys().copied().collect(),
            unviable: known.iter().filter(|(_, program)| !**program).map(|(index, _)| *index).collect(),
            last: 1,
        };
        for (name, indices) in of_file {
            let source = crate::files::read(&plain.join(name));
            let here: Vec<(usize, &Mutant)> = indices.iter().map(|index| (*index, &mutants[*index])).collect();
            let found = sites(&source, &here).map_err(|error| format!("{name}: {error}"))?;
            for (index, why) in found.without {
                this.dropped.insert(index);
                if why == Without::NotParsed {
                    this.unviable.insert(index);
                }
            }
            let first = this.number(&found.sites);
            this.files.insert(name.to_owned(), File { source, sites: found.sites, first, mutants: indices });
        }
        Ok(this)
    }

    /// Numbers the mutants from 1 on, those of a site one after the other.
    fn number(&mut self, sites: &[Site]) -> Vec<u32> {
        let mut first = Vec::new();
        for site in sites {
            for (at, (mutant, _)) in site.alternatives.iter().enumerate() {
                self.numbers.insert(*mutant, (self.last + at as u32, self.last));
            }
            first.push(self.last);
            self.last += site.alternatives.len() as u32;
        }
        first
    }

    /// Takes mutants out until the crate compiles.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        loop {
            let written = self.write_switched()?;
            let complaints = self.check()?;
            if complaints.is_empty() {
                return Ok(());
            }
            let before = self.dropped.len();
            for complaint in &complaints {
                self.dropped.extend(self.blamed(complaint, &written));
            }
            say(&format!("{}: {} of its mutants are not behind a switch", self.package, self.dropped.len()));
            if self.dropped.len() == before {
                let texts: Vec<&str> = complaints.iter().map(|it| it.text.as_str()).collect();
                return Err(format!("{}: no mutant is to blame for\n{}", self.package, texts.join("\n")));
            }
        }
    }

    /// Compiles plainly what has been dropped, but for what is known, each alone in its function, and notes what is no program.
    pub(super) fn compile_dropped(&mut self, known: &BTreeMap<usize, bool>) -> Result<(), String> {
        let unknown = |it: &usize| !self.unviable.contains(it) && !known.contains_key(it);
        let mut open: Vec<usize> = self.dropped.iter().copied().filter(unknown).collect();
        while !open.is_empty() {
            let batch = self.apart(&open);
            say(&format!("{}: {} mutants are compiled plainly, {} at once", self.package, open.len(), batch.len()));
            let refused = self.refused(&batch)?;
            open.retain(|it| !batch.contains(it));
            self.unviable.extend(refused);
        }
        Ok(())
    }

    /// As many mutants as do not share a function.
    fn apart(&self, of: &[usize]) -> Vec<usize> {
        let mut taken: BTreeMap<&str, Vec<Range<usize>>> = BTreeMap::new();
        let mut batch = Vec::new();
        for index in of {
            let mutant = &self.mutants[*index];
            let range = mutant.function.clone().unwrap_or_else(|| mutant.span.clone());
            let here = taken.entry(&mutant.file).or_default();
            if here.iter().all(|other| other.end <= range.start || range.end <= other.start) {
                here.push(range);
                batch.push(*index);
            }
        }
        batch
    }

    /// Which of a batch the compiler refuses. Every error names the function that it is in; where one does not, the batch is halved.
    fn refused(&self, batch: &[usize]) -> Result<BTreeSet<usize>, String> {
        let (mut left, mut refused) = (batch.to_vec(), BTreeSet::new());
        while !left.is_empty() {
            let written = self.write_plain(&left)?;
            let complaints = self.check()?;
            if complaints.is_empty() {
                break;
            }
            let blamed: BTreeSet<usize> =
                complaints.iter().flat_map(|complaint| self.owners(complaint, &written, &left)).collect();
            if blamed.is_empty() {
                if left.len() == 1 {
                    refused.extend(left);
                    break;
                }
                let (one, two) = left.split_at(left.len() / 2);
                refused.extend(self.refused(one)?);
                refused.extend(self.refused(two)?);
                break;
            }
            left.retain(|it| !blamed.contains(it));
            refused.extend(blamed);
        }
        Ok(refused)
    }

    /// The mutants of a batch in whose functions a complaint lies.
    fn owners(&self, complaint: &Complaint, written: &BTreeMap<String, Written>, batch: &[usize]) -> Vec<usize> {
        let owner = |(file, span): &(String, Range<usize>)| -> Vec<usize> {
            let Some(text) = written.get(file) else { return Vec::new() };
            let own = text.mutants_at(span.start);
            if !own.is_empty() {
                return own;
            }
            let Some(before) = text.before(span.start) else { return Vec::new() };
            let around = |it: &&usize| {
                let mutant = &self.mutants[**it];
                let function = mutant.function.clone().unwrap_or_else(|| mutant.span.clone());
                mutant.file == *file && function.contains(&before)
            };
            batch.iter().filter(around).copied().collect()
        };
        complaint.spans.iter().map(owner).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The mutants that a complaint about the switched text is about: the first place that is one's own, then the first within a site, then
    /// all of the function.
    fn blamed(&self, complaint: &Complaint, written: &BTreeMap<String, Written>) -> Vec<usize> {
        let at = |(file, span): &(String, Range<usize>)| {
            written.get(file).map(|text| text.mutants_at(span.start)).unwrap_or_default()
        };
        if let Some(found) = complaint.spans.iter().map(at).find(|found| !found.is_empty()) {
            return found;
        }
        let function = |(file, span): &(String, Range<usize>)| -> Vec<usize> {
            let place = written.get(file).and_then(|text| text.before(span.start));
            let around = |it: &&usize| {
                let mutant = &self.mutants[**it];
                let holds = |range: &Range<usize>| place.is_some_and(|place| range.contains(&place));
                !self.dropped.contains(it) && mutant.function.as_ref().is_some_and(holds)
            };
            self.files.get(file).map(|it| it.mutants.iter().filter(around).copied().collect()).unwrap_or_default()
        };
        complaint.spans.iter().map(function).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Writes the crate with its switches, and the rest of the tree as it is.
    pub(super) fn write_switched(&self) -> Result<BTreeMap<String, Written>, String> {
        let of = |(name, file): (&String, &File)| {
            (name.clone(), switched(&file.source, &file.sites, &file.first, &self.dropped))
        };
        let written = self.files.iter().map(of).collect();
        self.write(&written, true)?;
        Ok(written)
    }

    fn write_plain(&self, mutants: &[usize]) -> Result<BTreeMap<String, Written>, String> {
        let of = |(name, file): (&String, &File)| {
            let here: Vec<(usize, &Mutant)> = mutants
                .iter()
                .filter(|it| self.mutants[**it].file == *name)
                .map(|it| (*it, &self.mutants[*it]))
                .collect();
            (name.clone(), plain(&file.source, &here))
        };
        let written = self.files.iter().map(of).collect();
        self.write(&written, false)?;
        Ok(written)
    }

    fn write(&self, written: &BTreeMap<String, Written>, with_switch: bool) -> Result<(), String> {
        let lib = format!("crates/{}/src/lib.rs", self.package);
        let text = |name: &str| {
            let changed = written.get(name).map(|it| it.text.clone());
            if with_switch && name == lib {
                let text = changed.unwrap_or_else(|| crate::files::read(&self.root.join(name)));
                return Some(format!("{text}\n#[doc(hidden)]\nmod live_mutant;\n"));
            }
            changed
        };
        tree::bring(self.root, &self.tree, text)?;
        let module_file = self.tree.join(format!("crates/{}/src/live_mutant.rs", self.package));
        tree::put(&module_file, module(self.last).as_bytes())
    }

    /// The compiler's errors: of the crate's library; where it has none, of what its tests are built from, which may have more features; and
    /// of a build, which computes constants that a check leaves alone (`1 - 999` overflows).
    fn check(&self) -> Result<Vec<Complaint>, String> {
        for (verb, targets) in [("check", "--lib"), ("check", "--tests"), ("build", "--lib")] {
            let complaints = self.check_only(verb, targets)?;
            if !complaints.is_empty() {
                return Ok(complaints);
            }
        }
        Ok(Vec::new())
    }

    fn check_only(&self, verb: &str, targets: &str) -> Result<Vec<Complaint>, String> {
        let output = self.cargo(verb).args([targets, "--message-format=json"]).output();
        let output = output.map_err(|error| format!("cargo check: {error}"))?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let complaints: Vec<Complaint> = messages.filter_map(|message| complaint(&message["message"])).collect();
        if complaints.is_empty() && !output.status.success() {
            return Err(format!("cargo check: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(complaints)
    }

    /// A command of cargo on the crate in the copy, as `.cargo/mutants.toml` has it.
    pub(super) fn cargo(&self, verb: &str) -> Command {
        let mut command = Command::new("cargo");
        command.args([verb, "--release", "--package", &self.package]).current_dir(&self.tree);
        let settings = crate::files::read(&self.root.join(".cargo/mutants.toml"));
        let optimised = settings.lines().filter(|line| line.contains("\"--config\""));
        command.args(optimised.flat_map(|line| line.split('"').skip(1).step_by(2)));
        command.env("CARGO_TARGET_DIR", target(self.root));
        command
    }
}

/// Where cargo builds the copies of the tree, and never the tree itself: it names what it builds of a crate by the crate's place in the
/// workspace, so that a copy's crate would pass for the tree's, and a later build of the tree would take it. The dependencies that are
/// compiled already are brought along once.
pub(super) fn target(root: &Path) -> PathBuf {
    let target = root.join(WORK).join("build");
    if !target.join("release").is_dir() {
        let compiled = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        // Where it fails, cargo compiles them again.
        let copied = std::fs::create_dir_all(&target)
            .and_then(|()| Command::new("cp").arg("-a").arg(compiled.join("release")).arg(&target).status());
        if !copied.is_ok_and(|status| status.success()) {
            // Half a copy would be taken for all of it the next time.
            drop(std::fs::remove_dir_all(&target));
            say("the compiled dependencies were not brought along; they are compiled again");
        }
    }
    target
}

fn complaint(message: &Value) -> Option<Complaint> {
    if message["level"] != "error" {
        return None;
    }
    let mut spans = Vec::new();
    let all = message["spans"].as_array()?;
    for primary in [true, false] {
        for span in all.iter().filter(|span| span["is_primary"] == primary) {
            places(span, &mut spans);
        }
    }
    let text = message["rendered"].as_str().unwrap_or_default().to_owned();
    (!spans.is_empty()).then_some(Complaint { spans, text })
}

/// The place of a span, and of the macros' calls that it came from.
fn places(span: &Value, into: &mut Vec<(String, Range<usize>)>) {
    let byte = |key: &str| span[key].as_u64().map(|byte| byte as usize);
    if let (Some(file), Some(start), Some(end)) = (span["file_name"].as_str(), byte("byte_start"), byte("byte_end")) {
        into.push((file.to_owned(), start..end));
    }
    if !span["expansion"].is_null() {
        places(&span["expansion"]["span"], into);
    }
}
