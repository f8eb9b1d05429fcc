//! What somebody may have meant by a name that nothing has: one rule for models, presets, tasks, columns, keys and modules.

/// Most edits between a name and the one that is suggested for it.
const MOST_EDITS: usize = 4;

/// The valid name nearest to `name`, where one is near: at most four edits away, and at most half as many as the longer of both has
/// letters. An exchange of neighbouring letters is one edit, and case is none. Of names that are equally near, one with the same letters, and
/// else the first.
pub fn nearest<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let measured = valid.into_iter().map(|other| (strsim::damerau_levenshtein(&lower, &other.to_lowercase()), other));
    // Asked of every name before the nearest is chosen: of two at the same distance, only the longer may be near enough.
    let near = measured.filter(|(edits, other)| *edits <= MOST_EDITS && 2 * edits <= name.len().max(other.len()));
    let letters = |of: &str| {
        let mut letters: Vec<char> = of.to_lowercase().chars().collect();
        letters.sort_unstable();
        letters
    };
    let own = letters(name);
    near.min_by_key(|(edits, other)| (*edits, letters(other) != own)).map(|(_, other)| other)
}

/// ``did you mean `y`? `` with a space behind it, or nothing where no valid name is near.
pub fn question<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, valid).map_or_else(String::new, |other| format!("did you mean `{other}`? "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_by_few_edits_for_its_length() {
        let near = |name, valid: &[&'static str]| nearest(name, valid.iter().copied());
        assert_eq!(near("qeury", &["key", "query", "value"]), Some("query"));
        assert_eq!(
            near("lora_fa_preconditionned", &["lora_fa", "lora_fa_preconditioned"]),
            Some("lora_fa_preconditioned")
        );
        assert_eq!(near("loar", &["lokr", "lora"]), Some("lora"), "of equals the one with the same letters");
        assert_eq!(near("b.txt", &["a.txt", "c.txt"]), Some("a.txt"), "of equals the first");
        assert_eq!(near("lr", &["wd", "lora"]), Some("lora"), "two edits of four letters");
        assert_eq!(near("xy", &["ab", "abcdef"]), None);
        assert_eq!(near("classification_head", &["classifier"]), None, "more than four edits");
        assert_eq!(near("x", &[]), None);
        assert_eq!(near("LoRA", &["dora", "lora"]), Some("lora"), "case is no edit");
        assert_eq!(question("sst", ["cola", "sst2"]), "did you mean `sst2`? ");
        assert_eq!(question("zzz", ["cola", "sst2"]), "");
    }
}
