//! The kernel against a naive twin: one sum after the other, in SciPy's order, over all types, layouts and modes.

use megalith_core::dtype::{Bool8, DType, Element, Real, f16};
use megalith_core::pool::{execute, execute_here};
use megalith_core::{Error, Result, SinkView, SourceView, Workers, match_dtype};
use proptest::prelude::*;

use super::extension::entry;
use super::{Input, Mode, correlate1d};
use crate::simd::{Level, set_level};

/// One line, as SciPy does it.
fn naive_line(line: &[f64], weights: &[f64], origin: isize, mode: Mode) -> Vec<f64> {
    let half = (weights.len() / 2) as isize;
    let last = weights.len() as isize - 1 - half;
    let weight = |j: isize| weights[(half + j) as usize];
    let differs = |sign: f64| (1..=last).any(|i| (weight(i) - sign * weight(-i)).abs() > f64::EPSILON);
    let value = |l: usize, j: isize| match (entry(mode, l as isize + j - origin, line.len()), mode) {
        (Some(row), _) => line[row],
        (None, Mode::Constant(value)) => value,
        (None, _) => unreachable!("only the constant mode has no entry"),
    };
    let is_odd = weights.len() % 2 == 1;
    let one = |l: usize| {
        if is_odd && !differs(1.0) {
            (-half..0).fold(value(l, 0) * weight(0), |t, j| t + (value(l, j) + value(l, -j)) * weight(j))
        } else if is_odd && !differs(-1.0) {
            (-half..0).fold(value(l, 0) * weight(0), |t, j| t + (value(l, j) - value(l, -j)) * weight(j))
        } else {
            (-half..last).fold(value(l, last) * weight(last), |t, j| t + value(l, j) * weight(j))
        }
    };
    (0..line.len()).map(one).collect()
}

/// All lines of a C-order array along `axis`.
fn naive(values: &[f64], shape: &[usize], axis: usize, weights: &[f64], origin: isize, mode: Mode) -> Vec<f64> {
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let mut out = vec![0.0; values.len()];
    for start in (0..values.len()).filter(|i| i / inner % n == 0) {
        let line: Vec<f64> = (0..n).map(|l| values[start + l * inner]).collect();
        for (l, value) in naive_line(&line, weights, origin, mode).into_iter().enumerate() {
            out[start + l * inner] = value;
        }
    }
    out
}

/// How an array lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    C,
    F,
    Reversed,
    /// Every second byte-swapped item, one byte off the alignment.
    Odd,
}

