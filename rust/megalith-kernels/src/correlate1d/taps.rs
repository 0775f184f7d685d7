//! The weights, and the sums in SciPy's order.
//!
//! SciPy looks at the weights first. About a centre that is symmetric it adds the two entries of a pair before it
//! multiplies (one multiplication saved), the outermost pair first; antisymmetric likewise with differences; otherwise
//! it starts with the *last* tap and goes on from the first to the last but one. Floating point additions do not
//! commute with each other, so this order is part of the result. No step is fused: Rust never contracts a product and
//! a sum.
//!
//! The loops are small generic functions that are always inlined, to be compiled under several target features.

use crate::simd::multiversion;

/// Outputs that are summed side by side: eight SSE2 registers.
pub(super) const WIDTH: usize = 16;
/// So few weights that memory is what takes time: they are summed in doubles, from where entries are.
pub(super) const FEW: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Symmetric,
    Antisymmetric,
    General,
}

/// The weights of a kernel and where it stands.
#[derive(Debug)]
pub(super) struct Taps {
    pub(super) kind: Kind,
    pub(super) weights: Vec<f64>,
    /// The weights in single precision, where sums may be too.
    pub(super) singles: Option<Vec<f32>>,
    /// Entries that an output needs before its own position.
    before: usize,
}

impl Taps {
    /// The caller has checked that there are weights, and that the origin leaves the centre inside of them.
    pub(super) fn new(weights: &[f64], origin: isize, fast: bool) -> Self {
        let half = weights.len() / 2;
        // Not "all below": SciPy takes a NaN (infinite weights) for symmetric.
        let differ =
            |sign: f64| (1..=half).any(|i| (weights[half + i] - sign * weights[half - i]).abs() > f64::EPSILON);
        let kind = match weights.len() % 2 {
            1 if !differ(1.0) => Kind::Symmetric,
            1 if !differ(-1.0) => Kind::Antisymmetric,
            _ => Kind::General,
        };
        // Single precision has fewer digits where its range ends.
        let fits = |&weight: &f64| weight == 0.0 || (1e-30..1e30).contains(&weight.abs());
        let is_single = fast && weights.len() > FEW && weights.iter().all(fits);
        // What is taken for symmetric has the first weight of each pair on both sides.
        let effective = |i: usize| match kind {
            Kind::Symmetric if i > half => weights[weights.len() - 1 - i],
            Kind::Antisymmetric if i > half => -weights[weights.len() - 1 - i],
            _ => weights[i],
        };
        let singles = is_single.then(|| (0..weights.len()).map(|i| effective(i) as f32).collect());
        Self { kind, weights: weights.to_vec(), singles, before: (half as isize + origin) as usize }
    }

    /// Entries that an output needs before and after its own position.
    pub(super) fn reach(&self) -> (usize, usize) {
        (self.before, self.weights.len() - 1 - self.before)
    }

    /// `sum over i of weights[i] * value(i)`.
    pub(super) fn sum(&self, value: impl Fn(usize) -> f64) -> f64 {
        let (weights, last) = (&self.weights[..], self.weights.len() - 1);
        let pairs = 0..last / 2;
        let centre = value(last / 2) * weights[last / 2];
        match self.kind {
            Kind::Symmetric => pairs.fold(centre, |sum, i| sum + (value(i) + value(last - i)) * weights[i]),
            Kind::Antisymmetric => pairs.fold(centre, |sum, i| sum + (value(i) - value(last - i)) * weights[i]),
            Kind::General => (0..last).fold(value(last) * weights[last], |sum, i| sum + value(i) * weights[i]),
        }
    }

    /// `out[p] = sum over i of weights[i] * x[p + i * step]`, for rows of `step` outputs of which `near` at a time are
    /// computed down the rows.
    ///
    /// The length of `out` is a number of rows and [`WIDTH`] more, which are used as scratch; `x` goes as far.
    pub(super) fn apply(&self, x: &[f64], step: usize, near: usize, out: &mut [f64]) {
        apply(self, x, step, near, out);
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn plain_apply(&self, x: &[f64], step: usize, near: usize, out: &mut [f64]) {
        let len = out.len() - WIDTH;
        if near >= step {
            return self.sums(x, step, &mut out[..len.next_multiple_of(WIDTH)]);
        }
        for lane in (0..step).step_by(near) {
            // The last lanes are rounded up into the next row, with the values that belong there.
            let width = near.min(step - lane).next_multiple_of(WIDTH);
            for row in (0..len).step_by(step) {
                let at = row + lane;
                self.sums(&x[at..], step, &mut out[at..at + width]);
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn sums(&self, x: &[f64], step: usize, out: &mut [f64]) {
        match self.kind {
            Kind::Symmetric => pairs(x, step, &self.weights, out, |a, b| a + b),
            Kind::Antisymmetric => pairs(x, step, &self.weights, out, |a, b| a - b),
            Kind::General => singles(x, step, &self.weights, out),
        }
    }
}

multiversion!(
    fn apply[](taps: &Taps, x: &[f64], step: usize, near: usize, out: &mut [f64]) -> () = Taps::plain_apply
);

/// The block of `x` from `at` on.
#[inline(always)]
#[allow(clippy::inline_always)]
fn block(x: &[f64], at: usize) -> &[f64] {
    &x[at..at + WIDTH]
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn pairs(x: &[f64], step: usize, weights: &[f64], out: &mut [f64], join: impl Fn(f64, f64) -> f64) {
    let half = weights.len() / 2;
    for (k, out) in out.chunks_exact_mut(WIDTH).enumerate() {
        let at = k * WIDTH;
        let mut sums = [0.0; WIDTH];
        for (sum, &c) in sums.iter_mut().zip(block(x, at + half * step)) {
            *sum = c * weights[half];
        }
        let (mut left, mut right) = (at, at + 2 * half * step);
        for &weight in &weights[..half] {
            for (sum, (&a, &b)) in sums.iter_mut().zip(block(x, left).iter().zip(block(x, right))) {
                *sum += join(a, b) * weight;
            }
            left += step;
            right -= step;
        }
        out.copy_from_slice(&sums);
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn singles(x: &[f64], step: usize, weights: &[f64], out: &mut [f64]) {
    let last = weights.len() - 1;
    for (k, out) in out.chunks_exact_mut(WIDTH).enumerate() {
        let mut at = k * WIDTH;
        let mut sums = [0.0; WIDTH];
        for (sum, &c) in sums.iter_mut().zip(block(x, at + last * step)) {
            *sum = c * weights[last];
        }
        for &weight in &weights[..last] {
            for (sum, &a) in sums.iter_mut().zip(block(x, at)) {
                *sum += a * weight;
            }
            at += step;
        }
        out.copy_from_slice(&sums);
    }
}
