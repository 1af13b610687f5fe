//! Rows through a processor: every answer, retries, contexts, time-outs.

use std::time::Duration;

use futures_util::FutureExt;
use rowmill::model::{Backoff, Kind, Message, NewBatch, Status};
use rowmill::{NewRow, RowFailure};
use serde_json::{Value, json};

use super::world::{
    Tally, World, ask, code, count, inputs, key, log, numbers, queries, raw, rows, rows_of,
    settings, statuses, submit,
};

/// Answers as its input says.
fn answer(input: &Value) -> Result<Value, RowFailure> {
    match input.as_str().expect("a word") {
        "success" => Ok(json!({"ok": true})),
        "nothing" => Ok(Value::Null),
        "failed" => Err(Message::new("no_such_account", 101).field("account").into()),
        "retry" => Err(RowFailure::retry("secret: host=10.0.0.1")),
        "error" => Err(RowFailure::Error("secret: host=10.0.0.1".into())),
        "panic" => panic!("secret: host=10.0.0.1"),
        word => unreachable!("{word}"),
    }
}

const WORDS: [&str; 6] = ["success", "nothing", "failed", "retry", "error", "panic"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_processor_is_its_rows_outcome() {
    let world = World::new().await;
    let manager = world.builder().batch(
        "bank",
        "post",
        rows(|_, input| async move { answer(&input) }.boxed()),
    );
    let manager = manager.build().unwrap();
    let id = submit(&manager, "post", inputs(&WORDS.map(Value::from))).await;
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.failed),
        (Status::Failed, 2, 4)
    );
    let rows = rows_of(&manager, id).await;
    assert_eq!(rows[0].result.as_ref().unwrap().get(), "{\"ok\":true}");
    assert!(rows[0].messages.is_none() && rows[1].result.is_none());
    let codes: Vec<String> = rows[2..].iter().map(code).collect();
    assert_eq!(
        codes,
        [
            "no_such_account",
            "processing_error",
            "processing_error",
            "panic"
        ]
    );
    for row in &rows {
        let seen = row.messages.as_ref().map_or("", |m| m.get());
        assert!(
            !seen.contains("secret"),
            "an internal error reached a row's owner: {seen}"
        );
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_a_query_is_its_outcome() {
    let world = World::new().await;
    let manager = world.builder().slow_query(
        "bank",
        "ask",
        queries(|_, input| async move { answer(&input) }.boxed()),
    );
    let manager = manager.build().unwrap();
    let mut ids = Vec::new();
    for word in WORDS {
        ids.push(ask(&manager, "ask", &format!("\"{word}\"")).await);
    }
    world.work(&manager).await;
    let mut seen = Vec::new();
    for id in ids {
        let query = manager.slow_query_done(id).await.unwrap();
        assert!(query.done);
        let messages = query.messages.unwrap().map(|m| m.get().to_owned());
        assert!(!messages.as_deref().unwrap_or_default().contains("secret"));
        seen.push((
            query.status,
            query.result.unwrap().is_some(),
            messages.is_some(),
        ));
    }
    use Status::{Failed, Success};
    assert_eq!(seen[..2], [(Success, true, false), (Success, false, false)]);
    assert!(seen[2..].iter().all(|s| *s == (Failed, false, true)));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_does_not_fit_fails_its_row_alone() {
    let world = World::new().await;
    struct Number;
    impl rowmill::BatchProcessor for Number {
        type Block = ();
        type Context = Value;
        type Input = i64;
        type Output = i64;
        async fn process(
            &self,
            _: &mut rowmill::RowCx<'_, (), Value>,
            n: i64,
        ) -> Result<i64, RowFailure> {
            Ok(n)
        }
    }
    let retried = settings(|s| s.max_attempts = 5);
    let manager = world.builder().batch("bank", "post", Number);
    let manager = manager
        .settings("bank", "post", Kind::Batch, retried)
        .build()
        .unwrap();
    let id = submit(&manager, "post", inputs(&[json!(1), json!("x"), json!(3)])).await;
    world.work(&manager).await;
    use Status::{Failed, Success};
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Success]);
    let row = &rows_of(&manager, id).await[1];
    assert_eq!(
        (code(row).as_str(), row.attempt),
        ("bad_input", Some(1)),
        "no retry can help it"
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_that_does_not_fit_fails_every_row() {
    let world = World::new().await;
    struct Strict;
    impl rowmill::BatchProcessor for Strict {
        type Block = ();
        type Context = u8;
        type Input = Value;
        type Output = Value;
        async fn process(
            &self,
            _: &mut rowmill::RowCx<'_, (), u8>,
            _: Value,
        ) -> Result<Value, RowFailure> {
            Ok(Value::Null)
        }
    }
    let manager = world
        .builder()
        .batch("bank", "post", Strict)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    assert!(
        rows.iter()
            .all(|r| r.status == Status::Failed && code(r) == "bad_input")
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_goes_again_by_the_back_off_until_its_attempts_are_used_up() {
    let world = World::new().await;
    let attempts = log();
    let seen = attempts.clone();
    let processor = rows(move |cx, input| {
        seen.lock().unwrap().push((input, cx.attempt()));
        async { Err(RowFailure::Error("down".into())) }.boxed()
    });
    let retried = settings(|s| {
        s.max_attempts = 4;
        s.backoff = Backoff {
            base: Duration::from_secs(10),
            factor: 3.0,
            cap: Duration::from_secs(60),
        };
    });
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, retried)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(1)).await;
    for (base, cap) in [(10, 22), (30, 64), (60, 64)] {
        world.work(&manager).await;
        let due = manager.tick().await.unwrap().next_due.expect("it waits");
        let wait = due.duration_since(world.kit().now()).as_secs();
        assert!(
            (base..=cap).contains(&wait),
            "{wait} s after a base of {base} s"
        );
        assert_eq!(statuses(&manager, id).await, [Status::Queued]);
        world.kit().advance(u64::try_from(wait).unwrap() + 1);
    }
    world.work(&manager).await;
    let row = &rows_of(&manager, id).await[0];
    assert_eq!((row.status, row.attempt), (Status::Failed, Some(4)));
    let attempts: Vec<u32> = attempts.lock().unwrap().iter().map(|(_, a)| *a).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_as_long_as_it_asked_to_and_may_then_succeed() {
    let world = World::new().await;
    let tally = Tally::default();
    let processor = rows(move |_, input| {
        let answer = match (input.as_i64(), count(&tally, &input)) {
            (Some(2), 1) => Err(RowFailure::Retry(
                Some(Duration::from_secs(64)),
                "busy".into(),
            )),
            _ => Ok(Value::Null),
        };
        async { answer }.boxed()
    });
    let retried = settings(|s| s.max_attempts = 2);
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, retried)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    use Status::{Queued, Success};
    assert_eq!(statuses(&manager, id).await, [Success, Queued, Success]);
    world.kit().advance(63);
    world.work(&manager).await;
    assert!(!manager.batch_done(id).await.unwrap().done);
    world.kit().advance(5);
    world.work(&manager).await;
    assert_eq!(manager.batch_done(id).await.unwrap().status, Success);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_is_no_failure_and_ends_after_its_times() {
    let world = World::new().await;
    let tally = Tally::default();
    let counted = tally.clone();
    let processor = rows(move |_, input| {
        count(&counted, &input);
        async { Err(RowFailure::Later(Duration::from_secs(1))) }.boxed()
    });
    let patient = settings(|s| s.max_later = 5);
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, patient)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(1)).await;
    world.work_to_the_end(&manager).await;
    let row = &rows_of(&manager, id).await[0];
    assert_eq!(
        (row.status, code(row).as_str()),
        (Status::Failed, "processing_error")
    );
    assert_eq!(
        tally.lock().unwrap()["1"],
        6,
        "five times later, and once too often"
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_takes_too_long_has_timed_out() {
    let world = World::new().await;
    let processor = rows(|_, input| {
        async move {
            if input == 2 {
                std::future::pending::<()>().await;
            }
            Ok(input)
        }
        .boxed()
    });
    let short = settings(|s| s.timeout = Some(Duration::from_millis(20)));
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, short)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    use Status::{Failed, Success};
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Success]);
    assert_eq!(code(&rows_of(&manager, id).await[1]), "timed_out");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contexts_tell_key_attempt_line_and_generation() {
    let world = World::new().await;
    let seen = log();
    let told = seen.clone();
    let processor = rows(move |cx, _| {
        told.lock().unwrap().push((
            cx.line().0,
            cx.key(),
            cx.attempt(),
            cx.generation(),
            cx.batch(),
            cx.context()["n"].clone(),
        ));
        let again = cx.attempt() == 1;
        async move {
            if again {
                Err(RowFailure::retry("busy"))
            } else {
                Ok(Value::Null)
            }
        }
        .boxed()
    });
    let retried = settings(|s| s.max_attempts = 2);
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, retried)
        .build()
        .unwrap();
    let new = NewBatch {
        context: raw("{\"n\":7}"),
        ..NewBatch::new(key("post"))
    };
    let rows = [5, 9].map(|line| NewRow {
        line: Some(line),
        input: raw("0"),
    });
    let id = manager.batch_submit(new, rows).await.unwrap().id;
    world.work_to_the_end(&manager).await;
    let of = |line: u32, attempt| (line, format!("{id}/{line}"), attempt, 0, id, json!(7));
    assert_eq!(
        *seen.lock().unwrap(),
        [of(5, 1), of(9, 1), of(5, 2), of(9, 2)]
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_processor_leaves_rows_queued_until_there_is_one() {
    let world = World::new().await;
    let other = world.builder().batch(
        "bank",
        "other",
        rows(|_, _| async { Ok(Value::Null) }.boxed()),
    );
    let other = other.build().unwrap();
    let id = submit(&other, "post", numbers(3)).await;
    let query = ask(&other, "post", "1").await;
    world.work(&other).await;
    assert!(
        statuses(&other, id)
            .await
            .iter()
            .all(|s| *s == Status::Queued)
    );
    let right = world
        .builder()
        .batch("bank", "Post", rows(|_, input| async { Ok(input) }.boxed()));
    let right = right.build().unwrap();
    world.work(&right).await;
    assert_eq!(right.batch_done(id).await.unwrap().status, Status::Success);
    assert_eq!(
        right.batch_done(query).await.unwrap().status,
        Status::Queued,
        "a query is no batch"
    );
    world.end(&right).await;
    world.end(&other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_go_again_become_sixteen_tasks_at_most() {
    let world = World::new().await;
    let processor = rows(|_, input| {
        let n = input.as_u64().unwrap();
        let failure = if n == 1 {
            RowFailure::Later(Duration::from_secs(1))
        } else {
            RowFailure::Retry(Some(Duration::from_secs(1 << n)), "busy".into())
        };
        async { Err(failure) }.boxed()
    });
    let retried = settings(|s| s.max_attempts = 2);
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, retried)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(25)).await;
    manager.tick().await.unwrap();
    let facts = world.facts();
    let tasks = facts.rows_tasks(id);
    assert_eq!(tasks.len(), 16);
    assert_eq!(tasks.iter().map(|t| t.rows).sum::<u32>(), 25);
    assert_eq!(
        tasks
            .iter()
            .filter(|t| t.failures == 0)
            .map(|t| t.rows)
            .sum::<u32>(),
        1
    );
    let now = world.kit().now().as_microsecond();
    for task in &tasks {
        for row in task.pick.as_ref().unwrap().iter().filter(|r| **r > 0) {
            assert!(
                task.due_at.unwrap() >= now + (1_000_000 << (row + 1)),
                "not before it asked to"
            );
        }
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_claims_once_for_each_op() {
    let world = World::new().await;
    let processor = || rows(|_, input| async { Ok(input) }.boxed());
    let one = settings(|s| {
        s.local_concurrency = Some(1);
        s.block_rows = 1;
    });
    let capped = settings(|s| {
        s.concurrency = Some(1);
        s.block_rows = 1;
    });
    let manager =
        world
            .builder()
            .batch("bank", "post", processor())
            .batch("bank", "capped", processor());
    let manager = manager.settings("bank", "post", Kind::Batch, one);
    let manager = manager
        .settings("bank", "capped", Kind::Batch, capped)
        .build()
        .unwrap();
    submit(&manager, "post", numbers(3)).await;
    submit(&manager, "capped", numbers(3)).await;
    let tick = manager.tick().await.unwrap();
    assert_eq!((tick.claimed, tick.recorded), (2, 2));
    world.work(&manager).await;
    world.end(&manager).await;
}
