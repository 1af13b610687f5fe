//! What a role needs that runs rowmill, and neither makes nor changes a table.

use super::Options;
use crate::store::StoreError;

const GRANTS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/sql/postgres_alone/grants.sql"
));

impl Options {
    /// The statements that give a role all that it needs to run rowmill, and no right to make or change a table.
    ///
    /// ```
    /// # fn main() -> Result<(), rowmill::store::StoreError> {
    /// let options = rowmill::store::postgres::Options::new("postgres://h/d")?;
    /// assert!(options.grants("app")?.contains("grant usage on schema \"rowmill\" to \"app\";"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the role's name cannot be one.
    pub fn grants(&self, role: &str) -> Result<String, StoreError> {
        let schema = self.clone().checked()?.schema;
        if role.is_empty() || role.len() > 63 || role.contains(char::is_control) {
            return Err(StoreError::Unusable(
                "a role's name has 1 to 63 bytes and no control characters".to_owned(),
            ));
        }
        let text = GRANTS.replace("SCHEMA", &schema);
        // Last, so that nothing in a role's name counts as a place.
        Ok(text.replace("\"ROLE\"", &format!("\"{}\"", role.replace('"', "\"\""))))
    }
}
