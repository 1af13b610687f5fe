//! The known name that was probably meant.

/// The nearest of `known`, where one is near; case does not count, nor which of `-` and `_` it is.
pub(crate) fn suggest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let written = plain(written);
    let near = 1 + written.chars().count() / 4;
    known
        .iter()
        .map(|name| (strsim::osa_distance(&written, &plain(name)), *name))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_key_is_suggested() {
        let known = ["database", "objects", "max_attempts", "timeout"];
        assert_eq!(suggest("databse", &known), Some("database"));
        assert_eq!(suggest("Max-Attempts", &known), Some("max_attempts"));
        assert_eq!(suggest("timeuot", &known), Some("timeout"));
        assert_eq!(suggest("obejcts", &known), Some("objects"));
        assert_eq!(suggest("listen", &known), None);
        assert_eq!(
            suggest("Shop/prise", &["shop/price", "shop/prize-2"]),
            Some("shop/price")
        );
        assert_eq!(suggest("my_op", &["a/b", "My-Op"]), Some("My-Op"));
    }
}
