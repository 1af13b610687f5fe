//! The fields of one CSV record.

use memchr::memchr;

use super::json_text;
use super::scan::Quoting;

/// The fields of a record whose quotes are all closed, from left to right.
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
    quoting: Quoting,
}

/// One field as it stands: what is in quotes, if it begins with one, and what follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    quoted: Option<&'a str>,
    text: &'a str,
    quoting: Quoting,
}

impl<'a> Fields<'a> {
    pub(super) fn new(record: &'a str, quoting: Quoting) -> Self {
        Self {
            rest: Some(record),
            quoting,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let mut rest = self.rest?;
        let mut quoted = None;
        if rest.as_bytes().first() == Some(&self.quoting.quote) {
            let (inside, after) = split_quoted(rest, self.quoting.quote);
            quoted = Some(inside);
            rest = after;
        }
        let text;
        (text, self.rest) = match memchr(self.quoting.delimiter, rest.as_bytes()) {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        };
        Some(Field {
            quoted,
            text,
            quoting: self.quoting,
        })
    }
}

/// Splits at the closing quote: what it closes, and what follows.
fn split_quoted(field: &str, quote: u8) -> (&str, &str) {
    let bytes = field.as_bytes();
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(quote, rest)) {
        at += found;
        if bytes.get(at + 1) != Some(&quote) {
            break;
        }
        at += 2;
    }
    (
        field.get(1..at).unwrap_or_default(),
        field.get(at + 1..).unwrap_or_default(),
    )
}

impl Field<'_> {
    /// Appends the value as the inside of a JSON string.
    ///
    /// `plain` promises that the record holds nothing that JSON escapes.
    #[inline]
    pub(super) fn push_json(self, out: &mut String, plain: bool) {
        if plain && self.quoted.is_none() {
            out.push_str(self.text);
        } else {
            self.for_each_piece(|piece| json_text::push_escaped(out, piece));
        }
    }

    /// The value.
    pub(super) fn to_value(self) -> String {
        let mut value = String::new();
        self.for_each_piece(|piece| value.push_str(piece));
        value
    }

    fn for_each_piece(self, mut push: impl FnMut(&str)) {
        let Some(mut quoted) = self.quoted else {
            return push(self.text);
        };
        // Within the quotes every quote is doubled: a piece goes up to the first of a pair.
        while let Some(at) = memchr(self.quoting.quote, quoted.as_bytes()) {
            push(quoted.get(..=at).unwrap_or_default());
            quoted = quoted.get(at + 2..).unwrap_or_default();
        }
        push(quoted);
        push(self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTING: Quoting = Quoting {
        quote: b'"',
        delimiter: b',',
    };

    fn values(record: &str) -> Vec<String> {
        Fields::new(record, QUOTING).map(Field::to_value).collect()
    }

    #[test]
    fn fields_are_what_stands_between_delimiters() {
        assert_eq!(values("a,,c"), ["a", "", "c"]);
        assert_eq!(values(","), ["", ""]);
        assert_eq!(values(" a , b "), [" a ", " b "]);
        assert_eq!(values("é,\0"), ["é", "\0"]);
    }

    #[test]
    fn a_quote_counts_only_at_the_start_of_a_field() {
        assert_eq!(values(r#"a"b,c"d"#), [r#"a"b"#, r#"c"d"#]);
        assert_eq!(values(r#" "a,b""#), [r#" "a"#, r#"b""#]);
    }

    #[test]
    fn quotes_hold_delimiters_and_line_breaks() {
        assert_eq!(values("\"a,b\",\"c\r\nd\""), ["a,b", "c\r\nd"]);
    }

    #[test]
    fn a_doubled_quote_is_one() {
        assert_eq!(values(r#""a""b""#), [r#"a"b"#]);
        assert_eq!(values(r#""""""""#), [r#""""#]);
        assert_eq!(values(r#""""",""#), [r#"""#, ""]);
    }

    #[test]
    fn what_follows_a_closing_quote_is_text() {
        assert_eq!(values(r#""a"b"c",d"#), [r#"ab"c""#, "d"]);
        assert_eq!(values(r#""a" "b""#), [r#"a "b""#]);
    }
}
