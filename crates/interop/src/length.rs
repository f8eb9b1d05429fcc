//! How many tokens of a row are read, and how many rows were longer.

use data::batch::EncodedSet;

/// Fewest tokens of a row: two special ones and one of text.
const FEWEST: usize = 3;

/// Tokens of a row at most: what is asked for, else what the recipe says, else all positions of the base.
pub fn limit(asked: Option<usize>, recipe: Option<usize>, longest: usize) -> Result<usize, String> {
    match asked {
        None => Ok(recipe.unwrap_or(longest).min(longest)),
        Some(asked) if (FEWEST..=longest).contains(&asked) => Ok(asked),
        Some(asked) => Err(format!(
            "max_length is `{asked}`, but must be in {FEWEST}..={longest}: two special tokens and one of text, and the positions of the base"
        )),
    }
}

/// A note on the rows that were cut, `12 of 40 rows (30.0%) ..`; none where every row was read whole.
pub fn cut(set: &EncodedSet, limit: usize) -> Option<String> {
    let (cut, rows) = (set.truncated, set.rows.len());
    let share = 100.0 * cut as f64 / rows as f64;
    (cut > 0).then(|| format!("{cut} of {rows} rows ({share:.1}%) are longer than max_length {limit} and were cut"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_first_and_must_fit_the_base() {
        assert_eq!(limit(None, None, 512), Ok(512));
        assert_eq!(limit(None, Some(128), 512), Ok(128));
        assert_eq!(limit(Some(300), Some(128), 512), Ok(300));
        for asked in [0, 2, 513, usize::MAX] {
            let error = limit(Some(asked), Some(128), 512).unwrap_err();
            assert!(error.contains(&format!("`{asked}`")) && error.contains("3..=512"), "{error}");
        }
    }
}
