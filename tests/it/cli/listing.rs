//! `list`, `history`, `retry`, and rows that go to CSV and back.

use super::rowmill::Rowmill;

/// The lines of stdout as JSON.
fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_list_is_newest_first_and_fits_eighty_columns() {
    let rowmill = Rowmill::new();
    rowmill.run("list").code(3);
    let first = rowmill.submit("1 bad", "");
    rowmill.run("work --once").code(0);
    let second = rowmill.submit("1", "--hold");
    let long = "an_operation_with_a_very_long_name_indeed";
    rowmill.write("in.csv", "n\n1\n");
    let third = rowmill
        .run(&format!("submit in.csv --app other --op {long} --json"))
        .code(0)
        .id();
    let text = rowmill.run("list").code(0).stdout;
    let shown: Vec<&str> = text.lines().collect();
    assert_eq!(shown.len(), 4, "{text}");
    assert!(shown.iter().all(|l| l.chars().count() <= 80), "{text}");
    assert!(shown[0].starts_with("id "), "{text}");
    assert!(shown[1].starts_with(&third) && shown[1].ends_with('…'));
    assert!(shown[2].starts_with(&format!("{second}  wait ")) && shown[2].ends_with(" test/rows"));
    assert!(shown[3].starts_with(&format!("{first}  failed ")), "{text}");

    let ids = |args: &str| -> Vec<String> {
        let done = rowmill.run(&format!("list --json {args}")).code(0);
        let batches = lines(&done.stdout);
        let id = |b: &serde_json::Value| b["id"].as_str().unwrap().to_owned();
        batches.iter().map(id).collect()
    };
    assert_eq!(ids(""), [third.clone(), second.clone(), first.clone()]);
    assert_eq!(ids("--limit 0"), ids(""));
    assert_eq!(ids("--limit 1"), [third.as_str()]);
    assert_eq!(ids("--app test"), [second.clone(), first.clone()]);
    assert_eq!(
        ids("--app test --op ROWS --status failed"),
        [first.as_str()]
    );
    assert_eq!(ids("--status inprog"), [""; 0]);
    assert_eq!(ids("--since 1h").len(), 3);
    assert_eq!(ids("--since 2001-01-01T00:00:00Z").len(), 3);
    assert_eq!(ids("--since 2999-01-01T00:00:00Z"), [""; 0]);
    assert_eq!(ids("--app nobody"), [""; 0]);
    let alone = rowmill
        .run(&format!("status {first} --json"))
        .code(0)
        .json();
    let listed = rowmill.run("list --json --status failed").code(0).json();
    assert_eq!(listed, alone, "the shape of a batch everywhere");
    for args in [
        "--status lost",
        "--since yesterday",
        "--limit -1",
        "--app a/b",
        "--op job_x",
    ] {
        rowmill
            .run(&format!("list --json {args}"))
            .code(2)
            .problem();
    }
}

#[test]
fn a_history_tells_attempts_of_blocks_or_of_a_line() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n,m\n1,2\n2\nbad,3\n");
    let id = rowmill
        .run("submit in.csv --app test --op rows --json")
        .code(0)
        .id();
    let before = rowmill.run(&format!("history {id} --json")).code(0).stdout;
    let refused =
        r#"{"first_line":3,"rows":1,"attempt":0,"worker":null,"started_at":null,"ended_at":"#;
    assert!(before.starts_with(refused), "{before}");
    rowmill.run("work --once").code(0);
    let blocks = lines(&rowmill.run(&format!("history {id} --json")).code(0).stdout);
    assert_eq!(blocks.len(), 2);
    let block = &blocks[1];
    assert_eq!(
        [&block["first_line"], &block["rows"], &block["attempt"]],
        [2, 2, 1]
    );
    assert_eq!(block["after"], "failed");
    assert_eq!(block["errcode"], "is_bad");
    let line = rowmill
        .run(&format!("history {id} --line 4 --json"))
        .code(0);
    let line = line.json();
    assert_eq!(
        [&line["before"], &line["after"], &line["errcode"]],
        ["queued", "failed", "is_bad"]
    );
    assert!(line["worker"].is_number() && line["started_at"].is_string());
    let text = rowmill.run(&format!("history {id}")).code(0).stdout;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    assert!(
        text.contains("-→failed") && text.contains("queued→failed"),
        "{text}"
    );
    let missing = rowmill.run(&format!("history {id} --line 9 --json"));
    assert_eq!(missing.code(3).problem()["id"], "not_found");
    let missing = rowmill.run(&format!("history {id} --line 9")).code(3);
    assert_eq!(
        (missing.stdout.as_str(), missing.stderr.lines().count()),
        ("", 1)
    );
}

