//! What is said of a database's schema and health.

/// Examples that are named of what is wrong many times.
const EXAMPLES: usize = 3;

/// Migrations that a database has and that this program knows.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// Names of those that were applied, oldest first.
    pub applied: Vec<String>,
    /// Names of those that are still to be applied.
    pub pending: Vec<String>,
}

/// What a look at one thing found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Nothing is to be repaired.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do, where there is something.
    pub repair: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            detail: detail.into(),
            repair: None,
        }
    }

    /// Something is to be repaired.
    pub fn repair(
        name: &'static str,
        detail: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        Self {
            name,
            ok: false,
            detail: detail.into(),
            repair: Some(repair.into()),
        }
    }
}

/// What was found in a database.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// Keys and sizes of the newest output files.
    pub files: Vec<(String, u64)>,
}

/// Something that is wrong many times, with a few examples.
#[derive(Default)]
pub(in crate::store) struct Wrong {
    count: u64,
    examples: Vec<String>,
}

impl Wrong {
    pub(in crate::store) fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }

    pub(in crate::store) fn check(
        self,
        name: &'static str,
        well: impl Into<String>,
        repair: &str,
    ) -> Check {
        if self.count == 0 {
            return Check::ok(name, well);
        }
        let mut detail = self.examples.join("; ");
        let more = self
            .count
            .saturating_sub(u64::try_from(self.examples.len()).unwrap_or(0));
        if more > 0 {
            detail.push_str(&format!("; and {more} more"));
        }
        Check::repair(name, detail, repair)
    }
}
