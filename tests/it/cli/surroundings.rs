//! Bad surroundings: no room, damage, files that may not be written, others on the same file.
//! What was acknowledged is there when they are good again.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::rowmill::{Done, Rowmill, csv};

/// Pages of SQLite.
const PAGE: usize = 4096;

/// No file of the command may grow beyond so many bytes, as on a disk that is full.
fn limited(mut command: Command, bytes: u64) -> Done {
    let what = format!("{command:?}");
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: both are calls of the system alone, which a child may make before it runs.
    unsafe {
        command.pre_exec(move || {
            // Writes beyond the limit fail then, and do not kill.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    Done::of(&what, command.output().unwrap())
}

fn last_problem(done: &Done) -> serde_json::Value {
    serde_json::from_str(done.stderr.lines().last().unwrap()).unwrap()
}

/// Everything of the database in its one file.
fn checkpoint(rowmill: &Rowmill) {
    let database = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    let done = database.query_row("pragma wal_checkpoint(truncate)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(done.unwrap(), 0);
}

#[test]
fn without_room_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let rowmill = Rowmill::new();
    let text = "x".repeat(2000);
    let rows: String = (0..1000).map(|n| format!("{n}{text}\n")).collect();
    rowmill.write("in.csv", &format!("n\n{rows}"));
    let submit = "submit in.csv --app test --op rows --json --external-id";
    let id = rowmill.run(&format!("{submit} first")).code(0).id();
    checkpoint(&rowmill);
    let room = std::fs::metadata(rowmill.path("rowmill.db")).unwrap().len();
    // Room for little more than to begin.
    let room = room.min(600 << 10);

    let refused = limited(rowmill.command(&format!("{submit} second")), room).code(4);
    assert_eq!(refused.stdout, "");
    let problem = refused.problem();
    assert_eq!(problem["id"], "unavailable");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("see that there is room"), "{detail}");
    rowmill.run("status ext:test/second").code(3);

    // Whoever waits is told, and not left to wait.
    let run = "run in.csv --app test --op rows --json --external-id first";
    for args in ["work --once --json", run] {
        let told = limited(rowmill.command(args), room).code(4);
        let problem = last_problem(&told);
        assert_eq!(problem["id"], "unavailable", "{args}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("what was recorded is safe"),
            "{args}: {detail}"
        );
    }

    // There is room again: all of it goes on.
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["counts"]["rows"], 1000);
    let batch = rowmill.run(run).code(0).json();
    assert_eq!(batch["id"], id);
    assert_eq!(batch["counts"]["success"], 1000);
    rowmill.run(&format!("{submit} second")).code(0);
}

#[test]
fn output_files_that_cannot_be_written_at_the_end_are_written_later() {
    let rowmill = Rowmill::new();
    // Whatever was looked at before a row ran is no longer so when the last one has.
    rowmill.write(
        "handler.py",
        r#"
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    open("rowmill-files", "w").close()
    print(json.dumps({"line": row["line"], "status": "success", "files": {"out.txt": "x"}}), flush=True)
"#,
    );
    let id = rowmill.submit("1 2", "--external-id x");
    let told = rowmill.run("work --once").code(0).stderr;
    assert!(
        told.contains("output files could not be assembled; trying again"),
        "{told}"
    );
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(
        (&batch["done"], &batch["counts"]["success"]),
        (&false.into(), &2.into())
    );
    std::fs::remove_file(rowmill.path("rowmill-files")).unwrap();
    let batch = rowmill.run("run in.csv --app test --op rows --external-id x --json");
    let batch = batch.code(0).json();
    assert_eq!(batch["id"], id);
    assert_eq!(batch["files"][0]["size"], 4);
}

#[test]
fn a_published_file_that_was_changed_or_is_gone_is_not_downloaded() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("file"));
    let batch = rowmill
        .run("run in.csv --app test --op rows --json")
        .code(0)
        .json();
    let id = batch["id"].as_str().unwrap();
    let out = format!(
        "rowmill-files/{}",
        batch["files"][1]["key"].as_str().unwrap()
    );
    let download = format!("files {id} --download there --json");
    rowmill.write(&out, "row 9\n");
    let problem = rowmill.run(&download).code(5).problem();
    assert_eq!(problem["id"], "corrupt");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("out.txt is not the file that was published"),
        "{detail}"
    );
    std::fs::remove_file(rowmill.path(&out)).unwrap();
    assert_eq!(
        rowmill.run(&download).code(4).problem()["id"],
        "objects_unavailable"
    );
    // The one before it is whole; of this one there is nothing.
    let there: Vec<_> = std::fs::read_dir(rowmill.path("there")).unwrap().collect();
    assert_eq!(there.len(), 1);
    rowmill.write(&out, "row 2\n");
    rowmill.run(&download).code(0);
    assert_eq!(rowmill.read("there/out.txt"), "row 2\n");
}

