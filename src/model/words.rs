//! Counts in words.

use std::fmt::Display;

/// `1 row`, `2 rows`: a count with the word that goes with it.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(
    count: N,
    one: &str,
    many: &str,
) -> String {
    let word = if count == N::from(1) { one } else { many };
    format!("{count} {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_others_are_many() {
        let told = [0_u64, 1, 2].map(|count| counted(count, "row waits", "rows wait"));
        assert_eq!(told, ["0 rows wait", "1 row waits", "2 rows wait"]);
    }
}
