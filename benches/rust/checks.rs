//! What the bounds checks of `apply_lut` cost: the kernel beside its own loops without them, which are here alone.
//!
//! Both look up the same values in the same run, in turn, from and to memory that is in use. The twins are the loops of
//! the kernel for AVX-512 (`lut/words/avx512.rs`) with the same vectors, gathers and detection of runs, and tiles of the
//! same size; what they lack is each comparison with the length of the table and the path that is left by it.

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi16_mask, _mm256_set1_epi16, _mm512_cmpeq_epi32_mask, _mm512_i32gather_epi32,
    _mm512_loadu_si512, _mm512_mask_blend_epi32, _mm512_set1_epi32,
};
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use bytemuck::{Pod, cast};
use criterion::{Criterion, SamplingMode, Throughput};
use megalith_core::dtype::Integer;
use megalith_core::pool::execute;
use megalith_core::view::{Tile, tiles};
use megalith_core::{Element, SinkView, SourceView};
use megalith_kernels::lut::{self, Input, Mode};
use megalith_kernels::simd::{Level, detected, set_level};

use super::random;

/// Values of a source.
const VALUES: usize = 1 << 26;

/// Values of a tile, as many as the kernel takes of two or four bytes.
const TILE: usize = 1 << 18;

const GROUP: usize = 16;

/// `out[i] = lut[values[i]]`: the processor must have AVX-512, and each value be an index of the table.
type LookUp<T> = unsafe fn(values: &[T], lut: &[T], out: &mut [T]);

/// Write what was measured as JSON to the file that `MEGALITH_RECORD` names, if it does.
pub(super) fn checks(c: &mut Criterion) {
    if detected() < Level::Avx512 {
        println!("the twins of apply_lut without checks are for AVX-512, which is not here");
        return;
    }
    set_level(Level::Avx512);
    let mut rows = Vec::new();
    {
        let words: Vec<u16> = random(VALUES).map(|v| v as u16).collect();
        let table: Vec<u16> = random(1 << 16).map(|v| v as u16).collect();
        compare(c, "uint16, table of 65536", &words, &table, of_two_bytes, &mut rows);
        let words: Vec<u16> = words.iter().map(|v| v % 4096).collect();
        compare(c, "uint16, table of 4096", &words, &table[..4096], of_two_bytes, &mut rows);
    }
    let table: Vec<i32> = random(1_000_000).map(|v| v as i32).collect();
    let mut labels: Vec<i32> = random(VALUES).map(|v| (v % 1_000_000) as i32).collect();
    compare(c, "int32, table of 1e6, random", &labels, &table, of_four_bytes, &mut rows);
    for start in (0..VALUES).step_by(30) {
        let run = &mut labels[start..VALUES.min(start + 30)];
        run.fill(run[0]);
    }
    compare(c, "int32, table of 1e6, runs of 30", &labels, &table, of_four_bytes, &mut rows);
    if let Ok(path) = std::env::var("MEGALITH_RECORD")
        && !rows.is_empty()
    {
        std::fs::write(path, record(&rows)).expect("a file that can be written");
    }
}

/// A time of the kernel and one of its twin, medians.
struct Row {
    name: String,
    threads: usize,
    pairs: usize,
    checked: Duration,
    unchecked: Duration,
}

impl Row {
    fn cost(&self) -> f64 {
        self.checked.as_secs_f64() / self.unchecked.as_secs_f64()
    }
}

fn compare<T: Element + Integer + Pod>(
    c: &mut Criterion,
    name: &str,
    source: &[T],
    table: &[T],
    look_up: LookUp<T>,
    rows: &mut Vec<Row>,
) {
    assert!(source.iter().all(|value| value.to_index().is_some_and(|i| i < table.len())));
    let shape = [source.len()];
    let checked = |threads: usize, out: &mut [T]| {
        let (source, sink) = (SourceView::from_slice(source, &shape), SinkView::from_slice(out, &shape));
        execute(threads, |_| true, |w| lut::apply_lut::<T, T>(w, Input::Array(source), table, sink, Mode::Raise))
            .expect("values inside of the table");
    };
    let unchecked = |threads: usize, out: &mut [T]| {
        let (source, sink) = (SourceView::from_slice(source, &shape), SinkView::from_slice(out, &shape));
        let items = tiles(Some(source), sink, TILE);
        let look_up = |Tile { source, mut sink }: Tile<'_, '_>| {
            let values = source.as_ref().and_then(SourceView::as_slice).expect("a slice");
            let out = sink.as_mut_slice().expect("a slice");
            // SAFETY: `checks` has found AVX-512; all values, which are borrowed here, were found inside of the table.
            #[allow(unsafe_code)]
            unsafe {
                look_up(values, table, out);
            }
            Ok(())
        };
        execute(threads, |_| true, |w| w.for_each(items, look_up)).expect("nothing that fails");
    };
    let mut outs = [vec![T::default(); source.len()], vec![T::default(); source.len()]];
    checked(1, &mut outs[0]);
    unchecked(1, &mut outs[1]);
    assert!(outs[0] == outs[1], "a twin that gives the same");
    let [out, _] = &mut outs;
    for threads in [1, 2] {
        let mut pairs: Vec<[Duration; 2]> = Vec::new();
        let mut pair = || {
            let mut times = [Duration::ZERO; 2];
            // Each is the first as often as the second.
            for k in [pairs.len() % 2, 1 - pairs.len() % 2] {
                let start = Instant::now();
                if k == 0 {
                    checked(threads, out);
                } else {
                    unchecked(threads, out);
                }
                times[k] = start.elapsed();
            }
            pairs.push(times);
            times
        };
        let s = if threads == 1 { "" } else { "s" };
        let mut group = c.benchmark_group(format!("apply_lut and its checks, {name}, {threads} thread{s}"));
        group.throughput(Throughput::Bytes(2 * size_of_val(source) as u64)).sample_size(10);
        group.sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(100));
        group.measurement_time(Duration::from_secs(1));
        for (k, which) in ["checked", "unchecked"].into_iter().enumerate() {
            group.bench_function(which, |b| b.iter_custom(|n| (0..n).map(|_| pair()[k]).sum()));
        }
        group.finish();
        if pairs.is_empty() {
            continue; // Not asked for.
        }
        let [checked, unchecked] = [0, 1].map(|k| {
            pairs.sort_by_key(|times| times[k]);
            pairs[pairs.len() / 2][k]
        });
        let row = Row { name: name.to_owned(), threads, pairs: pairs.len(), checked, unchecked };
        println!("{name}, {threads} thread{s}: checked {checked:.1?}, unchecked {unchecked:.1?}: {:.3}x", row.cost());
        rows.push(row);
    }
}

