//! safetensors files: the one place that reads and writes them.
//!
//! A file is a header of names, types, shapes and offsets, one map of strings beside them, and the numbers, little-endian and row-major.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::SafeTensors;
pub use safetensors::{Dtype, SafeTensorError, tensor::TensorView};

/// The entry that torch looks for, in every file that another program opens.
pub const TORCH: (&str, &str) = ("format", "pt");

/// A tensor as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name, prefix included.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// Its type.
    pub dtype: Dtype,
    /// Its bytes, little-endian and row-major.
    pub data: Vec<u8>,
}

/// A type of number that a file may hold.
pub trait Number: Copy {
    /// Its name in the header.
    const DTYPE: Dtype;
    /// Its bytes, least significant first.
    fn bytes(self) -> impl AsRef<[u8]>;
}

macro_rules! numbers {
    ($($number:ty => $dtype:ident),*) => {$(
        impl Number for $number {
            const DTYPE: Dtype = Dtype::$dtype;
            fn bytes(self) -> impl AsRef<[u8]> {
                self.to_le_bytes()
            }
        }
    )*};
}

numbers!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i32 => I32);

impl Stored {
    /// A tensor of these numbers, row-major.
    pub fn of<T: Number>(name: impl Into<String>, shape: Vec<usize>, numbers: impl IntoIterator<Item = T>) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product::<usize>() * size_of::<T>());
        for number in numbers {
            data.extend_from_slice(number.bytes().as_ref());
        }
        Self { name: name.into(), shape, dtype: T::DTYPE, data }
    }

    /// Its numbers, as [`as_f64`] reads them.
    pub fn as_f64(&self) -> Option<Vec<f64>> {
        floats(self.dtype, &self.data, |number| number, f64::from)
    }

    /// Its numbers, as [`as_f32`] reads them.
    pub fn as_f32(&self) -> Option<Vec<f32>> {
        floats(self.dtype, &self.data, |number| number as f32, |number| number)
    }
}

/// The bytes of a file. Its texts are one entry at most, so that the order of a hash map decides nothing.
pub fn write(tensors: &[Stored], text: Option<(&str, &str)>) -> Result<Vec<u8>, SafeTensorError> {
    let views = tensors
        .iter()
        .map(|Stored { name, shape, dtype, data }| Ok((name, TensorView::new(*dtype, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    let text = text.map(|(key, value)| HashMap::from([(key.to_owned(), value.to_owned())]));
    safetensors::serialize(views, text)
}

/// A file that was read.
#[derive(Debug)]
pub struct File<'a> {
    /// Every tensor by name.
    pub tensors: BTreeMap<String, TensorView<'a>>,
    /// The texts beside them.
    pub texts: HashMap<String, String>,
}

impl File<'_> {
    /// Every tensor with bytes of its own, in the order of the names.
    pub fn into_stored(self) -> Vec<Stored> {
        let one = |(name, view): (String, TensorView<'_>)| Stored {
            name,
            shape: view.shape().to_vec(),
            dtype: view.dtype(),
            data: view.data().to_vec(),
        };
        self.tensors.into_iter().map(one).collect()
    }
}

/// Names of the tensors of a file, by its beginning alone, which holds the whole header; none of another kind of file.
pub fn names(head: &[u8]) -> Option<Vec<String>> {
    let (length, rest) = head.split_first_chunk()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let entries: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let mut names: Vec<String> =
        entries.into_iter().map(|(name, _)| name).filter(|name| name != "__metadata__").collect();
    names.sort();
    Some(names)
}

/// Reads the bytes of a file.
pub fn read(bytes: &[u8]) -> Result<File<'_>, SafeTensorError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?.tensors().into_iter().collect();
    Ok(File { tensors, texts: header.metadata().clone().unwrap_or_default() })
}

/// The numbers of a float tensor, each as it is; none of a tensor of another type (a stray `position_ids`).
pub fn as_f64(view: &TensorView<'_>) -> Option<Vec<f64>> {
    floats(view.dtype(), view.data(), |number| number, f64::from)
}

/// The numbers of a float tensor in f32, to which f64 is rounded; none of a tensor of another type.
pub fn as_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    floats(view.dtype(), view.data(), |number| number as f32, |number| number)
}

/// Whole numbers of 32 bits, as f32; `None` of any other type.
pub fn whole(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let of = |bytes: &[u8; 4]| i32::from_le_bytes(*bytes) as f32;
    (view.dtype() == Dtype::I32).then(|| view.data().as_chunks().0.iter().map(of).collect())
}

fn floats<T>(dtype: Dtype, data: &[u8], of_f64: fn(f64) -> T, of_f32: fn(f32) -> T) -> Option<Vec<T>> {
    Some(match dtype {
        Dtype::F64 => data.as_chunks().0.iter().map(|bytes| of_f64(f64::from_le_bytes(*bytes))).collect(),
        Dtype::F32 => data.as_chunks().0.iter().map(|bytes| of_f32(f32::from_le_bytes(*bytes))).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|bytes| of_f32(f16::from_le_bytes(*bytes).to_f32())).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|bytes| of_f32(bf16::from_le_bytes(*bytes).to_f32())).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let wide = [1.0, -0.1, 3.0e-5, 65504.0];
        let narrow = wide.map(|number| number as f32);
        let tensors = [
            Stored::of("d", vec![2, 2], wide),
            Stored::of("s", vec![4], narrow),
            Stored::of("h", vec![1, 4], narrow.map(f16::from_f32)),
            Stored::of("b", vec![4, 1], narrow.map(bf16::from_f32)),
            Stored { name: "ids".to_owned(), shape: vec![2], dtype: Dtype::I64, data: vec![7; 16] },
        ];
        let bytes = write(&tensors, Some(("about", "{}"))).unwrap();
        let file = read(&bytes).unwrap();
        assert_eq!((file.tensors.len(), file.texts["about"].as_str()), (5, "{}"));
        for Stored { name, shape, dtype, data } in &tensors {
            let view = &file.tensors[name];
            assert_eq!((view.shape(), view.dtype(), view.data()), (shape.as_slice(), *dtype, data.as_slice()));
        }
        assert_eq!(tensors[2].as_f64(), as_f64(&file.tensors["h"]));
        assert_eq!(tensors[0].as_f32(), as_f32(&file.tensors["d"]));
        assert_eq!(as_f64(&file.tensors["d"]).unwrap(), wide);
        assert_eq!(as_f32(&file.tensors["d"]).unwrap(), narrow);
        assert_eq!(as_f64(&file.tensors["s"]).unwrap(), narrow.map(f64::from));
        assert_eq!(as_f64(&file.tensors["h"]).unwrap(), narrow.map(|number| f16::from_f32(number).to_f64()));
        assert_eq!(as_f32(&file.tensors["b"]).unwrap(), narrow.map(|number| bf16::from_f32(number).to_f32()));
        assert_eq!((as_f32(&file.tensors["ids"]), as_f64(&file.tensors["ids"])), (None, None));
        let mut sorted = tensors.to_vec();
        sorted.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(file.into_stored(), sorted);
        assert!(read(&bytes[..9]).is_err() && read(b"").is_err());
    }
}
