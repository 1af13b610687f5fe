//! Output files in a bucket, from the command line.

use std::process::Command;

use super::rowmill::{Done, Rowmill, csv};
use crate::support::s3::{BUCKET, KEY, S3, SECRET};

/// A folder, a store, and what the environment says of it.
struct Stored {
    rowmill: Rowmill,
    s3: S3,
}

impl Stored {
    fn new() -> Self {
        let rowmill = Rowmill::new();
        rowmill.write("in.csv", &csv("1 file file"));
        rowmill.write("aws-profiles", "");
        Self {
            rowmill,
            s3: S3::start(),
        }
    }

    fn command(&self, args: &str) -> Command {
        let mut command = self.rowmill.command(args);
        // Nothing of whoever runs the tests.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "aws-profiles")
            .env("AWS_SHARED_CREDENTIALS_FILE", "aws-profiles")
            .env("ROWMILL_S3_ENDPOINT", self.s3.endpoint());
        command
    }

    /// Runs it with the right key and this secret.
    fn run_with(&self, secret: &str, args: &str) -> Done {
        let mut command = self.command(args);
        command.env("AWS_ACCESS_KEY_ID", KEY);
        command.env("AWS_SECRET_ACCESS_KEY", secret);
        let done = Done::of(args, command.output().unwrap());
        for told in [&done.stdout, &done.stderr] {
            assert!(!told.contains(SECRET) && !told.contains(secret), "{told}");
        }
        done
    }

    fn run(&self, args: &str) -> Done {
        self.run_with(SECRET, args)
    }
}

#[test]
fn output_files_in_a_bucket_are_written_looked_at_and_downloaded() {
    let stored = Stored::new();
    let to = format!("--objects s3://{BUCKET}/out/");
    let run = format!("run in.csv --app test --op rows --json {to}");
    let batch = stored.run(&format!("{run} -vvv")).code(0);
    let id = batch.id();
    assert!(!batch.stderr.contains(KEY), "{}", batch.stderr);
    let key = format!("out/test/rows/{id}/out.txt");
    let path = stored.s3.bucket().join(key);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "row 3\nrow 4\n");

    stored
        .run(&format!("files {id} --download got {to}"))
        .code(0);
    assert_eq!(stored.rowmill.read("got/out.txt"), "row 3\nrow 4\n");
    assert_eq!(stored.rowmill.read("got/other.txt"), "é\né\n");

    let doctor = stored.run(&format!("doctor {to}")).code(0).stdout;
    assert!(
        doctor.contains("ok      objects        output files can be written"),
        "{doctor}"
    );
    let sought = "the newest 2 are as they were published";
    assert!(doctor.contains(sought), "{doctor}");

    stored
        .run(&format!("purge --older-than 0s --yes --json {to}"))
        .code(0);
    assert!(
        !stored
            .s3
            .bucket()
            .join("out/test/rows")
            .join(&id)
            .join("out.txt")
            .exists()
    );
}

#[test]
fn a_bucket_that_cannot_be_used_is_exit_4_before_a_row_runs_and_doctor_says_why() {
    let stored = Stored::new();
    let run = "run in.csv --app test --op rows --json --objects s3://no-such-bucket";
    let missing = stored.run(run).code(4).problem();
    assert_eq!(missing["id"], "unavailable");
    let detail = missing["detail"].as_str().unwrap();
    let why = "output files could not be written to s3://no-such-bucket: there is no bucket no-such-bucket (NoSuchBucket)";
    assert!(detail.starts_with(why), "{detail}");

    let run = run.replace("no-such-bucket", BUCKET);
    let wrong = stored.run_with("another-secret", &run).code(4).problem();
    let detail = wrong["detail"].as_str().unwrap();
    assert!(
        detail.contains("the credentials are not accepted"),
        "{detail}"
    );

    let mut nobody = stored.command(&run);
    let nobody = Done::of(&run, nobody.output().unwrap()).code(4);
    let detail = nobody.problem()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("no credentials were found; set AWS_ACCESS_KEY_ID"),
        "{detail}"
    );
    assert!(
        !stored.rowmill.path("rowmill.db").exists(),
        "nothing was stored"
    );

    stored.run(&run).code(0);
    let doctor = stored
        .run("doctor --objects s3://no-such-bucket")
        .code(1)
        .stdout;
    assert!(doctor.contains("repair  objects"), "{doctor}");
    assert!(
        doctor.contains("there is no bucket no-such-bucket"),
        "{doctor}"
    );
    assert!(
        doctor.contains("-> see that the bucket is there"),
        "{doctor}"
    );
}

#[test]
fn a_machine_without_root_certificates_is_told_so_where_it_needs_them() {
    let stored = Stored::new();
    let run = format!("run in.csv --app test --op rows --json --objects s3://{BUCKET}");
    let without = |endpoint: &str| {
        let mut command = stored.command(&run);
        command
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("SSL_CERT_FILE", "aws-profiles")
            .env_remove("SSL_CERT_DIR")
            .env("ROWMILL_S3_ENDPOINT", endpoint);
        Done::of(&run, command.output().unwrap())
    };
    let refused = without("https://127.0.0.1:1").code(4).problem();
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("no root certificates"), "{detail}");
    assert!(detail.contains("SSL_CERT_FILE"), "{detail}");
    without(stored.s3.endpoint()).code(0);
}
