//! `append` and `release`: rounds into a held batch, and the end of the rounds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::rowmill::{Done, Rowmill, csv};

#[test]
fn a_batch_is_filled_in_rounds_and_then_released() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 2", "--hold");
    rowmill.write("more.csv", &csv("3 bad"));
    let batch = rowmill.run(&format!("append {id} more.csv --json")).code(0);
    assert_eq!(batch.stderr, "");
    let batch = batch.json();
    assert_eq!(
        (&batch["status"], &batch["counts"]["rows"]),
        (&"wait".into(), &4.into())
    );
    let told = rowmill.run(&format!("append {id} more.csv --key again"));
    let told = told.code(0);
    assert_eq!(told.stderr, "2 rows added as lines 8-9\n");
    assert_eq!(
        told.stdout,
        format!("batch {id}  wait\n  6 rows: 6 pending\n")
    );
    let batch = rowmill.run(&format!("release {id} --json")).code(0).json();
    assert_eq!(batch["status"], "queued");
    let again = rowmill.run(&format!("release {id}")).code(0).stdout;
    assert!(
        again.starts_with(&format!("batch {id}  queued\n")),
        "{again}"
    );
    rowmill.run("work --once").code(0);
    let rows = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert_eq!(
        rows,
        "n,_line,_status,_errcode,_message\n1,2,success,,\n2,3,success,,\n3,5,success,,\n\
         bad,6,failed,is_bad,n: it is bad\n3,8,success,,\nbad,9,failed,is_bad,n: it is bad\n"
    );
    let ended = rowmill
        .run(&format!("release {id} --json"))
        .code(3)
        .problem();
    assert_eq!(ended["id"], "wrong_state");
}

#[test]
fn an_append_may_release_and_the_work_goes_on() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold --external-id march");
    rowmill.write("more.csv", &csv("2"));
    let append = "append ext:march --app test more.csv --release --json";
    let batch = rowmill.run(append).code(0).json();
    assert_eq!(
        (batch["id"].as_str(), &batch["status"]),
        (Some(id.as_str()), &"queued".into())
    );
    rowmill.run("work --once").code(0);
    let again = rowmill.run(append).code(0).json();
    assert_eq!(
        (&again["status"], &again["counts"]["rows"]),
        (&"success".into(), &2.into())
    );
    // The file as it was first submitted is the same batch still.
    assert_eq!(rowmill.submit("1", "--hold --external-id march"), id);
    rowmill.write("more.csv", &csv("3"));
    let refused = rowmill.run(append).code(3).problem();
    assert_eq!(
        (&refused["id"], &refused["status"]),
        (&"wrong_state".into(), &409.into())
    );
    assert_eq!(refused["instance"], format!("/v1/batches/{id}"));
}

#[test]
fn the_same_rows_again_are_said_to_be_there() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    rowmill.write("more.csv", &csv("2 3"));
    let append = format!("append {id} more.csv");
    let told = rowmill.run(&append).code(0);
    assert_eq!(told.stderr, "2 rows added as lines 4-5\n");
    let told = rowmill.run(&append).code(0);
    assert!(
        told.stderr
            .starts_with("nothing was added: these rows are there as lines 4-5\n")
    );
    assert!(told.stdout.contains("3 rows: 3 pending"), "{}", told.stdout);
    let keyed = format!("{append} --key k --json");
    assert_eq!(rowmill.run(&keyed).code(0).json()["counts"]["rows"], 5);
    assert_eq!(rowmill.run(&keyed).code(0).json()["counts"]["rows"], 5);
    rowmill.write("more.csv", &csv("4"));
    assert_eq!(rowmill.run(&keyed).code(3).problem()["id"], "duplicate");
}

