//! The numbers of a folder, and which of them have found their place.

use std::collections::{BTreeMap, BTreeSet};

use models::{
    config::Config,
    safetensors::{as_f32, whole},
};
use trainer::error::TrainError;
use variants::role::Role;

use super::super::{
    WRAPPED,
    export::{LOADED, PAIR},
    layout::{Layout, Matrix, key},
    said::Said,
    weights::WeightsFile,
};

/// The file of weights.
pub(super) struct Stored {
    pub(super) tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    used: BTreeSet<String>,
}

impl Stored {
    pub(super) fn read(file: &WeightsFile, notes: &mut Vec<String>) -> Result<Self, TrainError> {
        let foreign = |reason: String| TrainError::foreign(file.path.clone(), reason);
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors(notes)? {
            let Some(numbers) = as_f32(&view).or_else(|| whole(&view)) else {
                let reason = format!("`{name}` is {:?}, but an adapter is f64, f32, f16 or bf16", view.dtype());
                return Err(foreign(reason));
            };
            if let Some(bad) = numbers.iter().find(|value| !value.is_finite()) {
                return Err(foreign(format!(
                    "`{name}` holds `{bad}`, but every number must be finite; save the adapter again"
                )));
            }
            tensors.insert(name, (view.shape().to_vec(), numbers.into_iter().map(f64::from).collect()));
        }
        Ok(Self { tensors, used: BTreeSet::new() })
    }

    /// A tensor of a slot, under the name of a model with a head or of one without.
    pub(super) fn find(&mut self, config: &Config, slot: &str, suffix: &str) -> Option<(String, Vec<usize>, Vec<f64>)> {
        let names = [key(config, slot, suffix), format!("{WRAPPED}{slot}.{suffix}")];
        let name = names.into_iter().find(|name| self.tensors.contains_key(name))?;
        self.used.insert(name.clone());
        let (shape, values) = self.tensors[&name].clone();
        Some((name, shape, values))
    }

    /// Whether it has the head of a classifier.
    pub(super) fn has_head(&self, config: &Config) -> bool {
        config.head_names().iter().any(|name| self.tensors.contains_key(&format!("{WRAPPED}{name}")))
    }

    pub(super) fn unused(&self) -> Vec<&str> {
        self.tensors.keys().filter(|name| !self.used.contains(*name)).map(String::as_str).collect()
    }

    /// VeRA's pair, `A [r, d_in]` and `B [d_out, r]`.
    pub(super) fn pair(&mut self, said: &Said) -> Result<Option<[Matrix; 2]>, String> {
        if said.peft_type != "VERA" {
            return Ok(None);
        }
        let mut read = |name: &str| {
            let (shape, values) = self.tensors.get(name).cloned().ok_or_else(|| {
                let why = if said.save_projection {
                    "the file is not whole"
                } else {
                    "save_projection was false, and torch's generator is not built in"
                };
                format!("`{name}` is missing: {why}; save the adapter with save_projection = True")
            })?;
            self.used.extend([name.to_owned(), format!("{name}{LOADED}")]);
            Layout::Same
                .read(Role::Projection, &shape, values)
                .ok_or_else(|| format!("`{name}` is {shape:?}, not a matrix"))
        };
        let (a, b) = (read(PAIR[0])?, read(PAIR[1])?);
        match said.r {
            Some(rank) if a.shape[0] != rank || b.shape[1] != rank => Err(format!(
                "`{}` is {:?} and `{}` {:?}, but r is `{rank}`; save the adapter again",
                PAIR[0], a.shape, PAIR[1], b.shape
            )),
            _ => Ok(Some([a, b])),
        }
    }
}
