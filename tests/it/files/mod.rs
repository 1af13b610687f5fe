//! Object stores: what each of them promises, and what is particular to S3.

mod busy;
mod contract;
mod end_to_end;
mod minio;
mod s3;

use rowmill::ObjectStore;
use rowmill::files::{Staged, Staging};
use rowmill::model::BatchId;
use tokio::io::AsyncReadExt;

/// Stages bytes for a batch.
async fn stage(objects: &ObjectStore, batch: BatchId, bytes: &[u8]) -> Staged {
    let staging = begun(objects, batch, bytes).await;
    staging.finish().await.expect("staged")
}

async fn begun(objects: &ObjectStore, batch: BatchId, bytes: &[u8]) -> Box<dyn Staging> {
    let mut staging = objects.stage(batch).await.expect("begun");
    // As much as a processor writes at once.
    for piece in bytes.chunks(700_001) {
        staging.write(piece).await.expect("written");
    }
    staging
}

async fn read(objects: &ObjectStore, key: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = objects.open(key).await.expect("opened");
    file.read_to_end(&mut bytes).await.expect("read");
    bytes
}

/// Bytes without a pattern that a store could hide behind.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8))
        .flat_map(|_| next())
        .take(len)
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let sum = sha2::Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}
