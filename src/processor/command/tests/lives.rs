//! Children between tasks, and their ends.

use std::process::{Command, Stdio};

use serde_json::json;

use super::*;
use crate::processor::command::settle;
use crate::processor::{CancelCause, Registry};

const PID: &str = "for row in rows(): answer(row, result=os.getpid())";

/// Says through a named pipe that it has a row, and never answers.
const STUCK: &str = r#"
pull(True)
pipe = open("here", "w")
while True:
    signal.pause()
"#;

#[tokio::test]
async fn a_child_works_for_the_next_task_too() {
    let bench = Bench::python(PID, 8);
    let first = bench.run(&numbers(10)).await.result(10);
    let second = bench.run(&numbers(10)).await.result(1);
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_child_that_ends_between_tasks_is_replaced() {
    let bench = Bench::python(
        "pipe = open('here', 'w')\nfor row in rows():\n answer(row, result=os.getpid())\n if row['input'] == 2: break",
        8,
    );
    fifo(&bench.path("here"));
    let running = bench.start(&numbers(2));
    let pipe = open(bench.path("here")).await;
    let first = running.outcomes().await;
    first.all_succeed(2);
    until_nobody_holds(pipe).await;
    let running = bench.start(&numbers(2));
    let pipe = open(bench.path("here")).await;
    let second = running.outcomes().await;
    second.all_succeed(2);
    assert_ne!(first.result(1), second.result(1));
    drop(pipe);
}

#[tokio::test]
async fn a_child_that_speaks_unasked_meets_no_other_batch() {
    let bench = Bench::python(
        "once = first()\nfor row in rows():\n answer(row, result=os.getpid())\n \
         if once:\n  answer(row)\n  open('said', 'w').close()",
        8,
    );
    fifo(&bench.path("said"));
    let running = bench.start(&numbers(1));
    open(bench.path("said")).await;
    let first = running.outcomes().await.result(1);
    assert_ne!(bench.run(&numbers(1)).await.result(1), first);
}

#[tokio::test]
async fn there_are_no_more_children_than_allowed() {
    let bench = Bench::python(PID, 8);
    let tasks: Vec<_> = (0..4).map(|_| bench.start(&numbers(20))).collect();
    let mut pids = Vec::new();
    for task in tasks {
        pids.push(task.outcomes().await.result(20));
    }
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
}

#[tokio::test]
async fn tasks_run_at_once_where_there_are_children() {
    // Each waits until both have a row.
    let script = "for row in rows():\n open('meet', row['input']).close()\n answer(row)";
    let bench = Bench::new(&["python3", "-c", &format!("{PRELUDE}{script}")], 8, 2);
    fifo(&bench.path("meet"));
    let (reads, writes) = (bench.start(&["\"r\""]), bench.start(&["\"w\""]));
    reads.outcomes().await.all_succeed(1);
    writes.outcomes().await.all_succeed(1);
}

#[tokio::test]
async fn cancelled_it_waits_for_answers_and_takes_no_row() {
    let bench = Bench::python(
        "while len(waiting) < 2: pull(True)\nopen('taken', 'w').close()\n\
         open('go').read()\nfor row in waiting: answer(row)\nfor row in rows(): answer(row)",
        2,
    );
    fifo(&bench.path("taken"));
    fifo(&bench.path("go"));
    let running = bench.start(&numbers(10));
    open(bench.path("taken")).await;
    running.cancel.cancel(CancelCause::Shutdown);
    release(bench.path("go")).await;
    let outcomes = running.outcomes().await;
    outcomes.all_succeed(2);
    assert_eq!(outcomes.0.len(), 2);
    // It owes nothing, and so goes on with the next task.
    bench.run(&numbers(3)).await.all_succeed(3);
}

#[tokio::test]
async fn dropped_while_answers_are_owed_it_kills_the_child() {
    let bench = Bench::python(STUCK, 8);
    fifo(&bench.path("here"));
    let running = bench.start(&numbers(3));
    let pipe = open(bench.path("here")).await;
    running.cancel.cancel(CancelCause::Aborted);
    running.run.abort();
    until_nobody_holds(pipe).await;
}

#[tokio::test]
async fn what_a_child_has_started_ends_with_it() {
    let bench = Bench::sh("read -r row; sh -c 'exec sleep 1000' > here; echo unreachable");
    fifo(&bench.path("here"));
    let running = bench.start(&numbers(1));
    let pipe = open(bench.path("here")).await;
    running.run.abort();
    until_nobody_holds(pipe).await;
}

#[tokio::test]
async fn dropped_it_lets_idle_children_end_by_themselves() {
    let bench = Bench::python(
        "for row in rows(): answer(row)\nopen('farewell', 'w').write('done')",
        8,
    );
    bench.run(&numbers(3)).await.all_succeed(3);
    let Bench { processor, dir, .. } = bench;
    drop(processor);
    aside(settle).await;
    let farewell = std::fs::read_to_string(dir.path().join("farewell"));
    assert_eq!(farewell.unwrap(), "done");
}

#[tokio::test]
async fn dropped_it_kills_idle_children_that_do_not_end() {
    let bench = Bench::python(
        "pipe = open('here', 'w')\nfor row in rows(): answer(row)\nsignal.pause()",
        8,
    );
    fifo(&bench.path("here"));
    let running = bench.start(&numbers(3));
    let pipe = open(bench.path("here")).await;
    running.outcomes().await.all_succeed(3);
    let Bench { processor, dir, .. } = bench;
    drop(processor);
    until_nobody_holds(pipe).await;
    drop(dir);
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let begin = move || {
        let (runtime, bench) = (runtime(), Bench::python(PID, 8));
        let pid = runtime.block_on(async { bench.run(&numbers(1)).await.result(1) });
        (runtime, bench, pid)
    };
    let (runtime, bench, pid) = std::thread::spawn(begin).join().unwrap();
    let again = runtime.block_on(async { bench.run(&numbers(1)).await.result(1) });
    assert_eq!(again, pid);
}

#[test]
fn a_child_outlives_the_runtime_or_is_replaced() {
    let bench = Bench::python(PID, 8);
    for _ in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { bench.run(&numbers(3)).await.all_succeed(3) });
    }
}

