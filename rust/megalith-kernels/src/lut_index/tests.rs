//! The kernel against a naive twin over types, layouts, kernels and threads.

use megalith_core::dtype::{Bool8, DType, Integer, Real};
use megalith_core::pool::{execute, execute_here};
use megalith_core::{Error, Result, SinkView, SourceView, Workers};
use proptest::prelude::*;

use super::boxes::for_each_index;
use super::table::look_up_rows;
use super::{Kernel, Weights, apply_lut_to_index};
use crate::simd::{Level, set_level};

/// The sum at each position, one after the other.
fn naive<T: Real>(values: &[T], shape: &[usize], kernel: &Kernel<'_>, exact: Option<fn(T) -> i64>) -> Vec<i64> {
    let mut sums = Vec::new();
    for_each_index(shape, |position| {
        let (mut integer, mut double, mut k) = (0i64, 0.0, 0);
        for_each_index(kernel.shape, |offset| {
            let mut at = Some(0);
            for axis in 0..shape.len() {
                let p = (position[axis] + offset[axis]).checked_sub(kernel.shape[axis] / 2);
                at = at.zip(p.filter(|&p| p < shape[axis])).map(|(at, p)| at * shape[axis] + p);
            }
            let weight = match kernel.weights {
                Weights::Integer(weights) => {
                    let value = at.map_or(0, |at| exact.map_or(0, |exact| exact(values[at])));
                    integer = integer.wrapping_add(weights[k].wrapping_mul(value));
                    weights[k] as f64
                }
                Weights::Float(weights) => weights[k],
            };
            if weight.abs() > f64::EPSILON {
                double += weight * at.map_or(0.0, |at| values[at].to_double());
            }
            k += 1;
        });
        let is_exact = exact.is_some() && matches!(kernel.weights, Weights::Integer(_));
        sums.push(if is_exact { integer } else { i64::from_double(double) });
    });
    sums
}

