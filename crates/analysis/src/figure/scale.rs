//! Scales: turn values into positions on an axis, and choose its ticks.

use super::{Axis, Scale};

/// An axis with its ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    kind: Kind,
    /// Ends on the transformed axis: of logarithms where the scale is logarithmic.
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Linear,
    Integer,
    Log2,
    Log10,
    Index,
    Names,
}

/// Room beyond the data, as a share of its extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padding {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A tick: its place in `[0, 1]` and its label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) place: f64,
    pub(super) label: String,
}

impl Span {
    /// The span of a matrix's rows or columns.
    pub(super) fn cells(axis: &Axis, count: usize) -> Self {
        match axis.scale {
            Scale::Names(_) => Self { kind: Kind::Names, low: -0.5, high: count as f64 - 0.5 },
            _ => Self { kind: Kind::Index, low: 0.5, high: count as f64 + 0.5 },
        }
    }

    /// The span of an axis of numbers or names; `values` are what must be in it.
    pub(super) fn of(axis: &Axis, values: &[f64], padding: Padding) -> Self {
        let kind = match &axis.scale {
            Scale::Linear => Kind::Linear,
            Scale::Integer => Kind::Integer,
            Scale::Log2 => Kind::Log2,
            Scale::Log10 => Kind::Log10,
            Scale::Index => Kind::Index,
            Scale::Names(names) => return Self { kind: Kind::Names, low: -0.5, high: names.len() as f64 - 0.5 },
        };
        if let Some([low, high]) = axis.range {
            return Self { kind, low: kind.transform(low), high: kind.transform(high) };
        }
        let places = || values.iter().map(|&value| kind.transform(value));
        let (mut low, mut high) = (places().fold(f64::INFINITY, f64::min), places().fold(f64::NEG_INFINITY, f64::max));
        // Narrower than this, ticks would need more digits than there is room for.
        let least = (1e-6 * low.abs().max(high.abs())).max(1e-30);
        if high - low < least {
            let size = low.abs().max(high.abs());
            let half = match kind {
                Kind::Log2 | Kind::Log10 | Kind::Integer | Kind::Index => 1.0,
                _ if high > low => least / 2.0,
                _ if size == 0.0 => 1.0,
                _ => 0.1 * size,
            };
            let middle = f64::midpoint(low, high);
            let stays = |padding: f64| if padding == 0.0 { 0.0 } else { half };
            (low, high) = (middle - stays(padding.low), middle + half);
        }
        let extent = high - low;
        Self { kind, low: low - padding.low * extent, high: high + padding.high * extent }
    }

    /// From zero or, on a logarithmic axis, from the tenfold below the data.
    pub(super) fn of_bars(axis: &Axis, values: &[f64], padding: Padding) -> Self {
        let mut values = values.to_vec();
        match axis.scale {
            Scale::Log10 | Scale::Log2 => {
                let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                values.push(power_of_ten((libm::log10(least) - 0.15).floor() as i32));
            }
            _ => values.push(0.0),
        }
        let ends = |fold: fn(f64, f64) -> f64, start: f64| values.iter().copied().fold(start, fold);
        let negative = ends(f64::min, f64::INFINITY) < 0.0;
        let positive = ends(f64::max, f64::NEG_INFINITY) > 0.0;
        let low = if negative { padding.high } else { 0.0 };
        let high = if positive || !negative { padding.high } else { 0.0 };
        Self::of(axis, &values, Padding { low, high })
    }

    /// Where a value stands: 0 at the first end, 1 at the last.
    pub(super) fn place(&self, value: f64) -> f64 {
        (self.kind.transform(value) - self.low) / (self.high - self.low)
    }

    /// Whether a value lies on the axis, with the tolerance of a rounding.
    pub(super) fn holds(&self, value: f64) -> bool {
        (-1e-9..=1.0 + 1e-9).contains(&self.place(value))
    }

    /// The place of the lower end of bars.
    pub(super) fn floor(&self) -> f64 {
        match self.kind {
            Kind::Log2 | Kind::Log10 => 0.0,
            _ => self.place(0.0).clamp(0.0, 1.0),
        }
    }