/// Writes over some pages of the database.
fn damage(path: &Path, pages: std::ops::Range<usize>) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[pages.start * PAGE..pages.end * PAGE].fill(0xA5);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_database_is_exit_4_and_is_left_as_it_is() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 2 3", "");
    checkpoint(&rowmill);
    let path = rowmill.path("rowmill.db");
    let whole = std::fs::read(&path).unwrap();
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage<'_>; 3] = [
        ("its schema", &|| damage(&path, 1..whole.len() / PAGE)),
        ("cut in the middle", &|| {
            std::fs::write(&path, &whole[..whole.len() / 2 / PAGE * PAGE]).unwrap();
        }),
        ("cut to nearly nothing", &|| {
            std::fs::write(&path, &whole[..100]).unwrap()
        }),
    ];
    for (what, damage) in damages {
        std::fs::write(&path, &whole).unwrap();
        damage();
        let damaged = std::fs::read(&path).unwrap();
        for args in [
            &format!("status {id}"),
            &format!("rows {id}"),
            &format!("abort {id}"),
            "submit in.csv --app test --op rows",
            "run in.csv --app test --op rows",
            "work --once",
            "migrate",
        ] {
            let problem = rowmill.run(&format!("{args} --json")).code(4).problem();
            assert_eq!(problem["id"], "unavailable", "{what}: {args}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("rowmill.db"), "{what}: {args}: {detail}");
            assert!(
                detail.contains("damaged; restore it"),
                "{what}: {args}: {detail}"
            );
        }
        assert!(
            std::fs::read(&path).unwrap() == damaged,
            "{what}: it was written"
        );
    }
    std::fs::write(&path, &whole).unwrap();
    rowmill.run(&format!("rows {id}")).code(0);
}

#[test]
fn damage_among_the_rows_is_told_where_it_is_met() {
    let rowmill = Rowmill::new();
    let small = rowmill.submit("1", "");
    let rows: String = (0..2000)
        .map(|n| format!("{n}{}\n", "x".repeat(1000)))
        .collect();
    rowmill.write("in.csv", &format!("n\n{rows}"));
    let large = "submit in.csv --app test --op rows --json";
    let large = rowmill.run(large).code(0).id();
    checkpoint(&rowmill);
    let path = rowmill.path("rowmill.db");
    let pages = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap() / PAGE;
    damage(&path, pages / 2..pages / 2 + pages / 4);
    let told = rowmill.run(&format!("rows {large} --json")).code(4);
    assert_eq!(last_problem(&told)["id"], "unavailable");
    assert!(
        told.stderr.contains("damaged; restore it"),
        "{}",
        told.stderr
    );
    // What lies elsewhere is read and written as before.
    rowmill.run(&format!("rows {small}")).code(0);
    rowmill.run(&format!("abort {small}")).code(0);
}

/// A folder that another user may enter, with the program in it.
struct Shared {
    rowmill: Rowmill,
    is_root: bool,
}

impl Shared {
    fn new() -> Self {
        let rowmill = Rowmill::new();
        let program = rowmill.path("program");
        // Copied by another process: while this one had the copy open to write it, a child that a
        // test beside this one starts would have it too, and it could not be run.
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_rowmill")).arg(&program);
        assert!(copy.status().unwrap().success());
        // SAFETY: it asks the system and touches no memory.
        let is_root = unsafe { libc::geteuid() } == 0;
        let shared = Self { rowmill, is_root };
        shared.mode(".", 0o755);
        shared.mode("program", 0o755);
        shared
    }

