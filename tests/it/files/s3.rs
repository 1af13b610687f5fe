//! What is particular to S3: parts, uploads, encryption, errors that name their cause, links.

use std::time::Duration;

use rowmill::ObjectStore;
use rowmill::files::StageError;
use rowmill::files::s3::aws_sdk_s3::Client;
use rowmill::files::s3::aws_sdk_s3::config::RequestChecksumCalculation;
use rowmill::files::s3::{Encryption, Options};
use rowmill::model::BatchId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{begun, noise, read, stage};
use crate::support::s3::{BUCKET, KEY, PREFIX, S3, SECRET, client, connection};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_in_parts_two_at_once() {
    let s3 = S3::start();
    let objects = s3.objects();
    stage(&objects, BatchId::new(), &noise(36 << 20)).await;
    let asked = s3.asked();
    let parts: Vec<u64> = asked
        .iter()
        .filter(|ask| ask.is_part())
        .map(|ask| ask.bytes)
        .collect();
    let mut sorted = parts.clone();
    sorted.sort_unstable();
    // What is in memory: the parts on their way and the one that is being filled.
    assert_eq!(sorted, [[4 << 20].as_slice(), &[8 << 20; 4]].concat());
    assert!(s3.most_parts() <= 2, "{}", s3.most_parts());
    drop(asked);
    assert_eq!(s3.uploads(), 0);
}

#[tokio::test]
async fn a_small_file_is_one_request() {
    let s3 = S3::start();
    let objects = s3.objects();
    stage(&objects, BatchId::new(), &noise((8 << 20) - 1)).await;
    let asked = s3.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0]
            .line
            .starts_with("PUT /reports/row%20mill/.staging/")
    );
}

#[tokio::test]
async fn a_file_over_the_limit_is_copied_in_parts() {
    let s3 = S3::start();
    let options = Options::new(BUCKET).prefix(PREFIX).copy_bytes(5 << 20);
    let objects = ObjectStore::s3(s3.client(), options);
    let (batch, bytes) = (BatchId::new(), noise(12 << 20));
    let key = format!("bank/post/{batch}/a b.csv");
    let staged = stage(&objects, batch, &bytes).await;
    for _ in 0..2 {
        objects.publish(&staged, &key).await.expect("published");
        assert!(read(&objects, &key).await == bytes);
    }
    objects.clear(batch).await.expect("cleared");
    objects.publish(&staged, &key).await.expect("it is there");
    assert_eq!((s3.keys(), s3.uploads()), (vec![key], 0));
}

