//! The ops that this program and its configuration have.

use super::exit::Failure;
use super::session::Session;
use crate::client::Client;
use crate::config::{Config, OpConfig, suggest};
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

fn keys(session: &Session) -> Vec<JobKey> {
    let ops = session.ops().into_iter();
    ops.filter_map(|op| JobKey::new(&op.app, &op.op, op.kind).ok())
        .collect()
}

/// `; is it shop/price?` where one of the ops of the same kind has nearly that name.
fn meant(key: &JobKey, known: &[JobKey]) -> String {
    let same = known.iter().filter(|known| known.kind == key.kind);
    let names: Vec<String> = same.map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match suggest(&key.to_string(), &names) {
        Some(near) => format!("; is it {near}?"),
        None => String::new(),
    }
}

/// The same among the ops that this program and its configuration have.
pub(super) fn meant_here(session: &Session, key: &JobKey) -> String {
    meant(key, &keys(session))
}

/// What can be done where no worker serves an op.
pub(super) fn advice(session: &Session, key: &JobKey) -> Result<String, Failure> {
    if session.builder(None)?.registry().has(key) {
        return Ok(format!("start one: {}", session.command("work")));
    }
    Ok(format!(
        "this program and its configuration have no handler or processor for it{}",
        meant_here(session, key)
    ))
}

/// What is to be said of a submit for an op that nobody has heard of; it is taken all the same, as the
/// processor may be in another program.
pub(super) async fn stranger(
    session: &Session,
    client: &Client,
    key: &JobKey,
) -> Result<Option<String>, Failure> {
    let mut known = keys(session);
    if known.contains(key) || client.has_used(key).await? {
        return Ok(None);
    }
    known.extend(client.ops().await?.into_iter().map(|op| op.key));
    Ok(Some(format!(
        "no {} op {key} is known to this program, its configuration or the database{}\n  it waits until a worker serves it",
        key.kind.as_str(),
        meant(key, &known)
    )))
}
