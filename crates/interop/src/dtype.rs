//! The types of the numbers that a checkpoint is written in.

use half::{bf16, f16};
use models::safetensors::Stored;

/// How numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits, 24 of them the number's own.
    F32,
    /// 16 bits, 11 of them the number's own; up to 65504.
    F16,
    /// 16 bits, 8 of them the number's own.
    Bf16,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// As torch calls it.
    pub fn torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The nearest number of this type, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// A tensor of a file, each number rounded to this type.
    pub fn store(self, name: &str, shape: &[usize], numbers: &[f32]) -> Stored {
        let numbers = numbers.iter().copied();
        match self {
            Self::F32 => Stored::of(name, shape.to_vec(), numbers),
            Self::F16 => Stored::of(name, shape.to_vec(), numbers.map(f16::from_f32)),
            Self::Bf16 => Stored::of(name, shape.to_vec(), numbers.map(bf16::from_f32)),
        }
    }
}
