//! Names of models, and files that are broken or missing.

use super::*;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, AssetError>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

#[test]
fn names_are_embedded_folders_or_addresses() {
    assert_eq!(model("mini_roberta").unwrap(), Origin::Embedded("mini_roberta"));
    let Origin::Hub(found) = model("hf://FacebookAI/roberta-base@main").unwrap() else { panic!("an address") };
    assert_eq!((found.name.as_str(), found.revision.as_str()), ("FacebookAI/roberta-base", "main"));
    let Origin::Hub(found) = model("hf://gpt2").unwrap() else { panic!("an address") };
    assert_eq!(found.name, "gpt2");
    refused(model("mini_robert"), &["unknown model `mini_robert`", "did you mean `mini_roberta`"]);
    assert_eq!(model("./nowhere").unwrap(), Origin::Folder("./nowhere".into()));
    refused(open("./nowhere"), &["./nowhere", "no such folder", "hf://org/name"]);
    assert!(config("./nowhere").unwrap().is_none() && absent("mini_roberta", None).is_none());
    refused(absent("mini_roberta", Some("./nowhere")).map_or(Ok(()), Err), &["./nowhere", "no such folder", "`data`"]);
    for broken in ["hf://", "hf://a/b/c", "hf://a/../b", "hf://a b/c", "hf://a/b@"] {
        refused(model(broken), &[broken, "not an address"]);
    }
}

fn folder(weights: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let embedded = catalog::find("mini_roberta").unwrap();
    std::fs::write(folder.path().join(CONFIG), embedded.config).unwrap();
    std::fs::write(folder.path().join(TOKENIZER), embedded.tokenizer).unwrap();
    std::fs::write(folder.path().join(WEIGHTS), weights).unwrap();
    folder
}

#[test]
fn a_folder_is_the_embedded_model_that_was_copied_there() {
    let weights = catalog::find("mini_roberta").unwrap().weights.unwrap();
    let copy = folder(weights);
    let opened = open(&copy.path().display().to_string()).unwrap();
    assert_eq!(opened.hash, embedded("mini_roberta").unwrap().hash);
}

