//! The messages of the plugin that compares hyperparameters.
//!
//! Field numbers are those of TensorBoard's `plugins/hparams/plugin_data.proto` and `api.proto`, and of `google/protobuf/struct.proto`.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use crate::event;

/// The plugin's name.
pub const PLUGIN: &str = "hparams";

/// What the plugin reads from a tag of its own.
#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    /// The messages' version, 0.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// Which message.
    #[prost(oneof = "Data", tags = "2, 3, 4")]
    pub data: Option<Data>,
}

/// A message of the plugin.
#[derive(Clone, PartialEq, Oneof)]
pub enum Data {
    /// Of the whole study.
    #[prost(message, tag = "2")]
    Experiment(Experiment),
    /// Of a run, as it began.
    #[prost(message, tag = "3")]
    Start(SessionStart),
    /// Of a run, as it ended.
    #[prost(message, tag = "4")]
    End(SessionEnd),
}

/// Which hyperparameters and metrics there are.
#[derive(Clone, PartialEq, Message)]
pub struct Experiment {
    /// What it is about.
    #[prost(string, tag = "1")]
    pub description: String,
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "3")]
    pub time_created: f64,
    /// The columns of settings.
    #[prost(message, repeated, tag = "4")]
    pub hparams: Vec<HParam>,
    /// The columns of results.
    #[prost(message, repeated, tag = "5")]
    pub metrics: Vec<Metric>,
    /// Its name.
    #[prost(string, tag = "6")]
    pub name: String,
}

/// A hyperparameter.
#[derive(Clone, PartialEq, Message)]
pub struct HParam {
    /// Its name in the sessions.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 1 for texts, 2 for switches, 3 for numbers.
    #[prost(int32, tag = "4")]
    pub kind: i32,
}

/// A metric.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Where it is found.
    #[prost(message, optional, tag = "1")]
    pub name: Option<MetricName>,
    /// What the column says.
    #[prost(string, tag = "3")]
    pub display_name: String,
    /// 1 on training examples, 2 on others.
    #[prost(int32, tag = "5")]
    pub dataset: i32,
}

/// The tag of a metric in every session's own folder.
#[derive(Clone, PartialEq, Message)]
pub struct MetricName {
    /// A folder below the session's; empty here.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The tag.
    #[prost(string, tag = "2")]
    pub tag: String,
}

/// A run as it began.
#[derive(Clone, PartialEq, Message)]
pub struct SessionStart {
    /// Its settings.
    #[prost(btree_map = "string, message", tag = "1")]
    pub hparams: BTreeMap<String, Setting>,
    /// Runs of one group share their settings: its seeds.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "5")]
    pub started: f64,
}

/// A run as it ended.
#[derive(Clone, PartialEq, Message)]
pub struct SessionEnd {
    /// 1 where it succeeded, 2 where it failed.
    #[prost(int32, tag = "1")]
    pub status: i32,
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "2")]
    pub ended: f64,
}

/// A setting's value.
#[derive(Clone, PartialEq, Message)]
pub struct Setting {
    /// Which kind.
    #[prost(oneof = "Kind", tags = "2, 3, 4")]
    pub kind: Option<Kind>,
}

/// A number, a text or a switch.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// A number.
    #[prost(double, tag = "2")]
    Number(f64),
    /// A text.
    #[prost(string, tag = "3")]
    Text(String),
    /// A switch.
    #[prost(bool, tag = "4")]
    Switch(bool),
}

impl Kind {
    /// The plugin's number of the kind.
    pub fn number(&self) -> i32 {
        match self {
            Self::Text(_) => 1,
            Self::Switch(_) => 2,
            Self::Number(_) => 3,
        }
    }
}

impl Data {
    /// The value that carries the message.
    pub fn value(self) -> event::Value {
        let tag = match &self {
            Self::Experiment(_) => "_hparams_/experiment",
            Self::Start(_) => "_hparams_/session_start_info",
            Self::End(_) => "_hparams_/session_end_info",
        };
        event::Value::message(tag, PLUGIN, PluginData { version: 0, data: Some(self) }.encode_to_vec())
    }
}
