//! The experiments that come with the program, so that it runs them by name from any folder.

/// Where they lie in the repository; relative paths in them mean the folder above.
pub(crate) const FOLDER: &str = "experiments";

// Names and texts, by name: every file of the folder, listed by the build script.
include!(concat!(env!("OUT_DIR"), "/experiments.rs"));

/// The text of the experiment of that name.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    EXPERIMENTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_are_found_by_name() {
        assert!(find("quick").is_some_and(|text| text.contains("suite: glue_mini")));
        assert!(find("none").is_none() && EXPERIMENTS.len() > 20);
        assert!(EXPERIMENTS.windows(2).all(|two| two[0].0 < two[1].0));
    }
}
