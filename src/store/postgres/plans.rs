//! How our statements are planned: once, by the indexes, whatever is known of the tables.
//!
//! A table that was empty when it was last looked at would be read from end to end by a plan that
//! outlives that by hours. All of it is set for a transaction alone: the connection may be a caller's,
//! or one that a pooler gives to others, and a piece's application plans as it is used to.

const SETTINGS: [(&str, &str); 7] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// Statements that set it for our own statements until the transaction ends.
pub(super) fn ours() -> String {
    set(|own| own)
}

/// Statements that set it back to what the connection has.
pub(super) fn theirs() -> String {
    set(|_| "default")
}

fn set(value: impl Fn(&'static str) -> &'static str) -> String {
    SETTINGS
        .map(|(name, own)| format!("set local {name} to {}", value(own)))
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_set_for_our_statements_is_set_back_for_those_of_the_application() {
        let names = |text: &str| -> Vec<String> {
            let name = |set: &str| set.split(' ').nth(2).map(str::to_owned);
            text.split("; ").filter_map(name).collect()
        };
        assert_eq!(names(&ours()), names(&theirs()));
        assert!(theirs().split("; ").all(|set| set.ends_with(" to default")));
    }
}