fn on(threads: usize, f: impl FnOnce(&Workers<'_>) -> Result<()> + Send) -> Result<()> {
    if threads == 1 { execute_here(f) } else { execute(threads, |_| true, f) }
}

/// Check one problem in all layouts and thread counts.
fn check<T: Real>(values: &[T], shape: &[usize], kernel: &Kernel<'_>, exact: Option<fn(T) -> i64>, lut: &[u16]) {
    let sums = naive(values, shape, kernel, exact);
    let bad = sums.iter().position(|&sum| sum < 0 || sum >= lut.len() as i64);
    let axes: Vec<usize> = (0..shape.len()).collect();
    let reversed: Vec<usize> = axes.iter().rev().copied().collect();
    let other_shape: Vec<usize> = reversed.iter().map(|&a| shape[a]).collect();
    let mut turned = vec![T::default(); values.len()];
    SourceView::from_slice(values, shape).permute(&reversed).gather(0..values.len(), &mut turned);
    let threads = [(false, 1), (true, 1), (false, 2), (true, 8), (false, 8)];
    for ((is_f, threads), level) in threads.into_iter().zip(Level::ALL.into_iter().cycle()) {
        set_level(level);
        let mut out = vec![0u16; values.len()];
        let order = if is_f { &reversed } else { &axes };
        let memory = if is_f { &other_shape } else { shape };
        for source in
            [SourceView::from_slice(values, shape), SourceView::from_slice(&turned, &other_shape).permute(&reversed)]
        {
            let sink = SinkView::from_slice(&mut out, memory).permute(order);
            let whole = vec![0; shape.len()];
            let result = on(threads, |w| apply_lut_to_index(w, source, T::DTYPE, kernel, lut, sink, &whole));
            match (bad, result) {
                (None, Ok(())) => {
                    let mut got = vec![0u16; out.len()];
                    SourceView::from_slice(&out, memory).permute(order).gather(0..out.len(), &mut got);
                    let expected: Vec<u16> = sums.iter().map(|&sum| lut[sum as usize]).collect();
                    assert_eq!(got, expected);
                }
                (Some(at), Err(Error::IndexRange { index, size, position })) => {
                    assert_eq!((index, size), (sums[at].into(), lut.len()));
                    let linear = position.iter().zip(shape).fold(0, |linear, (p, n)| linear * n + p);
                    assert_eq!(linear, at);
                }
                (bad, result) => panic!("{bad:?} {result:?}"),
            }
        }
    }
    check_part(values, shape, kernel, lut, &sums);
}

/// Check a sink that is the part of the source from the centre of the kernel on, but for the last of each axis.
fn check_part<T: Real>(values: &[T], shape: &[usize], kernel: &Kernel<'_>, lut: &[u16], sums: &[i64]) {
    let start: Vec<usize> = kernel.shape.iter().zip(shape).map(|(k, n)| (k / 2).min(n.saturating_sub(1))).collect();
    let part: Vec<usize> =
        start.iter().zip(shape).map(|(start, n)| (n - start).saturating_sub(1).max(1).min(*n)).collect();
    let mut wanted = Vec::new();
    for_each_index(&part, |index| {
        let at = (0..shape.len()).fold(0, |at, a| at * shape[a] + start[a] + index[a]);
        wanted.push(sums[at]);
    });
    let bad = wanted.iter().position(|&sum| sum < 0 || sum >= lut.len() as i64);
    for threads in [1, 2] {
        let mut out = vec![0u16; wanted.len()];
        let (source, sink) = (SourceView::from_slice(values, shape), SinkView::from_slice(&mut out, &part));
        match (bad, on(threads, |w| apply_lut_to_index(w, source, T::DTYPE, kernel, lut, sink, &start))) {
            (None, Ok(())) => assert!(out.iter().zip(&wanted).all(|(out, &sum)| *out == lut[sum as usize])),
            (Some(at), Err(Error::IndexRange { index, position, .. })) => {
                assert_eq!(index, wanted[at].into());
                assert_eq!(position.iter().zip(&part).fold(0, |linear, (p, n)| linear * n + p), at);
            }
            (bad, result) => panic!("{bad:?} {result:?}"),
        }
    }
}

fn problems() -> impl Strategy<Value = (Vec<usize>, Vec<usize>, Vec<u8>)> {
    let axis = (1usize..9, 1usize..5);
    (prop::collection::vec(axis, 1..5), prop::option::of(30usize..600), any::<u64>()).prop_map(|(axes, long, seed)| {
        let (mut shape, kernel): (Vec<usize>, Vec<usize>) = axes.into_iter().unzip();
        if let Some(n) = long {
            let axis = seed as usize % shape.len();
            for n in &mut shape {
                *n = (*n).min(4);
            }
            shape[axis] = n;
        }
        let len = shape.iter().product::<usize>();
        let noise =
            |i: usize| (seed | 1).wrapping_mul(i as u64 * 2 + 1).rotate_left(29).wrapping_mul(0x9E37_79B9) >> 40;
        (shape, kernel, (0..len).map(|i| noise(i) as u8).collect())
    })
}

fn exactly<T: Integer>(value: T) -> i64 {
    value.to_wrapped_i64()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn apply_lut_to_index_matches_naive(
        (shape, kernel_shape, bytes) in problems(),
        (scale, is_signed, short) in (1i64..50, any::<bool>(), any::<bool>()),
    ) {
        let len: usize = kernel_shape.iter().product();
        let weights: Vec<i64> = (0..len as i64).map(|k| (k * 7 % 11 - if is_signed { 3 } else { 0 }) * scale).collect();
        let floats: Vec<f64> = weights.iter().map(|&w| w as f64 * 0.37).collect();
        let lut: Vec<u16> = (0..if short { 400 } else { 4_000_000u32 }).map(|i| (i * 31) as u16).collect();
        for weights in [Weights::Integer(&weights), Weights::Float(&floats)] {
            let kernel = Kernel { shape: &kernel_shape, weights };
            let masks: Vec<Bool8> = bytes.iter().map(|&b| Bool8(if b < 100 { 0 } else { b })).collect();
            check(&masks, &shape, &kernel, Some(exactly), &lut);
            check(&bytes, &shape, &kernel, Some(exactly), &lut);
            let wide: Vec<i32> = bytes.iter().map(|&b| i32::from(b) - 3).collect();
            check(&wide, &shape, &kernel, Some(exactly), &lut);
            let halves: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 2.0).collect();
            check(&halves, &shape, &kernel, None, &lut);
        }
    }
}

