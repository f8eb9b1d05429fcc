//! A folder that this program exported: its recipe lies beside it, as long as its configuration is the one that was written.

use std::path::Path;

use serde_json::{Map, Value};
use trainer::{adapter::AdapterMetadata, error::TrainError};

use super::{
    super::{
        config::Base,
        export::COMMAND,
        fields::{is_passive, is_set, shown},
        said::Opened,
    },
    ImportRequest, recipe,
};
use crate::output::ORIGIN;

/// The recipe that this program's export left beside the adapter; none where it left none.
pub(super) fn metadata(opened: &Opened, request: &ImportRequest<'_>) -> Result<Option<AdapterMetadata>, TrainError> {
    let Some((mut metadata, written)) = read(&opened.folder) else { return Ok(None) };
    let fields = written.keys().chain(opened.whole.keys());
    let is_base = |field: &str| field == "base_model_name_or_path" || field == "revision";
    let is_edited = |field: &&String| {
        !is_passive(&opened.whole, field) && !is_base(field) && differs(written.get(*field), opened.whole.get(*field))
    };
    if let Some(field) = fields.into_iter().find(is_edited) {
        return Err(opened.refused(format!(
            "`{field}` is {}, but `{COMMAND}` wrote {} and left the recipe of that in {ORIGIN}; give `--task`, and the folder is read \
             without it",
            shown(opened.whole.get(field).unwrap_or(&Value::Null)),
            shown(written.get(field).unwrap_or(&Value::Null))
        )));
    }
    // The base may have moved since; its hash is compared whatever its name.
    let now = Base { name: opened.said.base_model_name_or_path.clone(), revision: opened.said.revision.clone() };
    if request.model.is_none() && now != Base::of(&metadata.plan.model) {
        metadata.plan.model = recipe::model(&opened.said, None).map_err(|reason| opened.refused(reason))?.into();
    }
    Ok(Some(metadata))
}

/// The recipe, and the configuration that was written with it.
fn read(folder: &Path) -> Option<(AdapterMetadata, Map<String, Value>)> {
    let mut origin: Value = serde_json::from_slice(&assets::file::read(&folder.join(ORIGIN)).ok()?).ok()?;
    if origin["written_by"] != COMMAND {
        return None;
    }
    let metadata = serde_json::from_value(origin["from"]["card"].take()).ok()?;
    match origin["from"]["configuration"].take() {
        Value::Object(written) => Some((metadata, written)),
        _ => None,
    }
}

/// Whether a field was changed since. PEFT writes out fields that ask for nothing, lists in any order and numbers in another form.
fn differs(written: Option<&Value>, found: Option<&Value>) -> bool {
    let (written, found) = (written.unwrap_or(&Value::Null), found.unwrap_or(&Value::Null));
    match (written, found) {
        (Value::Number(written), Value::Number(found)) => written.as_f64() != found.as_f64(),
        (Value::Array(written), Value::Array(found)) => {
            written.len() != found.len() || written.iter().any(|one| !found.contains(one))
        }
        (written, found) if !is_set(written) && !is_set(found) => false,
        (written, found) => written != found,
    }
}
