//! kill -9 at each step of a close whose output files are in a bucket.

use rowmill::{Client, Status, Store};

use super::child::Task;
use crate::support::minio::Bucket;
use crate::support::s3::{BUCKET, S3};

/// The points that are passed only where files go to a bucket.
pub(super) const POINTS: [&str; 1] = ["part_sent"];

/// Kills the one that closes at a point; the next one leaves one object for the file, and nothing staged.
async fn leaves_one_object_after_kill_at(point: &str) {
    let (dir, s3) = (tempfile::tempdir().unwrap(), S3::start());
    let mut task = Task::new(dir.path(), 3000);
    task.s3 = Some(s3.endpoint().to_owned());
    // Enough for an upload in parts.
    task.line = if point == "part_sent" { 4000 } else { 0 };
    assert!(!task.start(&format!("{point}=kill")).wait());
    let staged = |keys: &[String]| keys.iter().filter(|k| k.starts_with(".staging/")).count();
    assert_eq!(staged(&s3.keys()), 1, "what the one that was killed staged");
    assert_eq!(s3.uploads(), usize::from(point == "part_sent"));
    assert!(task.start("").wait());

    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    let batch = client.batch_done(task.id).await.unwrap();
    assert_eq!((batch.status, batch.counts.failed), (Status::Failed, 30));
    let [file] = batch.files.as_slice() else {
        panic!("one output file, not {:?}", batch.files)
    };
    assert_eq!(s3.keys(), std::slice::from_ref(&file.key));
    let path = s3.bucket().join(crate::support::s3::PREFIX).join(&file.key);
    let expected: String = (0..3000).map(|n| task.output(n) + "\n").collect();
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    assert_eq!(s3.uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_left_after_a_kill_when_a_part_was_sent() {
    leaves_one_object_after_kill_at("part_sent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_left_after_a_kill_when_files_were_assembled() {
    leaves_one_object_after_kill_at("assembled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_left_after_a_kill_when_files_were_published() {
    leaves_one_object_after_kill_at("published").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_left_after_a_kill_when_the_batch_was_closed() {
    leaves_one_object_after_kill_at("closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lists_its_uploads_has_none_left_of_the_one_that_was_killed() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::named(BUCKET));
    let mut task = Task::new(dir.path(), 3000);
    task.s3 = Some(bucket.endpoint().to_owned());
    task.line = 4000;
    assert!(!task.start("part_sent=kill").wait());
    assert_eq!(bucket.uploads(), 1);
    assert!(task.start("").wait());

    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    let batch = client.batch_done(task.id).await.unwrap();
    let keys: Vec<_> = batch.files.iter().map(|file| file.key.clone()).collect();
    assert_eq!((bucket.keys(), bucket.uploads()), (keys, 0));
    let file = bucket.objects().open(&batch.files[0].key).await;
    let mut text = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut file.unwrap(), &mut text).await;
    read.unwrap();
    let expected: String = (0..3000).map(|n| task.output(n) + "\n").collect();
    assert!(text == expected);
}
