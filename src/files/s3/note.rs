//! A note beside staged files that says which upload is under way, so that anyone can end it.
//!
//! Not every store lists its unfinished uploads, and some list only those of one key.

use aws_sdk_s3::primitives::ByteStream;

use super::errors::{failed, is_ended, is_missing};
use super::{Bucket, StageError};
use crate::model::BatchId;

/// What the key of a note ends in.
const ENDING: &str = ".upload";

/// An upload in parts that has begun.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) id: String,
    /// The note about it; a listed upload may have none.
    note: Option<String>,
}

impl Upload {
    pub(super) fn listed(key: String, id: String) -> Self {
        Self {
            key,
            id,
            note: None,
        }
    }

    /// Notes an upload that was made for a batch.
    pub(super) async fn noted(
        bucket: &Bucket,
        batch: BatchId,
        key: String,
        id: String,
    ) -> Result<Self, StageError> {
        let note = format!("{}{}{ENDING}", bucket.staging(batch), uuid::Uuid::now_v7());
        let text = format!("{id}\n{key}");
        let mut upload = Self {
            key,
            id,
            note: None,
        };
        let written = bucket.client.put_object().bucket(bucket.name()).key(&note);
        let written = written.body(ByteStream::from(text.into_bytes())).send();
        match written.await {
            Ok(_) => {
                upload.note = Some(note);
                Ok(upload)
            }
            Err(error) => {
                upload.abort(bucket).await?;
                Err(failed("writing", bucket, &note)(error))
            }
        }
    }

    /// Whether a staged key is that of a note.
    pub(super) fn is_note(key: &str) -> bool {
        key.ends_with(ENDING)
    }

    /// The upload that a note is about; none where the note is gone or is none of ours.
    pub(super) async fn read(bucket: &Bucket, note: String) -> Result<Option<Self>, StageError> {
        let get = bucket.client.get_object().bucket(bucket.name()).key(&note);
        let body = match get.send().await {
            Ok(found) => found.body,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(failed("reading", bucket, &note)(error)),
        };
        let bytes = body.collect().await.map_err(|error| StageError {
            what: format!("reading s3://{}/{note}", bucket.name()),
            source: error.into(),
        })?;
        let text = String::from_utf8_lossy(&bytes.into_bytes()).into_owned();
        Ok(text.split_once('\n').map(|(id, key)| Self {
            key: key.to_owned(),
            id: id.to_owned(),
            note: Some(note),
        }))
    }

    /// Ends the upload without an object; one that has ended is no error.
    pub(super) async fn abort(&self, bucket: &Bucket) -> Result<(), StageError> {
        let abort = bucket.client.abort_multipart_upload();
        let abort = abort.bucket(bucket.name()).key(&self.key);
        match abort.upload_id(&self.id).send().await {
            Err(error) if !is_ended(&error) => {
                return Err(failed("ending the upload of", bucket, &self.key)(error));
            }
            _ => {}
        }
        self.forget(bucket).await
    }

    /// Removes the note: the upload has ended.
    pub(super) async fn forget(&self, bucket: &Bucket) -> Result<(), StageError> {
        let Some(note) = &self.note else {
            return Ok(());
        };
        let delete = bucket.client.delete_object().bucket(bucket.name());
        let deleted = delete.key(note).send().await;
        deleted.map(drop).map_err(failed("removing", bucket, note))
    }
}
