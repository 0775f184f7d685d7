use super::*;
use megalith_core::DType;
use megalith_core::pool::execute;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn naive<T: Integer>(ids: &[T]) -> BTreeMap<T, Vec<i64>> {
    let mut groups = BTreeMap::<T, Vec<i64>>::new();
    for (i, &id) in ids.iter().enumerate() {
        groups.entry(id).or_default().push(i as i64);
    }
    groups
}

/// Ids, counts and positions, of a list cut into windows.
fn grouped<T: Integer>(threads: usize, ids: &[T], window: usize) -> (Vec<i64>, Vec<usize>, Vec<i64>) {
    execute(
        threads,
        |_| true,
        |w| {
            let views: Vec<_> = ids.chunks(window).map(|part| SourceView::from_slice(part, &[part.len()])).collect();
            let mut tally = count::<T>(w, views.first().unwrap_or(&SourceView::from_slice::<T>(&[], &[0])))?;
            for view in views.iter().skip(1) {
                tally.merge(&count::<T>(w, view)?);
            }
            let mut start = 0;
            let mut cursors: Vec<i64> = Vec::new();
            for count in tally.counts() {
                cursors.push(start);
                start += *count as i64;
            }
            let mut out = vec![-1; ids.len()];
            for (i, view) in views.iter().enumerate() {
                let sink = SinkView::from_slice(&mut out, &[ids.len()]);
                tally.positions::<T>(w, view, i * window, &mut cursors, sink)?;
            }
            Ok((tally.ids().collect(), tally.counts().to_vec(), out))
        },
    )
    .unwrap()
}

