//! Rows of a table of measures as data frames, and from there as CSV; or as JSON.

use serde::Serialize;

use crate::{AnalysisError, render::frame_csv};

/// A row whose columns have names.
pub trait Tabular: Serialize + Sized {
    /// The rows, one column per field.
    fn frame(rows: &[Self]) -> Result<DataFrame, AnalysisError>;
}

/// A value as polars stores it.
pub trait Cell {
    /// What a column of them holds.
    type Stored;
    /// The value.
    fn stored(&self) -> Self::Stored;
}

macro_rules! cells {
    ($($Value:ty => $Stored:ty: $value:ident -> $stored:expr),+ $(,)?) => {
        $(impl Cell for $Value {
            type Stored = $Stored;
            fn stored(&self) -> $Stored {
                let $value = self;
                $stored
            }
        })+
    };
}

cells! {
    String => String: value -> value.clone(),
    &str => String: value -> (*value).to_owned(),
    usize => u64: value -> *value as u64,
    u64 => u64: value -> *value,
    f64 => f64: value -> *value,
    bool => bool: value -> *value,
    Option<f64> => Option<f64>: value -> *value,
    Option<usize> => Option<u64>: value -> value.map(|value| value as u64),
}

/// Makes a row tabular: its type, then its fields in the order of the columns. A column has its field's name, or the one after `as`.
#[macro_export]
macro_rules! tabular {
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    ($Row:ty: $($field:ident $(as $name:literal)?),+ $(,)?) => {
        impl $crate::measures::frame::Tabular for $Row {
            fn frame(rows: &[Self]) -> Result<$crate::measures::frame::DataFrame, $crate::AnalysisError> {
                use $crate::measures::frame::{Cell, Column, DataFrame};
                Ok(DataFrame::new_infer_height(vec![
                    $(Column::new($crate::tabular!(@name $field $($name)?).into(), rows.iter().map(|row| row.$field.stored()).collect::<Vec<_>>())),+
                ])?)
            }
        }
    };
}

#[doc(hidden)]
pub use polars::prelude::{Column, DataFrame};

/// Rows as CSV with a header.
pub fn csv<T: Tabular>(rows: &[T]) -> Result<String, AnalysisError> {
    frame_csv(&T::frame(rows)?)
}

/// Rows as a JSON array of objects.
pub fn json<T: Tabular>(rows: &[T]) -> Result<String, AnalysisError> {
    Ok(serde_json::to_string_pretty(rows)? + "\n")
}
