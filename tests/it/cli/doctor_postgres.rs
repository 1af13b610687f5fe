//! `doctor` on PostgreSQL and of Redis: every finding by its name, with what to do.

use std::sync::OnceLock;

use serde_json::Value;

use super::rowmill::{Rowmill, csv};
use crate::support::servers::{Database, Options, PgBouncer, Postgres, Redis, until};

/// A server that keeps what it acknowledges, as far as its settings say.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        Postgres::start(&Options {
            settings: &[("fsync", "on"), ("full_page_writes", "on")],
            ..Options::default()
        })
    })
}

struct Worked {
    rowmill: Rowmill,
    database: Database,
    batch: String,
}

/// A database in which a batch with an output file has ended and one is held.
fn worked() -> Worked {
    let (rowmill, database) = (Rowmill::new(), Database::on(server()));
    let on = format!("--database {}", database.url());
    rowmill.write("in.csv", &csv("1 file bad"));
    let submit = format!("submit in.csv --app test --op rows --json {on}");
    let batch = rowmill.run(&submit).code(0).id();
    rowmill.run(&format!("work --once {on}")).code(0);
    rowmill.run(&format!("{submit} --hold")).code(0);
    Worked {
        rowmill,
        database,
        batch,
    }
}

/// What doctor finds at this address; it ends as it should.
fn checks(rowmill: &Rowmill, url: &str, more: &str) -> Vec<Value> {
    let done = rowmill.run(&format!("doctor --json --database {url} {more}"));
    let found: Value = serde_json::from_str(&done.stdout).expect(&done.stderr);
    let ok = found["ok"].as_bool().unwrap();
    done.code(i32::from(!ok));
    let checks = found["checks"].as_array().unwrap().clone();
    assert_eq!(ok, checks.iter().all(|c| c["ok"] == true));
    for check in &checks {
        assert_eq!(check["ok"] == true, check["repair"].is_null(), "{check}");
    }
    checks
}

/// The one thing that is to be repaired.
#[track_caller]
fn finds(rowmill: &Rowmill, url: &str, more: &str, name: &str, words: &str) {
    let found = checks(rowmill, url, more);
    let wrong: Vec<&Value> = found.iter().filter(|c| c["ok"] == false).collect();
    let [check] = wrong.as_slice() else {
        panic!("{name} is to be wrong: {wrong:#?}")
    };
    assert_eq!(check["name"], name, "{check}");
    assert!(check["detail"].as_str().unwrap().contains(words), "{check}");
}

/// Damages a database by hand; doctor must name this check alone, with these words.
#[track_caller]
fn damaged(sql: &str, name: &str, words: &str) {
    let Worked {
        rowmill,
        database,
        batch,
    } = worked();
    let sql = sql.replace("BATCH", &format!("'{batch}'"));
    database.run(&format!("set search_path to rowmill; {sql}"));
    finds(&rowmill, database.url(), "", name, words);
}

#[test]
fn doctor_finds_nothing_on_postgresql_where_all_is_well() {
    let Worked {
        rowmill, database, ..
    } = worked();
    let found = checks(&rowmill, database.url(), "");
    assert!(found.iter().all(|c| c["ok"] == true), "{found:#?}");
    let names: Vec<&str> = found.iter().map(|c| c["name"].as_str().unwrap()).collect();
    for name in [
        "server",
        "durability",
        "connections",
        "server_clock",
        "replication",
        "indexes",
        "pooler",
        "schema",
        "catalogue",
        "blocks",
        "outcomes",
        "orphans",
        "queue",
        "served_ops",
        "output_files",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let told = found.iter().find(|c| c["name"] == "output_files").unwrap();
    assert!(
        told["detail"].as_str().unwrap().contains("newest 2"),
        "{told}"
    );
}

#[test]
fn doctor_finds_a_schema_that_was_changed_by_hand() {
    for (sql, words) in [
        (
            "drop index queue_owner",
            "missing: table queue index queue_owner",
        ),
        (
            "alter table batches add column mine text",
            "not ours: table batches column mine text",
        ),
        ("create table mine (n int)", "not ours: table mine column n"),
        (
            "alter table queue drop constraint queue_due_iff_later",
            "missing: table queue constraint queue_due_iff_later",
        ),
        (
            "alter table audit disable trigger audit_is_append_only",
            "audit_is_append_only off",
        ),
    ] {
        damaged(sql, "catalogue", words);
    }
}

#[test]
fn doctor_finds_an_index_that_is_not_valid() {
    let sql =
        "update pg_index set indisvalid = false where indexrelid = 'rowmill.queue_owner'::regclass";
    damaged(sql, "indexes", "queue_owner");
}

#[test]
fn doctor_finds_what_breaks_an_invariant_on_postgresql() {
    for (table, words) in [("blocks", "0 blocks"), ("attempts", "its outcomes come to")] {
        let Worked {
            rowmill,
            database,
            batch,
        } = worked();
        database.run(&format!(
            "delete from rowmill.{table} where batch = '{batch}'"
        ));
        let found = checks(&rowmill, database.url(), "");
        let wrong: Vec<&Value> = found.iter().filter(|c| c["ok"] == false).collect();
        let names: Vec<&str> = wrong.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["blocks", "outcomes"], "{wrong:#?}");
        let told = wrong[0]["detail"].as_str().unwrap();
        assert!(told.contains(words) && told.contains(&batch), "{told}");
    }
}

