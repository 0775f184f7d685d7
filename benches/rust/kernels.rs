//! The kernels on one thread, without Python, at each level of vector instructions that this processor has.
//!
//! ```sh
//! cargo bench -p megalith-benches              # all; with a name behind `--`, those whose names hold it
//! ```
//!
//! Arrays are of 16 MiB, in memory that is in use: what is compared are the loops. The checks of look-ups are measured
//! apart, on larger ones, beside loops that have none ([`checks`]); their record is written by
//!
//! ```sh
//! MEGALITH_RECORD=$PWD/benches/record/DATE-lut-checks.json cargo bench -p megalith-benches -- checks
//! ```

#![allow(missing_docs)]

#[cfg(target_arch = "x86_64")]
mod checks;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use megalith_core::pool::execute_here;
use megalith_core::{DType, Element, Result, SinkView, SourceView, Workers};
use megalith_kernels::simd::{Level, detected, set_level};
use megalith_kernels::{block_sums, correlate1d, digest, lut, lut_index, neighbours, where_};

/// Bytes of the source of each kernel.
const BYTES: usize = 1 << 24;

/// Numbers that look random, the same in each run.
fn random(n: usize) -> impl Iterator<Item = u64> {
    (0..n as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20)
}

/// Time `call` at each level.
fn levels(c: &mut Criterion, name: &str, bytes: usize, mut call: impl FnMut(&Workers<'_>) -> Result<()>) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(10);
    for level in Level::ALL.into_iter().filter(|&level| level <= detected()) {
        set_level(level);
        group.bench_function(BenchmarkId::from_parameter(level.name()), |b| {
            b.iter(|| execute_here(|workers| call(workers)).expect("valid arguments"));
        });
    }
    group.finish();
}

fn positions(c: &mut Criterion) {
    for (name, share) in [("0.1 %", 1), ("10 %", 100), ("50 %", 500)] {
        let values: Vec<u8> = random(BYTES).map(|v| u8::from(v % 1000 < share)).collect();
        let shape = [BYTES / (1 << 16), 1 << 7, 1 << 9];
        for (shape, dims) in [(&[BYTES][..], "1-d"), (&shape[..], "3-d")] {
            let source = SourceView::from_slice(&values, shape);
            let n = execute_here(|w| Ok(where_::find_nonzero::<u8>(w, &source)?.len())).expect("valid arguments");
            let mut out = vec![0i64; n * shape.len()];
            let rows = if shape.len() == 1 { vec![n] } else { vec![n, shape.len()] };
            levels(c, &format!("where {dims} uint8, {name}"), BYTES, |workers| {
                let hits = where_::find_nonzero::<u8>(workers, &source)?;
                hits.fill::<i64>(workers, SinkView::from_slice(&mut out, &rows))
            });
        }
    }
}

fn tables(c: &mut Criterion) {
    fn table<S: Element + megalith_core::dtype::Integer, L: Element + bytemuck::Pod>(
        c: &mut Criterion,
        name: &str,
        source: &[S],
        lut: &[L],
    ) {
        let mut out = vec![L::default(); source.len()];
        let shape = [source.len()];
        levels(c, &format!("apply_lut {name}"), size_of_val(source), |workers| {
            let input = lut::Input::Array(SourceView::from_slice(source, &shape));
            lut::apply_lut::<S, L>(workers, input, lut, SinkView::from_slice(&mut out, &shape), lut::Mode::Raise)
        });
    }
    let bytes: Vec<u8> = random(BYTES).map(|v| v as u8).collect();
    let words: Vec<u16> = random(BYTES / 2).map(|v| v as u16).collect();
    let labels: Vec<i32> = random(BYTES / 4).map(|v| (v % 1_000_000) as i32).collect();
    table(c, "uint8 -> uint8", &bytes, &random(256).map(|v| v as u8).collect::<Vec<_>>());
    table(c, "uint8 -> float32", &bytes, &random(256).map(|v| v as f32).collect::<Vec<_>>());
    table(c, "uint16 -> uint16", &words, &random(1 << 16).map(|v| v as u16).collect::<Vec<_>>());
    table(c, "int32 -> int32", &labels, &random(1_000_000).map(|v| v as i32).collect::<Vec<_>>());
}

fn correlations(c: &mut Criterion) {
    let values: Vec<f32> = random(BYTES / 4).map(|v| f32::from(v as u8)).collect();
    let mut out = vec![0f32; values.len()];
    let shape = [64, 128, BYTES / 4 / 64 / 128];
    for taps in [3, 11, 31] {
        let kernel = vec![1.0 / taps as f64; taps];
        for axis in 0..3 {
            levels(c, &format!("correlate1d float32, {taps} taps, axis {axis}"), BYTES, |workers| {
                let view = SourceView::from_slice(&values, &shape);
                let input = correlate1d::Input::Array { view, dtype: DType::F32 };
                let sink = SinkView::from_slice(&mut out, &shape);
                let mode = correlate1d::Mode::Constant(0.0);
                correlate1d::correlate1d(workers, input, sink, DType::F32, axis, &kernel, 0, mode, false)
            });
        }
    }
}

fn rules(c: &mut Criterion) {
    let mask: Vec<megalith_core::Bool8> =
        random(BYTES / 8).map(|v| megalith_core::Bool8(u8::from(v % 3 == 0))).collect();
    let shape = [32, 256, BYTES / 8 / 32 / 256];
    let weights: Vec<i64> = (0..27).map(|k| 1 << k).collect();
    let table = vec![1u8; 1 << 27];
    let mut out = vec![0u8; mask.len()];
    levels(c, "apply_lut_to_index 3 x 3 x 3", mask.len(), |workers| {
        let kernel = lut_index::Kernel { shape: &[3, 3, 3], weights: lut_index::Weights::Integer(&weights) };
        let source = SourceView::from_slice(&mask, &shape);
        let sink = SinkView::from_slice(&mut out, &shape);
        lut_index::apply_lut_to_index(workers, source, DType::Bool, &kernel, &table, sink, &[0; 3])
    });
}

fn sums(c: &mut Criterion) {
    fn sum<T: block_sums::Sum>(c: &mut Criterion, values: &[T])
    where
        T::Total: block_sums::Sum<Total = T::Total>,
    {
        let bounds = [0, values.len()];
        let source = SourceView::from_slice(values, &[values.len()]);
        levels(c, &format!("block_sums {}", T::DTYPE.name()), size_of_val(values), |workers| {
            block_sums::block_sums::<T>(workers, &source, &bounds, black_box(&mut [T::Total::default()]))
        });
        levels(c, &format!("block_counts {}", T::DTYPE.name()), size_of_val(values), |workers| {
            block_sums::block_counts::<T>(workers, &source, &bounds, black_box(&mut [0]))
        });
    }
    sum(c, &random(BYTES).map(|v| v as u8).collect::<Vec<_>>());
    sum(c, &random(BYTES / 2).map(|v| v as u16).collect::<Vec<_>>());
    sum(c, &random(BYTES / 4).map(|v| v as i32).collect::<Vec<_>>());
    sum(c, &random(BYTES / 4).map(|v| v as f32).collect::<Vec<_>>());
    sum(c, &random(BYTES / 8).map(|v| v as f64).collect::<Vec<_>>());
}

fn pairs(c: &mut Criterion) {
    let indices: Vec<i64> = random(BYTES / 4).enumerate().filter(|(_, v)| v % 2 == 0).map(|(i, _)| i as i64).collect();
    let source = SourceView::from_slice(&indices, &[indices.len()]);
    for offset in [1, 1000, 1_000_000] {
        levels(c, &format!("neighbours, offset {offset}"), size_of_val(&indices[..]), |workers| {
            black_box(neighbours::find::<i64>(workers, &source, offset)?.len());
            Ok(())
        });
    }
}

fn digests(c: &mut Criterion) {
    let values: Vec<u8> = random(BYTES).map(|v| v as u8).collect();
    let source = SourceView::from_slice(&values, &[BYTES]);
    levels(c, "digest", BYTES, |workers| {
        black_box(digest::digest(workers, &source)?);
        Ok(())
    });
}

criterion_group!(kernels, positions, tables, correlations, rules, sums, pairs, digests);
#[cfg(target_arch = "x86_64")]
criterion_group!(look_ups, checks::checks);
#[cfg(target_arch = "x86_64")]
criterion_main!(kernels, look_ups);
#[cfg(not(target_arch = "x86_64"))]
criterion_main!(kernels);
