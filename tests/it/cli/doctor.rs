//! `doctor`: says that all is well, or what is wrong and how to repair it, and changes nothing.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;
use serde_json::Value;

use super::rowmill::Rowmill;

const NAMES: [&str; 26] = [
    "configuration",
    "handlers",
    "objects",
    "file",
    "schema",
    "integrity",
    "journal",
    "wal",
    "free_pages",
    "folder",
    "disk_space",
    "file_system",
    "lock_files",
    "blocks",
    "outcomes",
    "orphans",
    "queue",
    "clock",
    "workers",
    "served_ops",
    "paused_ops",
    "closes",
    "notices",
    "purges",
    "loads",
    "appends",
];

/// A folder in which a batch with an output file has ended and one is held.
fn worked() -> Rowmill {
    let rowmill = Rowmill::new();
    rowmill.submit("1 file bad", "");
    rowmill.run("work --once").code(0);
    rowmill.submit("1 2", "--hold");
    rowmill
}

fn database(rowmill: &Rowmill) -> Connection {
    Connection::open(rowmill.path("rowmill.db")).unwrap()
}

/// What doctor finds, and that it ends as it should.
fn checks(rowmill: &Rowmill) -> Vec<Value> {
    let done = rowmill.run("doctor --json");
    let found: Value = serde_json::from_str(&done.stdout).expect(&done.stderr);
    let ok = found["ok"].as_bool().unwrap();
    done.code(i32::from(!ok));
    let checks = found["checks"].as_array().unwrap().clone();
    let all_ok = checks.iter().all(|c| c["ok"] == true);
    assert_eq!(ok, all_ok);
    for check in &checks {
        let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert_eq!(check["ok"] == true, check["repair"].is_null(), "{check}");
    }
    checks
}

/// The names of what is to be repaired.
fn wrong(rowmill: &Rowmill) -> Vec<String> {
    let checks = checks(rowmill);
    let wrong = checks.iter().filter(|c| c["ok"] == false);
    wrong
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Damages a database by hand; doctor must name this check alone, with these words.
#[track_caller]
fn damaged(sql: &str, name: &str, words: &str) {
    let rowmill = worked();
    database(&rowmill).execute_batch(sql).unwrap();
    let found = checks(&rowmill);
    let wrong: Vec<&Value> = found.iter().filter(|c| c["ok"] == false).collect();
    let [check] = wrong.as_slice() else {
        panic!("one thing is wrong after {sql}: {wrong:#?}")
    };
    assert_eq!(check["name"], name, "{check}");
    assert!(check["detail"].as_str().unwrap().contains(words), "{check}");
}

#[test]
fn doctor_finds_nothing_where_all_is_well() {
    let rowmill = worked();
    let before = std::fs::read(rowmill.path("rowmill.db")).unwrap();
    let found = checks(&rowmill);
    let names: Vec<&str> = found.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, [&NAMES[..], &["output_files"]].concat());
    assert!(found.iter().all(|c| c["ok"] == true), "{found:#?}");
    let text = rowmill.run("doctor").code(0).stdout;
    assert_eq!(text.lines().count(), NAMES.len() + 1, "a line each: {text}");
    assert!(text.lines().all(|l| l.starts_with("ok      ")), "{text}");
    assert!(text.contains("  1 op is configured\n"), "{text}");
    assert_eq!(std::fs::read(rowmill.path("rowmill.db")).unwrap(), before);
    let help = rowmill.run("doctor --help").code(0).stdout;
    assert!(help.contains("Example:\n  rowmill doctor"), "{help}");
}

#[test]
fn a_count_of_one_reads_as_one() {
    let rowmill = Rowmill::new();
    rowmill.submit("1", "");
    let checks = checks(&rowmill);
    let detail = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        check["detail"].as_str().unwrap()
    };
    for (name, told) in [
        ("configuration", "1 op is configured"),
        ("blocks", "1 batch is as it must be"),
        ("queue", "1 task is as it must be"),
        ("output_files", "there is none yet"),
    ] {
        assert_eq!(detail(name), told, "{name}");
    }
    let counted = rowmill
        .run("submit in.csv --app test --op rows --dry-run")
        .code(0);
    let told = "in.csv: 1 row: 1 good, 0 bad; 0 blank lines; nothing was stored\n";
    assert!(counted.stdout.starts_with(told), "{}", counted.stdout);
}