#[tokio::test]
async fn each_part_has_its_checksum_where_the_store_takes_one() {
    let s3 = S3::start();
    let config = s3.client().config().to_builder();
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    let client = Client::from_conf(config.build());
    let options = Options::new(BUCKET).prefix(PREFIX).copy_bytes(5 << 20);
    let (objects, bytes) = (ObjectStore::s3(client, options), noise(20 << 20));
    let staged = stage(&objects, BatchId::new(), &bytes).await;
    objects
        .publish(&staged, "a/b/c/d")
        .await
        .expect("published");
    assert!(read(&objects, "a/b/c/d").await == bytes);
    let asked = s3.asked();
    let parts = asked.iter().filter(|ask| ask.is_part());
    let sums: Vec<_> = parts.map(|ask| ask.crc32.is_some()).collect();
    assert_eq!(sums, [true; 3]);
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_ended() {
    let s3 = S3::start();
    let objects = s3.objects();
    let staging = begun(&objects, BatchId::new(), &noise(20 << 20)).await;
    assert_eq!((s3.uploads(), s3.keys().len()), (1, 1), "it, and its note");
    drop(staging);
    let ended = async {
        while s3.uploads() > 0 || !s3.keys().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("it ended");
}

#[tokio::test]
async fn an_abandoned_upload_is_ended_by_whoever_clears_its_batch() {
    let s3 = S3::start();
    let batch = BatchId::new();
    std::mem::forget(begun(&s3.objects(), batch, &noise(20 << 20)).await);
    assert_eq!(s3.uploads(), 1);
    // Another process; and this server cannot list uploads.
    let objects = s3.objects();
    assert_eq!(objects.staged().await.unwrap(), [batch]);
    objects.clear(batch).await.expect("cleared");
    assert_eq!((s3.uploads(), s3.keys().len()), (0, 0));
    let asked = s3.asked();
    let listed = asked
        .iter()
        .filter(|ask| ask.line.starts_with("GET") && ask.line.contains("?uploads"));
    assert_eq!(listed.count(), 1, "it is not asked again");
}

#[tokio::test]
async fn every_object_is_encrypted_as_asked() {
    for (encryption, sse, kms_key) in [
        (Encryption::Aes256, "AES256", None),
        (
            Encryption::Kms(Some("k1".to_owned())),
            "aws:kms",
            Some("k1"),
        ),
        (Encryption::Kms(None), "aws:kms", None),
    ] {
        let s3 = S3::start();
        let options = Options::new(BUCKET)
            .encryption(encryption)
            .copy_bytes(5 << 20);
        let objects = ObjectStore::s3(s3.client(), options);
        for len in [10, 12 << 20] {
            let staged = stage(&objects, BatchId::new(), &noise(len)).await;
            objects.publish(&staged, "a/b/c/d").await.unwrap();
        }
        let asked = s3.asked();
        let makes = |line: &str| {
            let put = line.starts_with("PUT ") && !line.contains("partNumber=");
            (put || line.contains("?uploads")) && !line.contains(".upload?")
        };
        let made: Vec<_> = asked.iter().filter(|ask| makes(&ask.line)).collect();
        assert!(made.len() >= 4, "{made:?}");
        for ask in made {
            assert_eq!(ask.sse.as_deref(), Some(sse), "{ask:?}");
            assert_eq!(ask.kms_key.as_deref(), kms_key, "{ask:?}");
        }
    }
}

#[tokio::test]
async fn a_published_object_has_its_media_type_and_its_sum() {
    let s3 = S3::start();
    let objects = s3.objects();
    let staged = stage(&objects, BatchId::new(), b"n\n1\n").await;
    objects.publish(&staged, "a/b/c/d.csv").await.unwrap();
    let key = format!("{PREFIX}/a/b/c/d.csv");
    let head = s3.client().head_object().bucket(BUCKET).key(key);
    let head = head.send().await.expect("it is there");
    assert_eq!(head.content_type(), Some("text/csv"));
    let sum = head.metadata().and_then(|kept| kept.get("sha256"));
    assert_eq!(sum, Some(&staged.sha256));
}

#[tokio::test]
async fn a_folder_of_many_objects_is_removed_a_page_at_a_time() {
    let s3 = S3::start();
    let folder = s3.bucket().join(PREFIX).join("a/b/c");
    std::fs::create_dir_all(&folder).unwrap();
    for n in 0..2100 {
        std::fs::write(folder.join(format!("{n} ü.txt")), b"x").unwrap();
    }
    std::fs::write(s3.bucket().join(PREFIX).join("a/b/d"), b"x").unwrap();
    s3.objects().remove("a/b/c").await.expect("removed");
    assert_eq!(s3.keys(), ["a/b/d"]);
    let asked = s3.asked();
    let deletes = asked.iter().filter(|ask| ask.line.contains("?delete"));
    assert_eq!(deletes.count(), 3);
}

async fn refusal(objects: &ObjectStore) -> String {
    let StageError { what, source } = objects.check().await.expect_err("it cannot be used");
    let told = format!("{what}: {source}");
    assert!(!told.contains(SECRET) && !told.contains(KEY), "{told}");
    told
}

#[tokio::test]
async fn a_store_that_cannot_be_used_says_why() {
    let s3 = S3::start();
    let told = refusal(&ObjectStore::s3(s3.client(), "no-such-bucket")).await;
    assert!(
        told.contains("there is no bucket no-such-bucket (NoSuchBucket)"),
        "{told}"
    );

    let wrong = client(s3.endpoint(), "another");
    let told = refusal(&ObjectStore::s3(wrong, BUCKET)).await;
    assert!(
        told.contains("the credentials are not accepted (SignatureDoesNotMatch)"),
        "{told}"
    );

    // A port that nobody listens at.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let told = refusal(&ObjectStore::s3(client(&endpoint, SECRET), BUCKET)).await;
    assert!(told.contains("the store cannot be reached: "), "{told}");
}

#[tokio::test]
async fn a_store_asks_for_nothing_before_it_is_needed() {
    let objects = ObjectStore::s3_at(connection("http://127.0.0.1:1"), "reports");
    assert_eq!(objects.place("a/b"), "s3://reports/a/b");
}

/// What a browser gets.
async fn get(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").expect("an address");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn a_link_serves_the_file_under_its_name_until_it_expires() {
    let s3 = S3::start();
    let objects = s3.objects();
    let key = "bank/post/1/a b.csv";
    let staged = stage(&objects, BatchId::new(), b"n\n1\n").await;
    objects.publish(&staged, key).await.unwrap();
    let link = |valid_for| objects.signed_url(key, Duration::from_secs(valid_for));

    let url = link(600).await.unwrap().expect("a link");
    assert!(!url.contains(SECRET));
    let (head, body) = get(&url).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/csv"), "{head}");
    assert!(
        head.contains("content-disposition: attachment; filename=\"a b.csv\""),
        "{head}"
    );
    assert!(body.contains("n\n1\n"), "{body}");

    let longer = url.replace("X-Amz-Expires=600", "X-Amz-Expires=601");
    assert!(
        !get(&longer).await.0.starts_with("http/1.1 200"),
        "what it says is signed"
    );

    let url = link(1).await.unwrap().expect("a link");
    let expired = async {
        while get(&url).await.0.starts_with("http/1.1 200") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, expired)
        .await
        .expect("it expires");
    assert!(get(&url).await.0.starts_with("http/1.1 403"));

    let weeks = link(14 * 86_400)
        .await
        .expect_err("no store signs for so long");
    assert!(weeks.to_string().contains("signing a link"), "{weeks}");
}

#[tokio::test]
async fn a_folder_has_no_links() {
    let dir = tempfile::tempdir().unwrap();
    let objects = ObjectStore::folder(dir.path());
    assert_eq!(objects.signed_url("a", LONG).await.unwrap(), None);
}
