//! `sslmode` and `sslrootcert` against a server with an authority and a certificate of its own.

use std::sync::OnceLock;

use rowmill::Store;
use rowmill::store::StoreError;
use tempfile::TempDir;

use crate::support::certificates::{authority, localhost};
use crate::support::servers::{Database, Options, Postgres};

struct Tls {
    server: Postgres,
    folder: TempDir,
}

/// A server that is `localhost` by its certificate and no other.
fn tls() -> &'static Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    TLS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = authority(&folder.path().join("ca.pem"));
        drop(authority(&folder.path().join("other.pem")));
        std::fs::write(folder.path().join("empty.pem"), "").expect("a file");
        let (certificate, key) = localhost(&ours);
        let hba = "local all all trust\nhost all all 127.0.0.1/32 trust\n";
        let server = Postgres::start(&Options {
            settings: &[("ssl", "on")],
            files: &[
                ("server.crt", &certificate),
                ("server.key", &key),
                ("pg_hba.conf", hba),
            ],
            ..Options::default()
        });
        Tls { server, folder }
    })
}

impl Tls {
    /// The URL of a database by a name of the server, with the file of an authority.
    fn url(&self, database: &Database, host: &str, query: &str) -> String {
        let (port, name) = (self.server.port(), database.name());
        let folder = self.folder.path().display();
        let query = query.replace("FILE:", &format!("{folder}/"));
        format!("postgres://postgres@{host}:{port}/{name}?{query}")
    }
}

/// Whether the connections of a store are encrypted, by the server's word.
fn are_encrypted(database: &Database) -> bool {
    let sql = "select bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid)
                where a.datname = current_database() and a.application_name = 'rowmill'";
    database.rows(sql, None)[0].get(0)
}

async fn refused(url: &str) -> String {
    let refused = Store::postgres_url(url).await;
    let refused = refused.expect_err(url);
    assert!(
        matches!(refused, StoreError::Unavailable { .. }),
        "{refused:?}"
    );
    refused.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_full_takes_the_right_name_and_refuses_a_wrong_one_and_an_unknown_authority() {
    let tls = tls();
    let database = Database::on(&tls.server);
    let full = |host, file| {
        let query = format!("sslmode=verify-full&sslrootcert=FILE:{file}");
        tls.url(&database, host, &query)
    };
    let store = Store::postgres_url(&full("localhost", "ca.pem")).await;
    let store = store.expect("the right name");
    assert!(are_encrypted(&database));
    drop(store);
    let wrong = refused(&full("127.0.0.1", "ca.pem")).await;
    assert!(wrong.contains("is made out to another host"), "{wrong}");
    assert!(wrong.contains("localhost"), "{wrong}");
    let unknown = refused(&full("localhost", "other.pem")).await;
    assert!(
        unknown.contains("signed by nobody who is trusted"),
        "{unknown}"
    );
    assert!(unknown.contains("sslrootcert"), "{unknown}");
    // Nobody whom the system trusts has signed it either.
    let system = tls.url(
        &database,
        "localhost",
        "sslmode=verify-full&sslrootcert=system",
    );
    let unknown = refused(&system).await;
    assert!(
        unknown.contains("signed by nobody who is trusted"),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_ca_and_require_with_an_authority_look_at_who_signed_and_at_no_name() {
    let tls = tls();
    let database = Database::on(&tls.server);
    for mode in ["verify-ca", "require"] {
        let by = |file: &str| {
            let query = format!("sslmode={mode}&sslrootcert=FILE:{file}");
            tls.url(&database, "127.0.0.1", &query)
        };
        let store = Store::postgres_url(&by("ca.pem")).await.expect(mode);
        assert!(are_encrypted(&database), "{mode}");
        drop(store);
        let unknown = refused(&by("other.pem")).await;
        assert!(
            unknown.contains("signed by nobody who is trusted"),
            "{unknown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn require_and_prefer_encrypt_and_disable_does_not() {
    let tls = tls();
    for (query, encrypted) in [
        ("sslmode=require", true),
        ("sslmode=prefer", true),
        ("", true),
        ("sslmode=disable", false),
    ] {
        let database = Database::on(&tls.server);
        let url = tls.url(&database, "127.0.0.1", query);
        let store = Store::postgres_url(&url).await.expect(query);
        assert_eq!(are_encrypted(&database), encrypted, "{query}");
        drop(store);
    }
    // A server without TLS is no server to whoever requires it.
    let plain = Database::fresh();
    let url = format!("{}?sslmode=require", plain.url());
    let told = refused(&url).await;
    assert!(told.contains("does not support TLS"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_authorities_that_is_none_is_said_by_its_name() {
    let tls = tls();
    let database = Database::on(&tls.server);
    for file in ["empty.pem", "missing.pem"] {
        let query = format!("sslmode=verify-full&sslrootcert=FILE:{file}");
        let url = tls.url(&database, "localhost", &query);
        let refused = Store::postgres_url(&url).await.expect_err(file);
        assert!(matches!(refused, StoreError::Unusable(_)), "{refused:?}");
        let told = refused.to_string();
        assert!(
            told.contains("sslrootcert") && told.contains(file),
            "{told}"
        );
    }
}
