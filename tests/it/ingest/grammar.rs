//! The grammar of JSON, by hand.

/// Whether a text is one JSON value, by the grammar of RFC 8259.
pub fn is_json(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    value(&chars, 0, 0).is_some_and(|end| end == chars.len())
}

fn space(text: &[char], mut at: usize) -> usize {
    while matches!(text.get(at), Some(' ' | '\t')) {
        at += 1;
    }
    at
}

fn value(text: &[char], at: usize, depth: usize) -> Option<usize> {
    let is_word = |word: &str| text[at..].iter().take(word.len()).copied().eq(word.chars());
    match text.get(at)? {
        '{' | '[' if depth == 500 => None,
        '{' => members(text, at + 1, '}', |at| {
            let at = space(text, quoted(text, at)?);
            (text.get(at) == Some(&':')).then_some(())?;
            value(text, space(text, at + 1), depth + 1)
        }),
        '[' => members(text, at + 1, ']', |at| value(text, at, depth + 1)),
        '"' => quoted(text, at),
        '-' | '0'..='9' => number(text, at),
        _ => ["true", "false", "null"]
            .iter()
            .find(|w| is_word(w))
            .map(|w| at + w.len()),
    }
}

fn members(
    text: &[char],
    at: usize,
    close: char,
    member: impl Fn(usize) -> Option<usize>,
) -> Option<usize> {
    let mut at = space(text, at);
    if text.get(at) == Some(&close) {
        return Some(at + 1);
    }
    loop {
        at = space(text, member(at)?);
        match text.get(at)? {
            ',' => at = space(text, at + 1),
            c if *c == close => return Some(at + 1),
            _ => return None,
        }
    }
}

fn quoted(text: &[char], at: usize) -> Option<usize> {
    (text.get(at) == Some(&'"')).then_some(())?;
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            '"' => return Some(at + 1),
            '\\' => match text.get(at + 1)? {
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => at += 2,
                'u' => {
                    let digits = text.get(at + 2..at + 6)?;
                    digits.iter().all(char::is_ascii_hexdigit).then_some(())?;
                    at += 6;
                }
                _ => return None,
            },
            '\0'..='\x1F' => return None,
            _ => at += 1,
        }
    }
}

fn number(text: &[char], mut at: usize) -> Option<usize> {
    let digits = |mut at: usize| {
        text.get(at)?.is_ascii_digit().then_some(())?;
        while text.get(at).is_some_and(char::is_ascii_digit) {
            at += 1;
        }
        Some(at)
    };
    if text[at] == '-' {
        at += 1;
    }
    at = if text.get(at) == Some(&'0') {
        at + 1
    } else {
        digits(at)?
    };
    if text.get(at) == Some(&'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some('e' | 'E')) {
        let sign = matches!(text.get(at + 1), Some('+' | '-'));
        at = digits(at + 1 + usize::from(sign))?;
    }
    Some(at)
}
