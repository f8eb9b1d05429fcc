//! `adapter_config.json` as it is honoured, behind the gate of [`super::fields`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use models::{
    pattern::{BadPattern, LayerLists, Pattern, ends_in},
    target::{ALL_LINEAR, Target},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use trainer::error::TrainError;
use variants::peft::Field;

use super::{CONFIG, bytes, config::Ordered, fields};

/// One or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    pub(super) fn list(&self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

/// What is read of a configuration, whatever its kind.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "they are PEFT's fields")]
pub(crate) struct Said {
    pub(super) peft_type: String,
    #[serde(default)]
    pub(super) task_type: Option<String>,
    #[serde(default)]
    pub(super) base_model_name_or_path: Option<String>,
    #[serde(default)]
    pub(super) revision: Option<String>,
    #[serde(default)]
    pub(super) fan_in_fan_out: bool,
    #[serde(default)]
    pub(super) r: Option<usize>,
    /// PEFT's default; VeRA has none.
    #[serde(default = "eight")]
    pub(super) lora_alpha: f64,
    #[serde(default, alias = "vera_dropout")]
    pub(super) lora_dropout: f64,
    #[serde(default)]
    pub(super) use_rslora: bool,
    #[serde(default)]
    pub(super) use_dora: bool,
    #[serde(default)]
    pub(super) init_lora_weights: Value,
    #[serde(default)]
    pub(super) ensure_weight_tying: bool,
    #[serde(default)]
    pub(super) target_modules: Option<Target>,
    #[serde(default)]
    pub(super) exclude_modules: Option<Target>,
    #[serde(default)]
    pub(super) layers_to_transform: Option<OneOrMany<usize>>,
    #[serde(default)]
    pub(super) layers_pattern: Option<OneOrMany<String>>,
    #[serde(default)]
    pub(super) modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    pub(super) trainable_token_indices: Option<TokenIndices>,
    #[serde(default)]
    pub(super) bias: Option<String>,
    // AdaLoRA
    #[serde(default)]
    pub(super) init_r: Option<usize>,
    #[serde(default)]
    pub(super) target_r: Option<usize>,
    #[serde(default)]
    pub(super) orth_reg_weight: Option<f64>,
    // VeRA
    #[serde(default)]
    pub(super) d_initial: Option<f64>,
    #[serde(default)]
    pub(super) projection_prng_key: Option<u64>,
    #[serde(default = "yes")]
    pub(super) save_projection: bool,
}

fn yes() -> bool {
    true
}

fn eight() -> f64 {
    8.0
}

/// Rows of tables that train: of the table of words, or of tables by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenIndices {
    Words(Vec<usize>),
    ByTable(BTreeMap<String, Vec<usize>>),
}

impl TokenIndices {
    /// Whether no row trains.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Words(rows) => rows.is_empty(),
            Self::ByTable(tables) => tables.values().all(Vec::is_empty),
        }
    }
}

impl Said {
    /// Whether PEFT adapts a module of this name; it does where the configuration does not name any.
    pub(super) fn adapts(&self, name: &str) -> Result<bool, BadPattern> {
        let is_excluded = match &self.exclude_modules {
            Some(exclude) => is_named(exclude, name)?,
            None => false,
        };
        if is_excluded {
            return Ok(false);
        }
        for module in self.modules_to_save.iter().flatten() {
            if Pattern::held_by(module)?.is_match(name)? {
                return Ok(false);
            }
        }
        let Some(targets) = &self.target_modules else { return Ok(true) };
        let is_in_full = matches!(targets, Target::Endings(list) if list.iter().any(|target| target == name));
        let layers = match (targets, &self.layers_to_transform) {
            (Target::Endings(_), Some(layers)) if !is_in_full => layers.list(),
            _ => Vec::new(),
        };
        if !is_named(targets, name)? || layers.is_empty() {
            return is_named(targets, name);
        }
        let lists = self.layers_pattern.as_ref().map(OneOrMany::list).unwrap_or_default();
        Ok(LayerLists::new(&lists)?.layer(name)?.is_some_and(|layer| layers.contains(&layer)))
    }
}

