//! A record's file: its checksum, and what of a file is refused.

use serde::Serialize;
use serde_json::Value;

use crate::hash::{canonical_json, sha256_hex};
use crate::layout;
use crate::run::{FORMAT, RunRecord};

impl RunRecord {
    /// Its file: this record, and a checksum over it as the last field.
    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        /// The record with its checksum.
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(flatten)]
            record: &'a RunRecord,
            checksum: String,
        }
        let checksum = checksum(&serde_json::to_value(self)?);
        layout::to_bytes(&Written { record: self, checksum })
    }

    /// The record in the bytes of a file, or why it cannot be used: it has another format, is not what was written, or lacks what a run
    /// that finished has. Records of earlier builds have no checksum.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        // The format is looked at first: a record of another format fails on some field, which says nothing to its reader.
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(format!("format is `{format}`, but this build reads `{FORMAT}`")),
            None => return Err("has no `format`, so it is not a record".to_owned()),
        }
        let written = value.as_object_mut().and_then(|fields| fields.remove("checksum"));
        let record: Self = match written {
            Some(written) if written != checksum(&value) => {
                return Err("is not what was written (checksum)".to_owned());
            }
            Some(_) => serde_json::from_value(value),
            // Both came with one build.
            None if value.get("adapter_hash").is_some() => {
                return Err("is not what was written (its checksum is gone)".to_owned());
            }
            None => serde_json::from_slice(bytes),
        }
        .map_err(|error| error.to_string())?;
        record.check_results().map(|()| record)
    }

    /// A run that finished was evaluated, by the metric that its task is judged by.
    fn check_results(&self) -> Result<(), String> {
        if !self.is_finished() {
            return Ok(());
        }
        if self.evaluations.is_empty() {
            return Err("is of a finished run, but has no evaluation".to_owned());
        }
        let name = &self.primary_metric.name;
        match self.evaluations.iter().find(|evaluation| !evaluation.metrics.contains_key(name)) {
            Some(evaluation) => Err(format!("is of a finished run, but `{name}` is missing on `{}`", evaluation.split)),
            None => Ok(()),
        }
    }
}

/// A hash over the values of a record, whatever their layout in the file.
pub(crate) fn checksum(record: &Value) -> String {
    sha256_hex(canonical_json(record).as_bytes())
}