fn check<T: Integer>(ids: &[T], window: usize) -> Result<(), TestCaseError> {
    let expected = naive(ids);
    for threads in [1, 2, 8] {
        let (keys, counts, positions) = grouped(threads, ids, window);
        prop_assert_eq!(&keys, &expected.keys().map(|id| id.to_wrapped_i64()).collect::<Vec<_>>());
        prop_assert_eq!(&counts, &expected.values().map(Vec::len).collect::<Vec<_>>());
        prop_assert_eq!(&positions, &expected.values().flatten().copied().collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #[test]
    fn groups_match_the_naive_twin(
        ids in prop::collection::vec(prop_oneof![-1i64..20, any::<i64>(), Just(1 << 62), Just(i64::MIN)], 0..120),
        window in 1usize..60,
    ) {
        check(&ids, 1000)?;
        check(&ids, window)?;
        check(&ids.iter().map(|&id| id as u64).collect::<Vec<_>>(), window)?;
        check(&ids.iter().map(|&id| id as i8).collect::<Vec<_>>(), window)?;
    }

    #[test]
    fn places_match_the_naive_twin(
        ids in prop::collection::vec(-3i32..9, 0..50),
        table in prop::collection::vec(prop_oneof![-5i128..12, Just(1 << 30), Just(-(1 << 70))], 0..9),
    ) {
        let expected: Vec<i64> = ids
            .iter()
            .map(|&id| table.iter().rposition(|&other| other == i128::from(id)).map_or(-1, |i| i as i64))
            .collect();
        let mut out = vec![0; ids.len()];
        let n = [ids.len()];
        execute(2, |_| true, |w| {
            index_of::<i32>(w, &SourceView::from_slice(&ids, &n), &table, SinkView::from_slice(&mut out, &n))
        }).unwrap();
        prop_assert_eq!(out, expected);
    }
}

/// Ids that are spread over many values, the same each time.
fn spread(n: usize, values: u64) -> Vec<i32> {
    (0..n as u64).map(|i| ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % values) as i32).collect()
}

#[test]
fn a_list_of_many_parts_is_grouped_as_one() {
    for values in [1, 7, 500, 60_000, 1 << 30] {
        check(&spread(1_000_003, values), 1 << 40).unwrap();
    }
    check(&spread(1_000_003, 500), 300_000).unwrap();
}

#[test]
fn a_list_of_which_most_ids_differ_is_grouped_as_any_other() {
    let ids = spread(200_003, 1 << 30);
    let far: Vec<i64> = ids.iter().map(|&id| i64::from(id).wrapping_mul(1 << 34 | 1)).collect();
    let half: Vec<i32> = ids.iter().enumerate().map(|(i, &id)| if i % 2 == 0 { -1 } else { id }).collect();
    let sorted: Vec<u16> = (0..150_000u32).map(|i| (i / 3) as u16).collect();
    for window in [70_000, 1 << 40] {
        check(&ids, window).unwrap();
        check(&far, window).unwrap();
        check(&far.iter().map(|&id| id as u64).collect::<Vec<_>>(), window).unwrap();
        check(&half, window).unwrap();
        check(&sorted, window).unwrap();
    }
    let found = |ids: &[i32]| {
        let view = SourceView::from_slice(ids, &[ids.len()]);
        execute(2, |_| true, |w| Ok(count::<i32>(w, &view)?.found)).unwrap()
    };
    assert!(matches!(found(&ids), Some(Found::Near(_))));
    assert!(matches!(found(&spread(200_003, 500)), Some(Found::Counted(_))));
}

#[test]
fn a_stretch_of_other_ids_than_were_counted_is_refused() {
    let (counted, changed) = (spread(60_000, 1 << 30), spread(60_001, 1 << 29));
    let result = execute(
        2,
        |_| true,
        |w| {
            let mut tally = count::<i32>(w, &SourceView::from_slice(&counted[..30_000], &[30_000]))?;
            tally.merge(&count::<i32>(w, &SourceView::from_slice(&counted[30_000..], &[30_000]))?);
            let mut cursors: Vec<i64> =
                tally.counts().iter().scan(0, |sum, &n| Some(std::mem::replace(sum, *sum + n as i64))).collect();
            let mut out = vec![0i64; 60_000];
            let view = SourceView::from_slice(&changed[30_000..60_000], &[30_000]);
            tally.positions::<i32>(w, &view, 0, &mut cursors, SinkView::from_slice(&mut out, &[60_000]))
        },
    );
    assert!(matches!(result, Err(Error::Argument { .. })));
}

#[test]
fn a_strided_list_is_grouped_as_its_copy() {
    let ids = spread(400_000, 40);
    let half: Vec<i32> = ids.iter().step_by(2).copied().collect();
    // SAFETY: every second of the elements of `ids`.
    #[allow(unsafe_code)]
    let view = unsafe { SourceView::from_raw_parts(ids.as_ptr().cast(), &[half.len()], &[8], 4, false) };
    let mut out = vec![0; half.len()];
    let (_, _, expected) = grouped(2, &half, half.len());
    execute(
        2,
        |_| true,
        |w| {
            let tally = count::<i32>(w, &view)?;
            let mut cursors: Vec<i64> =
                tally.counts().iter().scan(0, |sum, &n| Some(std::mem::replace(sum, *sum + n as i64))).collect();
            tally.positions::<i32>(w, &view, 0, &mut cursors, SinkView::from_slice(&mut out, &[half.len()]))
        },
    )
    .unwrap();
    assert_eq!(out, expected);
}

#[test]
fn a_list_that_has_changed_since_it_was_counted_is_refused() {
    for changed in [[1u16, 1, 2], [3, 1, 1], [1, 2, 2]] {
        let result = execute(
            1,
            |_| true,
            |w| {
                let tally = count::<u16>(w, &SourceView::from_slice(&[1u16, 2, 1], &[3]))?;
                let view = SourceView::from_slice(&changed, &[3]);
                let (mut cursors, mut out) = ([0, 2], [0i64; 3]);
                tally.positions::<u16>(w, &view, 0, &mut cursors, SinkView::from_slice(&mut out, &[3]))
            },
        );
        assert_eq!(changed != [1, 1, 2], matches!(result, Err(Error::Argument { .. })), "{changed:?}");
    }
}

fn means<T: Integer>(threads: usize, ids: &[T], values: &[f32], columns: usize, window: usize) -> (Vec<i64>, Vec<f64>) {
    execute(
        threads,
        |_| true,
        |w| {
            let mut means = Means::new(columns);
            for (ids, values) in ids.chunks(window).zip(values.chunks(window * columns)) {
                let values = SourceView::from_slice(values, &[ids.len(), columns]);
                means.add::<T>(w, &SourceView::from_slice(ids, &[ids.len()]), &values, DType::F32)?;
            }
            let (mut ids, mut out) = (vec![0; means.len()], vec![0.0; means.len() * columns]);
            means.write(&mut ids, &mut out)?;
            Ok((ids, out))
        },
    )
    .unwrap()
}

#[test]
fn means_are_the_same_for_any_number_of_threads_and_for_windows_of_whole_blocks() {
    for (columns, n) in [(1, 900_001), (3, 300_001), (40, 20_001)] {
        let ids = spread(n, 300);
        let values: Vec<f32> = (0..n * columns).map(|i| ((i % 1009) * 7919 % 1009) as f32 * 0.1).collect();
        let groups = naive(&ids);
        let (keys, one) = means(1, &ids, &values, columns, n);
        assert_eq!(keys, groups.keys().map(|&id| i64::from(id)).collect::<Vec<_>>());
        for (row, positions) in one.chunks(columns).zip(groups.values()) {
            for (column, mean) in row.iter().enumerate() {
                let exact: f64 = positions.iter().map(|&i| f64::from(values[i as usize * columns + column])).sum();
                assert!((mean - exact / positions.len() as f64).abs() < 1e-9);
            }
        }
        for (threads, window) in [(2, n), (8, n), (2, 2 * block_rows(columns))] {
            assert_eq!(means(threads, &ids, &values, columns, window).1, one);
        }
    }
}

#[test]
fn means_of_blocks_whose_ids_are_elsewhere_than_in_the_first_are_those_of_the_naive_twin() {
    let rows = block_rows(1);
    let last = [u64::MAX - 2, u64::MAX];
    let blocks: [&[u64]; 6] = [&[3, 4, 5], &[5, 3], &last, &[900, 3], &[1 << 40, 7, 1 << 50], &[4, 5, 3, 6]];
    for order in [[0, 1, 2, 3, 4, 5], [2, 5, 0, 4, 1, 3], [4, 2, 3, 1, 0, 5]] {
        // A window of one block begins with where the ids before it were, the first and a window of all with nothing.
        let windows =
            order.map(|b| (0..rows).map(|i| blocks[b][i * 7919 % 1009 % blocks[b].len()]).collect::<Vec<_>>());
        let ids = windows.concat();
        let values: Vec<f32> = (0..ids.len()).map(|i| (i % 1024) as f32).collect();
        let groups = naive(&ids);
        let expected: Vec<_> = groups
            .values()
            .map(|places| places.iter().map(|&i| f64::from(values[i as usize])).sum::<f64>() / places.len() as f64)
            .collect();
        for window in [rows, ids.len()] {
            let (found, means) = means(2, &ids, &values, 1, window);
            assert!(found.iter().map(|&id| id as u64).eq(groups.keys().copied()), "{found:?}");
            assert_eq!(means, expected);
        }
    }
}
