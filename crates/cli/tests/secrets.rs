//! A token for the hub goes to the hub alone: not into messages, records or tables, and not to another host that the hub points to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

const TOKEN: &str = "hf_theSecretOfThisTest";

/// A server of this machine that answers every request alike and keeps what it was asked.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&heard);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = request(&stream);
                let _ = (&stream).write_all(answer(&asked).as_bytes());
                kept.lock().unwrap().push(asked);
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().join("\n")
    }
}

fn request(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut text, mut part) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&part[..read])),
            _ => break,
        }
    }
    text
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn study(folder: &Path, model: &str) {
    let yaml = format!(
        "# Secrets.\nsuite: glue_mini\nmodel: {model}\ntasks: [rte]\nseeds: [0]\ntargets: [query]\nranks: [1]\n\
         train: {{steps: 1, batch: 2}}\nvariants: [lora]\n"
    );
    fs::write(folder.join("s.yaml"), yaml).unwrap();
}

fn lora_lab(folder: &Path, endpoint: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(folder)
        .args(arguments)
        .env("HF_TOKEN", TOKEN)
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", folder.join("hub"))
        .env("HF_HUB_OFFLINE", "0")
        .output()
        .unwrap()
}

/// What was written, to the terminal or below the folder.
fn written(output: &Output, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![("stdout".into(), output.stdout.clone()), ("stderr".into(), output.stderr.clone())];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    found
}

#[track_caller]
fn assert_secret(output: &Output, folder: &Path, token: &str) {
    for (place, bytes) in written(output, folder) {
        let shows = bytes.windows(token.len()).any(|part| part == token.as_bytes());
        assert!(!shows, "{} shows the token", place.display());
    }
}

#[test]
fn an_error_of_the_hub_does_not_show_the_token() {
    let folder = tempfile::tempdir().unwrap();
    study(folder.path(), "hf://org/private");
    // A server that shows what it was asked, as debugging proxies do.
    let server = Server::start(|asked| response("401 Unauthorized", "x-asked: you\r\n", asked));
    let output = lora_lab(folder.path(), &format!("http://127.0.0.1:{}", server.port), &["run", "s.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(server.heard().contains(TOKEN), "the hub was given the token: {}", server.heard());
    assert_secret(&output, folder.path(), TOKEN);
    // Nobody listens there.
    let output = lora_lab(folder.path(), "http://127.0.0.1:9", &["run", "s.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_secret(&output, folder.path(), TOKEN);
}

/// A configuration that no backbone here reads: the error says that it arrived. Its etag is git's name of the blob.
const CONFIG: &str = r#"{"model_type": "t5"}"#;
const FACTS: &str =
    "etag: \"d83c89006dd40c57abad393ea15cb4a18cdef566\"\r\nx-repo-commit: 0123456789abcdef0123456789abcdef01234567\r\n";

#[test]
fn another_host_is_not_given_the_token() {
    // Another name of this machine, and the same name with another port.
    for host in ["localhost", "127.0.0.1"] {
        let folder = tempfile::tempdir().unwrap();
        study(folder.path(), "hf://org/private");
        let other = Server::start(|_| response("200 OK", "", CONFIG));
        let port = other.port;
        let hub = Server::start(move |asked| {
            let path = asked.split(' ').nth(1).unwrap_or("/");
            response("302 Found", &format!("{FACTS}location: http://{host}:{port}{path}\r\n"), "")
        });
        let output = lora_lab(folder.path(), &format!("http://127.0.0.1:{}", hub.port), &["run", "s.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(hub.heard().contains(TOKEN), "{}", hub.heard());
        assert!(other.heard().contains("/org/private/resolve/main/config.json"), "{}", other.heard());
        assert!(!other.heard().contains(TOKEN), "{}", other.heard());
        assert!(said.contains("model_type is `t5`"), "{said}");
        assert_secret(&output, folder.path(), TOKEN);
    }
}

#[test]
fn a_study_does_not_write_the_token_down() {
    let folder = tempfile::tempdir().unwrap();
    study(folder.path(), "mini_roberta");
    for command in ["run", "table", "figures"] {
        let output = lora_lab(folder.path(), "http://127.0.0.1:9", &[command, "s.yaml"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_secret(&output, folder.path(), TOKEN);
    }
    assert!(folder.path().join("results/s/runs/rte-lora-r1-s0/record.json").is_file());
}