#[test]
fn a_retry_prints_the_child_and_the_same_one_again() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 bad 3 bad", "");
    let early = rowmill.run(&format!("retry {id} --json")).code(3).problem();
    assert_eq!(early["id"], "wrong_state");
    assert_eq!(early["instance"], format!("/v1/batches/{id}"));
    rowmill.run("work --once").code(0);
    let child = rowmill.run(&format!("retry {id} --json")).code(0);
    assert_eq!(child.stderr, "");
    let child = child.json();
    assert_eq!(
        (&child["parent"], &child["root"]),
        (&id.clone().into(), &id.clone().into())
    );
    assert_eq!(
        (&child["generation"], &child["counts"]["rows"]),
        (&1.into(), &2.into())
    );
    let again = rowmill.run(&format!("retry {id} --json")).code(0);
    assert_eq!(
        (again.json()["id"].clone(), again.stderr.as_str()),
        (child["id"].clone(), "")
    );
    let told = rowmill.run(&format!("retry {id}")).code(0);
    assert!(told.stderr.contains("nothing is left"), "{}", told.stderr);
    let child = child["id"].as_str().unwrap();
    assert!(told.stdout.contains(child));
    let rows = lines(&rowmill.run(&format!("rows {child} --json")).code(0).stdout);
    let rows: Vec<&serde_json::Value> = rows.iter().map(|r| &r["line"]).collect();
    assert_eq!(rows, [3, 5]);
    rowmill.run("work --once").code(0);
    let good = rowmill.submit("1", "");
    rowmill.run("work --once").code(0);
    let nothing = rowmill
        .run(&format!("retry {good} --json"))
        .code(3)
        .problem();
    assert_eq!(nothing["id"], "nothing_to_retry");
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    let missing = rowmill.run(&format!("retry {unknown} --json")).code(3);
    assert_eq!(missing.problem()["id"], "not_found");
}

#[test]
fn new_commands_end_their_help_with_an_example() {
    let rowmill = Rowmill::new();
    for command in ["list", "history", "retry"] {
        let help = rowmill.run(&format!("{command} --help")).code(0).stdout;
        let example = help.split("Example:").nth(1).expect("an example");
        assert!(example.contains(&format!("  rowmill {command} ")), "{help}");
    }
}

#[test]
fn rows_of_json_lines_go_to_csv_and_back_as_they_were() {
    let rowmill = Rowmill::new();
    let inputs = [
        r#"{"n":1.50,"list":[1, 2],"text":"a, \"b\"\u00e9"}"#,
        r#"{"n":"bad"}"#,
        r#""text""#,
        "null",
        "12345678901234567890.0",
    ];
    rowmill.write("in.jsonl", &format!("{}\n", inputs.join("\n")));
    let submit = |file: &str| {
        let done = rowmill.run(&format!("submit {file} --app test --op rows --json"));
        done.code(0).id()
    };
    let shown = |id: &str| -> Vec<String> {
        let rows = rowmill.run(&format!("rows {id} --json")).code(0).stdout;
        let input = |line: &str| {
            let from = line.find("\"input\":").unwrap() + 8;
            line[from..line.find(",\"result\"").unwrap()].to_owned()
        };
        rows.lines().map(input).collect()
    };
    let id = submit("in.jsonl");
    let csv = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert!(
        csv.starts_with("_input,_line,_status,_errcode,_message\n"),
        "{csv}"
    );
    rowmill.write("back.csv", &csv);
    let back = submit("back.csv");
    assert_eq!(shown(&back), inputs);
    // And once more: the batch is one of JSON Lines still.
    let again = rowmill
        .run(&format!("rows {back} --format csv"))
        .code(0)
        .stdout;
    rowmill.write("again.csv", &again);
    assert_eq!(shown(&submit("again.csv")), inputs);
}

#[test]
fn a_bad_json_line_comes_back_bad_until_it_is_corrected() {
    let rowmill = Rowmill::new();
    rowmill.write("in.jsonl", "{\"n\":1\n{\"n\":2}\n");
    let submitted = rowmill.run("submit in.jsonl --app test --op rows --json");
    let id = submitted.code(0).id();
    let csv = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    let failed: Vec<&str> = csv.lines().filter(|l| l.contains("bad_json")).collect();
    assert!(
        failed[0].starts_with("\"{\"\"n\"\":1\",1,failed,bad_json,"),
        "{csv}"
    );
    assert!(failed[0].ends_with(','), "{csv}");
    let rejected = |text: &str| {
        rowmill.write("back.csv", text);
        let counted = rowmill.run("submit back.csv --app test --op rows --dry-run --json");
        counted.code(0).json()["rejected"].clone()
    };
    assert_eq!(rejected(&csv), 1);
    let half = csv.replacen("\"\"n\"\":1\"", "\"\"n\"\":1}\"", 1);
    assert_eq!(
        rejected(&half),
        1,
        "the last field says that it was refused"
    );
    let whole: Vec<&str> = half.lines().map(|l| l.trim_end_matches(',')).collect();
    let whole = whole.join("\n").replace("queued", "queued,,");
    assert_eq!(rejected(&whole), 0, "{whole}");
}

#[test]
fn a_column_called_input_alone_is_text() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "_input\n1\n");
    let id = rowmill
        .run("submit in.csv --app test --op rows --hold --json")
        .code(0)
        .id();
    let row = rowmill.run(&format!("rows {id} --json")).code(0).json();
    assert_eq!(row["input"], serde_json::json!({"_input": "1"}));
}