#[test]
fn doctor_finds_a_queue_record_of_an_ended_batch_on_postgresql() {
    let sql = "insert into queue (batch, id, no, what, op, state, priority, turn, age, rows)
               select id, 99, 0, 0, op, 1, 0, 0, now(), 1 from batches where id = BATCH";
    let Worked {
        rowmill,
        database,
        batch,
    } = worked();
    let sql = sql.replace("BATCH", &format!("'{batch}'"));
    database.run(&format!("set search_path to rowmill; {sql}"));
    let found = checks(&rowmill, database.url(), "");
    let wrong: Vec<&str> = found
        .iter()
        .filter(|c| c["ok"] == false)
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(wrong, ["queue", "served_ops"]);
}

#[test]
fn doctor_finds_work_that_waits_for_nobody_on_postgresql() {
    let (rowmill, database) = (Rowmill::new(), Database::on(server()));
    rowmill.write("in.csv", &csv("1"));
    let on = format!("--database {}", database.url());
    rowmill
        .run(&format!("submit in.csv --app test --op rows {on}"))
        .code(0);
    finds(
        &rowmill,
        database.url(),
        "",
        "served_ops",
        "no live worker of it",
    );
}

#[test]
fn doctor_finds_a_worker_that_died_on_postgresql() {
    let sql = "insert into workers (lock, host, pid, version, started_at, beat_at, incarnation) values ('', 'h', 1, '0', now(), now(), 'x')";
    damaged(sql, "workers", "died");
}

#[test]
fn doctor_finds_an_older_schema_and_a_server_that_does_not_answer() {
    let Worked {
        rowmill, database, ..
    } = worked();
    let older = "delete from rowmill.schema_history where version = (select max(version) from rowmill.schema_history)";
    database.run(older);
    finds(
        &rowmill,
        database.url(),
        "",
        "schema",
        "older than this program",
    );
    let nowhere = "postgres://u:hunter2@127.0.0.1:1/d";
    finds(
        &Rowmill::new(),
        nowhere,
        "",
        "server",
        "connecting to PostgreSQL",
    );
}

#[test]
fn doctor_finds_settings_that_lose_what_was_acknowledged() {
    let database = Database::fresh();
    finds(&Rowmill::new(), database.url(), "", "durability", "fsync");
}

#[test]
fn doctor_says_what_a_failover_keeps() {
    let replication = |url: &str| {
        let found = checks(&Rowmill::new(), url, "");
        let check = found.iter().find(|c| c["name"] == "replication").unwrap();
        (
            check["ok"] == true,
            check["detail"].as_str().unwrap().to_owned(),
        )
    };
    let (ok, told) = replication(&server().url("postgres"));
    assert!(ok && told.contains("goes back"), "{told}");
    let primary = Postgres::start(&Options::default());
    let standby = Postgres::start(&Options {
        standby_of: Some(&primary),
        ..Options::default()
    });
    let (ok, told) = replication(&standby.url("postgres"));
    assert!(!ok && told.contains("is a standby"), "{told}");
    // A role of few rights sees that it follows, and not how.
    for sql in [
        "alter system set synchronous_standby_names = '*'",
        "select pg_reload_conf()",
        "create role app login",
    ] {
        primary.run("postgres", sql);
    }
    let url = primary.url("postgres");
    until("the standby is waited for", || {
        let waited = "select 1 from pg_stat_replication where sync_state = 'sync'";
        (!Database::rows_at(&url, waited).is_empty()).then_some(())
    });
    let (ok, told) = replication(&url);
    let keeps = "one standby follows, and commits wait for one";
    assert!(ok && told.starts_with(keeps), "{told}");
    let (ok, told) = replication(&url.replace("postgres@", "app@"));
    assert!(
        ok && told.starts_with("one standby follows") && told.contains("pg_read_all_stats"),
        "{told}"
    );
}

#[test]
fn doctor_finds_a_pooler_without_a_direct_address() {
    let Worked {
        rowmill, database, ..
    } = worked();
    let pooler = PgBouncer::start(server(), database.name());
    finds(
        &rowmill,
        pooler.url(),
        "",
        "pooler",
        "no database_session is set",
    );
    let mut command = rowmill.command(&format!("doctor --database {}", pooler.url()));
    command.env("ROWMILL_DATABASE_SESSION", database.url());
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{told}");
}

#[test]
fn doctor_finds_a_redis_that_is_down_or_slow_or_full_for_ever() {
    let Worked {
        rowmill, database, ..
    } = worked();
    let url = database.url();
    let redis = Redis::start();
    let on = |redis: &Redis| format!("--redis {}", redis.url());
    let found = checks(&rowmill, url, &on(&redis));
    assert!(
        found
            .iter()
            .all(|c| c["ok"] == true || c["name"] == "redis"),
        "{found:#?}"
    );
    let down = "--redis redis://:hunter2@127.0.0.1:1";
    finds(&rowmill, url, down, "redis", "no status is copied");
    let full = ["--maxmemory", "100mb", "--maxmemory-policy", "noeviction"];
    let full = Redis::start_with(&full);
    let mut command = rowmill.command(&format!("doctor --json --database {url} {}", on(&full)));
    command.env("ROWMILL_REDIS_TIMEOUT", "5s");
    let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(told.contains("maxmemory-policy is noeviction"), "{told}");
}
