//! Durations as people write them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// The longest duration that is taken: a hundred years, so that a time plus it is still a time.
const LONGEST: Duration = Duration::from_secs(36_525 * 24 * 3600);

/// Reads a duration as people write it: `90s`, `2h30m`, `7d`, `500ms`.
///
/// A day is 24 hours, a week 7 days; a month or a year has no fixed length and is none.
///
/// # Errors
/// What is wrong, for the person who wrote it. The text itself is not repeated: it may be secret.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = |why: &str| {
        Err(format!(
            "{why}; write a duration as 90s, 2h30m, 7d or 500ms"
        ))
    };
    let Ok(span) = text.trim().parse::<Span>() else {
        return refuse("is no duration");
    };
    if span.get_years() != 0 || span.get_months() != 0 {
        return refuse("holds a month or a year, which have no fixed length");
    }
    let Ok(signed) = span.to_duration(SpanRelativeTo::days_are_24_hours()) else {
        return refuse("is too long");
    };
    let Ok(duration) = Duration::try_from(signed) else {
        return refuse("is negative");
    };
    if duration > LONGEST {
        return refuse("is over a hundred years");
    }
    if duration.subsec_nanos() % 1_000_000 != 0 {
        return refuse("is finer than a millisecond");
    }
    Ok(duration)
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("90s", 90_000),
            ("2h30m", 9_000_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("0s", 0),
            ("2 hours, 30 minutes", 9_000_000),
            ("PT5M", 300_000),
            (" 5m ", 300_000),
        ];
        for (text, millis) in cases {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        let cases = [
            ("", "is no duration"),
            ("90", "is no duration"),
            ("soon", "is no duration"),
            ("9999999999999d", "is no duration"),
            ("1mo", "no fixed length"),
            ("2y3d", "no fixed length"),
            ("-5s", "is negative"),
            ("5s ago", "is negative"),
            ("40000d", "over a hundred years"),
            ("10us", "finer than a millisecond"),
        ];
        for (text, reason) in cases {
            let refused = parse_duration(text).expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
            assert!(refused.contains("2h30m"), "{text}: {refused}");
        }
    }

    #[test]
    fn durations_are_written_so_that_they_can_be_read_back() {
        let cases = [
            (0, "0s"),
            (500, "500ms"),
            (90_000, "1m30s"),
            (9_000_000, "2h30m"),
            (604_800_000, "7d"),
            (86_461_001, "1d1m1s1ms"),
        ];
        for (millis, text) in cases {
            let duration = Duration::from_millis(millis);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }
}
