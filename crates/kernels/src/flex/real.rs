//! The numbers the kernels compute with, f32 and f64, and the functions of them that a compiler can turn into vector code.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use burn::tensor::Element;
use pulp::{Simd, bytemuck::Pod};

/// A float that kernels compute with.
///
/// Inside a [`WithSimd`](pulp::WithSimd) kernel plain loops over slices of these become vector code; products of matrices name their
/// vectors themselves, as [`Lanes`](Self::Lanes).
pub(super) trait Real:
    Element
    + Pod
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    const ZERO: Self;
    const ONE: Self;

    /// A vector register of these.
    type Lanes<S: Simd>: Copy;

    fn of(value: f64) -> Self;
    /// `self·factor + term` with one rounding.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// Whether the sign bit is set, of a zero too.
    fn is_signed(self) -> bool;
    fn is_finite(self) -> bool;

    /// `exp(self)` for what a softmax asks for, `self ≤ 0`. In f32 within 1 unit in the last place, and 0 below `exp(−87.3)`, where the
    /// result would be subnormal.
    fn exp(self) -> Self;
    /// The standard normal distribution at `self`: `Φ` and `√(2π)·φ`. In f32 `Φ` is within 2e-7 of the exact value, and within 5e-7 of it
    /// in proportion down to −3.
    fn normal(self) -> (Self, Self);

    fn splat<S: Simd>(simd: S, value: Self) -> Self::Lanes<S>;
    /// `a·b + c` lane by lane.
    fn fused<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>, c: Self::Lanes<S>) -> Self::Lanes<S>;
    /// The whole vectors of a slice, and what is left over.
    fn lanes<S: Simd>(line: &[Self]) -> (&[Self::Lanes<S>], &[Self]);
    /// [`lanes`](Self::lanes), to write.
    fn lanes_mut<S: Simd>(line: &mut [Self]) -> (&mut [Self::Lanes<S>], &mut [Self]);
    /// A vector of fewer values than it holds.
    fn load_part<S: Simd>(simd: S, line: &[Self]) -> Self::Lanes<S>;
    /// The way back from [`load_part`](Self::load_part).
    fn store_part<S: Simd>(simd: S, line: &mut [Self], values: Self::Lanes<S>);
}

/// The largest of two, and the second where the first is not a number.
#[inline(always)]
pub(super) fn larger<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// A polynomial's value, the coefficients from the constant one upwards.
#[inline(always)]
fn horner<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut value = coefficients[N - 1];
    for coefficient in coefficients.iter().rev().skip(1) {
        value = value.mul_add(x, *coefficient);
    }
    value
}

/// `eʳ` for `|r| ≤ ln 2 / 2`: minimax in relative error (Remez exchange), 1.9e-9.
const EXP: [f32; 7] =
    [1.000_000_0, 1.000_000_0, 0.499_999_9, 0.166_664_18, 0.041_668_24, 0.008_374_981, 0.001_383_664_6];

/// `Φ(−t)·exp(t²/2)/u` as a polynomial in `u = 1/(1 + 0.35·t)`, `0 ≤ t ≤ 13.5`: minimax in relative error (Remez exchange), 3.2e-8.
const MILLS: [f32; 9] = [
    0.139_621_57,
    0.139_859_08,
    0.119_852_43,
    0.105_432_98,
    -0.022_937_258,
    0.158_929_47,
    -0.255_504_72,
    0.143_872_3,
    -0.029_125_88,
];

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    type Lanes<S: Simd> = S::f32s;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn is_signed(self) -> bool {
        self.is_sign_negative()
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn exp(self) -> Self {
        // Adding 1.5·2²³ rounds to a whole number and leaves it in the low bits.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts, the first exact in f32.
        const LN_2: (f32, f32) = (std::f32::consts::LN_2, -1.904_654_3e-9);
        let shifted = self.mul_add(std::f32::consts::LOG2_E, ROUND);
        let whole = shifted - ROUND;
        let rest = whole.mul_add(-LN_2.1, whole.mul_add(-LN_2.0, self));
        let scale = Self::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
        // A product, so that what is not a number stays so.
        let value = horner(EXP, rest) * scale;
        if self < -87.3 { 0.0 } else { value }
    }
    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let t = self.abs();
        let density = Real::exp(-0.5 * t * t);
        let u = 1.0 / t.mul_add(0.35, 1.0);
        let tail = horner(MILLS, u) * u * density;
        (if self > 0.0 { 1.0 - tail } else { tail }, density)
    }

    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f32s {
        simd.splat_f32s(value)
    }
    #[inline(always)]
    fn fused<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }
    #[inline(always)]
    fn lanes<S: Simd>(line: &[Self]) -> (&[S::f32s], &[Self]) {
        S::as_simd_f32s(line)
    }
    #[inline(always)]
    fn lanes_mut<S: Simd>(line: &mut [Self]) -> (&mut [S::f32s], &mut [Self]) {
        S::as_mut_simd_f32s(line)
    }
    #[inline(always)]
    fn load_part<S: Simd>(simd: S, line: &[Self]) -> S::f32s {
        simd.partial_load_f32s(line)
    }
    #[inline(always)]
    fn store_part<S: Simd>(simd: S, line: &mut [Self], values: S::f32s) {
        simd.partial_store_f32s(line, values);
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    type Lanes<S: Simd> = S::f64s;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn is_signed(self) -> bool {
        self.is_sign_negative()
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        (0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2), (-0.5 * self * self).exp())
    }

    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f64s {
        simd.splat_f64s(value)
    }
    #[inline(always)]
    fn fused<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }
    #[inline(always)]
    fn lanes<S: Simd>(line: &[Self]) -> (&[S::f64s], &[Self]) {
        S::as_simd_f64s(line)
    }
    #[inline(always)]
    fn lanes_mut<S: Simd>(line: &mut [Self]) -> (&mut [S::f64s], &mut [Self]) {
        S::as_mut_simd_f64s(line)
    }
    #[inline(always)]
    fn load_part<S: Simd>(simd: S, line: &[Self]) -> S::f64s {
        simd.partial_load_f64s(line)
    }
    #[inline(always)]
    fn store_part<S: Simd>(simd: S, line: &mut [Self], values: S::f64s) {
        simd.partial_store_f64s(line, values);
    }
}

