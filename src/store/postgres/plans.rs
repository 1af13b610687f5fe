//! How statements are planned: ours by the indexes, those of a piece's application as it is used to.

/// Statements that set it for our own statements until the transaction ends.
pub(super) fn ours() -> String {
    set().collect::<Vec<_>>().join("; ")
}

/// Statements that set it back to what the connection has.
pub(super) fn theirs() -> String {
    let back = |set: &str| {
        let (name, _) = set.split_once(" to ").unwrap_or((set, ""));
        format!("{name} to default")
    };
    set().map(back).collect::<Vec<_>>().join("; ")
}

fn set() -> impl Iterator<Item = &'static str> {
    let of_statements = |line: &&str| !line.starts_with("--");
    let lines = alone!("plans").lines().filter(of_statements);
    lines
        .flat_map(|line| line.split(';').map(str::trim))
        .filter(|set| !set.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_set_for_our_statements_is_set_back_for_those_of_the_application() {
        let (ours, theirs) = (ours(), theirs());
        assert!(ours.starts_with("set local enable_seqscan to off; "));
        assert!(theirs.starts_with("set local enable_seqscan to default; "));
        for (set, back) in ours.split("; ").zip(theirs.split("; ")) {
            let name = set.split(" to ").next().expect("a name");
            assert_eq!(back, format!("{name} to default"));
        }
        assert_eq!(ours.split("; ").count(), theirs.split("; ").count());
    }
}
