//! The ops that this program and its configuration have.

use crate::config::{Config, OpConfig};
use crate::model::{JobKey, Kind};
use crate::processor::Registry;

/// Lays the sections of the file over what the program set for its processors, key by key.
pub(super) fn merge(config: &mut Config, registry: &Registry) {
    for op in config.ops.iter_mut().filter(|op| op.handler.is_none()) {
        // A section that names no kind means the one that the program has.
        let kinds = [op.kind, Kind::Query];
        let named = if op.origins.contains_key("kind") {
            1
        } else {
            2
        };
        let found = kinds.into_iter().take(named).find_map(|kind| {
            let key = JobKey::new(&op.app, &op.op, kind).ok()?;
            Some((kind, registry.settings_of(&key)?))
        });
        if let Some((kind, settings)) = found {
            *op = op.clone().over(kind, &settings);
        }
    }
}

/// Every op of the file, in its order, then those that the program alone has.
pub(super) fn all(config: &Config, registry: &Registry) -> Vec<OpConfig> {
    let mut ops = config.ops.clone();
    for op in registry.ops() {
        let key = &op.key;
        let written = |known: &OpConfig| {
            known.is(key.app.as_str(), key.op.as_str()) && known.kind == key.kind
        };
        if !config.ops.iter().any(written) {
            ops.push(OpConfig::unwritten(key).over(key.kind, &op.settings));
        }
    }
    ops
}