#[test]
fn doctor_makes_no_database() {
    let rowmill = Rowmill::new();
    assert_eq!(wrong(&rowmill), [""; 0]);
    assert!(!rowmill.path("rowmill.db").exists());
    let missing = rowmill
        .run("doctor --database sqlite:no/where.db")
        .code(1)
        .stdout;
    assert!(missing.contains("repair  file"), "{missing}");
    assert!(missing.contains("-> make the folder"), "{missing}");
}

#[test]
fn doctor_names_a_batch_of_which_something_cannot_be_read() {
    for (sql, name, words) in [
        (
            "update queue set pick = '[' where what = 0",
            "queue",
            "its list of rows cannot be read",
        ),
        (
            "update batches set context = '{' where done_at is null",
            "blocks",
            "its context is no JSON",
        ),
        (
            "update attempts set ordinals = '[' where ended_as = 1",
            "outcomes",
            ": a list of rows: ",
        ),
    ] {
        let rowmill = worked();
        rowmill.submit("3", "");
        database(&rowmill).execute_batch(sql).unwrap();
        let found = checks(&rowmill);
        let check = found.iter().find(|c| c["name"] == name).unwrap();
        let detail = check["detail"].as_str().unwrap();
        assert!(
            detail.contains("batch ") && detail.contains(words),
            "{check}"
        );
    }
}

#[test]
fn doctor_refuses_a_file_that_is_newer_or_not_ours() {
    let rowmill = worked();
    let newer = "insert into refinery_schema_history (version, name, applied_on, checksum) values (900, 'later', '', '1')";
    database(&rowmill).execute(newer, []).unwrap();
    let problem = rowmill.run("doctor --json").code(2).problem();
    assert!(
        problem["detail"].as_str().unwrap().contains("newer"),
        "{problem}"
    );
    let other = Connection::open(rowmill.path("other.db")).unwrap();
    other
        .execute_batch("create table t (n); pragma application_id = 7")
        .unwrap();
    let args = "doctor --database sqlite:other.db --json";
    assert_eq!(
        rowmill.run(args).code(2).problem()["id"],
        "unusable_database"
    );
    rowmill.write("text.db", "this is a text and no database at all, long enough for a header of one hundred bytes and more than that");
    rowmill.run("doctor --database sqlite:text.db").code(2);
}

#[test]
fn doctor_looks_at_an_older_schema_and_leaves_it() {
    let rowmill = worked();
    let applied = || -> i64 {
        let sql = "select count(*) from refinery_schema_history";
        database(&rowmill).query_row(sql, [], |r| r.get(0)).unwrap()
    };
    let all = applied();
    let sql = "delete from refinery_schema_history where version = (select max(version) from refinery_schema_history)";
    database(&rowmill).execute(sql, []).unwrap();
    let text = rowmill.run("doctor").code(1).stdout;
    assert!(text.contains("repair  schema"), "{text}");
    assert!(text.contains("rowmill migrate"), "{text}");
    assert_eq!(applied(), all - 1, "it was not brought up to date");
}

