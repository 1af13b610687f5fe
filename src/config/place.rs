//! `sqlite:PATH` and `file:PATH`: where a database or a folder is.

use std::path::Path;

use super::NOT_YET;
use super::reader::{Given, Reader};
use super::setting::{Origin, Setting};

/// A key whose value is a scheme and a path.
pub(super) struct Place {
    scheme: &'static str,
    default: &'static str,
    schemes_to_come: &'static [&'static str],
}

impl Place {
    pub(super) const DATABASE: Self = Self {
        scheme: "sqlite",
        default: "sqlite:rowmill.db",
        schemes_to_come: &["postgres", "postgresql"],
    };
    pub(super) const OBJECTS: Self = Self {
        scheme: "file",
        default: "file:rowmill-files",
        schemes_to_come: &["s3"],
    };

    /// The value in force, its path as seen from the current directory.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_>,
        given: Option<Given>,
        dir: &Path,
    ) -> Setting<String> {
        super::setting(given, self.default.to_owned(), |given| {
            match self.locate(given, dir) {
                Ok(place) => Some(place),
                Err(why) => {
                    reader.refuse(given.origin.clone(), &given.key, why);
                    None
                }
            }
        })
    }

    /// No message repeats the value: it may hold a password that is not where one is looked for.
    fn locate(&self, given: &Given, dir: &Path) -> Result<String, String> {
        let Self {
            scheme,
            default,
            schemes_to_come,
        } = self;
        let wants = || format!("must be {scheme}:PATH, such as {default}");
        let Some((found, path)) = given.text.split_once(':') else {
            return Err(wants());
        };
        if schemes_to_come
            .iter()
            .any(|s| found.eq_ignore_ascii_case(s))
        {
            return Err(format!("{found}:// {NOT_YET}; {}", wants()));
        }
        if !found.eq_ignore_ascii_case(scheme) {
            return Err(wants());
        }
        let path = match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(format!("names a host after //, and has none; {}", wants())),
            None => path,
        };
        if path.is_empty() || path == ":memory:" || path.contains('\0') {
            return Err(format!("names nothing on disk; {}", wants()));
        }
        // A shell writes it out at a word's beginning alone, and a folder of that name is no user's home.
        if path == "~" || path.starts_with("~/") {
            return Err(format!(
                "~ is not your home here: write the path out; {}",
                wants()
            ));
        }
        let relative_to_file = matches!(given.origin, Origin::File { .. });
        if !relative_to_file {
            return Ok(format!("{scheme}:{path}"));
        }
        match dir.join(path).to_str() {
            Some(path) => Ok(format!("{scheme}:{path}")),
            None => Err(
                "starts at the file's folder, whose name is not UTF-8; write an absolute path"
                    .to_owned(),
            ),
        }
    }
}