/// Memory, byte strides and the byte of the first element for a shape.
fn place(layout: Layout, shape: &[usize], itemsize: usize) -> (Vec<u8>, Vec<isize>, usize) {
    let len = shape.iter().product::<usize>();
    let mut strides = vec![0; shape.len()];
    let mut step = if let Layout::Odd = layout { 2 * itemsize + 1 } else { itemsize } as isize;
    let order: Vec<usize> =
        if let Layout::F = layout { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
    for axis in order {
        strides[axis] = step;
        step *= shape[axis].max(1) as isize;
    }
    let bytes = vec![0; (step as usize).max(len * itemsize) + 1];
    let mut first = 0;
    match layout {
        Layout::Reversed if len > 0 => {
            first = (0..shape.len()).map(|a| (shape[a] - 1) * strides[a] as usize).sum();
            for stride in &mut strides {
                *stride = -*stride;
            }
        }
        Layout::Odd => first = 1,
        _ => {}
    }
    (bytes, strides, first)
}

struct Array {
    bytes: Vec<u8>,
    strides: Vec<isize>,
    first: usize,
    shape: Vec<usize>,
    dtype: DType,
    swapped: bool,
}

impl Array {
    fn new(layout: Layout, shape: &[usize], dtype: DType) -> Self {
        let (bytes, strides, first) = place(layout, shape, dtype.itemsize());
        Self { bytes, strides, first, shape: shape.to_vec(), dtype, swapped: matches!(layout, Layout::Odd) }
    }

    fn source(&self) -> SourceView<'_> {
        // SAFETY: `place` makes memory for every position of the shape.
        #[allow(unsafe_code)]
        unsafe {
            let ptr = self.bytes.as_ptr().add(self.first);
            SourceView::from_raw_parts(ptr, &self.shape, &self.strides, self.dtype.itemsize(), self.swapped)
        }
    }

    fn sink(&mut self) -> SinkView<'_> {
        // SAFETY: `place` makes memory for every position of the shape, none of them twice; borrowed from `self`.
        #[allow(unsafe_code)]
        unsafe {
            let ptr = self.bytes.as_mut_ptr().add(self.first);
            SinkView::from_raw_parts(ptr, &self.shape, &self.strides, self.dtype.itemsize(), self.swapped)
        }
    }

    fn set(&mut self, values: &[f64]) {
        match_dtype!(real self.dtype, T => {
            let values: Vec<T> = values.iter().map(|&v| T::from_double(v)).collect();
            self.sink().scatter(0, &values);
        }, else unreachable!("a real type"));
    }

    fn copy(&mut self, other: &Array) {
        match_dtype!(real self.dtype, T => {
            let mut values = vec![T::default(); other.source().len()];
            other.source().gather(0..values.len(), &mut values);
            self.sink().scatter(0, &values);
        }, else unreachable!("a real type"));
    }

    /// The values as they compare: doubles with one NaN.
    fn get(&self) -> Vec<u64> {
        let mut out = Vec::new();
        match_dtype!(real self.dtype, T => {
            let mut values = vec![T::default(); self.source().len()];
            self.source().gather(0..values.len(), &mut values);
            out.extend(values.into_iter().map(|v| bits(v.to_double())));
        }, else unreachable!("a real type"));
        out
    }
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { u64::MAX } else { value.to_bits() }
}