#[test]
fn doctor_finds_a_damaged_page() {
    let rowmill = worked();
    let db = database(&rowmill);
    let page: u64 = db
        .query_row(
            "select rootpage from sqlite_schema where name = 'batches_of_op'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    db.execute_batch("pragma wal_checkpoint(truncate)").unwrap();
    drop(db);
    let mut bytes = std::fs::read(rowmill.path("rowmill.db")).unwrap();
    let at = usize::try_from((page - 1) * 4096).unwrap();
    bytes[at..at + 4096].fill(0xAB);
    std::fs::write(rowmill.path("rowmill.db"), bytes).unwrap();
    assert!(wrong(&rowmill).contains(&"integrity".to_owned()));
}

#[test]
fn doctor_finds_rows_that_do_not_add_up() {
    damaged(
        "update batches set rows = rows + 1 where state < 4",
        "blocks",
        "its blocks have 2 rows and it counts 3",
    );
    damaged(
        "delete from blocks where batch in (select id from batches where state < 4)",
        "blocks",
        "it has 0 blocks and counts 1",
    );
    damaged(
        "insert into blocks (batch, no, first_line, rows, body) select id, 5, 50, 1, '1' from batches where state < 4",
        "blocks",
        "1 block that nobody acknowledged",
    );
    damaged(
        "update batches set nsuccess = nsuccess - 1, nfailed = nfailed + 1 where state >= 4",
        "blocks",
        "its outcomes come to",
    );
}

#[test]
fn doctor_finds_outcomes_that_are_there_twice_or_not_at_all() {
    damaged(
        "insert into attempts (batch, no, task, attempt, part, at, ended_as, success, ordinals, body) \
         select batch, no, task, attempt, part + 100, at, 1, 0, '[0]', '{}' || char(10) from attempts limit 1",
        "outcomes",
        "row 0 has two final outcomes",
    );
    damaged(
        "update attempts set body = '{}' || char(10), ordinals = '[0]'",
        "outcomes",
        "1 of its 3 rows have an outcome",
    );
    damaged(
        "update attempts set body = 'no outcome' || char(10), ordinals = '[0]'",
        "outcomes",
        "an outcome's text",
    );
    damaged(
        "update attempts set body = '{\"files\":[]}' || char(10), ordinals = '[0]'",
        "outcomes",
        "what an outcome wrote to files",
    );
}

#[test]
fn doctor_finds_what_belongs_to_no_batch() {
    damaged(
        "insert into blocks (batch, no, first_line, rows, body) values (zeroblob(16), 0, 1, 1, '1')",
        "orphans",
        "blocks of batch 00000000-0000-0000-0000-000000000000",
    );
    damaged(
        "insert into files select zeroblob(16), 'a', 'a', 1, '', '' where 1",
        "orphans",
        "files of batch",
    );
}

/// A task of the batch that the query names.
fn task(batch: &str, no: i64, more: &str) -> String {
    format!(
        "insert into queue (batch, id, no, what, op, state, priority, turn, age, rows, token, worker, attempt, error) \
         select id, {no}, {no}, {more} from ({batch})"
    )
}

#[test]
fn doctor_finds_tasks_that_nobody_could_end() {
    let held = "select id, op from batches where state = 1";
    let ended = "select id, op from batches where state >= 4";
    let waits = "0, op, 4, 0, 0, 0, 1, null, null, 0, null";
    damaged(
        &task(ended, 0, waits),
        "queue",
        "of a batch that is not open",
    );
    damaged(
        &task(held, 0, waits),
        "queue",
        "of a block that was not given",
    );
    let gone = "select zeroblob(16) as id, 1 as op";
    damaged(
        &task(gone, 0, waits),
        "queue",
        "of a batch that is not there",
    );
    let runs = "1, op, 2, 0, 0, 0, 1, 7, 999, 1, null";
    damaged(&task(held, -1, runs), "queue", "of a worker that has ended");
}

#[test]
fn doctor_finds_a_batch_that_fails_to_end_again_and_again() {
    let held = "select id, op from batches where state = 1";
    let closes = |attempts: u32| {
        task(
            held,
            -1,
            &format!(
                "1, op, 4, 0, 0, 0, 1, null, null, {attempts}, 'publishing: the disk is full'"
            ),
        )
    };
    damaged(&closes(3), "closes", "publishing: the disk is full");
    let rowmill = worked();
    database(&rowmill).execute_batch(&closes(1)).unwrap();
    assert_eq!(wrong(&rowmill), [""; 0], "it is tried again");
}

#[test]
fn doctor_finds_a_clock_that_is_behind() {
    damaged(
        "update batches set created_at = created_at + 3600000000 where state < 4",
        "clock",
        "the latest record is of",
    );
}

#[test]
fn doctor_finds_a_worker_that_died() {
    damaged(
        "insert into workers (lock, host, pid, version, started_at) values ('gone', 'h', 1, '0', 1)",
        "workers",
        "died and nobody took its tasks over",
    );
}

#[test]
fn doctor_finds_work_that_waits_for_nobody() {
    let rowmill = worked();
    rowmill.submit("7", "");
    let found = checks(&rowmill);
    let check = found.iter().find(|c| c["name"] == "served_ops").unwrap();
    assert_eq!(
        check["detail"],
        "test/rows: 1 task waits, and no live worker of it"
    );
    database(&rowmill)
        .execute_batch("update ops set paused = 1")
        .unwrap();
    assert_eq!(wrong(&rowmill), ["paused_ops"]);
    database(&rowmill)
        .execute_batch("update ops set paused = 0")
        .unwrap();
    rowmill.run("work --once").code(0);
    assert_eq!(wrong(&rowmill), [""; 0]);
}

#[test]
fn doctor_finds_what_stands_still() {
    damaged(
        "insert into notices (batch, op, at, due_at, attempts) select id, op, 1, 1, 9 from batches where state >= 4",
        "notices",
        "after 9 tries",
    );
    damaged(
        "update batches set purged_at = 1, purging = 1 where state >= 4",
        "purges",
        "is half purged since 1970",
    );
    damaged(
        "update batches set purged_at = 1 where state >= 4",
        "blocks",
        "it was purged, and something of it is left",
    );
    damaged(
        "update batches set state = 0, loaded_at = 1, load_token = 1 where state = 1",
        "loads",
        "its submit was given up",
    );
    damaged(
        "insert into appends (batch, key, first_no, after_line, last_line, by, at, token) select id, 'k', 1, 3, 3, '', 1, 1 from batches where state = 1",
        "appends",
        "its append was given up",
    );
}

#[test]
fn doctor_finds_output_files_that_are_gone_or_were_changed() {
    let rowmill = worked();
    let dir = std::fs::read_dir(rowmill.path("rowmill-files/test/rows")).unwrap();
    let dir = dir.last().unwrap().unwrap().path();
    std::fs::write(dir.join("out.txt"), "longer than it was published").unwrap();
    std::fs::remove_file(dir.join("other.txt")).unwrap();
    let found = checks(&rowmill);
    let check = found.iter().find(|c| c["name"] == "output_files").unwrap();
    let detail = check["detail"].as_str().unwrap();
    assert!(detail.contains("other.txt is missing"), "{detail}");
    assert!(detail.contains("has 28 bytes and not 6"), "{detail}");
    assert_eq!(wrong(&rowmill), ["output_files"]);
}

#[test]
fn doctor_finds_a_command_that_cannot_be_started_and_a_folder_that_cannot_be_written() {
    let rowmill = worked();
    rowmill.write(
        "rowmill.toml",
        "[ops.\"test/rows\"]\nhandler = { command = [\"no-such-program\"] }\n",
    );
    assert_eq!(wrong(&rowmill), ["handlers"]);
    rowmill.write("rowmill.toml", "[ops.\"test/rows\"]\nno_such_key = 1\n");
    // A configuration that cannot be read is told whole, as by any command.
    rowmill.run("doctor").code(2);
    rowmill.write("rowmill.toml", "");
    rowmill.write("a-file", "");
    let text = rowmill
        .run("doctor --objects file:a-file/below")
        .code(1)
        .stdout;
    assert!(text.contains("repair  objects"), "{text}");
}

#[test]
fn doctor_finds_a_database_that_this_user_cannot_write() {
    let rowmill = worked();
    let path = rowmill.path("rowmill.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    // The superuser may write whatever the file says.
    let may = std::fs::File::options().append(true).open(&path).is_ok();
    let expected: &[&str] = if may { &[] } else { &["folder"] };
    assert_eq!(wrong(&rowmill), expected);
}

#[test]
fn doctor_finds_a_journal_that_is_no_wal() {
    damaged(
        "pragma journal_mode = delete",
        "journal",
        "the journal's mode is delete",
    );
}
