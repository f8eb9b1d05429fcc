//! The form that PEFT has for a composition, as its parts declare it.

use serde_json::{Map, Value};

use crate::{delta::shared_random, spec::VariantSpec};

/// The form in which PEFT holds an update.
#[derive(Clone, Debug, PartialEq)]
pub enum PeftForm {
    /// `LoraConfig`: the factors `a` and `b` as they are.
    Lora,
    /// `LoraConfig` of twice the rank: the factors `a` and `b` beside their frozen start `start_a` and `start_b`, whose sign is turned.
    DoubledLora {
        /// The `init_lora_weights` by which PEFT takes the same start off its base itself, so that `a` and `b` are enough.
        start: Option<&'static str>,
    },
    /// `AdaLoraConfig`: `q`, `lambda` and `p` without the components whose `lambda` is 0.
    AdaLora,
    /// `VeraConfig`: two vectors, and the pair that this recipe draws or keeps.
    Vera(shared_random::Spec),
    /// A tuner with a place of its own for every tensor of the delta.
    Tuner(Tuner),
    /// A tuner of twice the rank: the factors `a` and `b` beside their frozen start `start_a` and `start_b`, whose sign is turned, and twice the
    /// `bound`, which the tuner divides by the rank.
    DoubledTuner(Tuner),
}

impl PeftForm {
    /// PEFT's `peft_type`.
    pub fn peft_type(&self) -> &'static str {
        match self {
            Self::Lora | Self::DoubledLora { .. } => "LORA",
            Self::AdaLora => "ADALORA",
            Self::Vera(_) => "VERA",
            Self::Tuner(tuner) | Self::DoubledTuner(tuner) => tuner.peft_type,
        }
    }
}

/// A tuner of PEFT as the delta's own file declares it: what its configuration says. Where the tensors lie is said map by map
/// ([`peft_tensors`](crate::delta::DeltaRecipe::peft_tensors)).
#[derive(Clone, Debug, PartialEq)]
pub struct Tuner {
    /// PEFT's `peft_type`.
    pub peft_type: &'static str,
    /// The fields of its configuration that not every tuner has.
    pub fields: Vec<(&'static str, Field)>,
}

impl Tuner {
    /// The name of the first field of a kind.
    pub fn field(&self, is_sought: impl Fn(&Field) -> bool) -> Option<&'static str> {
        self.fields.iter().find(|(_, field)| is_sought(field)).map(|(name, _)| *name)
    }
}

/// What a field of a tuner's configuration holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// The rank, or what `rank` counts here.
    Rank,
    /// Ranks of single maps. A tuner without this has one for all.
    RankPattern,
    /// The `α` of a scale `α/rank`. The scale of a tuner without this is 1.
    Alpha,
    /// `α` of single maps.
    AlphaPattern,
    /// The probability of dropout of the inputs. A tuner without this has none.
    Dropout,
    /// Ends of the names of some of the adapted maps.
    Endings(Vec<String>),
    /// What this delta computes; with another value the tuner computes something else.
    Fixed(Value),
    /// What changes no number of a trained adapter, written thus.
    Passive(Value),
}

/// A map that a tuner adapts.
#[derive(Clone, Copy, Debug)]
pub struct TunedMap<'a> {
    /// Its full name.
    pub slot: &'a str,
    /// `[d_in, d_out]`
    pub shape: [usize; 2],
    /// Its rank.
    pub rank: usize,
}

/// A tensor of a delta in a tuner's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunerTensor {
    /// Its name in the delta.
    pub ours: &'static str,
    /// The end of its name in the file; all of the name where it begins with `base_model.`, of a tensor that all maps share.
    pub theirs: &'static str,
    /// How it lies there.
    pub layout: TunerLayout,
}

/// How a matrix `[rows, cols]` lies in a tuner's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunerLayout {
    /// As `[cols, rows]`.
    Transposed,
    /// Its numbers in the same order, in this shape.
    Shaped(Vec<usize>),
    /// Columns in so many pieces, `[pieces, rows, cols/pieces]`.
    Pieces(usize),
}

/// What a tuner's file holds beside the tensors of a delta: it follows from the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct TunerConstant {
    /// Its name in the file, as a [`TunerTensor`] has it.
    pub theirs: &'static str,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Row-major.
    pub numbers: Vec<f64>,
    /// Whether they are whole and stored as such.
    pub is_whole: bool,
}

impl TunerTensor {
    /// A matrix that lies transposed.
    pub fn transposed(ours: &'static str, theirs: &'static str) -> Self {
        Self { ours, theirs, layout: TunerLayout::Transposed }
    }

    /// Numbers in the same order, in another shape.
    pub fn shaped(ours: &'static str, theirs: &'static str, shape: impl Into<Vec<usize>>) -> Self {
        Self { ours, theirs, layout: TunerLayout::Shaped(shape.into()) }
    }
}

/// A tuner's `adapter_config.json`, from which a delta reads what it is.
#[derive(Clone, Copy, Debug)]
pub struct TunerConfig<'a>(pub &'a Map<String, Value>);

impl TunerConfig<'_> {
    /// Whether its `peft_type` is this one.
    pub fn is(&self, peft_type: &str) -> bool {
        self.text("peft_type") == Some(peft_type)
    }

    /// A text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// A switch.
    pub fn switch(&self, field: &str) -> Option<bool> {
        self.0.get(field)?.as_bool()
    }

    /// A number that is whole and not negative.
    pub fn count(&self, field: &str) -> Option<usize> {
        usize::try_from(self.0.get(field)?.as_u64()?).ok()
    }

    /// A list of texts.
    pub fn texts(&self, field: &str) -> Option<Vec<String>> {
        self.0.get(field)?.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect()
    }
}

/// Why PEFT has no form for a composition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPeftForm {
    /// It adapts no map.
    NoAdapter,
    /// PEFT does not have the delta, or not with this combination.
    NoCounterpart,
}

impl VariantSpec {
    /// The form that PEFT has for it.
    pub fn peft_form(&self) -> Result<PeftForm, NoPeftForm> {
        let delta = self.delta.as_ref().ok_or(NoPeftForm::NoAdapter)?;
        let (form, use_dora) = delta.peft().zip(self.combine.peft_use_dora()).ok_or(NoPeftForm::NoCounterpart)?;
        // `use_dora` is LoRA's alone, and only a LoRA has room for what is accumulated beside it.
        let is_accumulated = !self.base_update.is_none() && form != PeftForm::Lora;
        if is_accumulated || use_dora && form.peft_type() != "LORA" { Err(NoPeftForm::NoCounterpart) } else { Ok(form) }
    }
}
