//! What cannot be: exit codes 2 and 4, and that errors are one line.

use super::rowmill::{Done, Rowmill};

#[test]
fn usage_is_exit_2() {
    let rowmill = Rowmill::new();
    for args in [
        "",
        "nonsense",
        "status",
        "rows x --format xml",
        "work --json=1",
        "--log xml work",
    ] {
        let told = rowmill.run(args).code(2);
        assert_eq!(told.stdout, "", "{args}");
    }
    assert_eq!(
        rowmill.run("status --json").code(2).problem()["id"],
        "usage"
    );
    assert!(rowmill.run("--help").code(0).stdout.contains("Usage"));
    assert!(
        rowmill
            .run("--version")
            .code(0)
            .stdout
            .starts_with("rowmill ")
    );
    let mut typed = rowmill.command("status");
    let typed = typed.env("ROWMILL_JSON", "1").output().unwrap();
    assert_eq!(Done::of("status", typed).code(2).problem()["id"], "usage");
    let odd = rowmill
        .command("migrate")
        .env("ROWMILL_JSON", "maybe")
        .output();
    assert_eq!(odd.unwrap().status.code(), Some(2));
}

#[test]
fn a_number_that_is_none_is_told_in_words() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    let whole = "must be a whole number, 0 or more";
    let priority = "must be a whole number from -100 to 100";
    let duration = "is negative; write a duration as 90s";
    for (args, told) in [
        ("list --limit -1", whole),
        ("list --limit x", whole),
        ("list --limit=1.5", whole),
        ("list --limit 99999999999999999999", "is too large"),
        ("history x --line -1", whole),
        ("history x --line 4294967296", "is too large"),
        ("bench --rows -5", whole),
        ("submit in.csv --app a --op b --priority x", priority),
        (
            "query submit --app a --op b --input 1 --priority 1.5",
            priority,
        ),
        ("list --since -7d", "is no time and no duration"),
        (
            "submit in.csv --app a --op b --run-at 9999-12-31T23:59:59Z",
            "is no time up to 9999-12-30T22:00:00Z",
        ),
        ("abort x --for -5s", duration),
        ("query abort x --for -5s", duration),
        ("purge --older-than -5d", duration),
    ] {
        let problem = rowmill.run(&format!("{args} --json")).code(2).problem();
        assert_eq!(problem["id"], "usage", "{args}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(told), "{args}: {detail}");
        let text = rowmill.run(args).code(2);
        assert_eq!(text.stdout, "", "{args}");
        let first = text.stderr.lines().next().unwrap();
        assert_eq!(first, format!("error: {detail}"), "{args}");
    }
    let far = "submit in.csv --app a --op b --priority -101 --json";
    assert_eq!(rowmill.run(far).code(2).problem()["id"], "bad_priority");
    let dry = far.replace("--json", "--json --dry-run");
    assert_eq!(rowmill.run(&dry).code(2).problem()["id"], "bad_priority");
}

#[test]
fn what_is_not_in_this_version_is_exit_2_and_says_so() {
    let rowmill = Rowmill::new();
    for flag in ["--server http://x", "--token secret"] {
        let problem = rowmill
            .run(&format!("migrate --json {flag}"))
            .code(2)
            .problem();
        assert_eq!(problem["id"], "bad_configuration");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("not in this version yet"),
            "{flag}: {detail}"
        );
        assert!(!detail.contains("secret"));
    }
}

#[test]
fn every_mistake_of_the_configuration_is_told_with_its_line() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "databse = 1\nmigrate = \"never\"\n");
    let told = rowmill.run("migrate").code(2).stderr;
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.starts_with("error: rowmill.toml:1: "), "{told}");
    assert!(told.contains("       rowmill.toml:2: "), "{told}");
    rowmill.run("migrate --config missing.toml").code(2);
}

#[test]
fn an_op_that_is_not_configured_is_refused_and_nothing_is_stored() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    let problem = rowmill
        .run("run in.csv --app test --op other --json")
        .code(2)
        .problem();
    assert_eq!(problem["id"], "unknown_op");
    assert!(!rowmill.path("rowmill.db").exists());
    let config = rowmill.read("rowmill.toml");
    rowmill.write(
        "rowmill.toml",
        &format!("{config}\n[ops.\"test/other\"]\nparallel = 1\n"),
    );
    let told = rowmill
        .run("run in.csv --app test --op other")
        .code(2)
        .stderr;
    assert!(told.contains("has no handler"), "{told}");
    assert!(!rowmill.path("rowmill.db").exists());
    rowmill.write("rowmill.toml", "");
    let told = rowmill.run("work --once").code(2).stderr;
    assert!(told.contains("no op"), "{told}");
}