#[test]
fn sums_of_64_bits_wrap() {
    let kernel = Kernel { shape: &[3], weights: Weights::Integer(&[i64::MAX, 1, 2]) };
    let lut: Vec<u16> = (0..100).collect();
    check(&[2i64, 8, 0, -3, 5], &[5], &kernel, Some(exactly), &lut);
    check(&[u64::MAX, 0, 0], &[3], &kernel, Some(exactly), &lut);
}

#[test]
fn infinite_and_tiny_weights_follow_scipy() {
    let lut = [5u16, 6, 7];
    // Outside positions are zeros that are multiplied: infinity times zero is NaN, which is no index.
    let kernel = Kernel { shape: &[3], weights: Weights::Float(&[f64::INFINITY, 1.0, 0.0]) };
    check(&[1.0f64, 2.0], &[2], &kernel, None, &lut);
    // Weights below epsilon, and NaN, are dropped.
    let kernel = Kernel { shape: &[3], weights: Weights::Float(&[1e-17, 1.0, f64::NAN]) };
    check(&[1.0f64, 2.0, 0.5], &[3], &kernel, None, &lut);
}

#[test]
fn large_tables_of_zeros_and_ones_are_packed_at_each_level() {
    let (shape, weights) =
        ([70, 60, 131], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 3000, 500_000]);
    let masks: Vec<Bool8> = (0..shape.iter().product::<usize>()).map(|i| Bool8((i * i % 11 < 5).into())).collect();
    let kernel = Kernel { shape: &[2, 2, 4], weights: Weights::Integer(&weights) };
    let sums = naive(&masks, &shape, &kernel, Some(exactly));
    assert!(sums.iter().any(|&sum| sum > 500_000));
    for top in [1, 3] {
        let lut: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(0x9E37_79B9) >> 31) as u8 * top).collect();
        for level in Level::ALL {
            set_level(level);
            let mut out = vec![9u8; masks.len()];
            let (source, sink) = (SourceView::from_slice(&masks, &shape), SinkView::from_slice(&mut out, &shape));
            let result = on(2, |w| apply_lut_to_index(w, source, DType::Bool, &kernel, &lut, sink, &[0; 3]));
            match sums.iter().position(|&sum| sum < 0 || sum >= lut.len() as i64) {
                None => {
                    result.unwrap();
                    assert!(out.iter().zip(&sums).all(|(out, &sum)| *out == lut[sum as usize]));
                }
                Some(at) => {
                    let Err(Error::IndexRange { index, position, .. }) = result else { panic!("{result:?}") };
                    assert_eq!(index, sums[at].into());
                    assert_eq!(position.iter().zip(&shape).fold(0, |linear, (p, n)| linear * n + p), at);
                }
            }
        }
    }
}