    /// About `count` ticks, and the power of ten that their labels leave out.
    pub(super) fn ticks(&self, count: usize) -> (Vec<Tick>, i32) {
        match self.kind {
            Kind::Linear => self.linear(count, false),
            Kind::Integer => self.linear(count, true),
            Kind::Index => (self.index(count), 0),
            Kind::Log2 => self.powers(count, 2.0),
            Kind::Log10 => self.powers(count, 10.0),
            Kind::Names => (vec![], 0),
        }
    }

    fn linear(&self, count: usize, whole: bool) -> (Vec<Tick>, i32) {
        let (low, high) = (self.low.min(self.high), self.low.max(self.high));
        let (values, step) = nice(low, high, count, whole);
        let size = values.iter().fold(0.0_f64, |size, value| size.max(value.abs()));
        let exponent = exponent(size, step);
        let unit = power_of_ten(exponent);
        let decimals = decimals(step / unit);
        let tick = |value: f64| Tick {
            place: (value - self.low) / (self.high - self.low),
            label: signed(value / unit, decimals),
        };
        (values.into_iter().map(tick).collect(), exponent)
    }

    /// 1 and the multiples of a power of two.
    fn index(&self, count: usize) -> Vec<Tick> {
        let last = (self.high - 0.5).round() as usize;
        let mut step = 1;
        while last.div_ceil(step) > count.max(2) {
            step *= 2;
        }
        let mut values: Vec<usize> = (step..=last).step_by(step).collect();
        if step > 1 {
            values.insert(0, 1);
        }
        values.into_iter().map(|value| Tick { place: self.place(value as f64), label: value.to_string() }).collect()
    }

    fn powers(&self, count: usize, base: f64) -> (Vec<Tick>, i32) {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        let number = (last - first + 1).max(0);
        if number < 2 {
            return self.within_a_power(count, base);
        }
        let step = number.div_euclid(count.max(1) as i32) + i32::from(number.rem_euclid(count.max(1) as i32) > 0);
        let ticks = (first..=last)
            .filter(|power| power.rem_euclid(step) == 0 || number <= step)
            .map(|power| Tick {
                place: (f64::from(power) - self.low) / (self.high - self.low),
                label: power_label(base, power),
            })
            .collect();
        (ticks, 0)
    }

    /// Ordinary ticks at their logarithms, where the axis spans less than two powers.
    fn within_a_power(&self, count: usize, base: f64) -> (Vec<Tick>, i32) {
        let raise = |power: f64| if base == 2.0 { libm::exp2(power) } else { libm::exp10(power) };
        let (values, step) = nice(raise(self.low), raise(self.high), count, false);
        let exponent = exponent(values.last().copied().unwrap_or(1.0), step);
        let unit = power_of_ten(exponent);
        let ticks = values
            .into_iter()
            .filter(|&value| value > 0.0)
            .map(|value| Tick { place: self.place(value), label: signed(value / unit, decimals(step / unit)) })
            .collect();
        (ticks, exponent)
    }
}

impl Kind {
    fn transform(self, value: f64) -> f64 {
        match self {
            Self::Log2 => libm::log2(value),
            Self::Log10 => libm::log10(value),
            _ => value,
        }
    }
}

/// Multiples of 1, 2, 2.5 or 5 times a power of ten between `low` and `high`, and their distance.
fn nice(low: f64, high: f64, count: usize, whole: bool) -> (Vec<f64>, f64) {
    let rough = (high - low) / count.max(1) as f64;
    let unit = power_of_ten(libm::log10(rough).floor() as i32);
    let mut step =
        [1.0, 2.0, 2.5, 5.0].into_iter().map(|m| m * unit).find(|&s| s >= rough * 0.999).unwrap_or(10.0 * unit);
    if whole {
        step = step.max(1.0);
        if step == 2.5 {
            step = 5.0;
        }
    }
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    let values = (0..=(last - first).max(-1.0) as i64).map(|index| (first + index as f64) * step);
    (if last < first { vec![] } else { values.collect() }, step)
}

/// The power of ten that labels leave out: 0 where they are short without.
fn exponent(size: f64, step: f64) -> i32 {
    if size == 0.0 || ((1e-3..1e5).contains(&size) && step >= 1e-5) || (0.1..1e5).contains(&size) {
        return 0;
    }
    libm::log10(size).floor() as i32
}

