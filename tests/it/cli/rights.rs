//! PostgreSQL with few rights: migrations by hand, a role that may change no table, and nothing told that is secret.

use super::rowmill::{Rowmill, csv};
use crate::support::servers::{Database, PgBouncer, Postgres};

/// The same database by another role.
fn by(database: &Database, user: &str) -> String {
    database.url().replace("postgres@", &format!("{user}@"))
}

#[test]
fn migrate_says_what_it_would_do_on_postgresql_and_then_does_it() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let on = format!("--database {}", database.url());
    let dry = rowmill.run(&format!("migrate --dry-run --json {on}"));
    let dry = dry.code(0).json();
    assert_eq!(dry["has"].as_array().unwrap().len(), 0, "{dry}");
    assert_eq!(dry["pending"][0], "V1__core", "{dry}");
    let made = "select 1 from pg_namespace where nspname = 'rowmill'";
    assert!(database.rows(made, None).is_empty(), "nothing was made");
    let done = rowmill.run(&format!("migrate {on}")).code(0).stdout;
    assert!(done.contains("applied\n  V1__core\n"), "{done}");
    let again = rowmill.run(&format!("migrate {on}")).code(0).stdout;
    assert!(again.contains("up to date (V"), "{again}");
}

#[test]
fn an_older_schema_of_postgresql_waits_for_migrate_where_it_is_by_hand() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("migrate = \"manual\"\n{config}"));
    rowmill.write("in.csv", &csv("1"));
    let on = format!("--database {}", database.url());
    let submit = format!("submit in.csv --app test --op rows --json {on}");
    let refused = rowmill.run(&submit).code(2).problem();
    assert_eq!(refused["id"], "unusable_database");
    let told = refused["detail"].as_str().unwrap();
    assert!(
        told.contains("has no schema") && told.contains("`rowmill migrate`"),
        "{told}"
    );
    rowmill.run(&format!("migrate {on}")).code(0);
    rowmill.run(&submit).code(0);
    let older = "delete from rowmill.schema_history where version = (select max(version) from rowmill.schema_history)";
    database.run(older);
    let refused = rowmill.run(&submit).code(2).problem();
    let told = refused["detail"].as_str().unwrap();
    assert!(
        told.contains("older") && told.contains("`rowmill migrate`"),
        "{told}"
    );
}

