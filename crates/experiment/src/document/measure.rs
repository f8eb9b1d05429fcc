//! The block `measure`: what is measured of a run beside its task.

use serde_yaml::Value;

use super::{At, reader::Reader};
use crate::{
    bounds::Whole,
    cell::HeldOutText,
    error::Report,
    fields::{given, map, shown, text, whole},
    path::Path,
};

/// Documents that are read where no number is given: some thousands of tokens to predict.
const DOCUMENTS: u64 = 512;
/// Documents of a measurement.
const BOUND: Whole = Whole { least: 1, most: 1_048_576 };

/// Reads the block: the text of `forgetting`, where it is measured.
pub(crate) fn measure(value: &Value, at: &Path, report: &mut Report) -> Option<At<HeldOutText>> {
    let fields = map(value, at, &["forgetting"], report)?;
    let at = at.key("forgetting");
    let value = given(fields, "forgetting").and_then(|value| forgetting(value, &at, report))?;
    Some(At { at, value })
}

/// `true`, `false`, or a map with the text.
fn forgetting(value: &Value, at: &Path, report: &mut Report) -> Option<HeldOutText> {
    let fields = match value {
        Value::Bool(false) => return None,
        Value::Bool(true) => return Some(HeldOutText { text: None, documents: DOCUMENTS as usize }),
        Value::Mapping(_) => map(value, at, &["text", "documents"], report)?,
        other => {
            let rule = "must be `true`, `false` or a map such as `{text: held_out.txt, documents: 512}`";
            report.add(at, format!("forgetting is {}, but {rule}", shown(other)));
            return None;
        }
    };
    let mut reader = Reader { fields, at: at.clone(), report };
    let text = reader.read("text", text).map(|text| text.value.into());
    let documents = reader.read("documents", |v, at, report| whole(v, at, BOUND, report));
    Some(HeldOutText { text, documents: documents.map_or(DOCUMENTS, |documents| documents.value) as usize })
}
