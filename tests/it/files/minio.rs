//! What only a fuller S3 server shows: encryption, versions, the uploads that are unfinished.

use std::time::Duration;

use rowmill::ObjectStore;
use rowmill::files::s3::aws_sdk_s3::Client;
use rowmill::files::s3::aws_sdk_s3::config::{Credentials, RequestChecksumCalculation};
use rowmill::files::s3::aws_sdk_s3::operation::head_object::HeadObjectOutput;
use rowmill::files::s3::aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use rowmill::files::s3::{Encryption, Options};
use rowmill::model::BatchId;

use super::{begun, noise, read, stage};
use crate::support::minio::Bucket;
use crate::support::s3::{KEY, PREFIX, SECRET, client};

const LONG: Duration = Duration::from_secs(60);
/// Bytes that are one request, and those of an upload in parts.
const SIZES: [usize; 2] = [100_000, 12 << 20];

async fn head(bucket: &Bucket, key: &str) -> HeadObjectOutput {
    let head = bucket.client().head_object().bucket(bucket.name()).key(key);
    head.send().await.expect("it is there")
}

/// How an object is encrypted, as the server says.
async fn encryption(bucket: &Bucket, key: &str) -> (Option<String>, Option<String>) {
    let head = head(bucket, key).await;
    let with = head.server_side_encryption().map(|sse| sse.to_string());
    (with, head.ssekms_key_id().map(str::to_owned))
}

