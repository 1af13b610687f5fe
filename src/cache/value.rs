//! The text of a status: `1` and a JSON object, in which nothing is left out that a status has.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{Batch, BatchId, Counts, Kind, OutputFile, Status, Timestamp};

/// The version of the form. A text of any other begins with something else, and is a miss.
const VERSION: &str = "1";
/// What stands where a status was taken away: no version's.
pub(super) const GONE: &str = "-";

/// A status as it is kept. Progress is not: it is made from the time at which it is asked for.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: BatchId,
    app: String,
    op: String,
    kind: Kind,
    status: Status,
    done: bool,
    counts: Counts,
    context: Box<RawValue>,
    priority: i32,
    parent: Option<BatchId>,
    root: BatchId,
    generation: u32,
    external_id: Option<String>,
    created_by: String,
    created_at: Timestamp,
    run_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    done_at: Option<Timestamp>,
    aborting: bool,
    files: Vec<OutputFile>,
    /// None for a batch, an empty list for a query without one: a result may be `null`.
    result: Option<Vec<Box<RawValue>>>,
    messages: Option<Vec<Box<RawValue>>>,
    columns: Option<Vec<String>>,
    purged_at: Option<Timestamp>,
}

type Text = Option<Option<Box<RawValue>>>;

fn list(text: Text) -> Option<Vec<Box<RawValue>>> {
    text.map(|text| text.into_iter().collect())
}

fn text(list: Option<Vec<Box<RawValue>>>) -> Text {
    list.map(|list| list.into_iter().next())
}

/// The text of a status; `None` where it cannot be written.
pub(super) fn encode(batch: &Batch) -> Option<String> {
    let Batch {
        id,
        app,
        op,
        kind,
        status,
        done,
        counts,
        context,
        priority,
        parent,
        root,
        generation,
        external_id,
        created_by,
        created_at,
        run_at,
        expires_at,
        started_at,
        done_at,
        aborting,
        progress: _,
        files,
        result,
        messages,
        columns,
        purged_at,
    } = batch.clone();
    let kept = Kept {
        id,
        app: app.as_str().to_owned(),
        op: op.as_str().to_owned(),
        kind,
        status,
        done,
        counts,
        context,
        priority,
        parent,
        root,
        generation,
        external_id,
        created_by,
        created_at,
        run_at,
        expires_at,
        started_at,
        done_at,
        aborting,
        files,
        result: list(result),
        messages: list(messages),
        columns,
        purged_at,
    };
    let json = serde_json::to_string(&kept).ok()?;
    Some(format!("{VERSION}{json}"))
}

/// The status of a text; `None` where it is of another version, another batch, or damaged.
pub(super) fn decode(of: BatchId, kept: &str) -> Option<Batch> {
    let kept: Kept = serde_json::from_str(kept.strip_prefix(VERSION)?).ok()?;
    let Kept {
        id,
        app,
        op,
        kind,
        status,
        done,
        counts,
        context,
        priority,
        parent,
        root,
        generation,
        external_id,
        created_by,
        created_at,
        run_at,
        expires_at,
        started_at,
        done_at,
        aborting,
        files,
        result,
        messages,
        columns,
        purged_at,
    } = kept;
    let batch = Batch {
        id,
        app: app.parse().ok()?,
        op: op.parse().ok()?,
        kind,
        status,
        done,
        counts,
        context,
        priority,
        parent,
        root,
        generation,
        external_id,
        created_by,
        created_at,
        run_at,
        expires_at,
        started_at,
        done_at,
        aborting,
        progress: None,
        files,
        result: text(result),
        messages: text(messages),
        columns,
        purged_at,
    };
    (id == of).then_some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn batch() -> Batch {
        let id = BatchId::new();
        let at = |us| Some(Timestamp::from_microsecond(us).unwrap());
        Batch {
            id,
            app: "Bank".parse().unwrap(),
            op: "post".parse().unwrap(),
            kind: Kind::Query,
            status: Status::Failed,
            done: true,
            counts: Counts {
                rows: 9,
                success: 4,
                failed: 3,
                aborted: 2,
                expired: 0,
                pending: 0,
            },
            context: raw(r#"{"a" : 1e200000, "b":"\u0000"}"#),
            priority: -7,
            parent: Some(BatchId::new()),
            root: id,
            generation: 2,
            external_id: Some("March \u{1F4B6}.csv".to_owned()),
            created_by: "ann".to_owned(),
            created_at: at(1_700_000_000_123_456).unwrap(),
            run_at: at(1),
            expires_at: at(2),
            started_at: at(3),
            done_at: at(4),
            aborting: false,
            progress: None,
            files: vec![OutputFile {
                name: "a.csv".to_owned(),
                key: "Bank/post/x/a.csv".to_owned(),
                size: 1 << 40,
                sha256: "00".to_owned(),
                content_type: "text/csv".to_owned(),
            }],
            result: Some(Some(raw("null"))),
            messages: Some(None),
            columns: Some(vec!["n".to_owned()]),
            purged_at: at(5),
        }
    }

    #[test]
    fn a_status_is_read_back_as_it_was() {
        let mut batch = batch();
        for (result, messages) in [
            (Some(Some(raw("null"))), Some(None)),
            (None, None),
            (Some(None), Some(Some(raw(r#"[{"msgid":1}]"#)))),
        ] {
            (batch.result, batch.messages) = (result, messages);
            let read = decode(batch.id, &encode(&batch).unwrap()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{batch:?}"));
        }
    }

    #[test]
    fn another_version_another_batch_and_damage_are_misses() {
        let batch = batch();
        let text = encode(&batch).unwrap();
        assert!(decode(BatchId::new(), &text).is_none());
        assert!(decode(batch.id, &text.replacen('1', "2", 1)).is_none());
        assert!(decode(batch.id, text.get(..text.len() - 1).unwrap()).is_none());
        assert!(decode(batch.id, GONE).is_none());
        assert!(decode(batch.id, "").is_none());
    }
}