/// Whether a list or an expression names a module.
fn is_named(target: &Target, name: &str) -> Result<bool, BadPattern> {
    match target {
        Target::Endings(list) => Ok(list.iter().any(|ending| ends_in(name, ending))),
        Target::Pattern(pattern) if pattern.to_lowercase() == ALL_LINEAR => Ok(true),
        Target::Pattern(pattern) => Pattern::whole(pattern)?.is_match(name),
    }
}

/// Ranks and `α` of single maps, in the order of the file.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Patterns {
    #[serde(default)]
    pub(super) rank_pattern: Ordered<usize>,
    #[serde(default)]
    pub(super) alpha_pattern: Ordered<f64>,
}

/// A field's value: numbers by name in the order of the file, or anything else.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Map(Ordered<f64>),
    Other(serde::de::IgnoredAny),
}

/// Which components an AdaLoRA map has kept, by PEFT's name of its diagonal.
pub(super) type Kept = BTreeMap<String, Vec<bool>>;

#[derive(Debug, Deserialize)]
struct KeptPatterns {
    #[serde(default)]
    rank_pattern: Option<Kept>,
}

/// A folder that PEFT wrote, whose configuration passed the gate.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) folder: PathBuf,
    /// Every field.
    pub(super) whole: Map<String, Value>,
    pub(super) said: Said,
    /// What is worth knowing of the configuration.
    pub(super) notes: Vec<String>,
    text: Vec<u8>,
}

impl Opened {
    /// Reads a folder's configuration, or says which field forbids it.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(CONFIG);
        let text = bytes(&path)?;
        let foreign = |reason: String| TrainError::foreign(path.clone(), reason);
        let whole: Value = serde_json::from_slice(&text).map_err(|error| foreign(format!("not JSON: {error}")))?;
        let Value::Object(whole) = whole else {
            return Err(foreign("not a configuration of PEFT: it is no object".to_owned()));
        };
        let notes = fields::check(&whole).map_err(foreign)?;
        let said =
            serde_json::from_slice(&text).map_err(|error| foreign(format!("not a configuration of PEFT: {error}")))?;
        Ok(Self { folder: folder.to_owned(), whole, said, notes, text })
    }

    /// An error about the configuration.
    pub(super) fn refused(&self, reason: String) -> TrainError {
        TrainError::foreign(self.folder.join(CONFIG), reason)
    }

    /// LoRA's patterns, or a tuner's; other kinds have none.
    pub(super) fn patterns(&self) -> Result<Patterns, TrainError> {
        if self.said.peft_type != "LORA" {
            return self.tuned_patterns();
        }
        serde_json::from_slice(&self.text)
            .map_err(|error| self.refused(format!("rank_pattern, alpha_pattern: {error}")))
    }

    /// The patterns of a tuner, under the names that it has for them.
    fn tuned_patterns(&self) -> Result<Patterns, TrainError> {
        let Some(tuner) = fields::tuner(&self.whole) else { return Ok(Patterns::default()) };
        let whole: Ordered<Part> = serde_json::from_slice(&self.text)
            .map_err(|error| self.refused(format!("not a configuration of PEFT: {error}")))?;
        let [mut ranks, mut alphas] = [Vec::new(), Vec::new()];
        for (name, part) in whole.0 {
            let Part::Map(pairs) = part else { continue };
            match tuner.fields.iter().find(|(field, _)| *field == name).map(|(_, field)| field) {
                Some(Field::RankPattern) => ranks = pairs.0,
                Some(Field::AlphaPattern) => alphas = pairs.0,
                _ => {}
            }
        }
        let whole_number = |(map, rank): (String, f64)| {
            if rank.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&rank) {
                return Ok((map, rank as usize));
            }
            Err(self.refused(format!("the rank of `{map}` is `{rank}`, but must be a whole number of at least 1")))
        };
        let ranks = ranks.into_iter().map(whole_number).collect::<Result<_, _>>()?;
        Ok(Patterns { rank_pattern: Ordered(ranks), alpha_pattern: Ordered(alphas) })
    }

    /// AdaLoRA's components.
    pub(super) fn kept(&self) -> Result<Option<Kept>, TrainError> {
        if self.said.peft_type != "ADALORA" {
            return Ok(None);
        }
        let found: KeptPatterns =
            serde_json::from_slice(&self.text).map_err(|error| self.refused(format!("rank_pattern: {error}")))?;
        Ok(found.rank_pattern)
    }
}