#[test]
fn broken_weights_are_found_by_their_header() {
    let weights = catalog::find("mini_roberta").unwrap().weights.unwrap();
    let open = |weights: &[u8]| open(&folder(weights).path().display().to_string());
    refused(open(&weights[..weights.len() - 5]), &["model.safetensors", "its header describes", "download it again"]);
    refused(open(&weights[..100]), &["its header says more"]);
    refused(open(b"PK"), &["it has 2 bytes"]);
    // A header that claims to be as long as the memory of this machine.
    refused(open(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat()), &["its header says more"]);
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_no_missing_folder() {
    use std::os::unix::fs::symlink;
    let beside = tempfile::tempdir().unwrap();
    let at = |name: &str| beside.path().join(name);
    symlink(at("b"), at("a")).unwrap();
    symlink(at("a"), at("b")).unwrap();
    symlink(at("nowhere"), at("c")).unwrap();
    for name in ["a", "c"] {
        refused(open(&at(name).display().to_string()), &[name, "a link that leads to no folder"]);
    }
}

#[test]
fn missing_files_are_named() {
    let weights = catalog::find("mini_roberta").unwrap().weights.unwrap();
    let copy = folder(weights);
    std::fs::remove_file(copy.path().join(TOKENIZER)).unwrap();
    refused(open(&copy.path().display().to_string()), &["tokenizer.json` is missing"]);
    let torch = folder(b"");
    std::fs::rename(torch.path().join(WEIGHTS), torch.path().join("pytorch_model.bin")).unwrap();
    refused(open(&torch.path().display().to_string()), &["pytorch_model.bin", "is a pickle", "`save_pretrained`"]);
    std::fs::remove_file(torch.path().join("pytorch_model.bin")).unwrap();
    refused(open(&torch.path().display().to_string()), &["`model.safetensors` is missing"]);
    std::fs::write(copy.path().join(CONFIG), "{\"model_type\": \"t5\"}").unwrap();
    refused(config(&copy.path().display().to_string()), &["config.json", "model_type is `t5`", "roberta"]);
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    let copy = folder(b"");
    std::fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
    std::fs::write(copy.path().join(INDEX), r#"{"weight_map": {"a": "../secret.safetensors"}}"#).unwrap();
    refused(open(&copy.path().display().to_string()), &["../secret", "beside the index"]);
}

/// A safetensors file with this header and so many bytes of numbers.
fn with_header(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn headers_that_claim_too_much_or_overlap_are_refused() {
    let open = |weights: &[u8]| open(&folder(weights).path().display().to_string());
    let claims = |shape: &str, offsets: &str, bytes: usize| {
        with_header(&format!(r#"{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}"#), bytes)
    };
    // Petabytes: as an end, as a shape, as a product that does not fit 64 bits.
    refused(
        open(&claims("[250000000000000]", "[0, 1000000000000000]", 16)),
        &["its header describes 10000000000", "download it"],
    );
    refused(open(&claims("[250000000000000]", "[0, 16]", 16)), &["model.safetensors", "not a safetensors file"]);
    refused(open(&claims("[4294967296, 4294967296, 4294967296]", "[0, 16]", 16)), &["not a safetensors file"]);
    refused(open(&claims("[4]", "[0, 18446744073709551615]", 16)), &["its header describes 18446744073709551615"]);
    refused(open(&claims("[4]", "[-16, 16]", 16)), &["not a safetensors file"]);
    refused(open(&claims("[4]", "[16, 0]", 0)), &["not a safetensors file"]);
    let two = |first: &str, second: &str, bytes| {
        let tensor = |offsets: &str| format!(r#"{{"dtype": "F32", "shape": [4], "data_offsets": {offsets}}}"#);
        with_header(&format!(r#"{{"a": {}, "b": {}}}"#, tensor(first), tensor(second)), bytes)
    };
    refused(open(&two("[0, 16]", "[8, 24]", 24)), &["not a safetensors file"]);
    refused(open(&two("[0, 16]", "[32, 48]", 48)), &["not a safetensors file"]);
    refused(open(&with_header(&"[".repeat(100_000), 0)), &["its header is not JSON"]);
    refused(open(&with_header("", 0)), &["its header is not JSON"]);
    let unknown = String::from_utf8(claims("[4]", "[0, 16]", 16)).unwrap().replace("F32", "F99");
    refused(open(unknown.as_bytes()), &["not a safetensors file"]);
}

/// A folder whose weights are in shards that an index names.
fn sharded(map: &serde_json::Value) -> tempfile::TempDir {
    let copy = folder(b"");
    std::fs::rename(copy.path().join(WEIGHTS), copy.path().join("one.safetensors")).unwrap();
    std::fs::write(copy.path().join("one.safetensors"), catalog::find("mini_roberta").unwrap().weights.unwrap())
        .unwrap();
    std::fs::write(copy.path().join(INDEX), serde_json::json!({"weight_map": map}).to_string()).unwrap();
    copy
}

#[test]
fn an_index_names_whole_shards_beside_it() {
    let open = |map: serde_json::Value| open(&sharded(&map).path().display().to_string());
    assert!(open(serde_json::json!({"a": "one.safetensors"})).is_ok());
    for outside in ["/etc/passwd.safetensors", "a/b.safetensors", "..", "a\\b.safetensors"] {
        refused(open(serde_json::json!({"a": outside})), &[outside, "beside the index"]);
    }
    refused(open(serde_json::json!({"a": INDEX})), &["names the shard", "is a safetensors file"]);
    refused(open(serde_json::json!({"a": "two.safetensors"})), &["`two.safetensors` is missing"]);
    refused(open(serde_json::json!({})), &["names no shard"]);
    refused(open(serde_json::json!([])), &["not an index of shards"]);
    let cut = sharded(&serde_json::json!({"a": "one.safetensors"}));
    let shard = cut.path().join("one.safetensors");
    let content = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &content[..content.len() / 2]).unwrap();
    refused(
        super::open(&cut.path().display().to_string()),
        &["one.safetensors", "its header describes", "download it again"],
    );
}

#[test]
fn one_tensor_in_two_shards_is_refused() {
    let copy = sharded(&serde_json::json!({"a": "one.safetensors", "b": "two.safetensors"}));
    std::fs::copy(copy.path().join("one.safetensors"), copy.path().join("two.safetensors")).unwrap();
    refused(open(&copy.path().display().to_string()), &["two.safetensors", "is there twice"]);
}

/// Devices and pipes never end, and a pipe waits for its other side.
#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use std::os::unix::fs::symlink;
    for file in [CONFIG, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, WEIGHTS] {
        let copy = folder(catalog::find("mini_roberta").unwrap().weights.unwrap());
        let (path, name) = (copy.path().join(file), copy.path().display().to_string());
        std::fs::remove_file(&path).ok();
        symlink("/dev/zero", &path).unwrap();
        refused(open(&name), &[file, "only regular files are read"]);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(open(&name), &[file, "only regular files are read"]);
        if file == CONFIG {
            refused(config(&name), &[file, "only regular files are read"]);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused(open(&name), &[file, "is a folder"]);
        std::fs::remove_dir(&path).unwrap();
        symlink(file, &path).unwrap();
        // A link to itself is no file that is there.
        assert!(open(&name).is_err() || [TOKENIZER_CONFIG, CHAT_TEMPLATE].contains(&file));
        if file == WEIGHTS {
            assert!(Folder(copy.path().to_owned()).read(file).is_err());
        }
    }
    let copy = folder(b"");
    std::fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
    symlink("/dev/zero", copy.path().join(INDEX)).unwrap();
    refused(open(&copy.path().display().to_string()), &[INDEX, "only regular files are read"]);
    symlink("/dev/zero", copy.path().join("train.csv")).unwrap();
    assert!(
        Folder(copy.path().to_owned())
            .read("train.csv")
            .unwrap_err()
            .to_string()
            .contains("only regular files are read")
    );
}

#[test]
fn a_configuration_has_some_megabytes_at_most() {
    let copy = folder(b"");
    let large = std::fs::File::create(copy.path().join(CONFIG)).unwrap();
    large.set_len(1 << 40).unwrap(); // a file with holes, which takes no room
    refused(
        config(&copy.path().display().to_string()),
        &["config.json", "it has 1099511627776 bytes", "at most 16777216"],
    );
}

#[test]
fn what_a_checkpoint_says_comes_along() {
    let copy = folder(catalog::find("mini_roberta").unwrap().weights.unwrap());
    let mut config: serde_json::Value = serde_json::from_slice(catalog::find("mini_roberta").unwrap().config).unwrap();
    config["id2label"] = serde_json::json!({"0": "no", "1": "yes"});
    config["novelty"] = 1.into();
    std::fs::write(copy.path().join(CONFIG), config.to_string()).unwrap();
    std::fs::write(copy.path().join(CHAT_TEMPLATE), "{{ messages }}").unwrap();
    let found = open(&copy.path().display().to_string()).unwrap();
    assert_eq!(found.labels, Some(vec!["no".to_owned(), "yes".to_owned()]));
    assert_eq!(found.chat_template.as_deref(), Some(&b"{{ messages }}"[..]));
    assert!(found.notes.len() == 1 && found.notes[0].contains("`novelty`"), "{:?}", found.notes);
    std::fs::create_dir(copy.path().join(MORE_TEMPLATES)).unwrap();
    let notes = open(&copy.path().display().to_string()).unwrap().notes;
    assert!(notes[1].starts_with("additional_chat_templates: ") && notes.len() == 2, "{notes:?}");
}
