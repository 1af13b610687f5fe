//! The columns of a CSV: their names, and the JSON that leads in each value.

use std::collections::{HashMap, HashSet};

use super::json_text;

/// The columns in their order.
#[derive(Debug)]
pub(super) struct Columns {
    /// By field: what stands before its value, `None` where the field is left out of the rows.
    pub(super) leads: Vec<Option<String>>,
    /// The bytes that all leads add to a row.
    pub(super) lead_bytes: usize,
    names: Vec<String>,
    taken: HashSet<String>,
}

impl Columns {
    /// Columns of these names, made different from each other; the `ignored` are left out of rows.
    pub(super) fn named(given: Vec<String>, ignored: &[&str]) -> Self {
        let (all, taken) = make_unique(given);
        let mut names: Vec<String> = Vec::with_capacity(all.len());
        let mut leads = Vec::with_capacity(all.len());
        for name in all {
            if ignored.contains(&name.as_str()) {
                leads.push(None);
            } else {
                leads.push(Some(lead(&name, names.is_empty())));
                names.push(name);
            }
        }
        Self {
            lead_bytes: leads.iter().flatten().map(String::len).sum(),
            leads,
            names,
            taken,
        }
    }

    /// The names of the columns that are in the rows.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// How many fields a row has.
    pub(super) fn count(&self) -> usize {
        self.leads.len()
    }

    /// The lead of a field beyond the columns, whose place counts from 1.
    ///
    /// `last` is the number in the last such name of this row, at first 0.
    pub(super) fn surplus_lead(&self, place: usize, last: &mut usize, first: bool) -> String {
        *last = place.max(*last + 1);
        loop {
            let name = format!("column_{last}");
            if !self.taken.contains(&name) {
                return lead(&name, first);
            }
            *last += 1;
        }
    }
}

/// What stands before a value: the end of the one before it, its key, a quote.
fn lead(name: &str, first: bool) -> String {
    let mut lead = String::from(if first { "{" } else { "\"," });
    json_text::push_string(&mut lead, name);
    lead.push_str(":\"");
    lead
}

/// Gives a name to each empty and each repeated one, and tells all that are taken.
///
/// The names that were given come first: one that is made never takes the place of a later one.
fn make_unique(mut names: Vec<String>) -> (Vec<String>, HashSet<String>) {
    let mut taken: HashSet<String> = names.iter().filter(|n| !n.is_empty()).cloned().collect();
    // By stem: how often it stood, and the last number that was given to it.
    let mut stems: HashMap<String, (usize, usize)> = HashMap::new();
    let mut last_empty = 0;
    for (name, place) in names.iter_mut().zip(1..) {
        if name.is_empty() {
            *name = next_free("column", place.max(last_empty + 1), &mut last_empty, &taken);
        } else {
            let (times, last) = stems.entry(name.clone()).or_default();
            *times += 1;
            if *times == 1 {
                continue;
            }
            *name = next_free(name, (*times).max(*last + 1), last, &taken);
        }
        taken.insert(name.clone());
    }
    (names, taken)
}

fn next_free(stem: &str, from: usize, last: &mut usize, taken: &HashSet<String>) -> String {
    *last = from;
    loop {
        let name = format!("{stem}_{last}");
        if !taken.contains(&name) {
            return name;
        }
        *last += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str) -> String {
        let given = header.split(',').map(String::from).collect();
        Columns::named(given, &["_line"]).names().join(",")
    }

    #[test]
    fn a_repeated_name_is_numbered() {
        assert_eq!(names("a,b,a,a"), "a,b,a_2,a_3");
    }

    #[test]
    fn an_empty_name_is_its_place() {
        assert_eq!(names("a,,"), "a,column_2,column_3");
    }

    #[test]
    fn a_made_name_that_is_taken_gets_the_next_free_number() {
        assert_eq!(names("a,a,a_2,a"), "a,a_3,a_2,a_4");
        assert_eq!(
            names(",column_1,column_2,"),
            "column_3,column_1,column_2,column_4"
        );
        assert_eq!(names("column,,column"), "column,column_2,column_3");
        assert_eq!(names("a_2,a_2,a,a"), "a_2,a_2_2,a,a_3");
    }

    #[test]
    fn names_differ_in_case_and_space() {
        assert_eq!(names("a,A, a"), "a,A, a");
    }

    #[test]
    fn an_ignored_column_leaves_the_rows_and_keeps_its_field() {
        let columns = Columns::named(vec!["_line".into(), "a".into()], &["_line"]);
        assert_eq!(columns.count(), 2);
        assert_eq!(columns.names(), ["a"]);
        assert_eq!(columns.leads, [None, Some(r#"{"a":""#.into())]);
    }

    #[test]
    fn surplus_fields_get_free_numbers() {
        let columns = Columns::named(vec!["a".into(), "column_3".into()], &[]);
        let mut last = 0;
        assert_eq!(
            columns.surplus_lead(3, &mut last, false),
            r#"","column_4":""#
        );
        assert_eq!(
            columns.surplus_lead(4, &mut last, false),
            r#"","column_5":""#
        );
        assert_eq!(
            columns.surplus_lead(9, &mut last, false),
            r#"","column_9":""#
        );
    }

    #[test]
    fn a_hundred_thousand_equal_names_take_no_time() {
        let count = 100_000;
        let mut given: Vec<String> = (2..count).map(|n| format!("a_{n}")).collect();
        given.extend((0..count).map(|_| "a".to_string()));
        given.extend((0..count).map(|_| String::new()));
        let columns = Columns::named(given, &[]);
        assert_eq!(columns.taken.len(), columns.count());
    }
}