/// Digits behind the point that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    (0..12)
        .find(|&digits| {
            let scaled = step * power_of_ten(digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        })
        .unwrap_or(12) as usize
}

/// With a true minus sign, and no negative zero.
fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero { format!("−{text}") } else { text }
}

fn power_label(base: f64, power: i32) -> String {
    match power {
        0..=16 if base == 2.0 => (1_u32 << power).to_string(),
        0..=3 if base == 10.0 => 10_u32.pow(power as u32).to_string(),
        -3..=-1 if base == 10.0 => signed(power_of_ten(power), power.unsigned_abs() as usize),
        _ => format!("{base}^{{{}}}", signed(f64::from(power), 0)),
    }
}

/// Correctly rounded on every machine, as `powi` is not.
pub(super) fn power_of_ten(power: i32) -> f64 {
    format!("1e{power}").parse().unwrap_or(f64::INFINITY)
}

/// Three significant digits, for the ends of bars.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let power = libm::log10(value.abs()).floor() as i32;
    if (-3..4).contains(&power) {
        return signed(value, (2 - power).max(0) as usize);
    }
    format!("{}·10^{{{}}}", signed(value / power_of_ten(power), 1), signed(f64::from(power), 0))
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;
    use proptest::prelude::*;

    fn span(scale: Scale, values: &[f64]) -> Span {
        let axis = Axis { label: String::new(), unit: String::new(), scale, range: None, limits: Limits::default() };
        Span::of(&axis, values, Padding { low: 0.06, high: 0.06 })
    }

    fn labels(span: &Span, count: usize) -> (Vec<String>, i32) {
        let (ticks, exponent) = span.ticks(count);
        (ticks.into_iter().map(|tick| tick.label).collect(), exponent)
    }

    #[test]
    fn ticks_are_round_and_short() {
        for (values, count, want, exponent) in [
            ([0.0, 1.0], 6, vec!["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"], 0),
            ([-0.02, 0.03], 3, vec!["−0.02", "0.00", "0.02"], 0),
            ([54.0, 91.0], 5, vec!["60", "70", "80", "90"], 0),
            ([1e-9, 4e-9], 4, vec!["1", "2", "3", "4"], -9),
            ([0.0, 3e6], 4, vec!["0", "1", "2", "3"], 6),
        ] {
            assert_eq!(
                labels(&span(Scale::Linear, &values), count),
                (want.iter().map(ToString::to_string).collect(), exponent)
            );
        }
        assert_eq!(labels(&span(Scale::Integer, &[1.0, 3.0]), 8).0, ["1", "2", "3"]);
        assert_eq!(labels(&span(Scale::Log2, &[1.0, 64.0]), 8).0, ["1", "2", "4", "8", "16", "32", "64"]);
        assert_eq!(labels(&span(Scale::Log10, &[0.02, 4e4]), 8).0, ["0.01", "0.1", "1", "10", "100", "1000", "10^{4}"]);
        let index = Axis {
            label: String::new(),
            unit: String::new(),
            scale: Scale::Index,
            range: None,
            limits: Limits::default(),
        };
        assert_eq!(labels(&Span::cells(&index, 64), 5).0, ["1", "16", "32", "48", "64"]);
    }

    #[test]
    fn numbers_at_bars_have_three_digits() {
        for (value, want) in
            [(0.0, "0"), (0.32, "0.320"), (21.67, "21.7"), (-1.9, "−1.90"), (4.2e-7, "4.2·10^{−7}"), (1234.0, "1234")]
        {
            assert_eq!(short(value), want);
        }
    }

    proptest! {
        #[test]
        fn ticks_lie_on_the_axis_and_differ(low in -1e6_f64..1e6, extent in 1e-3_f64..1e6, count in 1_usize..9) {
            let span = span(Scale::Linear, &[low, low + extent]);
            let (ticks, _) = span.ticks(count);
            for tick in &ticks {
                prop_assert!((-1e-6..=1.000_001).contains(&tick.place), "{tick:?}");
            }
            for pair in ticks.windows(2) {
                prop_assert!(pair[0].place < pair[1].place && pair[0].label != pair[1].label, "{pair:?}");
            }
        }
    }
}
