//! The known key that was probably meant.

/// The nearest of `known`, where one is near.
pub(super) fn suggest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let written = written.to_lowercase().replace('-', "_");
    let near = 1 + written.chars().count() / 4;
    known
        .iter()
        .map(|key| (distance(&written, key), *key))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, key)| key)
}

/// The letters to insert, remove or change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let change = corner + usize::from(from != to);
            corner = *cell;
            left = change.min(corner + 1).min(left + 1);
            *cell = left;
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_the_letters_to_change() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("timeuot", "timeout", 2),
            ("same", "same", 0),
        ];
        for (a, b, letters) in cases {
            assert_eq!(distance(a, b), letters, "{a} {b}");
            assert_eq!(distance(b, a), letters, "{b} {a}");
        }
    }

    #[test]
    fn only_a_near_key_is_suggested() {
        let known = ["database", "objects", "max_attempts", "timeout"];
        assert_eq!(suggest("databse", &known), Some("database"));
        assert_eq!(suggest("Max-Attempts", &known), Some("max_attempts"));
        assert_eq!(suggest("timeuot", &known), Some("timeout"));
        assert_eq!(suggest("listen", &known), None);
    }
}
