//! A case: what lies there, what is asked, and what must come of it.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{base, place::Place};

/// Puts the inputs of a case into its folder.
type Arrange = Box<dyn Fn(&Place) + Send + Sync>;

/// One broken input.
pub(crate) struct Case {
    pub(crate) name: String,
    arguments: Vec<String>,
    arrange: Arrange,
}

/// What the program did.
pub(crate) struct Answer {
    pub(crate) status: Option<i32>,
    pub(crate) said: String,
    /// Largest resident memory that was seen.
    pub(crate) peak_kib: Option<u64>,
    /// What was written where nobody asked for it.
    strayed: Option<String>,
    pub(crate) took: Duration,
}

/// The exit status of a command whose input cannot be used.
const BAD_INPUT: i32 = 2;
/// Address space of the program: what it takes for whole inputs as small as these, and half again.
const ADDRESS_SPACE_KIB: u64 = 4 << 20;
/// Resident memory: the embedded model, its build-in tables and the threads' own; inputs here have a megabyte at most, but for the
/// tables of a million columns.
const RESIDENT_KIB: u64 = 400 << 10;
/// The longest that any case may take, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the commands of the cases are told to write.
const TOLD: [&str; 3] = ["results", "new", "out.safetensors"];

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        arguments: &str,
        arrange: impl Fn(&Place) + Send + Sync + 'static,
    ) -> Self {
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        Self { name: name.into(), arguments, arrange: Box::new(arrange) }
    }

    /// Runs the program in a fresh folder.
    pub(crate) fn ask(&self) -> Answer {
        let place = Place::new();
        (self.arrange)(&place);
        let before = place.untold(&TOLD);
        let since = Instant::now();
        let limit = format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" \"$@\"");
        let said = place.inside().join("../said");
        let mut child = Command::new("sh")
            .args(["-c", &limit, env!("CARGO_BIN_EXE_lora-lab")])
            .args(&self.arguments)
            .current_dir(place.inside())
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", place.inside().join("hub"))
            .env("RAYON_NUM_THREADS", "1")
            .env_remove("HF_TOKEN")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut peak_kib = None;
        let status = loop {
            peak_kib = peak_kib.max(resident(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if since.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = since.elapsed();
        let text = String::from_utf8_lossy(&fs::read(&said).unwrap()).into_owned();
        fs::remove_file(&said).unwrap();
        let after = place.untold(&TOLD);
        let strayed =
            after.iter().find(|file| !before.contains(file)).or(before.iter().find(|file| !after.contains(file)));
        let folder = fs::canonicalize(place.inside()).unwrap().display().to_string();
        Answer { status, said: text.replace(&folder, "."), peak_kib, strayed: strayed.cloned(), took }
    }

    /// What is wrong with an answer, beside its words.
    pub(crate) fn problem(&self, answer: &Answer) -> Option<String> {
        let said = answer.said.chars().take(400).collect::<String>();
        let problem = |what: String| Some(format!("- {} ({}): {what}: {said}", self.name, self.arguments.join(" ")));
        if answer.took > PATIENCE {
            return problem(format!("had not ended after {PATIENCE:?}"));
        }
        if answer.said.contains("panicked") || answer.said.contains("unreachable") {
            return problem("panics".to_owned());
        }
        if answer.status != Some(BAD_INPUT) {
            return problem(format!("ends with {:?}, not {BAD_INPUT}", answer.status));
        }
        if !answer.said.lines().any(|line| line.starts_with("error: ")) {
            return problem("says no error".to_owned());
        }
        if let Some(peak) = answer.peak_kib.filter(|peak| *peak > RESIDENT_KIB) {
            return problem(format!("held {peak} KiB"));
        }
        answer.strayed.as_ref().and_then(|file| problem(format!("touched {file}")))
    }

    /// As it stands in the snapshot.
    pub(crate) fn shown(&self, answer: &Answer) -> String {
        let status = answer.status.map_or("a signal".to_owned(), |status| status.to_string());
        // A message that names everything there is may be long; its beginning is what is read.
        let whole = answer.said.trim_end();
        let plain = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
        let mut said: String = whole.chars().take(1500).map(plain).collect();
        if whole.chars().count() > 1500 {
            said.push_str(" [..]");
        }
        format!("## {}\n$ lora-lab {}\n{said}\n[exit {status}]\n", self.name, self.arguments.join(" "))
    }
}

/// Largest resident memory of a process so far, where the system tells.
fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What the cases of each kind start from, unbroken.
pub(crate) fn whole() -> Vec<Case> {
    use crate::{adapters, experiments, rows};
    vec![
        Case::new("an experiment", experiments::CHECK, |place| place.write("e.yaml", experiments::yaml(""))),
        Case::new("a checkpoint", base::PREDICT, |place| base::Base::new().put(place)),
        Case::new("a checkpoint in shards", base::PREDICT, |place| base::Base::new().put_in_shards(place)),
        Case::new("a Llama", base::LLAMA, |place| base::Base::llama().put(place)),
        Case::new("an adapter", adapters::IMPORT, |place| adapters::Folder::new().put(place)),
        Case::new("an adapter without a base", adapters::COMBINE, |place| adapters::Folder::new().put(place)),
        Case::new("a table", rows::RUN, |place| rows::put(place, "", rows::TRAIN)),
        Case::new("texts", rows::RUN, |place| rows::put_texts(place, "form: pairs", "a film||is good\n", None)),
    ]
}
