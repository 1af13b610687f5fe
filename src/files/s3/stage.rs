//! Staging: a small file is one request; a larger one is uploaded in parts while it is written.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::errors::failed;
use super::note::Upload;
use super::publish::{complete, staging_key};
use super::{Bucket, Fut, MOST_PART, StageError, Staged, Staging};
use crate::files::hex;
use crate::model::BatchId;
use crate::probe;

/// Parts of one file in flight, beside the one that is being filled.
const PARTS: usize = 2;
/// Parts of one size: S3 takes 10,000, which then hold more than the 5 TiB of its largest object.
const ONE_SIZE: u32 = 1000;

/// How many bytes the part of a number has, from 1.
fn part_size(first: u64, number: u32) -> u64 {
    let doubled = number.saturating_sub(1) / ONE_SIZE;
    let bytes = first.checked_mul(1_u64.checked_shl(doubled).unwrap_or(u64::MAX));
    bytes.unwrap_or(MOST_PART).min(MOST_PART)
}

/// A file that is being staged.
pub(super) struct S3Staging {
    bucket: Arc<Bucket>,
    batch: BatchId,
    key: String,
    buffer: Vec<u8>,
    /// None while a part is hashed, and for ever after that was cut off.
    hash: Option<Sha256>,
    size: u64,
    /// The number of the part that is being filled.
    number: u32,
    upload: Option<Upload>,
    parts: JoinSet<Result<CompletedPart, StageError>>,
    done: Vec<CompletedPart>,
    broken: bool,
}

impl S3Staging {
    pub(super) fn new(bucket: Arc<Bucket>, batch: BatchId) -> Self {
        Self {
            key: staging_key(&bucket, batch),
            bucket,
            batch,
            buffer: Vec::new(),
            hash: Some(Sha256::new()),
            size: 0,
            number: 1,
            upload: None,
            parts: JoinSet::new(),
            done: Vec::new(),
            broken: false,
        }
    }

    fn gone(&self) -> StageError {
        StageError {
            what: format!("writing s3://{}/{}", self.bucket.name(), self.key),
            source: std::io::Error::other("an earlier write failed"),
        }
    }

    async fn take(&mut self, mut bytes: &[u8]) -> Result<(), StageError> {
        while !bytes.is_empty() {
            let full = part_size(self.bucket.options.part, self.number);
            let full = usize::try_from(full).unwrap_or(usize::MAX);
            let room = full.saturating_sub(self.buffer.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= full {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Hashes what is in memory, beside the runtime.
    async fn hashed(&mut self) -> Result<Vec<u8>, StageError> {
        let bytes = std::mem::take(&mut self.buffer);
        let Some(mut hash) = self.hash.take() else {
            return Err(self.gone());
        };
        self.size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let hashing = tokio::task::spawn_blocking(move || {
            hash.update(&bytes);
            (hash, bytes)
        });
        let (hash, bytes) = hashing.await.map_err(|_| self.gone())?;
        self.hash = Some(hash);
        Ok(bytes)
    }

    /// Sends what is in memory as the next part, when there is room for one more in flight.
    async fn send(&mut self) -> Result<(), StageError> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => self.begin().await?,
        };
        let bytes = self.hashed().await?;
        while self.parts.len() >= PARTS {
            self.landed().await?;
        }
        let permit = Arc::clone(&self.bucket.in_flight).acquire_owned().await;
        let permit = permit.map_err(|_| self.gone())?;
        let bucket = Arc::clone(&self.bucket);
        let number = i32::try_from(self.number).unwrap_or(i32::MAX);
        self.number += 1;
        self.parts.spawn(async move {
            let _in_flight = permit;
            let part = bucket.client.upload_part().bucket(bucket.name());
            let part = part
                .key(&upload.key)
                .upload_id(&upload.id)
                .part_number(number)
                .set_checksum_algorithm(bucket.checksum())
                .body(ByteStream::from(bytes));
            let sent = part.send().await;
            let sent = sent.map_err(failed("writing", &bucket, &upload.key))?;
            probe::at("part_sent");
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .set_checksum_crc32(sent.checksum_crc32)
                .build())
        });
        Ok(())
    }

    /// Waits for one part; false where none is in flight.
    async fn landed(&mut self) -> Result<bool, StageError> {
        match self.parts.join_next().await {
            None => Ok(false),
            Some(Ok(part)) => {
                self.done.push(part?);
                Ok(true)
            }
            Some(Err(_)) => Err(self.gone()),
        }
    }

    async fn begin(&mut self) -> Result<Upload, StageError> {
        let (sse, kms_key) = self.bucket.sse();
        let create = self.bucket.client.create_multipart_upload();
        let create = create
            .bucket(self.bucket.name())
            .key(&self.key)
            .set_checksum_algorithm(self.bucket.checksum())
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key);
        let begun = create.send().await;
        let begun = begun.map_err(failed("writing", &self.bucket, &self.key))?;
        let id = begun.upload_id.unwrap_or_default();
        let upload = Upload::noted(&self.bucket, self.batch, self.key.clone(), id).await?;
        self.upload = Some(upload.clone());
        Ok(upload)
    }

