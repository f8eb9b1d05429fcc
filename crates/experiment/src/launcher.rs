//! The block `launcher`: what a cluster's scheduler is asked for. The names are those of submitit's parameters for Slurm.

/// Options of a Slurm job array, one task of which is one worker of the study.
#[derive(Clone, Debug, PartialEq)]
pub struct Slurm {
    /// Options of `sbatch` that only hand a text on, in the order of [`TEXTS`].
    pub texts: Vec<(&'static str, String)>,
    /// Cards of a node, as `--gpus-per-node` takes them (`1`, `a100:1`).
    pub gpus_per_node: Option<String>,
    /// Cores of a task, each of which trains a cohort where there is no card.
    pub cpus_per_task: Option<u64>,
    /// Memory of a task, in gigabytes; by the study's cost where it is not given.
    pub mem_gb: Option<u64>,
    /// The time limit of a task, in minutes; by the study's cost where it is not given.
    pub timeout_min: Option<u64>,
    /// The most tasks at once.
    pub array_parallelism: u64,
    /// Seconds before the time limit at which a task saves and is queued again.
    pub signal_delay_s: u64,
    /// How many times a task is queued again after its time limit or preemption.
    pub max_num_timeout: u64,
    /// Lines of shell before the program: modules, environments.
    pub setup: Vec<String>,
    /// Options of `sbatch` that have no name here, by their long names.
    pub additional_parameters: Vec<(String, Option<String>)>,
}

/// Fields that hand a text on, and the options of `sbatch` that they are.
pub const TEXTS: [(&str, &str); 11] = [
    ("job_name", "job-name"),
    ("partition", "partition"),
    ("account", "account"),
    ("qos", "qos"),
    ("gres", "gres"),
    ("constraint", "constraint"),
    ("exclude", "exclude"),
    ("nodelist", "nodelist"),
    ("dependency", "dependency"),
    ("comment", "comment"),
    ("wckey", "wckey"),
];

impl Slurm {
    /// Whether a task has a card.
    pub fn asks_for_cards(&self) -> bool {
        let of_gres = |(option, value): &(&str, String)| *option == "gres" && value.contains("gpu");
        let more = |(option, _): &(String, Option<String>)| option.starts_with("gpus");
        self.gpus_per_node.is_some() || self.texts.iter().any(of_gres) || self.additional_parameters.iter().any(more)
    }
}

impl Default for Slurm {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            gpus_per_node: None,
            cpus_per_task: None,
            mem_gb: None,
            timeout_min: None,
            array_parallelism: 256,
            signal_delay_s: 120,
            max_num_timeout: 100,
            setup: Vec::new(),
            additional_parameters: Vec::new(),
        }
    }
}
