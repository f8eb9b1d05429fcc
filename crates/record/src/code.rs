//! The identity of the code: one hash over the files that can change a result.

use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::hash::hex;

/// Whether a tracked file, named by its path from the repository's root with `/` between parts, counts as code.
///
/// `Cargo.toml`, `Cargo.lock` and what lies under `crates/`, without hidden parts and build outputs. Experiments, results and texts
/// do not count: they do not change what the binary does.
pub fn is_code_path(path: &str) -> bool {
    if path == "Cargo.toml" || path == "Cargo.lock" {
        return true;
    }
    path.strip_prefix("crates/").is_some_and(|inner| inner.split('/').all(is_code_part))
}

fn is_code_part(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name != "target"
}

/// The code hash of files given as `(path, bytes)` in any order; files that are not [code](is_code_path) are skipped.
///
/// SHA-256 over `path \0 length \0 bytes` of each file in the order of their paths, so that no two listings share an input. The
/// complete `git ls-tree -r` of a commit can be passed in.
pub fn code_hash_of_listing<P: AsRef<str>, B: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, B)>) -> String {
    let mut files: Vec<(P, B)> = files.into_iter().filter(|(path, _)| is_code_path(path.as_ref())).collect();
    files.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
    let mut hasher = Sha256::new();
    for (path, bytes) in &files {
        hasher.update(path.as_ref());
        hasher.update(b"\0");
        hasher.update(bytes.as_ref().len().to_string());
        hasher.update(b"\0");
        hasher.update(bytes.as_ref());
    }
    hex(hasher.finalize().as_slice())
}

/// The code hash of the files on disk that a list names, such as the output of `git ls-files`.
///
/// A listed file that was deleted is skipped, so a tree with a deleted file differs from its commit.
pub fn code_hash_of_files<P: AsRef<str>>(root: &Path, paths: impl IntoIterator<Item = P>) -> io::Result<String> {
    let mut files = Vec::new();
    for path in paths {
        if !is_code_path(path.as_ref()) {
            continue;
        }
        match fs::read(root.join(path.as_ref())) {
            Ok(bytes) => files.push((path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(path.as_ref(), &error)),
        }
    }
    Ok(code_hash_of_listing(files))
}

/// The code hash of every file on disk below `root` that counts as code, tracked or not: for sources without version control.
pub fn code_hash(root: &Path) -> io::Result<String> {
    let mut paths = vec!["Cargo.toml".to_owned(), "Cargo.lock".to_owned()];
    walk(root, "crates", &mut paths)?;
    code_hash_of_files(root, paths)
}

fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder)).map_err(|error| at(folder, &error))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{folder}: file name `{}` is not utf-8; rename it", name.display()),
            ));
        };
        if !is_code_part(name) {
            continue;
        }
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            walk(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

fn at(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: cannot read for the code hash: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILES: [(&str, &str); 3] = [("Cargo.lock", "l"), ("Cargo.toml", ""), ("crates/a/src/lib.rs", "fn f() {}\n")];
    // printf 'Cargo.lock\0001\000lCargo.toml\0000\000crates/a/src/lib.rs\00010\000fn f() {}\n' | sha256sum
    const GOLDEN: &str = "093f8511353301bd104e8cad3282f12d7ae8a46d66423ec833f3e38447675c34";

    #[test]
    fn the_hash_is_the_documented_one() {
        assert_eq!(code_hash_of_listing(FILES), GOLDEN);
    }

    #[test]
    fn only_code_counts() {
        let others = [
            "README.md",
            "experiments/a.yaml",
            "crates/.env",
            "crates/a/target/x",
            "crates/.git/x",
            "crates",
            "Cargo.toml.bak",
        ];
        assert!(others.iter().all(|path| !is_code_path(path)));
        assert_eq!(code_hash_of_listing(FILES.into_iter().chain(others.map(|path| (path, "x")))), GOLDEN);
    }

    #[test]
    fn the_disk_and_the_listing_agree() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in
            FILES.iter().chain(&[("crates/a/.hidden", "h"), ("crates/a/target/out", "t"), ("README.md", "r")])
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(code_hash(root.path()).unwrap(), GOLDEN);
        let listed = FILES.iter().map(|(path, _)| *path);
        assert_eq!(code_hash_of_files(root.path(), listed.clone().chain(["crates/a/deleted.rs"])).unwrap(), GOLDEN);
        fs::write(root.path().join("crates/a/untracked.rs"), "u").unwrap();
        assert_eq!(code_hash_of_files(root.path(), listed).unwrap(), GOLDEN);
        assert_ne!(code_hash(root.path()).unwrap(), GOLDEN);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(files in Just(FILES.to_vec()).prop_shuffle()) {
            prop_assert_eq!(code_hash_of_listing(files), GOLDEN);
        }

        #[test]
        fn content_and_place_matter(path in "crates/[a-z]{1,4}/[a-z]{1,4}", text in ".{0,8}") {
            let more = FILES.into_iter().chain([(path.as_str(), text.as_str())]);
            prop_assert_ne!(code_hash_of_listing(more), GOLDEN);
        }
    }
}