    fn mode(&self, name: &str, mode: u32) {
        let path = self.rowmill.path(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Runs it as somebody whom modes bind: they do not bind root.
    fn run(&self, args: &str) -> Done {
        let mut command = Command::new(self.rowmill.path("program"));
        command.current_dir(self.rowmill.path("."));
        command.args(args.split_whitespace()).stdin(Stdio::null());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        if self.is_root {
            command.uid(65534).gid(65534);
        }
        Done::of(args, command.output().unwrap())
    }
}

#[test]
fn a_database_that_may_not_be_written_is_exit_4_and_stays_as_it_is() {
    let shared = Shared::new();
    let id = shared.rowmill.submit("1 2", "");
    checkpoint(&shared.rowmill);
    let workers = shared.rowmill.path("rowmill.db-workers");
    let open = |folder: u32, file: u32| {
        shared.mode("rowmill.db-workers", folder);
        for entry in std::fs::read_dir(&workers).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            shared.mode(&format!("rowmill.db-workers/{name}"), file);
        }
    };
    let whole = std::fs::read(shared.rowmill.path("rowmill.db")).unwrap();
    // The folder and the file; the file alone; a file that may not even be read.
    for (folder, workers, file) in [
        (0o555, 0o555, 0o444),
        (0o777, 0o777, 0o444),
        (0o777, 0o777, 0),
    ] {
        open(workers, workers & 0o666);
        shared.mode("rowmill.db", file);
        shared.mode(".", folder);
        for args in [
            "submit in.csv --app test --op rows --json",
            "work --once --json",
        ] {
            let told = shared.run(args).code(4);
            let problem = told.problem();
            let detail = problem["detail"].as_str().unwrap();
            let clear = ["Permission denied", "may not be written", "unable to open"];
            assert!(
                clear.iter().any(|text| detail.contains(text)),
                "{args}: {detail}"
            );
        }
        shared.mode(".", 0o755);
        shared.mode("rowmill.db", 0o644);
        assert!(std::fs::read(shared.rowmill.path("rowmill.db")).unwrap() == whole);
    }
    shared.rowmill.run("work --once").code(0);
    let batch = shared
        .rowmill
        .run(&format!("status {id} --json"))
        .code(0)
        .json();
    assert_eq!(batch["counts"]["success"], 2);
}

#[test]
fn an_objects_folder_that_may_not_be_written_is_exit_4_before_a_row_runs() {
    let shared = Shared::new();
    std::fs::create_dir(shared.rowmill.path("mine")).unwrap();
    std::fs::create_dir(shared.rowmill.path("data")).unwrap();
    shared.mode("data", 0o777);
    shared.rowmill.write("in.csv", &csv("1 2"));
    let place = "--json --database sqlite:data/rowmill.db --objects file:mine";
    let problem = shared.run(&format!("run in.csv --app test --op rows {place}"));
    assert_eq!(problem.code(4).problem()["id"], "unavailable");
    assert!(!shared.rowmill.path("data/rowmill.db").exists());
    shared.mode("mine", 0o777);
    let batch = shared
        .run(&format!("run in.csv --app test --op rows {place}"))
        .code(0)
        .json();
    assert_eq!(batch["counts"]["success"], 2);
}

#[test]
fn two_runs_at_once_on_one_file_each_end_with_their_own_rows_run_once() {
    let rowmill = Rowmill::new();
    rowmill.write(
        "handler.py",
        r#"
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    with open("ran", "a") as ran:
        ran.write("%s\n" % row["key"])
    print(json.dumps({"line": row["line"], "status": "success"}), flush=True)
"#,
    );
    let rows: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    rowmill.write("in.csv", &csv(&rows.join(" ")));
    let run = |name: &str| {
        let args = format!("run in.csv --app test --op rows --json --external-id {name}");
        (args.clone(), rowmill.start(&args))
    };
    // Two of the same name are one batch, which both work off.
    let runs = [run("a"), run("b"), run("same"), run("same")].map(|(args, child)| {
        let batch = Done::of(&args, child.wait_with_output().unwrap())
            .code(0)
            .json();
        assert_eq!(batch["counts"]["success"], 300, "{args}");
        batch["id"].as_str().unwrap().to_owned()
    });
    assert_eq!(runs[2], runs[3]);
    let mut ran: Vec<String> = rowmill.read("ran").lines().map(str::to_owned).collect();
    ran.sort();
    let all = ran.len();
    ran.dedup();
    assert_eq!((ran.len(), all), (900, 900));
}
