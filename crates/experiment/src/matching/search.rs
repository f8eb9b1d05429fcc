//! The rank whose count of parameters comes nearest to a number, where nothing is known of how counts go with the rank.
//!
//! They may grow with its square, stand still, fall, or go in steps and teeth, and not every rank fits. So where few ranks fit, all are
//! counted. Where many do, those of a grid are, and every two adjacent ranks of it that have the number between them are narrowed down until no
//! fitting rank is left between: a count that crosses the number is found wherever it does so slower than the grid goes, by a quarter of
//! the rank.
//!
//! Above the widest map nothing divides a width any more, so all ranks up to a largest one fit there, or none does; the grid doubles.

use std::collections::BTreeMap;

/// Where at most so many ranks fit, all are counted. Some methods make tensors of their rank by their widths to be counted, so a count at a large
/// rank of a wide map can take a tenth of a second.
const ALL: usize = 128;

/// Ranks that fit, in rising order.
pub(super) struct Fitting {
    /// Those up to the widest map.
    narrow: Vec<usize>,
    /// The first above that, and how many follow it without a gap.
    wide: (usize, usize),
}

impl Fitting {
    /// Of `1..=most`, with the gaps that `fits` has up to `widest` alone.
    pub(super) fn new(most: usize, widest: usize, fits: impl Fn(usize) -> bool) -> Self {
        let narrow = (1..=most.min(widest)).filter(|rank| fits(*rank)).collect();
        let first = widest + 1;
        let (mut fit, mut beyond) = (widest, most.saturating_add(1).max(first));
        if first > most || !fits(first) {
            return Self { narrow, wide: (first, 0) };
        }
        while beyond - fit > 1 {
            let middle = fit + (beyond - fit) / 2;
            if fits(middle) { fit = middle } else { beyond = middle }
        }
        Self { narrow, wide: (first, fit - widest) }
    }

    pub(super) fn len(&self) -> usize {
        self.narrow.len() + self.wide.1
    }

    /// The largest.
    pub(super) fn last(&self) -> usize {
        self.rank(self.len().saturating_sub(1))
    }

    fn rank(&self, index: usize) -> usize {
        self.narrow.get(index).copied().unwrap_or_else(|| self.wide.0 + (index - self.narrow.len()))
    }

    /// The index of a rank that fits.
    fn index(&self, rank: usize) -> usize {
        self.narrow.binary_search(&rank).unwrap_or_else(|narrow| narrow + rank - self.wide.0)
    }

    /// The index after `index` at which ranks are counted first.
    fn next(&self, index: usize) -> usize {
        let step = match index {
            0..64 => 1, // where steps and peaks of small ranks lie, which a coarser grid would jump over
            _ if index < self.narrow.len() => index / 4,
            _ => index,
        };
        index + step.max(1)
    }
}

/// Counts at ranks, each made once.
pub(super) struct Counts<F> {
    count: F,
    met: BTreeMap<usize, Option<usize>>,
}

impl<F: FnMut(usize) -> Option<usize>> Counts<F> {
    pub(super) fn new(count: F) -> Self {
        Self { count, met: BTreeMap::new() }
    }

    fn at(&mut self, rank: usize) -> Option<usize> {
        *self.met.entry(rank).or_insert_with(|| (self.count)(rank))
    }

    /// The fitting rank whose count comes nearest to `wanted`, the smallest of several; none where no rank has a count.
    pub(super) fn nearest(&mut self, fitting: &Fitting, wanted: usize) -> Option<usize> {
        if fitting.len() <= ALL {
            for index in 0..fitting.len() {
                self.at(fitting.rank(index));
            }
            return self.best(wanted);
        }
        self.cross(fitting, wanted);
        self.best(wanted).map(|rank| self.first_alike(fitting, rank))
    }

    /// The nearest of the ranks that are counted.
    fn best(&self, wanted: usize) -> Option<usize> {
        let counted = self.met.iter().filter_map(|(rank, count)| Some(((*count)?.abs_diff(wanted), *rank)));
        counted.min().map(|(_, rank)| rank)
    }

