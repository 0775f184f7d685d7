//! Which entry of a line stands at a position beyond its ends.

use super::Mode;

/// The entry of a line of `n` that a position stands for; None for the constant.
pub(super) fn entry(mode: Mode, position: isize, n: usize) -> Option<usize> {
    let length = n as isize;
    if (0..length).contains(&position) {
        return Some(position as usize);
    }
    let folded = match mode {
        Mode::Constant(_) => return None,
        Mode::Nearest => position.clamp(0, length - 1),
        Mode::Wrap => position.rem_euclid(length),
        Mode::Reflect => {
            let p = position.rem_euclid(2 * length);
            p.min(2 * length - 1 - p)
        }
        Mode::Mirror if n == 1 => 0,
        Mode::Mirror => {
            let p = position.rem_euclid(2 * length - 2);
            p.min(2 * length - 2 - p)
        }
    };
    Some(folded as usize)
}

/// Rows of a strip by their position, inside of the line or not.
pub(super) struct Runs {
    pub(super) mode: Mode,
    pub(super) n: usize,
    pub(super) lanes: usize,
}

impl Runs {
    /// Fill `out` with the rows from `position` on; `read(row, out)` reads rows that follow each other.
    ///
    /// Extensions are runs that go up, down or stand still, and each is read with one call.
    pub(super) fn fill(&self, position: isize, out: &mut [f64], mut read: impl FnMut(usize, &mut [f64])) {
        let rows = out.len() / self.lanes;
        let at = |k: usize| entry(self.mode, position + k as isize, self.n);
        let mut k = 0;
        while k < rows {
            let first = at(k);
            let step = (k + 1 < rows).then(|| step(first, at(k + 1))).flatten();
            let mut stop = k + 1;
            while stop < rows && step.is_some() && self::step(at(stop - 1), at(stop)) == step {
                stop += 1;
            }
            let part = &mut out[k * self.lanes..stop * self.lanes];
            match (first, step) {
                (None, _) => part.fill(if let Mode::Constant(value) = self.mode { value } else { 0.0 }),
                (Some(row), Some(0)) => {
                    read(row, &mut part[..self.lanes]);
                    for copy in 1..stop - k {
                        part.copy_within(..self.lanes, copy * self.lanes);
                    }
                }
                (Some(row), Some(-1)) => {
                    read(row + 1 - (stop - k), part);
                    reverse_rows(part, self.lanes);
                }
                (Some(row), _) => read(row, part),
            }
            k = stop;
        }
    }
}

/// How one row follows another: by -1, 0 or 1; None if it does not.
fn step(from: Option<usize>, to: Option<usize>) -> Option<isize> {
    match (from, to) {
        (None, None) => Some(0),
        (Some(from), Some(to)) => Some(to as isize - from as isize).filter(|d| d.abs() <= 1),
        _ => None,
    }
}

fn reverse_rows(rows: &mut [f64], lanes: usize) {
    let n = rows.len() / lanes;
    for k in 0..n / 2 {
        let (low, high) = rows.split_at_mut((n - 1 - k) * lanes);
        low[k * lanes..(k + 1) * lanes].swap_with_slice(&mut high[..lanes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spell(mode: Mode, n: usize) -> String {
        let letter = |p| entry(mode, p, n).map_or('k', |i| char::from(b'a' + i as u8));
        (-9..n as isize + 9).map(letter).collect()
    }

    #[test]
    fn entry_follows_scipys_tables() {
        assert_eq!(spell(Mode::Constant(0.0), 4), "kkkkkkkkkabcdkkkkkkkkk");
        assert_eq!(spell(Mode::Nearest, 4), "aaaaaaaaaabcdddddddddd");
        assert_eq!(spell(Mode::Reflect, 4), "aabcddcbaabcddcbaabcdd");
        assert_eq!(spell(Mode::Mirror, 4), "dcbabcdcbabcdcbabcdcba");
        assert_eq!(spell(Mode::Wrap, 4), "dabcdabcdabcdabcdabcda");
        assert_eq!(spell(Mode::Mirror, 1), "aaaaaaaaaaaaaaaaaaa");
    }

    #[test]
    fn fill_gives_each_row_its_entry() {
        for mode in [Mode::Constant(-1.0), Mode::Nearest, Mode::Reflect, Mode::Mirror, Mode::Wrap] {
            for (n, lanes) in [(1, 1), (2, 3), (3, 1), (5, 2), (30, 1)] {
                let runs = Runs { mode, n, lanes };
                let mut out = vec![0.0; 40 * lanes];
                runs.fill(-20, &mut out, |row, out| {
                    assert!((row + out.len() / lanes) <= n);
                    for (i, slot) in out.iter_mut().enumerate() {
                        *slot = (row * lanes + i) as f64;
                    }
                });
                for (k, &got) in out.iter().enumerate() {
                    let row = entry(mode, (k / lanes) as isize - 20, n);
                    let expected = row.map_or(-1.0, |row| (row * lanes + k % lanes) as f64);
                    assert!(got.to_bits() == expected.to_bits(), "{mode:?} {n} {lanes} {k}");
                }
            }
        }
    }
}
