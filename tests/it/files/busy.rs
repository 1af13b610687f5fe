//! A store that is too busy for a request: asked again a few times, then an error that says so.

use std::time::{Duration, Instant};

use rowmill::ObjectStore;
use rowmill::files::s3::Options;
use rowmill::files::s3::aws_sdk_s3::Client;
use rowmill::files::s3::aws_sdk_s3::config::retry::RetryConfig;
use rowmill::model::BatchId;

use super::{begun, noise, read, stage};
use crate::support::s3::{BUCKET, PREFIX, S3};

/// As rowmill's own client is made.
const ATTEMPTS: u32 = 4;
const SLOW_DOWN: (u16, &str) = (503, "SlowDown");
const INTERNAL: (u16, &str) = (500, "InternalError");
/// What four attempts and the pauses between them may take.
const BOUND: Duration = Duration::from_secs(30);

fn objects(s3: &S3) -> ObjectStore {
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
    let config = s3.client().config().to_builder().retry_config(retries);
    let options = Options::new(BUCKET).prefix(PREFIX).copy_bytes(5 << 20);
    ObjectStore::s3(Client::from_conf(config.build()), options)
}

/// A file of three parts goes up and is published while requests like this fail twice.
async fn succeeds_when_busy(line: (&'static str, &'static str), answer: (u16, &'static str)) {
    let s3 = S3::start();
    let objects = objects(&s3);
    let (batch, bytes) = (BatchId::new(), noise(20 << 20));
    let key = format!("bank/post/{batch}/a.csv");
    s3.is_busy(line, answer, 2);
    let staged = stage(&objects, batch, &bytes).await;
    objects.publish(&staged, &key).await.expect("published");
    assert_eq!(s3.refused(), 2, "{line:?}");
    assert!(read(&objects, &key).await == bytes, "{line:?}");
    objects.clear(batch).await.expect("cleared");
    assert_eq!((s3.keys(), s3.uploads()), (vec![key], 0), "{line:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_store_is_asked_again_and_no_part_is_lost_or_doubled() {
    // Parts, an upload's begin and its end, and the copy to the file's place.
    for (line, answer) in [
        (("PUT ", "partNumber=2"), SLOW_DOWN),
        (("PUT ", "partNumber=3"), INTERNAL),
        (("POST ", "uploads"), SLOW_DOWN),
        (("POST ", "uploadId="), INTERNAL),
        (("PUT ", "/bank/post/"), SLOW_DOWN),
    ] {
        succeeds_when_busy(line, answer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stays_busy_is_an_error_that_says_so_after_four_attempts() {
    for ((status, code), len) in [(SLOW_DOWN, 1000), (INTERNAL, 20 << 20)] {
        let s3 = S3::start();
        let objects = objects(&s3);
        s3.is_busy(("P", ""), (status, code), u32::MAX);
        let began = Instant::now();
        let error = match len < 1 << 20 {
            true => {
                begun(&objects, BatchId::new(), &noise(len))
                    .await
                    .finish()
                    .await
            }
            false => {
                let mut staging = objects.stage(BatchId::new()).await.expect("begun");
                match staging.write(&noise(len)).await {
                    Ok(()) => staging.finish().await,
                    Err(error) => Err(error),
                }
            }
        };
        let error = error.expect_err("busy");
        let told = format!("{error}: {}", error.source);
        let wanted = format!("the store answered {code} (HTTP {status})");
        assert!(told.contains(&wanted), "{told}");
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        assert_eq!(s3.refused(), ATTEMPTS);
    }
}