    /// Counts a grid, and the ranks between which a count crosses `wanted`.
    fn cross(&mut self, fitting: &Fitting, wanted: usize) {
        let end = fitting.len() - 1;
        let (mut index, mut last) = (0, None);
        loop {
            if let Some(count) = self.at(fitting.rank(index)) {
                let is_low = count <= wanted;
                if let Some((before, was_low)) = last.replace((index, is_low))
                    && is_low != was_low
                {
                    let count_of = |counts: &mut Self, middle| counts.at(fitting.rank(middle));
                    self.halve(before, index, |counts, middle| Some((count_of(counts, middle)? <= wanted) == was_low));
                }
            }
            if index == end {
                return;
            }
            index = fitting.next(index).min(end);
        }
    }

    /// The first rank of those that are counted alike and end in `rank`.
    fn first_alike(&mut self, fitting: &Fitting, rank: usize) -> usize {
        let count = self.at(rank);
        let Some((&before, _)) = self.met.range(..rank).next_back() else { return rank };
        let first = self.halve(fitting.index(before), fitting.index(rank), |counts, middle| {
            Some(counts.at(fitting.rank(middle)) != count)
        });
        fitting.rank(first)
    }

    /// The index after the last one that is as `low`, which is at most `high`; less where a rank between has no count.
    fn halve(&mut self, mut low: usize, mut high: usize, is_low: impl Fn(&mut Self, usize) -> Option<bool>) -> usize {
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match is_low(self, middle) {
                Some(true) => low = middle,
                Some(false) => high = middle,
                None => break,
            }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By counting every rank.
    fn by_force(fitting: &Fitting, count: impl Fn(usize) -> usize, wanted: usize) -> Option<usize> {
        (0..fitting.len()).map(|index| fitting.rank(index)).min_by_key(|rank| (count(*rank).abs_diff(wanted), *rank))
    }

    /// Counts of a map 1000 wide as they go with the rank: by itself, its square, a step, falling, not at all, and by a linear law far above
    /// the width.
    #[test]
    fn the_nearest_is_found_among_many() {
        type Law = (&'static str, fn(usize) -> usize);
        let laws: [Law; 6] = [
            ("linear", |rank| 2_000 * rank),
            ("square", |rank| rank * rank),
            ("step", |rank| if rank < 500 { 100 + 2 * rank } else { 40_000 }),
            ("falling", |rank| 1_000_000 / rank),
            ("flat", |_| 256),
            ("slow", |rank| 1_000 + rank),
        ];
        for (name, count) in laws {
            for fitting in [Fitting::new(1_000, 1_000, |_| true), Fitting::new(20_000, 1_000, |rank| rank <= 9_000)] {
                for wanted in [0, 255, 256, 257, 601, 1_099, 5_000, 16_384, 40_000, 123_456, 2_000_001] {
                    let found = Counts::new(|rank| Some(count(rank))).nearest(&fitting, wanted);
                    assert_eq!(found, by_force(&fitting, count, wanted), "{name}, {wanted} of {} ranks", fitting.len());
                }
            }
        }
    }

    #[test]
    fn many_ranks_take_few_counts() {
        let mut made = 0;
        let found = Counts::new(|rank| {
            made += 1;
            Some(128 + rank)
        })
        .nearest(&Fitting::new(1_048_576, 4_096, |_| true), 700_000);
        assert_eq!(found, Some(699_872));
        assert!(made < 200, "{made}");
    }

    #[test]
    fn ranks_without_a_count_are_passed_over() {
        let mut counts = Counts::new(|rank| (rank % 3 == 0).then_some(10 * rank));
        assert_eq!(counts.nearest(&Fitting::new(100, 100, |_| true), 70), Some(6));
        let mut none = Counts::new(|_| None);
        assert_eq!(none.nearest(&Fitting::new(2_000, 100, |_| true), 70), None);
        assert_eq!(none.nearest(&Fitting::new(10, 10, |_| false), 70), None);
    }

    #[test]
    fn ranks_above_the_widest_map_end_where_they_fit_no_more() {
        let fitting =
            Fitting::new(1_000, 10, |rank| rank.is_multiple_of(2) && rank <= 10 || (11..=777).contains(&rank));
        assert_eq!(
            (fitting.len(), fitting.rank(0), fitting.rank(5), fitting.rank(fitting.len() - 1)),
            (772, 2, 11, 777)
        );
        assert_eq!(
            (0..772).map(|index| fitting.index(fitting.rank(index))).collect::<Vec<_>>(),
            (0..772).collect::<Vec<_>>()
        );
        assert_eq!(Fitting::new(7, 10, |_| true).len(), 7);
    }
}
