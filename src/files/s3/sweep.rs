//! Looking for what is staged, and removing: a batch's staged files and unfinished uploads, a folder's objects.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::errors::{failed, is_missing, is_unknown};
use super::note::Upload;
use super::{Bucket, STAGING, StageError};
use crate::model::BatchId;

/// Keys that one request lists or removes: S3 takes no more.
const KEYS: i32 = 1000;

/// Lists, writes, reads and removes an object that is no file: what every batch will need.
pub(super) async fn check(bucket: &Bucket) -> Result<(), StageError> {
    let key = bucket.key(&format!("{STAGING}check"));
    // It comes first: a bucket that is not there is told as that by every store.
    list(bucket, &key, None).await?;
    uploads(bucket).await?;
    let (sse, kms_key) = bucket.sse();
    let put = bucket.client.put_object().bucket(bucket.name()).key(&key);
    let put = put
        .body(ByteStream::from_static(b""))
        .set_server_side_encryption(sse)
        .set_ssekms_key_id(kms_key);
    put.send().await.map_err(failed("writing", bucket, &key))?;
    let get = bucket.client.get_object().bucket(bucket.name()).key(&key);
    match get.send().await {
        // Others check it at the same moment, and remove it.
        Err(error) if !is_missing(&error) => return Err(failed("reading", bucket, &key)(error)),
        _ => {}
    }
    delete(bucket, vec![key]).await
}

/// One page of keys.
struct Page {
    keys: Vec<String>,
    next: Option<String>,
}

async fn list(bucket: &Bucket, prefix: &str, from: Option<String>) -> Result<Page, StageError> {
    let list = bucket.client.list_objects_v2().bucket(bucket.name());
    let list = list
        .prefix(prefix)
        .max_keys(KEYS)
        .set_continuation_token(from);
    let found = list.send().await;
    let found = found.map_err(failed("listing", bucket, prefix))?;
    let keys = found.contents.unwrap_or_default();
    Ok(Page {
        keys: keys.into_iter().filter_map(|object| object.key).collect(),
        next: found.next_continuation_token,
    })
}

/// Removes objects; one that is not there is no error.
pub(super) async fn delete(bucket: &Bucket, keys: Vec<String>) -> Result<(), StageError> {
    for keys in keys.chunks(usize::try_from(KEYS).unwrap_or(1)) {
        if let [key] = keys {
            let delete = bucket.client.delete_object().bucket(bucket.name());
            let deleted = delete.key(key).send().await;
            deleted.map_err(failed("removing", bucket, key))?;
            continue;
        }
        let named = keys.iter().map(|key| ObjectIdentifier::builder().key(key));
        let named: Result<Vec<_>, _> = named.map(|named| named.build()).collect();
        let what = || format!("removing s3://{}/{}", bucket.name(), keys[0]);
        let named = named.and_then(|named| {
            let all = Delete::builder().set_objects(Some(named));
            all.quiet(true).build()
        });
        let named = named.map_err(|error| StageError {
            what: what(),
            source: std::io::Error::other(error),
        })?;
        let delete = bucket.client.delete_objects().bucket(bucket.name());
        let deleted = delete.delete(named).send().await;
        let deleted = deleted.map_err(failed("removing", bucket, &keys[0]))?;
        if let Some(error) = deleted.errors().first() {
            let (key, code) = (error.key(), error.code());
            return Err(StageError {
                what: format!(
                    "removing s3://{}/{}",
                    bucket.name(),
                    key.unwrap_or_default()
                ),
                source: std::io::Error::other(format!(
                    "the store answered {}",
                    code.unwrap_or("an error")
                )),
            });
        }
    }
    Ok(())
}

/// Removes every object whose key begins with this folder.
pub(super) async fn remove(bucket: &Bucket, folder: &str) -> Result<(), StageError> {
    let prefix = bucket.key(&format!("{folder}/"));
    let mut from = None;
    loop {
        let page = list(bucket, &prefix, from).await?;
        delete(bucket, page.keys).await?;
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// The batch that a staged file, a note or a published file belongs to.
pub(super) fn batch_of(bucket: &Bucket, key: &str) -> Option<BatchId> {
    let key = key.strip_prefix(&bucket.options.prefix)?;
    let batch = match key.strip_prefix(STAGING) {
        Some(staged) => staged.split('/').next(),
        // app/op/batch/name
        None => key.split('/').nth(2),
    };
    batch?.parse().ok()
}

/// The batches for which something is staged.
pub(super) async fn staged(bucket: &Bucket) -> Result<Vec<BatchId>, StageError> {
    let prefix = bucket.key(STAGING);
    let mut batches = BTreeSet::new();
    let mut from = None;
    loop {
        // Not folder by folder: a store that keeps versions may list one in which all was removed.
        let page = list(bucket, &prefix, from).await?;
        // What has another name was put there by others.
        batches.extend(page.keys.iter().filter_map(|key| batch_of(bucket, key)));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    let uploads = uploads(bucket).await?;
    batches.extend(uploads.iter().filter_map(|u| batch_of(bucket, &u.key)));
    Ok(batches.into_iter().collect())
}

/// Removes what is staged for a batch, and ends its uploads.
pub(super) async fn clear(bucket: &Bucket, batch: BatchId) -> Result<(), StageError> {
    let staged = clear_keys(bucket, batch);
    let (cleared, uploads) = futures_util::join!(staged, uploads(bucket));
    cleared?;
    for upload in uploads? {
        if batch_of(bucket, &upload.key) == Some(batch) {
            upload.abort(bucket).await?;
        }
    }
    Ok(())
}

async fn clear_keys(bucket: &Bucket, batch: BatchId) -> Result<(), StageError> {
    let prefix = bucket.staging(batch);
    let mut from = None;
    loop {
        let page = list(bucket, &prefix, from).await?;
        for note in page.keys.iter().filter(|key| Upload::is_note(key)) {
            if let Some(upload) = Upload::read(bucket, note.clone()).await? {
                upload.abort(bucket).await?;
            }
        }
        delete(bucket, page.keys).await?;
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// The unfinished uploads below the prefix; none where the store cannot say.
async fn uploads(bucket: &Bucket) -> Result<Vec<Upload>, StageError> {
    let mut found = Vec::new();
    let (mut key, mut id) = (None, None);
    // A process that cannot list them need not ask again.
    while !bucket.said.load(Ordering::Relaxed) {
        let list = bucket.client.list_multipart_uploads();
        let list = list
            .bucket(bucket.name())
            .prefix(&bucket.options.prefix)
            .set_key_marker(key)
            .set_upload_id_marker(id);
        let page = match list.send().await {
            Ok(page) => page,
            Err(error) if is_unknown(&error) => {
                if !bucket.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        bucket = bucket.name(),
                        "the store cannot list unfinished uploads: only those that are noted are ended"
                    );
                }
                break;
            }
            Err(error) => return Err(failed("listing", bucket, &bucket.options.prefix)(error)),
        };
        let uploads = page.uploads.unwrap_or_default().into_iter();
        found.extend(uploads.filter_map(|u| Some(Upload::listed(u.key?, u.upload_id?))));
        if page.is_truncated != Some(true) {
            break;
        }
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
    }
    Ok(found)
}
