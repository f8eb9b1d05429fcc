//! Addresses, the cache, and downloads from a hub of this machine that misbehaves as hubs do.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";
/// git's name of a blob with the content `weights`.
const GIT_NAME: &str = "3ab313fff6f41bb35969cd359e9ddfb8033b3ac2";

/// A server of this machine; it ends with the test's process.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let asked = request(&mut stream);
                let answer = answer(&asked);
                kept.lock().unwrap().push(asked);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, heard }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> Client {
        Client::new(&self.address(), Some(TOKEN)).unwrap()
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn request(stream: &mut TcpStream) -> String {
    let (mut text, mut part) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&part[..read])),
            _ => break,
        }
    }
    text
}

/// A response that says it has `length` bytes.
fn response(status: &str, headers: &str, length: usize, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn file(etag: &str, body: &str) -> String {
    response("200 OK", &format!("etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n"), body.len(), body)
}

fn tiny() -> Repository {
    Repository::model("hf://acme/tiny").unwrap()
}

/// An empty cache.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Store {
        tiny().store(self.root.path())
    }

    fn download(&self, server: &Server, name: &str) -> Result<Option<PathBuf>, AssetError> {
        tiny().download(&server.client(), &self.store(), name)
    }

    #[track_caller]
    fn refused(&self, server: &Server, parts: &[&str]) {
        let said = self.download(server, "model.safetensors").unwrap_err().to_string();
        for part in parts {
            assert!(said.contains(part), "`{said}` lacks `{part}`");
        }
        assert!(said.contains("hf://acme/tiny@main") && said.contains("folder") && !said.contains(TOKEN), "{said}");
        assert!(tiny().cached_in(&self.store(), "model.safetensors").is_none());
    }

    fn blobs(&self) -> Vec<String> {
        let blobs = std::fs::read_dir(self.store().folder.join("blobs")).into_iter().flatten();
        blobs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn sha256(content: &str) -> String {
    record::sha256_hex(content.as_bytes())
}

#[test]
fn the_cache_is_where_the_hubs_own_programs_look_for_it() {
    let with = |set: &[(&str, &str)]| {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        move |wanted: &str| set.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    let of = |set: &[(&str, &str)]| cache::folder(with(set));
    assert_eq!(of(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/h/hub"));
    assert_eq!(of(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
    assert_eq!(of(&[("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
    assert_eq!(of(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
    assert!(of(&[]).ends_with(".cache/huggingface/hub"));

    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "hf_kept\n").unwrap();
    let home = home.path().to_str().unwrap();
    assert_eq!(cache::token(with(&[("HF_HOME", home)])).as_deref(), Some("hf_kept"));
    assert_eq!(cache::token(with(&[("HF_HOME", home), ("HF_TOKEN", " hf_set ")])).as_deref(), Some("hf_set"));
    assert_eq!(cache::token(with(&[("HF_HOME", "/nowhere")])), None);
}

#[test]
fn a_commit_is_found_by_itself_and_a_branch_by_its_reference() {
    let place = Place::new();
    let repository = place.root.path().join("models--acme--tiny");
    let put = |path: &str, content: &str| {
        let path = repository.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    put(&format!("snapshots/{COMMIT}/config.json"), "{}");
    put("refs/main", COMMIT);
    put("refs/out", "../../..");
    put("secret", "s");
    let found = |address: &str, file: &str| Repository::model(address).unwrap().cached_in(&place.store(), file);
    assert!(found("hf://acme/tiny", "config.json").is_some());
    assert!(found(&format!("hf://acme/tiny@{COMMIT}"), "config.json").is_some());
    let other = COMMIT.replace('0', "f");
    assert_eq!(found(&format!("hf://acme/tiny@{other}"), "config.json"), None);
    assert_eq!(found("hf://acme/tiny", "tokenizer.json"), None);
    assert_eq!((found("hf://acme/tiny@out", "secret"), found("hf://acme/tiny", "../../secret")), (None, None));
    for outside in ["../secret", "/etc/passwd", "a/../../b", ""] {
        assert!(tiny().fetch(outside).unwrap().is_none(), "{outside}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_lands_where_the_hubs_own_programs_find_it() {
    let hash = sha256("weights");
    let (place, etag) = (Place::new(), hash.clone());
    let other = Server::start(|_| response("200 OK", "etag: \"of the other host\"\r\n", 7, "weights"));
    let location = format!("location: {}/signed?Signature=s\r\n", other.address().replace("127.0.0.1", "localhost"));
    let server = Server::start(move |asked| {
        let facts =
            format!("x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{etag}\"\r\nx-linked-size: 7\r\netag: \"x\"\r\n");
        match asked.split(' ').nth(1).unwrap() {
            // A repository that was renamed.
            "/acme/tiny/resolve/main/sub%20folder/w.bin" => {
                response("307 Temporary", "location: /new/w.bin\r\n", 0, "")
            }
            _ => response("302 Found", &format!("{facts}{location}"), 0, ""),
        }
    });
    let path = place.download(&server, "sub folder/w.bin").unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "weights");
    let folder = place.root.path().join("models--acme--tiny");
    assert_eq!(path, folder.join(format!("snapshots/{COMMIT}/sub folder/w.bin")));
    assert_eq!(std::fs::read_link(&path).unwrap(), Path::new(&format!("../../../blobs/{hash}")));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(place.blobs(), [hash]);
    // The token went to the hub, also behind its own redirect, and to nobody else.
    assert_eq!(server.heard().len(), 2);
    assert!(server.heard().iter().all(|asked| asked.contains(TOKEN)));
    assert_eq!(other.heard().len(), 1);
    assert!(!other.heard()[0].contains(TOKEN) && !other.heard()[0].to_lowercase().contains("authorization"));
    // What is there is not asked for.
    assert!(tiny().cached_in(&place.store(), "sub folder/w.bin").is_some());
}

#[test]
fn a_download_that_is_not_what_the_hub_says_is_deleted() {
    let right = sha256("weights");
    let wrong = sha256("other weights");
    for (etag, body) in [(wrong.as_str(), "weights"), (COMMIT, "weights"), (right.as_str(), "weigh")] {
        let (place, etag) = (Place::new(), etag.to_owned());
        let said = format!("but the hub says {etag}; it was deleted, download it again");
        let server = Server::start(move |_| file(&etag, body));
        place.refused(&server, &["has the hash", &said]);
        assert_eq!(place.blobs(), Vec::<String>::new());
    }
    // The small files' name is git's; a mirror may name files in a way of its own.
    for etag in [right.as_str(), GIT_NAME, "mirror-17"] {
        let (place, name) = (Place::new(), etag.to_owned());
        let server = Server::start(move |_| file(&name, "weights"));
        let path = place.download(&server, "model.safetensors").unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "weights");
        assert_eq!(place.blobs(), [etag]);
    }
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_stopped() {
    let (place, etag) = (Place::new(), sha256("weights"));
    let server = Server::start(move |asked| {
        let facts = format!("etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\nx-linked-size: 7\r\n");
        let range = asked.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        match range.as_deref() {
            None => response("200 OK", &facts, 7, "wei"),
            Some("3-") => response("206 Partial", &format!("{facts}content-range: bytes 3-6/7\r\n"), 4, "gh"),
            Some("5-") => response("206 Partial", &format!("{facts}content-range: bytes 5-6/7\r\n"), 2, "ts"),
            Some(other) => panic!("asked for {other}"),
        }
    });
    let path = place.download(&server, "model.safetensors").unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "weights");
    assert_eq!(server.heard().len(), 3);

    // One that is cut each time is an error, and its bytes are kept for the next run, or for `huggingface_hub`.
    let (place, etag) = (Place::new(), sha256("weights"));
    let server = Server::start(move |_| file(&etag, "weights").replace("weights", "wei"));
    place.refused(&server, &["cut after 3", "the same command goes on where it stopped"]);
    assert_eq!(place.blobs(), [format!("{}.incomplete", sha256("weights"))]);
}

#[test]
fn answers_that_are_no_hubs_are_refused() {
    let refused = |answer: String, parts: &[&str]| {
        let server = Server::start(move |_| answer.clone());
        Place::new().refused(&server, parts);
    };
    let hash = sha256("weights");
    let facts = format!("etag: \"{hash}\"\r\n");
    refused(response("200 OK", &facts, 7, "weights"), &["no header `x-repo-commit`"]);
    refused(response("200 OK", &format!("x-repo-commit: {COMMIT}\r\n"), 7, "weights"), &["no header `etag`"]);
    for outside in ["../../../stolen", "/tmp/stolen", ".", ""] {
        refused(file(outside, "weights"), &["`etag` is no hash"]);
        refused(file(&hash, "weights").replace(COMMIT, outside), &["`x-repo-commit` is no hash"]);
    }
    refused(response("302 Found", "location: /again\r\n", 0, ""), &["more than 10 redirects"]);
    refused(response("302 Found", "location: file:///etc/passwd\r\n", 0, ""), &["answers 302 Found to nowhere"]);
    refused(response("304 Not Modified", "", 0, ""), &["to nowhere"]);
    refused(response("401 Unauthorized", "", 0, ""), &["the hub answers 401", "HF_TOKEN"]);
    refused(response("500 Internal Server Error", "", 0, ""), &["the hub answers 500"]);
    refused(response("404 Not Found", "x-error-code: RepoNotFound\r\n", 0, ""), &["no such repository"]);
    let longer = file(&hash, "weights").replace("x-repo", "x-linked-size: 5\r\nx-repo");
    refused(longer, &["does not have the 5 bytes", "deleted"]);
}

#[test]
fn what_a_commit_lacks_is_asked_for_once() {
    let place = Place::new();
    let git = |asked: &str| match asked.split(' ').nth(1).unwrap() {
        "/acme/tiny/resolve/main/config.json" => file(GIT_NAME, "weights"),
        _ => response("404 Not Found", &format!("x-error-code: EntryNotFound\r\nx-repo-commit: {COMMIT}\r\n"), 0, ""),
    };
    let server = Server::start(git);
    assert!(place.download(&server, "config.json").unwrap().is_some());
    assert!(place.download(&server, "chat_template.jinja").unwrap().is_none());
    assert!(place.download(&server, "chat_template.jinja").unwrap().is_none());
    let heard = server.heard();
    assert_eq!(heard.len(), 2);
    // The branch may move between two files; the second is the first one's commit's.
    assert!(heard[1].contains(&format!("/acme/tiny/resolve/{COMMIT}/chat_template.jinja")), "{}", heard[1]);
}

#[test]
fn two_processes_download_a_file_once() {
    let (place, etag) = (Place::new(), sha256("weights"));
    let server = Server::start(move |_| file(&etag, "weights"));
    let held = place.store().lock(&sha256("weights")).unwrap();
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| place.download(&server, "model.safetensors")));
        // Both have asked and wait for whoever holds the lock, who now has the file.
        while server.heard().len() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(place.blobs(), Vec::<String>::new());
        std::fs::create_dir_all(place.store().folder.join("blobs")).unwrap();
        std::fs::write(place.store().blob(&sha256("weights")), "weights").unwrap();
        drop(held);
        for download in both {
            let path = download.join().unwrap().unwrap().unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), "weights");
        }
    });
    assert_eq!(place.blobs(), [sha256("weights")]);
    assert_eq!(server.heard().len(), 2, "nobody asked again");
}

#[test]
fn the_list_of_files_is_that_of_the_commit_that_is_read() {
    let place = Place::new();
    let server = Server::start(|_| {
        let list = format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "b"}}, {{"rfilename": "a"}}]}}"#);
        response("200 OK", "", list.len(), &list)
    });
    for _ in 0..2 {
        assert_eq!(tiny().listed(&server.client(), &place.store()).unwrap(), ["b", "a"]);
    }
    let heard = server.heard();
    assert!(
        heard[0].starts_with("GET /api/models/acme/tiny/revision/main ") && heard[0].contains(TOKEN),
        "{}",
        heard[0]
    );
    assert!(heard[1].starts_with(&format!("GET /api/models/acme/tiny/revision/{COMMIT} ")), "{}", heard[1]);
    let nothing = Server::start(|_| response("200 OK", "", 2, "{}"));
    let said = tiny().listed(&nothing.client(), &Place::new().store()).unwrap_err().to_string();
    assert!(said.contains("no `siblings`"), "{said}");
}
