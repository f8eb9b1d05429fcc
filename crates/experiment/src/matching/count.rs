//! Counts of trained parameters, each made once: a tuned experiment is read again for every setting, and a search for a rank counts
//! some that are large.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use models::{config::Config, count::trained_parameters, modules::Selected};
use variants::spec::Variant;

/// Counts by everything that they follow from.
static KNOWN: Mutex<Option<HashMap<String, Result<usize, String>>>> = Mutex::new(None);

/// [`trained_parameters`], from memory where it was asked before.
pub(crate) fn count(config: &Config, variant: &Variant, selected: &Selected) -> Result<usize, String> {
    let asked = format!("{config:?} {:?} {selected:?}", variant.spec());
    let key = record::sha256_hex(asked.as_bytes());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known().get_or_insert_default().get(&key) {
        return found.clone();
    }
    let made = trained_parameters(config, variant, selected).map_err(|error| error.to_string());
    known().get_or_insert_default().insert(key, made.clone());
    made
}
