//! `rediss://`: a Redis that speaks TLS, by an authority that is trusted or is not.

use super::rowmill::{Done, Rowmill};
use crate::support::certificates::{authority, localhost};
use crate::support::servers::{Redis, until};

struct Tls {
    rowmill: Rowmill,
    redis: Redis,
    port: u16,
}

impl Tls {
    fn start() -> Self {
        let rowmill = Rowmill::new();
        let ours = authority(&rowmill.path("ca.pem"));
        drop(authority(&rowmill.path("other.pem")));
        let (certificate, key) = localhost(&ours);
        let (redis, port) = Redis::start_tls(&certificate, &key);
        rowmill.write("in.csv", "n\nok\n");
        Self {
            rowmill,
            redis,
            port,
        }
    }

    /// Runs a command that trusts who is in a file.
    fn with(&self, args: &str, host: &str, trusts: &str) -> Done {
        let mut command = self.rowmill.command(args);
        command.env("ROWMILL_REDIS", format!("rediss://{host}:{}", self.port));
        command.env("ROWMILL_REDIS_TIMEOUT", "10s");
        command.env("SSL_CERT_FILE", trusts);
        command.env_remove("SSL_CERT_DIR");
        Done::of(args, command.output().unwrap())
    }

    fn keys(&self) -> usize {
        let keys: Vec<String> = self.redis.ask(&["KEYS", "*:final"]);
        keys.len()
    }
}

const RUN: &str = "run in.csv --app test --op rows --json";

#[test]
fn a_redis_over_tls_whose_authority_is_trusted_is_used() {
    let tls = Tls::start();
    let id = tls.with(RUN, "localhost", "ca.pem").code(0).id();
    // A busy machine may not have connected in time: then the next command copies the status.
    until("a status in Redis", || {
        let done = tls.with(&format!("status {id}"), "localhost", "ca.pem");
        done.code(0);
        (tls.keys() == 1).then_some(())
    });
    let found = tls.with("doctor --json", "localhost", "ca.pem");
    let found = &found.code(0).json();
    let checks = found["checks"].as_array().unwrap();
    let redis = checks.iter().find(|c| c["name"] == "redis").unwrap();
    assert_eq!(redis["ok"], true, "{redis}");
}

#[test]
fn a_redis_over_tls_that_is_not_trusted_is_one_warning_that_says_why_and_no_failure() {
    let tls = Tls::start();
    // Nobody who is trusted has signed it; it is made out to another name.
    for (host, trusts) in [("localhost", "other.pem"), ("127.0.0.1", "ca.pem")] {
        let why = "invalid peer certificate";
        until("a warning that says why", || {
            let done = tls.with(RUN, host, trusts).code(0);
            let warned = done.stderr.lines();
            let warned: Vec<&str> = warned.filter(|l| l.contains("the status cache")).collect();
            let [warned] = warned.as_slice() else {
                panic!("one warning: {}", done.stderr)
            };
            // A busy machine may not have come so far in time.
            (!warned.contains("in time")).then(|| assert!(warned.contains(why), "{warned}"))
        });
        let found = tls.with("doctor --json", host, trusts).code(1).json();
        assert!(found.to_string().contains(why), "{found}");
    }
    assert_eq!(tls.keys(), 0, "nothing went there");
}