#[test]
fn a_role_without_ddl_runs_the_whole_life_of_a_batch_and_is_told_of_a_missing_grant() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let owner = format!("--database {}", database.url());
    rowmill.run(&format!("migrate {owner}")).code(0);
    let role = format!("{}_app", database.name());
    database.run(&format!("create role {role} login"));
    let on = format!("--database {}", by(&database, &role));
    rowmill.write("in.csv", &csv("1 file bad 4"));
    rowmill.write("more.csv", &csv("5"));
    let submit = format!("submit in.csv --app test --op rows --json {on}");
    let refused = rowmill.run(&submit).code(4).problem();
    let told = refused["detail"].as_str().unwrap();
    assert!(
        told.contains("permission denied") && told.contains("migrate --grants"),
        "{told}"
    );

    let grants = rowmill.run(&format!("migrate --grants {role} {owner}"));
    let grants = grants.code(0).stdout;
    database.run(&grants);
    let id = rowmill.run(&format!("{submit} --hold")).code(0).id();
    rowmill
        .run(&format!("append {id} more.csv --release {on}"))
        .code(0);
    rowmill
        .run(&format!("ops set test/rows concurrency=2 {on}"))
        .code(0);
    rowmill.run(&format!("work --once {on}")).code(0);
    let ended = rowmill
        .run(&format!("status {id} --json {on}"))
        .code(0)
        .json();
    assert_eq!(ended["counts"]["success"], 4, "{ended}");
    let child = rowmill.run(&format!("retry {id} --json {on}")).code(0).id();
    rowmill.run(&format!("abort {child} {on}")).code(0);
    for command in [
        "list",
        "workers",
        "ops list",
        &format!("rows {id}"),
        &format!("history {id}"),
    ] {
        rowmill.run(&format!("{command} {on}")).code(0);
    }
    database.run("set search_path to rowmill; update batches set created_at = created_at - interval '9 days', done_at = done_at - interval '9 days'");
    rowmill
        .run(&format!("purge --older-than 1d --yes {on}"))
        .code(0);
    assert!(
        database.rows("select 1 from blocks", None).is_empty(),
        "purged"
    );

    // What it has not: tables are nobody's but the owner's, and the audit stays as it was written.
    for sql in [
        "create table rowmill.t (n int)",
        "alter table rowmill.batches add column n int",
        "drop table rowmill.audit",
        "delete from rowmill.audit",
        "update rowmill.blocks set rows = 0",
        "truncate rowmill.queue",
        "insert into rowmill.meta values ('a', 'b')",
    ] {
        let as_role = format!(
            "do $$ begin set local role {role}; begin execute '{}'; raise exception 'it may'; exception when insufficient_privilege then null; end; end $$",
            sql.replace('\'', "''")
        );
        database.run(&as_role);
    }
    let lacks = "select c.relname from pg_class c where c.relnamespace = 'rowmill'::regnamespace and c.relkind = 'r'
                    and c.relname not in ('meta', 'apps', 'schema_history') and not has_table_privilege('ROLE', c.oid, 'insert')";
    let lacks = database.rows(&lacks.replace("ROLE", &role), None);
    let lacks: Vec<String> = lacks.iter().map(|row| row.get(0)).collect();
    assert!(
        lacks.is_empty(),
        "no grant in grants.sql writes to {lacks:?}"
    );

    database.run(&format!("revoke insert on rowmill.queue from {role}"));
    let refused = rowmill.run(&submit).code(4).problem();
    let told = refused["detail"].as_str().unwrap();
    assert!(told.contains("permission denied for table queue"), "{told}");
    assert!(told.contains("migrate --grants"), "{told}");
    database.run(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn grants_are_for_a_server_and_a_roles_name_is_quoted() {
    let rowmill = Rowmill::new();
    rowmill.run("migrate --grants app").code(2);
    let mut command = rowmill.command("migrate --database postgres://h/d --grants");
    command.arg("a \"b; drop");
    let done = command.output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("to \"a \"\"b; drop\";"), "{text}");
    assert!(!text.contains("ROLE\""), "{text}");
}

#[test]
fn no_password_and_no_row_is_in_the_log_however_much_is_logged() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let pooler = PgBouncer::start(Postgres::shared(), database.name());
    rowmill.write("in.csv", &csv("rosebud7 bad"));
    for url in [database.url(), pooler.url()] {
        let url = url.replace("postgres@", "postgres:hunter2@");
        let run = format!("run in.csv --app test --op rows -v -v -v --database {url}");
        rowmill.run(&run).code(1);
        let mut command = rowmill.command(&run);
        command.env("RUST_LOG", "trace");
        let done = command.output().unwrap();
        let (stdout, stderr) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(
            stderr.contains("executing statement"),
            "the driver too: {stderr}"
        );
        for secret in ["rosebud7", "hunter2"] {
            let told: Vec<&str> = stderr.lines().filter(|l| l.contains(secret)).collect();
            assert!(told.is_empty(), "{secret}: {told:#?}");
            assert!(!stdout.contains("hunter2"), "{stdout}");
        }
    }
}

#[test]
fn processes_behind_a_pooler_work_a_batch_off_with_and_without_a_direct_address() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let pooler = PgBouncer::start(Postgres::shared(), database.name());
    rowmill.write("in.csv", &csv("1 2 3"));
    let run = format!(
        "run in.csv --app test --op rows --database {}",
        pooler.url()
    );
    let alone = rowmill.run(&run).code(0);
    assert!(
        alone.stderr.contains("no database_session is set"),
        "{}",
        alone.stderr
    );
    let mut command = rowmill.command(&run);
    command.env("ROWMILL_DATABASE_SESSION", database.url());
    let done = command.output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert!(!told.contains("database_session"), "{told}");
}

#[test]
fn the_environment_says_where_the_server_is() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    rowmill.write("in.csv", &csv("1"));
    let port = Postgres::shared().port().to_string();
    let mut command = rowmill.command("submit in.csv --app test --op rows --database postgres://");
    for (name, value) in [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", database.name()),
        ("PGAPPNAME", "night"),
    ] {
        command.env(name, value);
    }
    let done = command.output().unwrap();
    assert_eq!(
        done.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(database.rows("select 1 from batches", None).len(), 1);
}
