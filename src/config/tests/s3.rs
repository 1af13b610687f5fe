//! `objects = "s3://…"` and `[s3]`.

use super::{file, nothing};
use crate::config::Sse;

#[test]
fn objects_may_be_in_a_bucket() {
    for (given, kept) in [
        ("s3://reports", "s3://reports"),
        ("S3://reports/", "s3://reports"),
        (
            "s3://my.reports-2/row mill/a/",
            "s3://my.reports-2/row mill/a",
        ),
    ] {
        let config = file(&format!("objects = {given:?}")).good();
        assert_eq!(config.objects.value, kept);
    }
}

#[test]
fn a_bucket_that_cannot_be_is_refused_and_not_repeated() {
    let name = "must name a bucket after s3://: 3 to 63 lower-case letters, digits, dots and dashes, and no user or password";
    let prefix = "the prefix after the bucket must be names with one slash between them";
    for (given, why) in [
        (
            "s3:reports",
            "must be s3://BUCKET/PREFIX, such as s3://reports/rowmill",
        ),
        ("s3://b/p", name),
        ("s3://Reports", name),
        ("s3://user:hunter2@reports/p", name),
        ("s3:///p", name),
        ("s3://reports//p", prefix),
        ("s3://reports/../p", prefix),
        (
            "ftp:x",
            "must be file:PATH or s3://BUCKET/PREFIX, such as file:rowmill-files",
        ),
    ] {
        let wrong = file(&format!("objects = {given:?}")).wrong();
        assert_eq!(wrong, [format!("F:1: objects: {why}")], "{given}");
    }
}

#[test]
fn s3_is_read_from_the_file_and_its_variables_win() {
    let given = file(
        "objects = \"s3://reports\"\n\
         [s3]\n\
         endpoint = \"http://minio:9000\"\n\
         region = \"eu-central-1\"\n\
         path_style = false\n\
         sse = \"aws:kms\"\n\
         kms_key = \"k1\"\n",
    );
    let s3 = given.good().s3;
    assert_eq!(s3.endpoint.value.as_deref(), Some("http://minio:9000"));
    assert_eq!(s3.region.value.as_deref(), Some("eu-central-1"));
    assert_eq!(s3.path_style.value, Some(false));
    assert_eq!(s3.sse.value, Some(Sse::Kms));
    assert_eq!(s3.kms_key.value.as_deref(), Some("k1"));

    let given = given
        .env("ROWMILL_S3_ENDPOINT", "https://s3.example")
        .env("ROWMILL_S3_REGION", "x-1")
        .env("ROWMILL_S3_PATH_STYLE", "true")
        .env("ROWMILL_S3_KMS_KEY", "k2");
    assert_eq!(
        given.report()[6..11],
        [
            "s3.endpoint = https://s3.example  (ROWMILL_S3_ENDPOINT)",
            "s3.region = x-1  (ROWMILL_S3_REGION)",
            "s3.path_style = true  (ROWMILL_S3_PATH_STYLE)",
            "s3.sse = aws:kms  (F:6)",
            "s3.kms_key = k2  (ROWMILL_S3_KMS_KEY)",
        ]
    );
}

#[test]
fn the_path_has_the_bucket_where_there_is_an_endpoint() {
    let given = nothing();
    let path_style = |report: Vec<String>| report[8].clone();
    let mut given = given.env("ROWMILL_OBJECTS", "s3://reports");
    assert_eq!(
        path_style(given.report()),
        "s3.path_style = false  (default)"
    );
    given = given.env("ROWMILL_S3_ENDPOINT", "http://minio:9000");
    assert_eq!(
        path_style(given.report()),
        "s3.path_style = true  (default)"
    );
}

#[test]
fn what_s3_cannot_be_is_refused() {
    let wrong = file(
        "[s3]\n\
         endpoint = \"http://user:hunter2@minio\"\n\
         region = \"eu central\"\n\
         path_style = \"yes\"\n\
         sse = \"none\"\n\
         kms_key = \"k1\"\n\
         bucket = \"b\"\n",
    )
    .env("ROWMILL_S3_PATH_STYLE", "perhaps")
    .wrong();
    assert_eq!(
        wrong,
        [
            "F:2: s3.endpoint: must be http://HOST or https://HOST, without a user",
            "F:3: s3.region: must be a region's name, such as eu-central-1",
            "F:4: s3.path_style: must be true or false, not a string",
            "F:5: s3.sse: must be \"AES256\" or \"aws:kms\", not \"none\"",
            "F:6: s3.kms_key: is of use only with sse = \"aws:kms\"",
            "F:7: s3.bucket: unknown key; known here: endpoint, region, path_style, sse, kms_key",
            "ROWMILL_S3_PATH_STYLE: must be \"true\" or \"1\" or \"false\" or \"0\", not \"perhaps\"",
        ]
    );
}
