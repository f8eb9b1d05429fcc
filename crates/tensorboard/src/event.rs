//! The messages of an event file, as far as they are written here.
//!
//! Field numbers are those of TensorFlow's `event.proto`, `summary.proto` and `tensor.proto`, which TensorBoard has copies of.

use prost::Message;

/// What the first event of every file says.
const VERSION: &str = "brain.Event:2";
/// `DT_FLOAT` of `types.proto`.
const FLOAT: i32 = 1;
/// `DT_STRING` of `types.proto`.
const STRING: i32 = 7;
/// `DATA_CLASS_TENSOR` of `summary.proto`.
const TENSOR: i32 = 2;

/// One event of a run.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The training step.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// In the first event alone.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// What was measured or said.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

/// Values with their tags.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// A value with its tag: a number, or what a plugin reads.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Its name; slashes make groups.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    /// What a plugin reads.
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<Tensor>,
    /// Which plugin.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

/// Which plugin reads a value, and what the value is.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// The plugin, with a message of its own.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    /// Its kind of data.
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

/// A plugin's name and its message.
#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    /// The name.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

/// Numbers or texts with their shape.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Which of the two.
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Extents.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
    /// Numbers.
    #[prost(float, repeated, tag = "5")]
    pub floats: Vec<f32>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub strings: Vec<Vec<u8>>,
}

/// The extents of a tensor; none of a single value.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// The extents.
    #[prost(message, repeated, tag = "2")]
    pub dimensions: Vec<Dimension>,
}

/// One extent.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// Its size.
    #[prost(int64, tag = "1")]
    pub size: i64,
}

impl Event {
    /// The event that a file begins with.
    pub fn version(wall_time: f64) -> Self {
        Self { wall_time, step: 0, file_version: Some(VERSION.to_owned()), summary: None }
    }

    /// Values at a step.
    pub fn of(wall_time: f64, step: u64, value: Vec<Value>) -> Self {
        Self { wall_time, step: step as i64, file_version: None, summary: Some(Summary { value }) }
    }
}

impl Value {
    /// A number.
    pub fn scalar(tag: impl Into<String>, value: f64) -> Self {
        Self { tag: tag.into(), simple_value: Some(value as f32), tensor: None, metadata: None }
    }

    /// A text in Markdown, for the plugin that shows texts.
    pub fn text(tag: impl Into<String>, text: &str) -> Self {
        let one = Shape { dimensions: Vec::new() };
        let tensor =
            Tensor { dtype: STRING, shape: Some(one), floats: Vec::new(), strings: vec![text.as_bytes().to_vec()] };
        Self {
            tag: tag.into(),
            simple_value: None,
            tensor: Some(tensor),
            metadata: Some(Metadata::of("text", Vec::new())),
        }
    }

    /// A message for a plugin that has no value of its own.
    pub fn message(tag: impl Into<String>, plugin: &str, content: Vec<u8>) -> Self {
        let one = Shape { dimensions: vec![Dimension { size: 1 }] };
        let tensor = Tensor { dtype: FLOAT, shape: Some(one), floats: vec![0.0], strings: Vec::new() };
        Self {
            tag: tag.into(),
            simple_value: None,
            tensor: Some(tensor),
            metadata: Some(Metadata::of(plugin, content)),
        }
    }
}

impl Metadata {
    fn of(plugin: &str, content: Vec<u8>) -> Self {
        Self { plugin_data: Some(PluginData { plugin_name: plugin.to_owned(), content }), data_class: TENSOR }
    }
}
