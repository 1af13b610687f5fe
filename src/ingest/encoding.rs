//! How the characters of an input are written.

use std::fmt;
use std::str::FromStr;

use super::IngestError;

/// The encoding of an input's text, by any label that browsers know.
///
/// ```
/// # use rowmill::ingest::Encoding;
/// assert_eq!(Encoding::default(), Encoding::UTF_8);
/// assert_eq!("latin1".parse::<Encoding>()?.name(), "windows-1252");
/// assert_eq!("utf-16".parse::<Encoding>()?.name(), "UTF-16LE");
/// assert!("utf-32".parse::<Encoding>().is_err());
/// # Ok::<(), rowmill::ingest::IngestError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl Encoding {
    /// What an input is read as unless it is said otherwise.
    pub const UTF_8: Self = Self(encoding_rs::UTF_8);
    pub(super) const UTF_16LE: Self = Self(encoding_rs::UTF_16LE);
    pub(super) const UTF_16BE: Self = Self(encoding_rs::UTF_16BE);

    /// Its name as the web's standard writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// A decoder that leaves byte order marks where they are; `None` where there is nothing to do.
    pub(super) fn decoder(self) -> Option<encoding_rs::Decoder> {
        let other = self != Self::UTF_8;
        other.then(|| self.0.new_decoder_without_bom_handling())
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self::UTF_8
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = IngestError;

    /// # Errors
    /// The label is not known; the text gives some that are.
    fn from_str(label: &str) -> Result<Self, IngestError> {
        // Some labels stand for encodings that are not read for the sake of safety.
        match encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()) {
            Some(known) => Ok(Self(known)),
            None => Err(IngestError::BadOption(
                "is no encoding known here; such are UTF-8, UTF-16LE, UTF-16BE, windows-1252, \
                 ISO-8859-15, windows-1250, Shift_JIS, GB18030; for another: iconv -f NAME -t UTF-8"
                    .into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_known_in_any_case_of_letters() {
        for (label, name) in [
            ("utf8", "UTF-8"),
            ("UTF-8", "UTF-8"),
            (" Utf-16le ", "UTF-16LE"),
            ("utf-16be", "UTF-16BE"),
            ("cp1252", "windows-1252"),
            ("ISO-8859-1", "windows-1252"),
            ("iso-8859-15", "ISO-8859-15"),
            ("sjis", "Shift_JIS"),
        ] {
            let known: Encoding = label.parse().expect(label);
            assert_eq!(known.to_string(), name, "{label}");
        }
    }

    #[test]
    fn a_label_that_is_not_known_gives_examples() {
        for label in [
            "",
            "utf-32",
            "utf-7",
            "ebcdic",
            "iso-2022-kr",
            "replacement",
        ] {
            let error = label.parse::<Encoding>().expect_err(label).to_string();
            assert!(error.contains("windows-1252"), "{label}: {error}");
        }
    }
}
