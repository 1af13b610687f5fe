//! Publishing: a copy within the store from the staging key to the file's own.

use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, MetadataDirective,
    ServerSideEncryption,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::errors::{failed, is_ended, is_missing};
use super::note::Upload;
use super::read::{bytes, encoded};
use super::{Bucket, Encryption, StageError, Staged};
use crate::model::BatchId;

/// Parts of one file that are copied at once.
const COPIES: usize = 4;
/// Under what name an object keeps its SHA-256.
const SHA256: &str = "sha256";

/// The media type that a key's ending stands for.
pub(super) fn content_type(key: &str) -> String {
    let guess = mime_guess::from_path(key);
    guess.first_or_octet_stream().to_string()
}

impl Bucket {
    /// The headers that say how an object is encrypted.
    pub(super) fn sse(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// The checksum of each part, where the store is known to take one.
    pub(super) fn checksum(&self) -> Option<ChecksumAlgorithm> {
        use aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired;
        let asked = self.client.config().request_checksum_calculation();
        (asked != Some(&WhenRequired)).then_some(ChecksumAlgorithm::Crc32)
    }
}

pub(super) async fn publish(bucket: &Bucket, staged: &Staged, key: &str) -> Result<(), StageError> {
    let to = bucket.key(key);
    let copied = if staged.size > bucket.options.copy {
        in_parts(bucket, staged, &to).await?
    } else {
        at_once(bucket, staged, &to).await?
    };
    if copied || is_there(bucket, staged, &to).await? {
        return Ok(());
    }
    Err(StageError {
        what: format!("publishing s3://{}/{to}", bucket.name()),
        source: std::io::Error::other(format!("what was staged as {} is gone", staged.handle)),
    })
}

fn source(bucket: &Bucket, staged: &Staged) -> String {
    format!("{}/{}", bucket.name(), encoded(&staged.handle))
}

/// Copies it by one request; false where nothing is staged any more.
async fn at_once(bucket: &Bucket, staged: &Staged, to: &str) -> Result<bool, StageError> {
    let (sse, kms_key) = bucket.sse();
    let copy = bucket.client.copy_object().bucket(bucket.name()).key(to);
    let copy = copy
        .copy_source(source(bucket, staged))
        .metadata_directive(MetadataDirective::Replace)
        .metadata(SHA256, &staged.sha256)
        .content_type(content_type(to))
        .set_server_side_encryption(sse)
        .set_ssekms_key_id(kms_key);
    match copy.send().await {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(failed("publishing", bucket, to)(error)),
    }
}

/// An earlier try published it and was cut off before it could say so.
async fn is_there(bucket: &Bucket, staged: &Staged, to: &str) -> Result<bool, StageError> {
    let head = bucket.client.head_object().bucket(bucket.name()).key(to);
    match head.send().await {
        Ok(found) => {
            let sum = found.metadata().and_then(|kept| kept.get(SHA256));
            Ok(bytes(found.content_length) == staged.size
                && sum.is_none_or(|sum| *sum == staged.sha256))
        }
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(failed("looking at", bucket, to)(error)),
    }
}

/// Copies it in parts; false where nothing is staged any more.
async fn in_parts(bucket: &Bucket, staged: &Staged, to: &str) -> Result<bool, StageError> {
    let head = bucket.client.head_object().bucket(bucket.name());
    match head.key(&staged.handle).send().await {
        Ok(_) => {}
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(failed("publishing", bucket, to)(error)),
    }
    let upload = begin(bucket, staged, to).await?;
    let copied = copy_parts(bucket, staged, &upload).await;
    let ended = match copied {
        Ok(parts) => complete(bucket, &upload, parts, staged.size).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        // What cannot be ended now is ended by whoever clears the batch.
        drop(upload.abort(bucket).await);
        return Err(error);
    }
    upload.forget(bucket).await?;
    Ok(true)
}

async fn begin(bucket: &Bucket, staged: &Staged, to: &str) -> Result<Upload, StageError> {
    let (sse, kms_key) = bucket.sse();
    // No checksum is asked for: a store may want it of each part, and a copy sends none.
    let create = bucket.client.create_multipart_upload();
    let create = create
        .bucket(bucket.name())
        .key(to)
        .metadata(SHA256, &staged.sha256)
        .content_type(content_type(to))
        .set_server_side_encryption(sse)
        .set_ssekms_key_id(kms_key);
    let begun = create.send().await;
    let begun = begun.map_err(failed("publishing", bucket, to))?;
    let id = begun.upload_id.unwrap_or_default();
    // The handle says whose the file is.
    let batch = super::sweep::batch_of(bucket, &staged.handle);
    match batch {
        Some(batch) => Upload::noted(bucket, batch, to.to_owned(), id).await,
        None => Ok(Upload::listed(to.to_owned(), id)),
    }
}

async fn copy_parts(
    bucket: &Bucket,
    staged: &Staged,
    upload: &Upload,
) -> Result<Vec<CompletedPart>, StageError> {
    let step = bucket.options.copy;
    let starts = (0..staged.size.div_ceil(step)).map(|n| n * step);
    let copies = (1..).zip(starts).map(|(number, from)| async move {
        let last = (from + step).min(staged.size) - 1;
        let copy = bucket.client.upload_part_copy().bucket(bucket.name());
        let copy = copy
            .key(&upload.key)
            .upload_id(&upload.id)
            .part_number(number)
            .copy_source(source(bucket, staged))
            .copy_source_range(format!("bytes={from}-{last}"));
        let copied = copy.send().await;
        let copied = copied.map_err(failed("publishing", bucket, &upload.key))?;
        let part = copied.copy_part_result;
        let (tag, sum) = part.map_or((None, None), |part| (part.e_tag, part.checksum_crc32));
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(tag)
            .set_checksum_crc32(sum)
            .build())
    });
    stream::iter(copies).buffered(COPIES).try_collect().await
}

/// Makes an object of an upload's parts; again after an answer that was lost is no error.
pub(super) async fn complete(
    bucket: &Bucket,
    upload: &Upload,
    parts: Vec<CompletedPart>,
    size: u64,
) -> Result<(), StageError> {
    let whole = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = bucket.client.complete_multipart_upload();
    let complete = complete
        .bucket(bucket.name())
        .key(&upload.key)
        .upload_id(&upload.id)
        .multipart_upload(whole);
    let Err(error) = complete.send().await else {
        return Ok(());
    };
    if is_ended(&error) {
        let head = bucket.client.head_object().bucket(bucket.name());
        let found = head.key(&upload.key).send().await;
        if found.is_ok_and(|found| bytes(found.content_length) == size) {
            return Ok(());
        }
    }
    Err(failed("completing", bucket, &upload.key)(error))
}

/// What a staged file of a batch is called.
pub(super) fn staging_key(bucket: &Bucket, batch: BatchId) -> String {
    format!("{}{}", bucket.staging(batch), uuid::Uuid::now_v7())
}