const WORKER: &str = "ROWMILL_TEST_WORKER_IN";

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
async fn is_a_worker_where_it_is_asked_to_be() {
    let Some(dir) = std::env::var_os(WORKER) else {
        return;
    };
    let script = format!("{PRELUDE}os.chdir({dir:?})\n{STUCK}");
    let bench = Bench::new(&["python3", "-c", &script], 8, 1);
    bench.run(&numbers(1)).await;
}

#[tokio::test]
async fn a_child_does_not_outlive_a_worker_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("here"));
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "processor::command::tests::lives::is_a_worker_where_it_is_asked_to_be",
        ])
        .env(WORKER, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = open(dir.path().join("here")).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    until_nobody_holds(pipe).await;
}

#[test]
fn a_command_that_cannot_be_is_a_mistake() {
    let spec = CommandSpec {
        command: Vec::new(),
        dir: ".".into(),
        window: 0,
        children: 0,
    };
    let registry = Registry::new().command("bank", "post", Kind::Batch, spec.clone());
    let mistakes: Vec<_> = registry.mistakes().into_iter().map(|m| m.0).collect();
    assert_eq!(
        json!(mistakes),
        json!([
            "bank/post: the command is empty",
            "bank/post: window must be 1 or more",
            "bank/post: children must be 1 or more",
        ])
    );
    let command = vec!["sh".to_owned()];
    let spec = CommandSpec {
        command,
        window: 1,
        children: 1,
        ..spec
    };
    assert_eq!(
        Registry::new()
            .command("bank", "post", Kind::Query, spec)
            .mistakes(),
        []
    );
}