/// Lanes of a sum that is free in its order.
const SUMS: usize = 32;

/// Sums over the places of equally long lines of what `terms` makes of the values there; the order of summation depends on the length
/// alone, not on the machine.
#[inline(always)]
pub(super) fn sums<T: Real, const M: usize, const N: usize>(
    lines: [&[T]; M],
    terms: impl Fn([T; M]) -> [T; N],
) -> [T; N] {
    let mut lanes = [[T::ZERO; SUMS]; N];
    let parts = lines.map(<[T]>::as_chunks::<SUMS>);
    for index in 0..parts[0].0.len() {
        let blocks = parts.map(|(blocks, _)| &blocks[index]);
        for lane in 0..SUMS {
            let terms = terms(blocks.map(|block| block[lane]));
            for (sums, term) in lanes.iter_mut().zip(terms) {
                sums[lane] += term;
            }
        }
    }
    for index in 0..parts[0].1.len() {
        let terms = terms(parts.map(|(_, rest)| rest[index]));
        for (sums, term) in lanes.iter_mut().zip(terms) {
            sums[index] += term;
        }
    }
    lanes.map(|lanes| fold(lanes, |a, b| a + b))
}

/// All lanes in one, by halves.
#[inline(always)]
pub(super) fn fold<T: Real, const N: usize>(mut lanes: [T; N], merge: impl Fn(T, T) -> T) -> T {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = merge(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_a_unit_in_the_last_place() {
        for step in 0..=870_000 {
            let x = -1e-4_f32 * step as f32;
            let (exact, value) = (f64::from(x).exp(), f64::from(Real::exp(x)));
            assert!((value - exact).abs() <= 1.2e-7 * exact, "exp({x}) = {value}, not {exact}");
        }
        assert_eq!(Real::exp(0.0_f32), 1.0);
        assert_eq!(Real::exp(-1e9_f32), 0.0);
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert!(Real::exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_is_as_near_as_stated() {
        for step in -130_000..=130_000 {
            let x = 1e-4_f32 * step as f32;
            let (exact, density) = Real::normal(f64::from(x));
            let (value, short) = Real::normal(x);
            let error = (f64::from(value) - exact).abs();
            assert!(error <= 2.2e-7, "Φ({x}) = {value}, not {exact}");
            assert!(x < -3.0 || error <= 6e-7 * exact, "Φ({x}) = {value}, not {exact}");
            assert!((f64::from(short) - density).abs() <= 3e-7, "φ({x}) = {short}, not {density}");
        }
        assert_eq!(Real::normal(0.0_f32).1, 1.0);
        assert_eq!(Real::normal(f32::INFINITY).0, 1.0);
        assert_eq!(Real::normal(f32::NEG_INFINITY).0, 0.0);
        assert!(Real::normal(f32::NAN).0.is_nan());
    }

    #[test]
    fn sums_take_every_term_once() {
        for len in [0, 1, 31, 32, 33, 100] {
            let line: Vec<f64> = (0..len).map(f64::from).collect();
            let [sum, squares] = sums([&line, &line], |[a, b]| [a, a * b]);
            assert_eq!(sum, (0..len).map(f64::from).sum::<f64>());
            assert_eq!(squares, (0..len).map(|i| f64::from(i * i)).sum::<f64>());
        }
    }
}
