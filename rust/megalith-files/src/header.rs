//! The plain headers of `.npy` files, as NumPy writes them for numbers and strings; all others are left to NumPy.
//!
//! ```text
//! \x93NUMPY 1 0 <length: u16> {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), } <spaces> \n
//! ```

/// What a plain header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Byte order, kind and bytes of an element, such as `<f8`.
    pub descr: &'a str,
    /// Whether the elements lie in Fortran order.
    pub is_fortran: bool,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Where the elements begin.
    pub offset: usize,
}

/// Parse the header at the start of `file`, if it is plain.
#[must_use]
pub fn plain(file: &[u8]) -> Option<Plain<'_>> {
    let rest = file.strip_prefix(b"\x93NUMPY\x01\x00")?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let text = std::str::from_utf8(rest.get(..length)?).ok()?;
    let text = text.strip_prefix("{'descr': '")?;
    let (descr, text) = text.split_once('\'')?;
    let text = text.strip_prefix(", 'fortran_order': ")?;
    let (is_fortran, text) = match text.strip_prefix("False") {
        Some(text) => (false, text),
        None => (true, text.strip_prefix("True")?),
    };
    let (lengths, text) = text.strip_prefix(", 'shape': (")?.split_once(')')?;
    let is_end = text.strip_prefix(", }")?.trim_start_matches(' ') == "\n";
    (is_end && is_plain_type(descr)).then_some(())?;
    Some(Plain { descr, is_fortran, shape: shape(lengths)?, offset: 10 + length })
}

fn is_plain_type(descr: &str) -> bool {
    let &[order, kind, ref n_bytes @ ..] = descr.as_bytes() else { return false };
    b"<>|".contains(&order) && b"biufcSU".contains(&kind) && is_number(n_bytes)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// The lengths in `3, 4` or `3,` or nothing; None for one without a comma, which Python takes for a number.
fn shape(text: &str) -> Option<Vec<usize>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let (text, is_one) = text.strip_suffix(',').map_or((text, false), |text| (text, true));
    let lengths = text.split(", ").map(|n| {
        let is_canonical = is_number(n.as_bytes()) && (n == "0" || !n.starts_with('0'));
        is_canonical.then(|| n.parse().ok()).flatten()
    });
    let lengths = lengths.collect::<Option<Vec<usize>>>()?;
    ((lengths.len() == 1) == is_one).then_some(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<u8> {
        let length = u16::try_from(text.len()).unwrap();
        [b"\x93NUMPY\x01\x00".as_slice(), &length.to_le_bytes(), text.as_bytes(), b"elements"].concat()
    }

    #[test]
    fn plain_headers_are_parsed() {
        let found = file("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 40), }   \n");
        let wanted = Plain { descr: "<f8", is_fortran: false, shape: vec![3, 40], offset: 74 };
        assert_eq!(plain(&found), Some(wanted));
        let found = file("{'descr': '|S12', 'fortran_order': True, 'shape': (7,), }\n");
        assert_eq!(plain(&found).unwrap().shape, [7]);
        assert!(plain(&found).unwrap().is_fortran);
        let found = file("{'descr': '>u2', 'fortran_order': False, 'shape': (), }\n");
        assert_eq!(plain(&found).unwrap().shape, [0; 0]);
    }

    #[test]
    fn others_are_left_to_numpy() {
        for text in [
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3), }\n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4,), }\n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (03,), }\n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-3,), }\n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }\n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f8', 'fortran_order': 0, 'shape': (3,), }\n",
            "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (3,), }\n",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }\n",
            "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,), }\n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': 1}\n",
            "",
        ] {
            assert_eq!(plain(&file(text)), None, "{text}");
        }
        let whole = file("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }\n");
        for n in 0..whole.len() - 8 {
            assert_eq!(plain(&whole[..n]), None);
        }
    }
}
