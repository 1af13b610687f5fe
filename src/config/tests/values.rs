//! Single values: paths, `env:NAME`, secrets, and what the report shows of them.

use super::*;

#[test]
fn relative_paths_of_the_file_start_at_its_folder() {
    let given = file("database = \"sqlite:data/x.db\"\nobjects = \"file:out\"\n");
    let config = given.good();
    assert_eq!(
        config.database.value,
        format!("sqlite:{}", given.beside("data/x.db"))
    );
    assert_eq!(
        config.objects.value,
        format!("file:{}", given.beside("out"))
    );
}

#[test]
fn relative_paths_of_flags_and_environment_start_at_the_current_folder() {
    let config = file("")
        .env("ROWMILL_OBJECTS", "file:out")
        .database("sqlite:x.db")
        .good();
    assert_eq!(config.database.value, "sqlite:x.db");
    assert_eq!(config.objects.value, "file:out");
}

#[test]
fn absolute_paths_stay_as_they_are() {
    let config = file("database = \"sqlite:/a/x.db\"\nobjects = \"file:///b/out\"\n").good();
    assert_eq!(config.database.value, "sqlite:/a/x.db");
    assert_eq!(config.objects.value, "file:/b/out");
}

#[test]
fn handlers_run_in_the_folder_of_the_file() {
    let given = file("");
    assert_eq!(given.good().dir, given.folder.path());
}

#[test]
fn what_is_no_place_on_this_disk_is_refused() {
    for url in [
        "rowmill.db",
        "sqlite:",
        "sqlite::memory:",
        "sqlite://host/x.db",
        "mysql://u:hunter2@db",
        "file:x",
        "sqlite:a\0b",
        "sqlite:~/rowmill.db",
    ] {
        let wrong = nothing().database(url).wrong();
        let [wrong] = &wrong[..] else {
            panic!("{url:?}: {wrong:?}");
        };
        assert!(wrong.starts_with("--database: "), "{wrong}");
        assert!(wrong.contains("must be sqlite:PATH"), "{wrong}");
        assert!(!wrong.contains("hunter2"), "{wrong}");
    }
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    let wrong = file(
        "database = 5\n\
         objects = [\"file:x\"]\n\
         max_row_bytes = \"100\"\n\
         max_input_bytes = -1\n\
         ops = true\n",
    )
    .wrong();
    assert_eq!(
        wrong,
        [
            "F:1: database: must be a string, not an integer",
            "F:2: objects: must be a string, not an array",
            "F:3: max_row_bytes: must be a whole number, not a string",
            "F:4: max_input_bytes: must be a whole number, 0 or more, not \"-1\"",
            "F:5: ops: must be a table, not a boolean",
        ]
    );
}

#[test]
fn whole_numbers_are_read_in_every_form_of_toml() {
    let config = file("max_row_bytes = 1_000\nmax_input_bytes = 0xff\n").good();
    assert_eq!(config.max_row_bytes.value, 1000);
    assert_eq!(config.max_input_bytes.value, Some(255));
}

#[test]
fn a_limit_that_takes_nothing_is_refused() {
    let wrong = file("max_row_bytes = 0\nmax_input_bytes = 0\n").wrong();
    assert_eq!(
        wrong,
        [
            "F:1: max_row_bytes: must be 1 to 268435456 bytes, not \"0\"",
            "F:2: max_input_bytes: must be 1 or more bytes, not \"0\"",
        ]
    );
}

#[test]
fn any_string_of_the_file_may_come_from_the_environment() {
    let given = file(
        "database = \"env:DB\"\n\
         migrate = \"env:MIGRATE\"\n\
         max_row_bytes = \"env:BYTES\"\n",
    )
    .env("DB", "sqlite:x.db")
    .env("MIGRATE", "manual")
    .env("BYTES", "9");
    let config = given.good();
    assert_eq!(
        config.database.value,
        format!("sqlite:{}", given.beside("x.db"))
    );
    assert_eq!(config.migrate.value, Migrate::Manual);
    assert_eq!(config.max_row_bytes.value, 9);
}

#[test]
fn a_variable_that_is_not_set_is_named_with_file_line_and_key() {
    let wrong = file("\ndatabase = \"env:NOWHERE\"\nobjects = \"env:\"\n").wrong();
    assert_eq!(
        wrong,
        [
            "F:2: database: the environment variable NOWHERE is not set",
            "F:3: objects: env: wants the name of a variable, as in env:NAME",
        ]
    );
}

#[test]
fn what_a_flag_replaces_need_not_be_there() {
    let config = file("database = \"env:NOWHERE\"\n")
        .database("sqlite:x.db")
        .good();
    assert_eq!(config.database.value, "sqlite:x.db");
    assert!(file("database = 5").database("sqlite:x.db").load().is_err());
}

#[test]
fn the_environment_and_flags_are_taken_as_they_are() {
    let wrong = nothing().env("X", "sqlite:x.db").database("env:X").wrong();
    assert_eq!(
        wrong,
        ["--database: must be sqlite:PATH or postgres://HOST/DATABASE, such as sqlite:rowmill.db"]
    );
}