/// Options by which a file of 12 MiB is published by one copy, and by a copy in parts.
fn copies(bucket: &Bucket) -> [Options; 2] {
    [bucket.options(), bucket.options().copy_bytes(5 << 20)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_and_published_files_are_encrypted_as_asked() {
    let bucket = Bucket::fresh();
    for (asked, sse, kms_key) in [
        (Encryption::Aes256, "AES256", None),
        (
            Encryption::Kms(Some("rowmill-test".to_owned())),
            "aws:kms",
            Some("rowmill-test"),
        ),
        (Encryption::Kms(None), "aws:kms", Some("rowmill-test")),
    ] {
        for options in copies(&bucket) {
            let objects = ObjectStore::s3(bucket.client(), options.encryption(asked.clone()));
            objects.check().await.expect("it can be used");
            for len in SIZES {
                let (batch, bytes) = (BatchId::new(), noise(len));
                let staged = stage(&objects, batch, &bytes).await;
                let key = format!("bank/post/{batch}/a.csv");
                objects.publish(&staged, &key).await.expect("published");
                for key in [&staged.handle, &format!("{PREFIX}/{key}")] {
                    let (with, by) = encryption(&bucket, key).await;
                    assert_eq!(with.as_deref(), Some(sse), "{key} of {len}");
                    let by = by.as_deref().map(|by| by.rsplit(':').next().unwrap());
                    assert_eq!(by, kms_key, "{key} of {len}");
                }
                assert!(read(&objects, &key).await == bytes);
                assert!(!bucket.has_on_disk(&bytes[..64]), "{asked:?} {len}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_encryption_the_buckets_own_rule_holds() {
    let bucket = Bucket::fresh();
    let (objects, bytes) = (bucket.objects(), noise(SIZES[0]));
    let staged = stage(&objects, BatchId::new(), &bytes).await;
    objects.publish(&staged, "a/b/c/d").await.unwrap();
    let key = format!("{PREFIX}/a/b/c/d");
    assert_eq!(encryption(&bucket, &key).await, (None, None));
    // So that it means something where it is not.
    assert!(bucket.has_on_disk(&bytes[..64]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_store_does_not_have_is_told_before_a_row_runs() {
    let bucket = Bucket::fresh();
    let options = bucket.options();
    let options = options.encryption(Encryption::Kms(Some("no-such-key".to_owned())));
    let objects = ObjectStore::s3(bucket.client(), options);
    let told = objects.check().await.expect_err("no key").to_string();
    assert!(told.contains("writing s3://"), "{told}");
    assert!(!told.contains(SECRET) && !told.contains(KEY), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_upload_is_listed_until_its_batch_is_cleared() {
    let bucket = Bucket::fresh();
    let (batch, other) = (BatchId::new(), BatchId::new());
    for batch in [batch, other] {
        // A process that is killed drops nothing.
        std::mem::forget(begun(&bucket.objects(), batch, &noise(20 << 20)).await);
    }
    assert_eq!((bucket.uploads(), bucket.keys().len()), (2, 2));
    let objects = bucket.objects();
    let mut staged = objects.staged().await.unwrap();
    staged.sort();
    assert_eq!(staged, [batch, other]);
    objects.clear(batch).await.expect("cleared");
    assert_eq!((bucket.uploads(), bucket.keys().len()), (1, 1));
    objects.clear(other).await.expect("cleared");
    assert_eq!((bucket.uploads(), bucket.keys().len()), (0, 0));
    assert_eq!(objects.staged().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_not_noted_is_found_in_the_stores_list() {
    // With a prefix MinIO lists only the uploads of the key that the prefix is.
    let bucket = Bucket::fresh();
    let batch = BatchId::new();
    let begin = bucket.client().create_multipart_upload();
    let begin = begin.bucket(bucket.name());
    let key = format!(".staging/{batch}/0");
    begin.key(key).send().await.expect("begun");
    assert_eq!(bucket.uploads(), 1);
    let objects = ObjectStore::s3(bucket.client(), bucket.name());
    assert_eq!(objects.staged().await.unwrap(), [batch]);
    objects.clear(BatchId::new()).await.expect("another's");
    assert_eq!(bucket.uploads(), 1);
    objects.clear(batch).await.expect("cleared");
    assert_eq!(bucket.uploads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_dropped_is_ended() {
    let bucket = Bucket::fresh();
    drop(begun(&bucket.objects(), BatchId::new(), &noise(20 << 20)).await);
    let ended = async {
        while bucket.uploads() > 0 || !bucket.keys().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("it ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_in_parts_leaves_no_upload() {
    let bucket = Bucket::fresh();
    let [_, options] = copies(&bucket);
    let objects = ObjectStore::s3(bucket.client(), options);
    let (batch, bytes) = (BatchId::new(), noise(SIZES[1]));
    let staged = stage(&objects, batch, &bytes).await;
    for _ in 0..2 {
        objects.publish(&staged, "a/b/c/d").await.unwrap();
        assert!(read(&objects, "a/b/c/d").await == bytes);
    }
    objects.clear(batch).await.expect("cleared");
    objects.publish(&staged, "a/b/c/d").await.expect("there");
    assert_eq!((bucket.uploads(), bucket.keys().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_whole_by_a_client_with_checksums_too() {
    let bucket = Bucket::fresh();
    let config = bucket.client().config().to_builder();
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    let client = Client::from_conf(config.build());
    for options in copies(&bucket) {
        let objects = ObjectStore::s3(client.clone(), options);
        for len in SIZES {
            let bytes = noise(len);
            let staged = stage(&objects, BatchId::new(), &bytes).await;
            objects.publish(&staged, "a/b/c/d").await.unwrap();
            assert!(read(&objects, "a/b/c/d").await == bytes);
        }
    }
    assert_eq!(bucket.uploads(), 0);
}

/// How many versions and how many marks of a removal there are below a prefix.
async fn versions(bucket: &Bucket, prefix: &str) -> (usize, usize) {
    let list = bucket.client().list_object_versions().bucket(bucket.name());
    let found = list.prefix(prefix).send().await.expect("a list");
    (found.versions().len(), found.delete_markers().len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_versions_are_kept_a_file_is_its_newest_and_is_gone_when_removed() {
    let bucket = Bucket::fresh();
    let rule = VersioningConfiguration::builder();
    let rule = rule.status(BucketVersioningStatus::Enabled).build();
    let put = bucket
        .client()
        .put_bucket_versioning()
        .bucket(bucket.name());
    put.versioning_configuration(rule).send().await.unwrap();
    for options in copies(&bucket) {
        let objects = ObjectStore::s3(bucket.client(), options);
        objects.check().await.expect("it can be used");
        let batch = BatchId::new();
        let (folder, bytes) = (format!("bank/post/{batch}"), noise(SIZES[1]));
        let key = format!("{folder}/a.csv");
        for bytes in [b"an older one".as_slice(), &bytes] {
            let staged = stage(&objects, batch, bytes).await;
            for _ in 0..2 {
                objects.publish(&staged, &key).await.expect("published");
                assert!(read(&objects, &key).await == bytes);
            }
            objects.clear(batch).await.expect("cleared");
            objects.publish(&staged, &key).await.expect("it is there");
        }
        assert_eq!(bucket.keys(), std::slice::from_ref(&key));
        assert_eq!(objects.staged().await.unwrap(), []);

        for _ in 0..2 {
            objects.remove(&folder).await.expect("removed");
            assert_eq!(objects.size(&key).await.unwrap(), None);
            assert!(objects.open(&key).await.is_err());
        }
        assert_eq!((bucket.keys().len(), bucket.uploads()), (0, 0));
        // What is gone is kept by the bucket alone: docs/objects.md says what rule takes it.
        let kept = versions(&bucket, &format!("{PREFIX}/{key}")).await;
        assert_eq!(kept, (4, 1));
        // It is not taken for a file that is there.
        let staged = stage(&objects, batch, b"one").await;
        objects.clear(batch).await.expect("cleared");
        assert!(objects.publish(&staged, &key).await.is_err());
    }
}

async fn refusal(objects: &ObjectStore) -> String {
    let told = objects.check().await.expect_err("it cannot be used");
    let told = format!("{}: {}", told.what, told.source);
    assert!(!told.contains(SECRET) && !told.contains(KEY), "{told}");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_used_says_why() {
    let bucket = Bucket::fresh();
    let told = refusal(&ObjectStore::s3(bucket.client(), "no-such-bucket")).await;
    let why = "there is no bucket no-such-bucket (NoSuchBucket)";
    assert!(told.contains(why), "{told}");

    let secret = client(bucket.endpoint(), "another");
    let config = bucket.client().config().to_builder();
    let nobody = Credentials::new("nobody", "another", None, None, "test");
    let nobody = Client::from_conf(config.credentials_provider(nobody).build());
    for (wrong, code) in [
        (secret, "SignatureDoesNotMatch"),
        (nobody, "InvalidAccessKeyId"),
    ] {
        let told = refusal(&ObjectStore::s3(wrong, bucket.name())).await;
        let why = format!("the credentials are not accepted ({code})");
        assert!(told.contains(&why), "{told}");
    }
    let gone = bucket.client().delete_bucket().bucket(bucket.name());
    gone.send().await.expect("nothing was left in it");
    let told = refusal(&bucket.objects()).await;
    assert!(told.contains("(NoSuchBucket)"), "{told}");
}
