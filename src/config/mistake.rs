//! What is wrong with a configuration, all of it at once.

use std::fmt;

use super::setting::Origin;

/// Everything that is wrong with a configuration, in the order of the file's lines.
///
/// No message holds a secret. The program that gets it ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines())]
pub struct ConfigError {
    /// What is wrong; never empty.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| match mistake.origin {
            Origin::Default | Origin::Code => (0, 0),
            Origin::File { line, .. } => (1, line),
            Origin::Env(_) => (2, 0),
            Origin::Flag(_) => (3, 0),
        });
        Self { mistakes }
    }

    fn lines(&self) -> String {
        let lines: Vec<String> = self.mistakes.iter().map(Mistake::to_string).collect();
        lines.join("\n")
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was written.
    pub origin: Origin,
    /// The key that it is about, such as `ops."banking/post".timeout`; empty where it is none.
    pub key: String,
    /// What is wrong with it, and what it wants.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, text } = self;
        match origin {
            Origin::File { path, line, .. } => write!(f, "{}:{line}: ", path.display())?,
            Origin::Env(name) | Origin::Flag(name) => return write!(f, "{name}: {text}"),
            Origin::Default | Origin::Code => {}
        }
        if key.is_empty() {
            f.write_str(text)
        } else {
            write!(f, "{key}: {text}")
        }
    }
}