#[test]
fn secrets_are_masked_in_the_report_and_in_debug_forms() {
    let given = file(
        "database = \"env:DB\"\n\
         [ops.\"a/b\"]\n\
         timeout = \"env:TIMEOUT\"\n\
         handler = { command = [\"env:PROGRAM\", \"env:TOKEN\", \"https://u:hunter2@x/y\"] }\n",
    )
    .env("DB", "sqlite:/hunter2.db")
    .env("TIMEOUT", "77s")
    .env("PROGRAM", "/hunter2")
    .env("TOKEN", "hunter2");
    let config = given.good();
    let Some(Handler::Command { command, .. }) = &config.ops[0].handler else {
        panic!("a command");
    };
    assert_eq!(
        command[..],
        ["/hunter2", "hunter2", "https://u:hunter2@x/y"]
    );

    let report = given.report();
    assert!(
        report.contains(&"database = ***  (F:1, env:DB)".to_owned()),
        "{report:#?}"
    );
    assert!(
        report.contains(&"ops.\"a/b\".timeout = ***  (F:3, env:TIMEOUT)".to_owned()),
        "{report:#?}"
    );
    let command =
        r#"ops."a/b".handler.command = ["env:PROGRAM", "env:TOKEN", "https://u:***@x/y"]  (F:4)"#;
    assert!(report.contains(&command.to_owned()), "{report:#?}");

    let shown = format!(
        "{config:?} {:?} {:?} {:?}",
        config.database, config.ops, config.ops[0].handler
    );
    assert!(shown.contains("env:TOKEN"), "{shown}");
    for secret in ["hunter2", "77s", "1m17s"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!report.join("\n").contains(secret), "{report:#?}");
    }
}

#[test]
fn no_message_repeats_a_secret() {
    let wrong = file(
        "database = \"env:SECRET\"\n\
         migrate = \"env:SECRET\"\n\
         max_row_bytes = \"env:SECRET\"\n\
         [ops.\"a/b\"]\n\
         kind = \"env:SECRET\"\n\
         timeout = \"env:SECRET\"\n\
         backoff = { factor = \"env:SECRET\" }\n",
    )
    .env("SECRET", "hunter2")
    .wrong();
    assert_eq!(wrong.len(), 6, "{wrong:#?}");
    assert!(!wrong.join("\n").contains("hunter2"), "{wrong:#?}");
    assert_eq!(
        wrong[1],
        "F:2: migrate: must be \"auto\" or \"manual\", not what SECRET holds"
    );
}

#[test]
fn the_report_says_what_is_in_force_and_where_it_came_from() {
    let report = file(
        "migrate = \"manual\"\n\
         \n\
         [ops.\"banking/post\"]\n\
         kind = \"query\"\n\
         max_attempts = 3\n\
         backoff = { base = \"5s\" }\n\
         handler = { command = [\"python3\", \"post.py\"] }\n",
    )
    .env("ROWMILL_MAX_INPUT_BYTES", "5000")
    .database("sqlite:x.db")
    .report();
    let op = "ops.\"banking/post\"";
    assert_eq!(
        report,
        [
            "config = F  (default)".to_owned(),
            "database = sqlite:x.db  (--database)".to_owned(),
            "objects = file:rowmill-files  (default)".to_owned(),
            "migrate = manual  (F:1)".to_owned(),
            "max_row_bytes = 1048576  (default)".to_owned(),
            "max_input_bytes = 5000  (ROWMILL_MAX_INPUT_BYTES)".to_owned(),
            "redis = none  (default)".to_owned(),
            "redis_prefix = rowmill  (default)".to_owned(),
            "redis_timeout = 5ms  (default)".to_owned(),
            "status_ttl = 5s  (default)".to_owned(),
            format!("{op}.kind = query  (F:4)"),
            format!("{op}.handler.command = [\"python3\", \"post.py\"]  (F:7)"),
            format!("{op}.handler.window = 32  (default)"),
            format!("{op}.max_attempts = 3  (F:5)"),
            format!("{op}.max_lost = 3  (default)"),
            format!("{op}.backoff.base = 5s  (F:6)"),
            format!("{op}.backoff.factor = 2  (default)"),
            format!("{op}.backoff.cap = 1h  (default)"),
            format!("{op}.concurrency = none  (default)"),
            format!("{op}.local_concurrency = number of cores  (default)"),
            format!("{op}.parallel = 1  (default)"),
            format!("{op}.timeout = none  (default)"),
            format!("{op}.delivery = at_least_once  (default)"),
            format!("{op}.block_rows = 1000  (default)"),
            format!("{op}.block_bytes = 1048576  (default)"),
            format!("{op}.abort_grace = 30s  (default)"),
            format!("{op}.max_later = 1000  (default)"),
            format!("{op}.keep = none  (default)"),
        ]
    );
}