#[test]
fn a_command_that_is_not_there_is_refused_before_anything_is_stored() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    rowmill.write(
        "rowmill.toml",
        "[ops.\"test/rows\"]\nhandler = { command = [\"no-such-program-of-ours\"] }\n",
    );
    for args in [
        "run in.csv --app test --op rows",
        "work --once",
        "config check",
    ] {
        let told = rowmill.run(args).code(2).stderr;
        assert!(told.contains("no-such-program-of-ours"), "{args}: {told}");
        assert!(told.contains("rowmill.toml:1"), "{args}: {told}");
    }
    assert!(!rowmill.path("rowmill.db").exists());
    // Workers elsewhere may have it.
    rowmill.run("submit in.csv --app test --op rows").code(0);
}

#[test]
fn a_database_that_is_newer_or_not_ours_is_exit_2() {
    let rowmill = Rowmill::new();
    rowmill.write("text.db", &"this is no database ".repeat(100));
    let foreign = rusqlite::Connection::open(rowmill.path("foreign.db")).unwrap();
    foreign.execute_batch("create table theirs (a)").unwrap();
    drop(foreign);
    rowmill.run("migrate --database sqlite:newer.db").code(0);
    let newer = rusqlite::Connection::open(rowmill.path("newer.db")).unwrap();
    newer
        .execute(
            "insert into refinery_schema_history select 999, 'to_come', applied_on, checksum from refinery_schema_history limit 1",
            [],
        )
        .unwrap();
    drop(newer);
    rowmill.write("in.csv", "n\n1\n");
    for file in ["text", "foreign", "newer"] {
        for args in [
            "submit in.csv --app test --op rows",
            "migrate",
            "migrate --dry-run",
            "status 0198c0de-0000-7000-8000-000000000000",
            "work --once",
        ] {
            let args = format!("{args} --json --database sqlite:{file}.db");
            let problem = rowmill.run(&args).code(2).problem();
            assert_eq!(problem["id"], "unusable_database", "{args}");
        }
    }
}

#[test]
fn output_files_that_could_not_be_written_are_exit_4_before_a_row_runs() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    rowmill.write("file", "");
    for place in ["file", "file/x", "/proc/x/y"] {
        let args = format!("run in.csv --app test --op rows --json --objects file:{place}");
        let problem = rowmill.run(&args).code(4).problem();
        assert_eq!(problem["id"], "unavailable", "{place}");
    }
    assert!(!rowmill.path("rowmill.db").exists());
}

#[test]
fn an_answer_that_cannot_be_written_is_exit_4() {
    let rowmill = Rowmill::new();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = rowmill.command("config check");
    command.stdout(full.unwrap());
    assert_eq!(command.status().unwrap().code(), Some(4));
}

#[test]
fn a_place_that_cannot_be_opened_is_exit_4() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    rowmill.write("file", "");
    // Not even root makes files in /proc.
    for place in ["missing/x.db", "file/x.db", "/proc/x.db"] {
        for args in [
            "submit in.csv --app test --op rows",
            "migrate",
            "status 0198c0de-0000-7000-8000-000000000000",
        ] {
            let args = format!("{args} --json --database sqlite:{place}");
            let done = rowmill.run(&args);
            if args.starts_with("status") && place == "/proc/x.db" {
                // The folder is there, and the database is not.
                done.code(3);
                continue;
            }
            assert_eq!(done.code(4).problem()["id"], "unavailable", "{args}");
        }
    }
    std::fs::create_dir(rowmill.path("folder.db")).unwrap();
    for place in ["folder.db", "/dev/null"] {
        let args = format!("list --json --database sqlite:{place}");
        let problem = rowmill.run(&args).code(4).problem();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.ends_with("name a file with --database"), "{detail}");
        let beside = format!("{place}-workers");
        assert!(!rowmill.path(&beside).exists(), "nothing is made beside it");
        let args = format!("doctor --database sqlite:{place}");
        let told = rowmill.run(&args).code(1).stdout;
        assert!(told.contains("it is a folder or a device"), "{told}");
    }
}