/// The twin for values and entries of two bytes.
///
/// # Safety
/// As [`LookUp`] says.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
#[allow(unsafe_code)]
unsafe fn of_two_bytes(values: &[u16], lut: &[u16], out: &mut [u16]) {
    // SAFETY: the caller has found each value inside of the table.
    let entry = |value: u16| unsafe { *lut.get_unchecked(usize::from(value)) };
    let (groups, tail) = values.as_chunks::<GROUP>();
    let (slots, rest) = out.as_chunks_mut::<GROUP>();
    for (group, slots) in groups.iter().zip(slots) {
        let ([first, .., last], vector): (_, __m256i) = (*group, cast(*group));
        let is_first = _mm256_cmpeq_epi16_mask(vector, _mm256_set1_epi16(first.cast_signed()));
        let is_last = _mm256_cmpeq_epi16_mask(vector, _mm256_set1_epi16(last.cast_signed()));
        if is_first | is_last == u16::MAX {
            let entries = [first, last].map(entry);
            for (slot, &value) in slots.iter_mut().zip(group) {
                *slot = if value == first { entries[0] } else { entries[1] };
            }
        } else {
            for (slot, &value) in slots.iter_mut().zip(group) {
                *slot = entry(value);
            }
        }
    }
    for (slot, &value) in rest.iter_mut().zip(tail) {
        *slot = entry(value);
    }
}

/// The twin for values and entries of four bytes.
///
/// # Safety
/// As [`LookUp`] says.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
#[allow(unsafe_code)]
unsafe fn of_four_bytes(values: &[i32], lut: &[i32], out: &mut [i32]) {
    // SAFETY: the caller has found each value inside of the table.
    let entry = |value: i32| unsafe { *lut.get_unchecked(value as usize) };
    let (groups, tail) = values.as_chunks::<GROUP>();
    let (slots, rest) = out.as_chunks_mut::<GROUP>();
    for (group, slots) in groups.iter().zip(slots) {
        // SAFETY: a group is as long as the vector.
        let vector = unsafe { _mm512_loadu_si512(group.as_ptr().cast()) };
        let [first, .., last] = cast::<_, [i32; GROUP]>(vector);
        let is_first = _mm512_cmpeq_epi32_mask(vector, _mm512_set1_epi32(first));
        let is_last = _mm512_cmpeq_epi32_mask(vector, _mm512_set1_epi32(last));
        *slots = if is_first | is_last == u16::MAX {
            let [first, last] = [first, last].map(|value| _mm512_set1_epi32(entry(value)));
            cast(_mm512_mask_blend_epi32(is_first, last, first))
        } else {
            // SAFETY: the caller has found each value inside of the table: four bytes that can be read.
            cast(unsafe { _mm512_i32gather_epi32::<4>(vector, lut.as_ptr()) })
        };
    }
    for (slot, &value) in rest.iter_mut().zip(tail) {
        *slot = entry(value);
    }
}

/// Rows with what is known of the machine, as the benches in Python write them.
fn record(rows: &[Row]) -> String {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let machine = [
        ("date", said("date", "+%F")),
        ("cpu", model.map_or(std::env::consts::ARCH, |(_, model)| model).to_owned()),
        ("system", said("uname", "-sr")),
        ("level", detected().name().to_owned()),
        ("rustc", said("rustc", "--version")),
        ("megalith", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut text = "{\n \"machine\": {\n".to_owned();
    for (key, value) in machine {
        writeln!(text, "  \"{key}\": \"{value}\",").expect("memory");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    writeln!(text, "  \"cores\": {cores},\n  \"values\": {VALUES}\n }},\n \"rows\": [").expect("memory");
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let (checked, unchecked) = (row.checked.as_secs_f64(), row.unchecked.as_secs_f64());
            let keys = format!("\"what\": \"apply_lut {}\",\n   \"threads\": {}", row.name, row.threads);
            let times = format!("\"seconds\": {checked},\n   \"peer\": \"itself, unchecked\"");
            let peer = format!("\"peer_seconds\": {unchecked},\n   \"pairs\": {}", row.pairs);
            format!("  {{\n   {keys},\n   {times},\n   {peer},\n   \"checked_by_unchecked\": {}\n  }}", row.cost())
        })
        .collect();
    text + &rows.join(",\n") + "\n ]\n}\n"
}