#[test]
fn masks_under_kernels_of_three_are_patterns_at_each_level() {
    let powers: Vec<i64> = (0..27).map(|k| 1 << k).collect();
    let others: Vec<i64> = (0..27).map(|k| k * k * 31 % 701 + 300 * (k % 2)).collect();
    let lut: Vec<u16> = (0..1 << 27).map(|i: u32| (i.wrapping_mul(0x9E37_79B9) >> 16) as u16).collect();
    for shape in [[5, 7, 130], [3, 40, 64], [4, 3, 33], [1, 1, 200], [2, 9, 4200]] {
        let noise = |i: usize| (i as u64 * 2 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
        let masks: Vec<Bool8> = (0..shape.iter().product::<usize>())
            .map(|i| Bool8(if i / 97 % 3 == 0 { 0 } else { noise(i).min(7) as u8 * u8::from(i / 61 % 2 == 0) + 1 } & 6))
            .collect();
        for (kernel_shape, len) in [([3, 3, 3], 27), ([3, 3, 2], 18), ([2, 3, 1], 6), ([1, 1, 3], 3)] {
            let permuted: Vec<i64> = (0..len).map(|k| 1 << (k * 5 % len)).collect();
            for weights in [&powers[..len], &others[..len], &permuted] {
                let kernel = Kernel { shape: &kernel_shape, weights: Weights::Integer(weights) };
                check(&masks, &shape, &kernel, Some(exactly), &lut);
            }
        }
    }
}

#[test]
fn tables_of_zeros_and_ones_are_looked_up_packed_or_not_at_each_level() {
    let shape = [20, 90, 131];
    let weights: Vec<i64> = (0..18).map(|k| 1 << k).chain([200_000; 9]).collect();
    let kernel = Kernel { shape: &[3, 3, 3], weights: Weights::Integer(&weights) };
    // Of zeros and ones, and of what cannot be packed.
    let luts = [1, 3]
        .map(|top| -> Vec<u8> { (0..1 << 21).map(|i: u32| (i.wrapping_mul(0x9E37_79B9) >> 31) as u8 * top).collect() });
    // Sums that lie far apart, and some that are often the same.
    for every in [2, 5000] {
        let mixed = |x: u64| (x ^ x >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let masks: Vec<Bool8> = (0..shape.iter().product::<usize>() as u64)
            .map(|i| Bool8((mixed(mixed(i + 1)) >> 32).is_multiple_of(every).into()))
            .collect();
        let sums = naive(&masks, &shape, &kernel, Some(exactly));
        for (level, lut) in Level::ALL.into_iter().flat_map(|level| luts.each_ref().map(|lut| (level, lut))) {
            set_level(level);
            let mut out = vec![9u8; masks.len()];
            let (source, sink) = (SourceView::from_slice(&masks, &shape), SinkView::from_slice(&mut out, &shape));
            on(2, |w| apply_lut_to_index(w, source, DType::Bool, &kernel, lut, sink, &[0; 3])).unwrap();
            assert!(out.iter().zip(&sums).all(|(out, &sum)| *out == lut[sum as usize]));
        }
    }
}

#[test]
fn sums_below_256_are_bytes_at_each_level() {
    let shape = [9, 20, 150];
    let masks: Vec<Bool8> = (0..shape.iter().product::<usize>()).map(|i| Bool8((i * i % 7 < 3).into())).collect();
    for weights in [[1i64, 2, 4, 8, 16, 32, 64, 128], [1; 8], [0, 0, 0, 0, 0, 0, 0, 255]] {
        let kernel = Kernel { shape: &[2, 2, 2], weights: Weights::Integer(&weights) };
        let lut: Vec<u16> = (0..256).map(|i| i * 7).collect();
        for len in [256, 255, 9, 3] {
            check(&masks, &shape, &kernel, Some(exactly), &lut[..len]);
        }
    }
}

#[test]
fn small_kernels_see_the_same_wherever_truth_values_lie_at_each_level() {
    let bytes = [0u8, 0, 0, 1, 2, 128, 255];
    let exact = |value: Bool8| i64::from(value.0 != 0);
    let mut shapes = vec![[3, 5, 33], [2, 3, 64], [4, 2, 129], [2, 70, 4200], [3, 300, 1000], [9000, 8, 32]];
    // Rows that are walked as one, of any length.
    shapes.extend((32..96).map(|wide| [3, 6, wide]));
    let kernels = [[2, 2, 2], [1, 2, 2], [2, 1, 2], [2, 2, 1], [1, 1, 1]];
    for (k, (shape, kernel_shape)) in shapes.into_iter().flat_map(|s| kernels.map(|k| (s, k))).enumerate() {
        let [deep, high, wide] = shape;
        // Large shapes have several strips; one kernel is enough for those.
        if deep * high * wide > 1 << 19 && k % kernels.len() != 0 {
            continue;
        }
        let weights: Vec<i64> = (0..kernel_shape.iter().product::<usize>()).map(|k| 1 << k).collect();
        let kernel = Kernel { shape: &kernel_shape, weights: Weights::Integer(&weights) };
        let noise = |k: usize| bytes[(k.wrapping_mul(0x9E37_79B9) >> 7) % bytes.len()];
        // Wider than what is looked at, and the same with the axes turned.
        let padded: Vec<Bool8> = (0..deep * high * (wide + 3)).map(|k| Bool8(noise(k))).collect();
        let inside = SourceView::from_slice(&padded, &[deep, high, wide + 3]).slice(2, 1..wide + 1);
        let mut masks = vec![Bool8::default(); deep * high * wide];
        inside.gather(0..masks.len(), &mut masks);
        let mut turned = masks.clone();
        SourceView::from_slice(&masks, &shape).permute(&[2, 1, 0]).gather(0..masks.len(), &mut turned);
        let sources = [
            SourceView::from_slice(&masks, &shape),
            inside,
            SourceView::from_slice(&turned, &[wide, high, deep]).permute(&[2, 1, 0]),
        ];
        let sums = naive(&masks, &shape, &kernel, Some(exact));
        let (narrow, wide): (Vec<u8>, Vec<u16>) = (0..256).map(|k: u16| ((k * 7) as u8, k * 77)).unzip();
        for (source, level) in sources.iter().flat_map(|source| Level::ALL.map(|level| (source, level))) {
            set_level(level);
            // Anywhere in a line of memory.
            let mut room = vec![9u8; masks.len() + 64];
            let out = &mut room[k * 13 % 64..][..masks.len()];
            let sink = SinkView::from_slice(out, &shape);
            on(2, |w| apply_lut_to_index(w, source.clone(), DType::Bool, &kernel, &narrow, sink, &[0; 3])).unwrap();
            assert!(out.iter().zip(&sums).all(|(out, &sum)| *out == narrow[sum as usize]));
            let mut out = vec![9u16; masks.len()];
            let sink = SinkView::from_slice(&mut out, &shape);
            on(2, |w| apply_lut_to_index(w, source.clone(), DType::Bool, &kernel, &wide, sink, &[0; 3])).unwrap();
            assert!(out.iter().zip(&sums).all(|(out, &sum)| *out == wide[sum as usize]));
        }
    }
}

#[test]
fn small_kernels_write_sinks_with_gaps_between_rows_and_planes() {
    let shape = [4, 6, 270];
    let masks: Vec<Bool8> = (0..shape.iter().product::<usize>()).map(|k| Bool8((k * k % 5 < 2).into())).collect();
    let source = SourceView::from_slice(&masks, &shape);
    let weights: [i64; 27] = std::array::from_fn(|k| 3 * k as i64 + 1);
    let lut: Vec<u8> = (0..2000).map(|k: usize| (k * 7) as u8).collect();
    for kernel in [
        Kernel { shape: &[2, 2, 2], weights: Weights::Integer(&[1, 2, 4, 8, 16, 32, 64, 128]) },
        Kernel { shape: &[3, 3, 3], weights: Weights::Integer(&weights) },
    ] {
        let sums = naive(&masks, &shape, &kernel, Some(exactly));
        for (level, axis) in Level::ALL.into_iter().flat_map(|level| [0, 1, 2].map(|axis| (level, axis))) {
            set_level(level);
            let mut wider = shape;
            wider[axis] += 1;
            let mut room = vec![9u8; wider.iter().product()];
            let (sink, _) = SinkView::from_slice(&mut room, &wider).split_at(axis, shape[axis]);
            on(2, |w| apply_lut_to_index(w, source.clone(), DType::Bool, &kernel, &lut, sink, &[0; 3])).unwrap();
            let mut out = vec![0u8; masks.len()];
            let written = SourceView::from_slice(&room, &wider);
            written.clone().slice(axis, 0..shape[axis]).gather(0..masks.len(), &mut out);
            assert!(out.iter().zip(&sums).all(|(out, &sum)| *out == lut[sum as usize]));
            let gap = written.slice(axis, shape[axis]..wider[axis]);
            let mut rest = vec![0u8; gap.len()];
            gap.gather(0..rest.len(), &mut rest);
            assert!(rest.iter().all(|&other| other == 9));
        }
    }
}

#[test]
fn rows_are_walked_alike_at_each_level() {
    let noise = |k: usize| (k.wrapping_mul(0x9E37_79B9) >> 9) as u8;
    let table: [u8; 256] = std::array::from_fn(|k| noise(k + 7));
    for (wide, rows) in [(3, 5), (64, 3), (70, 4)] {
        let truths: Vec<u8> = (0..=(rows + 1) * wide).map(|k| noise(k) & noise(3 * k)).collect();
        let insides: Vec<u64> = (0..=rows * wide / 64 + 1).map(|k| !u64::from(noise(k)) << (k % 64)).collect();
        let walked = Level::ALL.map(|level| {
            set_level(level);
            let mut squares: Vec<u8> = (0..rows * wide).map(|k| noise(k) % 16).collect();
            let mut out = vec![0; rows * wide];
            look_up_rows(&truths, wide, &insides, &mut squares, &table, &mut out, true);
            (squares, out)
        });
        assert!(walked[0] == walked[1] && walked[0] == walked[2]);
    }
}

#[test]
fn boxes_of_large_arrays_meet() {
    let (shape, kernel_shape) = ([40, 60, 530], [3, 2, 4]);
    let masks: Vec<Bool8> = (0..shape.iter().product::<usize>()).map(|i| Bool8((i * i % 7 < 3).into())).collect();
    let weights: Vec<i64> = (0..24).collect();
    let lut: Vec<u16> = (0..300).collect();
    let kernel = Kernel { shape: &kernel_shape, weights: Weights::Integer(&weights) };
    check(&masks, &shape, &kernel, Some(exactly), &lut);
    check(&masks, &shape, &kernel, Some(exactly), &lut[..150]);
}

#[test]
fn apply_lut_to_index_refuses_what_does_not_fit() {
    let run = |shape: &[usize], dtype: DType, kernel_shape: &[usize], len: usize| {
        let (source, mut out) = ([0u64; 6], [0u8; 6]);
        let weights = vec![1; len];
        let kernel = Kernel { shape: kernel_shape, weights: Weights::Integer(&weights) };
        let (source, sink) = (SourceView::from_slice(&source, shape), SinkView::from_slice(&mut out, &[2, 3]));
        on(1, |w| apply_lut_to_index(w, source, dtype, &kernel, &[1u8], sink, &vec![0; shape.len()])).unwrap_err()
    };
    assert!(matches!(run(&[6], DType::U64, &[1], 1), Error::Shape { name: "sink", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, &[1], 1), Error::Shape { name: "kernel", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, &[1, 2], 1), Error::Shape { name: "kernel", .. }));
    assert!(matches!(run(&[2, 3], DType::U64, &[1, 0], 0), Error::Argument { name: "kernel", .. }));
    assert!(matches!(run(&[2, 3], DType::C64, &[1, 1], 1), Error::DType { name: "source", .. }));
    let run = |n: usize, start: usize| {
        let (source, mut out) = ([0u64; 6], vec![0u8; n]);
        let kernel = Kernel { shape: &[3], weights: Weights::Integer(&[1; 3]) };
        let (source, sink) = (SourceView::from_slice(&source, &[6]), SinkView::from_slice(&mut out, &[n]));
        on(1, |w| apply_lut_to_index(w, source, DType::U64, &kernel, &[1u8], sink, &[start]))
    };
    assert!(run(5, 1).is_ok());
    assert!(matches!(run(6, 1), Err(Error::Shape { name: "sink", .. })));
    assert!(matches!(run(4, 2), Err(Error::Argument { name: "start", .. })));
}

#[test]
fn an_empty_table_has_no_index() {
    let kernel = Kernel { shape: &[1], weights: Weights::Integer(&[1]) };
    check(&[0u8, 1], &[2], &kernel, Some(exactly), &[]);
    check::<u8>(&[], &[0], &kernel, Some(exactly), &[]);
}