#[test]
fn the_flags_of_an_input_are_those_of_submit() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "a,b\n1,2\n");
    let id = rowmill
        .run("submit in.csv --app test --op rows --hold --json")
        .code(0)
        .id();
    rowmill.write("more.txt", "3;'x;y'\n4\n");
    let flags = "--format csv --delimiter ; --quote ' --no-header --encoding utf-8";
    let told = rowmill
        .run(&format!("append {id} more.txt {flags}"))
        .code(0);
    assert!(
        told.stderr
            .starts_with("2 rows added as lines 3-4\n1 record is no row"),
        "{}",
        told.stderr
    );
    let jsonl = "{\"b\":7,\"c\":[1]}\n";
    rowmill
        .run_fed(&format!("append {id} - --format jsonl"), jsonl)
        .code(0);
    rowmill.write("new.csv", "d,b\n5,6\n");
    rowmill.run(&format!("append {id} new.csv")).code(0);
    let rows = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert_eq!(
        rows,
        "a,b,d,_line,_status,_errcode,_message\n1,2,,2,wait,,\n3,x;y,,3,wait,,\n\
         4,,,4,failed,field_count,\"the number of fields is 1, of columns 2\",\n\
         ,7,,5,wait,,,\"{\"\"c\"\":[1]}\"\n,6,5,7,wait,,\n"
    );
}

#[test]
fn what_cannot_be_appended_is_refused_and_nothing_is_added() {
    let rowmill = Rowmill::new();
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    rowmill.write("more.csv", &csv("2"));
    rowmill.write("header.csv", "n\n");
    for command in [
        &format!("append {unknown} more.csv"),
        &format!("release {unknown}"),
    ] {
        rowmill.run(command).code(3);
        assert!(
            !rowmill.path("rowmill.db").exists(),
            "no database is made for it"
        );
    }
    let id = rowmill.submit("1", "--hold");
    for (args, code, told) in [
        (format!("append {unknown} more.csv"), 3, "not_found"),
        (format!("release {unknown}"), 3, "not_found"),
        (format!("append {id} missing.csv"), 2, "unreadable_input"),
        (format!("append {id} header.csv"), 2, "no_rows"),
        (format!("append {id} header.csv --release"), 2, "no_rows"),
        (format!("append {id} - --release"), 2, "unknown_format"),
        (format!("append {id} more.csv --op rows"), 2, "usage"),
        (format!("append {id}"), 2, "usage"),
        ("append nonsense more.csv".to_owned(), 2, "bad_name"),
        (format!("release {id} more.csv"), 2, "usage"),
    ] {
        let problem = rowmill.run(&format!("{args} --json")).code(code).problem();
        assert_eq!(problem["id"], told, "{args}: {problem}");
    }
    let mut empty = rowmill.command(&format!("append {id} more.csv --json --key"));
    let empty = Done::of("append --key ''", empty.arg("").output().unwrap());
    assert_eq!(empty.code(2).problem()["id"], "bad_key");
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(
        (&batch["status"], &batch["counts"]["rows"]),
        (&"wait".into(), &1.into())
    );
}

#[test]
fn an_interrupted_append_leaves_its_place_to_the_next() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    let mut command = rowmill.command(&format!("append {id} - --format csv --json"));
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let row = format!("{}\n", "x".repeat(1000));
    pipe.write_all(format!("n\n{}", row.repeat(9000)).as_bytes())
        .unwrap();
    // More was written than is read ahead: a piece of it is being stored, or was.
    let database = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    let open = || -> i64 {
        let open = "select count(*) from appends where blocks > 0";
        database.query_row(open, [], |r| r.get(0)).unwrap_or(0)
    };
    while open() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        std::thread::yield_now();
    }
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: a signal to a child that was not waited for touches no memory.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let mut told = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut told)
        .unwrap();
    assert!(told.contains("all of stdin is in batch"), "{told}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(pipe);
    assert_eq!(open(), 0, "nothing of it is left");
    rowmill.write("more.csv", &csv("2"));
    let batch = rowmill
        .run(&format!("append {id} more.csv --json"))
        .code(0)
        .json();
    assert_eq!(batch["counts"]["rows"], 2);
}

#[test]
fn the_help_of_both_ends_with_an_example() {
    let rowmill = Rowmill::new();
    for command in ["append", "release"] {
        let help = rowmill.run(&format!("{command} --help")).code(0).stdout;
        let example = help.split("Example:\n  rowmill ").nth(1).unwrap();
        assert!(example.starts_with(command), "{help}");
    }
}