    async fn end(&mut self) -> Result<Staged, StageError> {
        if self.upload.is_some() {
            if !self.buffer.is_empty() {
                self.send().await?;
            }
            while self.landed().await? {}
            let mut parts = std::mem::take(&mut self.done);
            parts.sort_by_key(|part| part.part_number);
            if let Some(upload) = self.upload.clone() {
                complete(&self.bucket, &upload, parts, self.size).await?;
                self.upload = None;
                upload.forget(&self.bucket).await?;
            }
        } else {
            self.put().await?;
        }
        let Some(hash) = self.hash.take() else {
            return Err(self.gone());
        };
        Ok(Staged {
            handle: self.key.clone(),
            size: self.size,
            sha256: hex(&hash.finalize()),
        })
    }

    async fn put(&mut self) -> Result<(), StageError> {
        let bytes = self.hashed().await?;
        let (sse, kms_key) = self.bucket.sse();
        let put = self.bucket.client.put_object().bucket(self.bucket.name());
        let put = put
            .key(&self.key)
            .body(ByteStream::from(bytes))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key);
        let put = put.send().await;
        put.map(drop)
            .map_err(failed("writing", &self.bucket, &self.key))
    }
}

impl Staging for S3Staging {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Fut<'a, ()> {
        async move {
            // One that is cut off leaves it so: what it had taken is lost.
            if std::mem::replace(&mut self.broken, true) {
                return Err(self.gone());
            }
            self.take(bytes).await?;
            self.broken = false;
            Ok(())
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> Fut<'static, Staged> {
        async move {
            if self.broken {
                return Err(self.gone());
            }
            self.end().await
        }
        .boxed()
    }
}

impl Drop for S3Staging {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else {
            return;
        };
        // Without a runtime the note stays, and whoever clears the batch ends the upload.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (bucket, mut parts) = (Arc::clone(&self.bucket), std::mem::take(&mut self.parts));
        runtime.spawn(async move {
            // A part that lands after the end of its upload would stay.
            parts.shutdown().await;
            if let Err(error) = upload.abort(&bucket).await {
                tracing::warn!(%error, "an upload could not be ended; it goes when its batch has ended");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::s3::PART;

    #[test]
    fn ten_thousand_parts_hold_the_largest_object() {
        let all: u64 = (1..=10_000).map(|n| part_size(PART, n)).sum();
        assert!(all >= 5 << 40, "{all}");
        assert_eq!(part_size(PART, 1), 8 << 20);
        assert_eq!(part_size(PART, 1000), 8 << 20);
        assert_eq!(part_size(PART, 1001), 16 << 20);
        assert_eq!(part_size(MOST_PART, 10_000), MOST_PART);
    }
}
