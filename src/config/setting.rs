//! A value in force, and where it came from.

use std::fmt;
use std::path::PathBuf;

use super::mask::{HIDDEN, mask};

/// A value in force, and where it came from. Its `Debug` form shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// A value that nobody set.
    pub fn by_default(value: T) -> Self {
        Self {
            value,
            origin: Origin::Default,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = format!("{:?}", self.value);
        write!(f, "{} ({})", self.origin.shown(&value), self.origin)
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The program: what it registered.
    Code,
    /// The configuration file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
        /// The variable that the file refers to by `env:NAME`, which makes the value a secret.
        env: Option<String>,
    },
    /// The environment: the variable's name.
    Env(String),
    /// The command line: the flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// Whether the value was taken from the environment by `env:NAME`, and so is never shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::File { env: Some(_), .. })
    }

    /// `value` as people may see it: masked where it is secret or holds a URL with a password.
    pub(super) fn shown(&self, value: &str) -> String {
        if self.is_secret() {
            HIDDEN.to_owned()
        } else {
            mask(value)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Code => f.write_str("code"),
            Self::File { path, line, env } => {
                write!(f, "{}:{line}", path.display())?;
                match env {
                    Some(name) => write!(f, ", env:{name}"),
                    None => Ok(()),
                }
            }
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}
