//! The experiments that come with the program, so that it runs them by name from any folder.

/// Where they lie in the repository; relative paths in them mean the folder above.
pub(crate) const FOLDER: &str = "experiments";

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        /// Names and texts, by name.
        pub(crate) const EXPERIMENTS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../experiments/", $name, ".yaml")))),+];
    };
}

shipped![
    "adalora_ranks",
    "compare_knobs",
    "compare_tuned",
    "compare_tuned_again",
    "compare_tuned_short",
    "compare_variants",
    "continual",
    "difficulty",
    "dora_dynamics",
    "dylora_glue",
    "dylora_glue_roberta",
    "dylora_tuned",
    "fairness",
    "lora_e2e_gpt2",
    "lora_fa_memory",
    "lora_subspace",
    "minilm_glue",
    "minilm_tuned",
    "minilm_variants",
    "quick",
    "survey",
];

/// The text of the experiment of that name.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    EXPERIMENTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_of_the_repository_is_in_the_program() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FOLDER);
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, EXPERIMENTS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
