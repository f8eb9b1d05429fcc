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

#[test]
fn missing_files_are_named() {
    let weights = catalog::find("mini_roberta").unwrap().weights.unwrap();
    let copy = folder(weights);
    std::fs::remove_file(copy.path().join(TOKENIZER)).unwrap();
    refused(open(&copy.path().display().to_string()), &["tokenizer.json` is missing"]);
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