fn on(threads: usize, f: impl FnOnce(&Workers<'_>) -> Result<()> + Send) -> Result<()> {
    if threads == 1 { execute_here(f) } else { execute(threads, |_| true, f) }
}

/// All types that are real.
const REAL: [DType; 12] = {
    use DType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    [Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, F32, F64]
};

fn dtypes() -> impl Strategy<Value = DType> {
    prop::sample::select(REAL.to_vec())
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop::sample::select(vec![Layout::C, Layout::F, Layout::Reversed, Layout::Odd])
}

fn modes() -> impl Strategy<Value = Mode> {
    let value = prop::sample::select(vec![0.0, 1.5, -1e12, f64::NAN, f64::INFINITY]);
    prop_oneof![
        value.prop_map(Mode::Constant),
        Just(Mode::Nearest),
        Just(Mode::Reflect),
        Just(Mode::Mirror),
        Just(Mode::Wrap)
    ]
}

fn values(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let value = |bits: u64| match bits % 64 {
        0 => f64::NAN,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        3 => 1e10,
        _ => (bits >> 11) as f64 / 1e13 - 400.0,
    };
    (0..len).map(|_| value(next())).collect()
}

/// A kernel of one of the kinds that are summed in their own order.
fn weights(len: usize, kind: usize, seed: u64) -> Vec<f64> {
    let mut weights: Vec<f64> = values(len, seed).iter().map(|v| if v.is_finite() { v / 100.0 } else { 0.5 }).collect();
    for i in 0..len / 2 {
        match kind {
            0 => weights[len - 1 - i] = weights[i],
            1 => weights[len - 1 - i] = -weights[i],
            _ => {}
        }
    }
    if kind == 1 && len % 2 == 1 {
        weights[len / 2] = 0.25;
    }
    weights
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn correlate1d_matches_naive(
        shape in prop::collection::vec(1usize..12, 1..4),
        long in prop::option::of(prop_oneof![3 => 30usize..700, 1 => Just(512), 1 => Just(2048)]),
        axis in 0usize..3,
        (from, to, is_in_place) in (dtypes(), dtypes(), any::<bool>()),
        (source_layout, sink_layout) in (layouts(), layouts()),
        (length, kind, origin) in (prop_oneof![1usize..6, 1usize..40], 0usize..3, 0usize..40),
        mode in modes(),
        seed in any::<u64>(),
    ) {
        let mut shape = shape;
        let axis = axis % shape.len();
        if let Some(n) = long {
            let last = shape.len() - 1;
            shape[seed as usize % (last + 1)] = n;
        }
        let weights = weights(length, kind, seed);
        let origin = (origin % length) as isize - (length / 2) as isize;
        let from = if is_in_place { to } else { from };
        let mut source = Array::new(source_layout, &shape, from);
        source.set(&values(shape.iter().product(), seed));
        let read: Vec<f64> = source.get().into_iter().map(f64::from_bits).collect();
        let sums = naive(&read, &shape, axis, &weights, origin, mode);
        let mut expected = Array::new(Layout::C, &shape, to);
        expected.set(&sums);

        for (level, threads) in Level::ALL.into_iter().zip([1, 2, 8]).chain([(Level::Avx512, 1)]) {
            set_level(level);
            let mut sink = Array::new(sink_layout, &shape, to);
            let input = if is_in_place {
                sink.copy(&source);
                Input::Sink
            } else {
                Input::Array { view: source.source(), dtype: from }
            };
            on(threads, |w| correlate1d(w, input, sink.sink(), to, axis, &weights, origin, mode, false)).unwrap();
            prop_assert_eq!(sink.get(), expected.get());
        }
    }
}

/// Values that are small, but for some that are not finite.
fn small(len: usize, seed: u64) -> Vec<f64> {
    values(len, seed).iter().map(|v| if v.is_finite() { v.min(500.0) } else { *v }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn correlate1d_fast_stays_within_single_precision(
        shape in (prop_oneof![1usize..4, Just(45)], 1usize..5, prop_oneof![1usize..300, Just(4_501)]),
        axis in 0usize..3,
        (from, to, is_in_place) in (narrow(), narrow(), any::<bool>()),
        layout in prop_oneof![4 => Just(Layout::C), 1 => layouts()],
        (length, kind, origin) in (1usize..70, 0usize..3, 0usize..70),
        mode in modes(),
        seed in any::<u64>(),
    ) {
        let shape = [shape.0, shape.1, shape.2];
        let weights: Vec<f64> = small(length, seed).iter().map(|v| if v.is_finite() { *v } else { 7.0 }).collect();
        let size: f64 = weights.iter().map(|w| w.abs()).sum();
        let weights: Vec<f64> = match kind {
            0 => weights.iter().map(|w| w / size.max(1.0)).collect(),
            1 => weights.iter().map(|w| w.abs() / size.max(1.0)).collect(),
            _ => vec![1.0 / length as f64; length],
        };
        let mode = if mode == Mode::Constant(-1e12) { Mode::Constant(7.0) } else { mode };
        let origin = (origin % length) as isize - (length / 2) as isize;
        let from = if is_in_place { to } else { from };
        let mut source = Array::new(layout, &shape, from);
        source.set(&small(shape.iter().product(), seed));
        let read: Vec<f64> = source.get().into_iter().map(f64::from_bits).collect();
        let sums = naive(&read, &shape, axis, &weights, origin, mode);
        // Each product and each sum is rounded once, and the weights are.
        let sizes: Vec<f64> = read.iter().map(|v| v.abs()).collect();
        let heavy: Vec<f64> = weights.iter().map(|w| w.abs()).collect();
        let around = if let Mode::Constant(value) = mode { Mode::Constant(value.abs()) } else { mode };
        let bounds = naive(&sizes, &shape, axis, &heavy, origin, around);

        for (level, threads) in Level::ALL.into_iter().zip([1, 2, 8]) {
            set_level(level);
            let mut sink = Array::new(layout, &shape, to);
            let input = if is_in_place {
                sink.copy(&source);
                Input::Sink
            } else {
                Input::Array { view: source.source(), dtype: from }
            };
            on(threads, |w| correlate1d(w, input, sink.sink(), to, axis, &weights, origin, mode, true)).unwrap();
            for (i, got) in sink.get().into_iter().enumerate() {
                let error = bounds[i] * (length + 3) as f64 / f64::from(1 << 24);
                let got = f64::from_bits(got);
                let (low, high) = (sums[i] - error, sums[i] + error);
                match_dtype!(real to, T => {
                    let ends = [low, sums[i], high].map(|end| T::from_double(end).to_double());
                    let is_between = if to == DType::F32 { ends[0] <= got && got <= ends[2] } else { ends.contains(&got) };
                    let is_same = bits(got) == bits(ends[1]);
                    prop_assert!(is_same || is_between, "{} is not between {} and {}", got, low, high);
                }, else unreachable!("real types"));
            }
        }
    }
}

fn narrow() -> impl Strategy<Value = DType> {
    use DType::{Bool, F32, I8, I16, U8, U16};
    prop::sample::select(vec![Bool, F32, I8, I16, U8, U16])
}

/// What `weights` make of an array in double precision or in single precision, as bits of doubles.
fn both(from: DType, to: DType, shape: &[usize], axis: usize, weights: &[f64], mode: Mode) -> [Vec<u64>; 2] {
    let mut array = Array::new(Layout::C, shape, from);
    array.set(&values(shape.iter().product(), 3));
    [false, true].map(|fast| {
        let mut sink = Array::new(Layout::C, shape, to);
        let input = Input::Array { view: array.source(), dtype: from };
        on(2, |w| correlate1d(w, input, sink.sink(), to, axis, weights, 0, mode, fast)).unwrap();
        sink.get()
    })
}

#[test]
fn correlate1d_fast_is_in_single_precision_where_it_may_be() {
    use DType::{Bool, F32, I8, I16, U8, U16};
    for (from, to) in [(F32, F32), (U16, F32), (I16, F32), (U8, F32), (I8, F32), (Bool, F32)] {
        for axis in 0..3 {
            let [exact, fast] = both(from, to, &[70, 3, 300], axis, &[0.1; 31], Mode::Mirror);
            assert!(exact != fast, "{from:?} {to:?} {axis}");
        }
    }
}

#[test]
fn correlate1d_fast_changes_nothing_for_other_types_nor_for_few_or_extreme_weights() {
    for (from, to, weights) in [
        (DType::F64, DType::F64, vec![0.1; 11]),
        (DType::F32, DType::F64, vec![0.1; 11]),
        (DType::I32, DType::F32, vec![0.1; 11]),
        (DType::Bool, DType::Bool, vec![0.1; 11]),
        (DType::F32, DType::U16, vec![0.1; 11]),
        (DType::U8, DType::U16, vec![0.1; 11]),
        // Off by more than one.
        (DType::U16, DType::U16, (-5..=5).map(|i| f64::from(i) * 110.1).collect()),
        (DType::F32, DType::F32, vec![0.1; 5]),
        (DType::F32, DType::F32, vec![1e-40; 11]),
        (DType::F32, DType::F32, vec![1e35; 11]),
        (DType::F32, DType::F32, vec![f64::NAN; 11]),
    ] {
        for axis in 0..3 {
            let [exact, fast] = both(from, to, &[20, 3, 300], axis, &weights, Mode::Mirror);
            assert!(exact == fast, "{from:?} {to:?} {weights:?} {axis}");
        }
    }
}

#[test]
fn correlate1d_fast_takes_the_first_of_two_weights_that_hardly_differ() {
    // As SciPy does; and a constant that is beyond single precision stays what it is.
    for axis in 0..3 {
        let weights = [1e-17, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let [exact, fast] = both(DType::F32, DType::F32, &[70, 3, 300], axis, &weights, Mode::Wrap);
        for (exact, fast) in exact.into_iter().zip(fast) {
            let (a, b) = (f64::from_bits(exact), f64::from_bits(fast));
            assert!(exact == fast || (a - b).abs() < 1e-6 * a.abs() + 1e-20, "{a} {b}");
        }
        let [exact, fast] = both(DType::F32, DType::F32, &[70, 3, 300], axis, &[0.1; 7], Mode::Constant(1e39));
        assert!(exact == fast, "{axis}");
    }
}

#[test]
fn correlate1d_fast_cut_along_the_axis_stays_within_single_precision() {
    // That it is the same for any number of threads is a test in Python, where no other test changes the level meanwhile.
    for (shape, axis) in [(vec![300_000], 0), (vec![3_000, 70], 0), (vec![3, 70_001], 1)] {
        let source: Vec<f32> = small(shape.iter().product(), 7).iter().map(|&v| v as f32).collect();
        let weights: Vec<f64> = (0..31).map(|i| f64::from(i) / 465.0).collect();
        let run = |threads: usize, fast: bool| {
            let mut out = vec![0.0f32; source.len()];
            let input = Input::Array { view: SourceView::from_slice(&source, &shape), dtype: DType::F32 };
            let sink = SinkView::from_slice(&mut out, &shape);
            on(threads, |w| correlate1d(w, input, sink, DType::F32, axis, &weights, 0, Mode::Reflect, fast)).unwrap();
            out
        };
        let exact = run(2, false);
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 || bits((*a).into()) == bits((*b).into());
        for threads in [1, 2, 8] {
            assert!(exact.iter().zip(&run(threads, true)).all(is_near), "{shape:?} {threads}");
        }
    }
}

#[test]
fn correlate1d_cut_along_the_axis_matches_naive() {
    // Longer than an item, and than a window, along either kind of axis; with kernels longer than those.
    for (shape, axis, length) in [
        (vec![300_000], 0, 7),
        (vec![2, 300_000], 1, 3),
        (vec![300_000], 0, 4),
        (vec![150_000, 2], 0, 4),
        (vec![2, 9_000], 1, 9_001),
        (vec![9_000, 3], 0, 20_003),
        (vec![11, 3_000], 1, 31),
        (vec![3_000, 70], 0, 31),
        (vec![90, 512], 0, 31),
        (vec![300, 1_024], 0, 3),
    ] {
        let source = values(shape.iter().product(), 5);
        let mut weights = vec![0.0; length];
        weights[0] = 1.0;
        weights[length - 1] = 2.0;
        weights[length / 2] = -0.5;
        let n = shape[axis];
        let inner: usize = shape[axis + 1..].iter().product();
        // Only a few weights count, but zeros times infinity do; so finite values here.
        let source: Vec<f64> = source.iter().map(|v| if v.is_finite() { *v } else { 3.0 }).collect();
        let probe = |i: usize| {
            let (line, l) = (i - i / inner % n * inner, i / inner % n);
            let line: Vec<f64> = (0..n).map(|l| source[line + l * inner]).collect();
            let at = |j: usize| line[entry(Mode::Reflect, l as isize + j as isize - (length / 2) as isize, n).unwrap()];
            at(length - 1) * 2.0 + at(0) + at(length / 2) * -0.5
        };
        for (is_in_place, level) in [false, true].into_iter().flat_map(|is| Level::ALL.map(|level| (is, level))) {
            set_level(level);
            let mut out = if is_in_place { source.clone() } else { vec![0.0; source.len()] };
            let input = if is_in_place {
                Input::Sink
            } else {
                Input::Array { view: SourceView::from_slice(&source, &shape), dtype: DType::F64 }
            };
            let sink = SinkView::from_slice(&mut out, &shape);
            on(2, |w| correlate1d(w, input, sink, DType::F64, axis, &weights, 0, Mode::Reflect, false)).unwrap();
            for i in (0..source.len()).step_by(997).chain([source.len() - 1]) {
                assert!(
                    out[i].to_bits() == probe(i).to_bits(),
                    "{shape:?} {axis} {length} {i}: {} {}",
                    out[i],
                    probe(i)
                );
            }
        }
    }
}

/// Doubles at the borders of the types: where they are truncated, wrapped, and rounded to less precision.
fn borders() -> Vec<f64> {
    let mut values = vec![0.0, 0.5, f64::from_bits(1), 1e-310, 1e300, f64::MAX, f64::INFINITY, f64::NAN];
    for exponent in [-149, -126, -25, -24, -14, 0, 1, 7, 8, 15, 16, 31, 32, 53, 63, 64, 127, 128] {
        let power = 2f64.powi(exponent);
        let tie = power * (1.0 + 2f64.powi(-11));
        values.extend([power, 1.5 * power, 0.75 * power, power - 1.0, power.next_up(), power.next_down()]);
        values.extend([tie, tie.next_up(), tie.next_down(), power * (1.0 + 3.0 * 2f64.powi(-11))]);
    }
    values.iter().flat_map(|&value| [value, -value]).collect()
}

#[test]
fn correlate1d_sums_at_the_borders_of_a_type_become_its_elements() {
    let borders = borders();
    let n = borders.len();
    for axis in 0..3 {
        // Lines of one value each.
        let shape = if axis == 2 { [2, n, 40] } else { [10, 40, n] };
        let at = |i: usize| borders[if axis == 2 { i / 40 } else { i } % n];
        let source: Vec<f64> = (0..shape.iter().product()).map(at).collect();
        for (weights, to) in [&[0.25, 0.5, 0.25][..], &[0.0625; 16], &[0.031_25; 31]]
            .into_iter()
            .flat_map(|weights| REAL.map(|to| (weights, to)))
        {
            let sums: Vec<f64> =
                source.iter().map(|&value| naive_line(&[value], weights, 0, Mode::Nearest)[0]).collect();
            let mut expected = Array::new(Layout::C, &shape, to);
            expected.set(&sums);
            for level in Level::ALL {
                set_level(level);
                let mut sink = Array::new(Layout::C, &shape, to);
                let input = Input::Array { view: SourceView::from_slice(&source, &shape), dtype: DType::F64 };
                on(2, |w| correlate1d(w, input, sink.sink(), to, axis, weights, 0, Mode::Nearest, false)).unwrap();
                assert!(sink.get() == expected.get(), "{level:?} {to:?} {axis} {}", weights.len());
            }
        }
    }
}

#[test]
fn correlate1d_truthy_bytes_count_as_one() {
    let shape = [70, 3, 300];
    let bytes: Vec<u8> = small(shape.iter().product(), 3).iter().map(|&value| value as i64 as u8).collect();
    let truths = [bytes.clone(), bytes.iter().map(|&byte| byte.min(1)).collect()]
        .map(|bytes| bytes.into_iter().map(Bool8).collect::<Vec<_>>());
    assert!(bytes.iter().any(|&byte| byte > 1) && bytes.contains(&0));
    for level in Level::ALL {
        set_level(level);
        for (axis, taps, fast) in (0..3).flat_map(|axis| [(axis, 3, false), (axis, 11, false), (axis, 11, true)]) {
            // Sums that single precision has too, whatever level other tests set meanwhile.
            let weights: Vec<f64> = (0..taps).map(|i| f64::from(i) / 8.0).collect();
            let [truthy, ones] = truths.each_ref().map(|truths| {
                let mut out = vec![0.0f32; truths.len()];
                let input = Input::Array { view: SourceView::from_slice(truths, &shape), dtype: DType::Bool };
                let sink = SinkView::from_slice(&mut out, &shape);
                on(2, |w| correlate1d(w, input, sink, DType::F32, axis, &weights, 0, Mode::Reflect, fast)).unwrap();
                out
            });
            assert!(truthy.iter().any(|&value| value > 0.0));
            assert!(truthy == ones, "{level:?} {axis} {taps} {fast}");
        }
    }
}

#[test]
fn correlate1d_rows_lie_anywhere_in_lines_of_memory() {
    // Rows that follow each other, that begin at the same place of a line, and that do not.
    for (dtype, width, axis) in [DType::U8, DType::U16, DType::F16, DType::F32, DType::F64]
        .into_iter()
        .flat_map(|dtype| [(500, 0), (512, 0), (1300, 0), (512, 1), (77, 1)].map(|(width, axis)| (dtype, width, axis)))
    {
        let shape = [70, width];
        // Sums that single precision has too.
        let values: Vec<f64> = (0..70 * width).map(|k| (k * k % 199) as f64).collect();
        let mut source = Array::new(Layout::C, &shape, dtype);
        source.set(&values);
        for (taps, fast) in [(3, false), (11, false), (11, true), (31, false)] {
            let weights: Vec<f64> = (0..taps).map(|i| f64::from(i % 5) / 8.0).collect();
            let run = |level, sink: &mut Array| {
                set_level(level);
                let input = Input::Array { view: source.source(), dtype };
                on(2, |w| correlate1d(w, input, sink.sink(), dtype, axis, &weights, 0, Mode::Nearest, fast)).unwrap();
            };
            let mut expected = Array::new(Layout::C, &shape, dtype);
            run(Level::Baseline, &mut expected);
            for (gap, offset) in [(0, 0), (0, 3), (64, 0), (64, 5), (3, 1)] {
                let mut sink = Array::new(Layout::C, &[71, width + gap], dtype);
                sink.bytes.resize(sink.bytes.len() + 64, 0);
                sink.bytes.fill(7);
                sink.shape = shape.to_vec();
                sink.first = sink.bytes.as_ptr().align_offset(64) + offset * dtype.itemsize();
                let before = sink.bytes.clone();
                run(Level::Avx512, &mut sink);
                assert!(sink.get() == expected.get(), "{dtype:?} {width} {axis} {taps} {fast} {gap} {offset}");
                let (len, pitch) = (width * dtype.itemsize(), (width + gap) * dtype.itemsize());
                let is_row =
                    |k: usize| k >= sink.first && k < sink.first + 70 * pitch && (k - sink.first) % pitch < len;
                let is_left_alone = |(k, pair): (usize, (&u8, &u8))| is_row(k) || pair.0 == pair.1;
                assert!(sink.bytes.iter().zip(&before).enumerate().all(is_left_alone));
            }
        }
    }
}

#[test]
fn correlate1d_strips_that_are_too_wide_for_a_window_are_cut() {
    let shape = [70, 1300];
    let values: Vec<f64> = (0..70 * 1300_usize).map(|k| (k * k % 199) as f64).collect();
    // No entry that is the constant, and lanes that do not follow each other.
    for (layout, mode) in [(Layout::C, Mode::Constant(0.25)), (Layout::F, Mode::Wrap), (Layout::Odd, Mode::Mirror)] {
        let mut source = Array::new(layout, &shape, DType::U16);
        source.set(&values);
        let [low, high] = [Level::Baseline, Level::Avx512].map(|level| {
            set_level(level);
            let mut sink = Array::new(Layout::C, &shape, DType::U16);
            let input = Input::Array { view: source.source(), dtype: DType::U16 };
            on(2, |w| correlate1d(w, input, sink.sink(), DType::U16, 0, &[0.5, 2.0, 1.0], 0, mode, false)).unwrap();
            sink.get()
        });
        assert!(low.iter().any(|&bits| bits != low[0]) && low == high, "{layout:?} {mode:?}");
    }
}

#[test]
fn correlate1d_empty_arrays_are_left_alone() {
    for (shape, axis) in [(vec![0], 0), (vec![3, 0, 2], 1), (vec![3, 0, 2], 0)] {
        let mut out: [f16; 0] = [];
        let sink = SinkView::from_slice(&mut out, &shape);
        on(2, |w| correlate1d(w, Input::Sink, sink, f16::DTYPE, axis, &[1.0; 9], 0, Mode::Wrap, true)).unwrap();
    }
}

#[test]
fn correlate1d_refuses_what_does_not_fit() {
    let run = |shape: &[usize], dtype: DType, axis: usize, kernel: &[f64], origin: isize| {
        let (source, mut out) = ([0u64; 6], [0u64; 6]);
        let input = Input::Array { view: SourceView::from_slice(&source, shape), dtype };
        let sink = SinkView::from_slice(&mut out, &[2, 3]);
        on(1, |w| correlate1d(w, input, sink, DType::U64, axis, kernel, origin, Mode::Nearest, false)).unwrap_err()
    };
    assert!(matches!(run(&[3, 2], DType::U64, 0, &[1.0], 0), Error::Shape { name: "sink", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, 2, &[1.0], 0), Error::Shape { name: "axis", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, 0, &[], 0), Error::Argument { name: "kernel", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, 0, &[1.0; 4], 2), Error::Argument { name: "origin", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, 0, &[1.0; 4], -3), Error::Argument { name: "origin", .. }));
    assert!(matches!(run(&[2, 3], DType::C64, 0, &[1.0], 0), Error::DType { name: "source", .. }));
}
