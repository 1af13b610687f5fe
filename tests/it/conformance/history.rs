//! history: what happened to rows, attempt by attempt.

use rowmill::model::{EndedAs, HistoryEntry, HistoryOf, NewBatch, OutcomeStatus, RowOutcome};
use rowmill::store::{Again, Claim, StoreError};
use rowmill::{BatchId, Message};

use crate::support::{Harness, Kit, Outcomes};

/// `attempt before→after errcode`, with a `*` where a worker made it, and `…` where it goes on.
fn told(entry: &HistoryEntry) -> String {
    let before = entry.before.map_or("-", |b| b.as_str());
    let mut text = format!("{} {before}→{}", entry.attempt, entry.after);
    if entry.worker.is_some() {
        text.insert(0, '*');
    }
    assert_eq!(entry.worker.is_some(), entry.started_at.is_some());
    if entry.ended_at.is_none() {
        text.push('…');
    }
    if let Some(code) = &entry.errcode {
        text = format!("{text} {code}");
    }
    text
}

async fn line(kit: &Kit, id: BatchId, line: u32) -> Vec<String> {
    let entries = kit.store.line_history(id, line).await.unwrap().unwrap();
    let is = |e: &&HistoryEntry| matches!(e.of, HistoryOf::Line { line: l } if l.0 == line);
    assert!(entries.iter().all(|e| is(&e)));
    entries.iter().map(told).collect()
}

/// `first_line+rows: …` of every block.
async fn blocks(kit: &Kit, id: BatchId) -> Vec<String> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let page = kit.store.history(id, at).await.unwrap();
        all.extend(page.entries);
        from = page.next;
    }
    let block = |e: &HistoryEntry| match e.of {
        HistoryOf::Block { first_line, rows } => format!("{first_line}+{rows}: {}", told(e)),
        HistoryOf::Line { .. } => panic!("{e:?}"),
    };
    all.iter().map(block).collect()
}

pub async fn each_attempt_of_a_row_is_told_with_what_became_of_it(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    assert!(line(kit, id, 1).await.is_empty() && blocks(kit, id).await.is_empty());
    let started = kit.now();
    let task = kit.claim_one(worker, op).await;
    assert_eq!(line(kit, id, 3).await, ["*1 queued→inprog…"]);
    assert_eq!(blocks(kit, id).await, ["1+3: *1 queued→inprog…"]);
    kit.advance(2);
    let part = Outcomes::of(&task).success(0).retry(1, None).failed(2);
    kit.record(worker, part.ends()).await;
    kit.advance(1);
    let task = kit.claim_one(worker, op).await;
    kit.advance(3);
    let due = kit.in_seconds(5);
    kit.record(worker, Outcomes::of(&task).later(1, due).ends())
        .await;
    kit.advance(5);
    kit.store.keep(kit.now()).await.unwrap();
    let task = kit.claim_one(worker, op).await;
    kit.succeed(worker, &task).await;

    assert_eq!(line(kit, id, 1).await, ["*1 queued→success"]);
    assert_eq!(
        line(kit, id, 2).await,
        [
            "*1 queued→queued busy",
            "*2 queued→queued",
            "*3 queued→success"
        ]
    );
    assert_eq!(line(kit, id, 3).await, ["*1 queued→failed no_such_account"]);
    assert_eq!(
        blocks(kit, id).await,
        [
            "1+3: *1 queued→failed no_such_account",
            "2+1: *2 queued→queued",
            "2+1: *3 queued→success"
        ]
    );
    let entries = kit.store.line_history(id, 2).await.unwrap().unwrap();
    let at = |seconds| Some(started + std::time::Duration::from_secs(seconds));
    let times: Vec<_> = entries.iter().map(|e| (e.started_at, e.ended_at)).collect();
    assert_eq!(times, [(at(0), at(2)), (at(3), at(6)), (at(11), at(11))]);
    assert!(entries.iter().all(|e| e.worker == Some(worker)));
}

pub async fn an_attempt_whose_worker_died_is_told_of_every_row_that_it_had(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(dead, op).await;
    let part = Outcomes::of(&task).success(0).goes_on(None);
    kit.record(dead, part).await;
    assert_eq!(line(kit, id, 1).await, ["*1 queued→success"]);
    assert_eq!(line(kit, id, 2).await, ["*1 queued→inprog…"]);
    assert_eq!(blocks(kit, id).await, ["1+3: *1 queued→inprog…"]);
    kit.take_over(dead).await;
    let lost = "*1 queued→queued worker_lost";
    assert_eq!(line(kit, id, 1).await, ["*1 queued→success"]);
    assert_eq!(line(kit, id, 2).await, [lost]);
    // The second worker dies while row 2 runs: that one goes on alone.
    let second = kit.worker().await;
    let task = kit.claim_one(second, op).await;
    kit.start_row(second, &task, 0, 1).await;
    kit.take_over(second).await;
    let third = kit.worker().await;
    kit.work_off(third, op).await;
    let expected = [lost, "*2 queued→queued worker_lost", "*3 queued→success"];
    assert_eq!(line(kit, id, 2).await, expected);
    assert_eq!(line(kit, id, 3).await, expected);
    assert_eq!(
        blocks(kit, id).await,
        [
            "1+3: *1 queued→queued worker_lost",
            "2+2: *2 queued→queued worker_lost",
            "2+2: *3 queued→success"
        ]
    );
}

pub async fn a_row_that_failed_for_its_losses_says_so(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.key(), false, 1).await;
    let id = kit.rows_of(1).await;
    for _ in 0..2 {
        let worker = kit.worker().await;
        let task = kit.claim_one(worker, op).await;
        if task.suspect {
            kit.start_row(worker, &task, 0, 0).await;
        }
        kit.take_over(worker).await;
    }
    assert_eq!(
        line(kit, id, 1).await,
        [
            "*1 queued→queued worker_lost",
            "*2 queued→failed worker_lost"
        ]
    );
}

pub async fn rows_that_were_given_back_are_told_as_queued(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    let mut part = Outcomes::of(&task)
        .success(0)
        .ends_as(EndedAs::Released, vec![]);
    part.again.push(Again {
        ordinals: vec![1, 2],
        due_at: None,
        failures: 0,
        laters: 0,
        suspect: false,
    });
    kit.record(worker, part).await;
    kit.work_off(worker, op).await;
    assert_eq!(line(kit, id, 1).await, ["*1 queued→success"]);
    assert_eq!(
        line(kit, id, 3).await,
        ["*1 queued→queued", "*2 queued→success"]
    );
    assert_eq!(
        blocks(kit, id).await,
        ["1+3: *1 queued→queued", "2+2: *2 queued→success"]
    );
}

pub async fn a_task_given_back_unbegun_leaves_no_attempt(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    kit.store
        .give_back(worker, vec![task.claim], kit.now())
        .await
        .unwrap();
    assert!(line(kit, id, 1).await.is_empty());
    kit.work_off(worker, op).await;
    assert_eq!(line(kit, id, 1).await, ["*2 queued→success"]);
}

pub async fn aborted_rows_are_told_with_their_attempt_or_without(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[3, 2, 1]).await;
    let first = kit.claim_one(worker, op).await;
    let second = kit.claim_one(worker, op).await;
    let due = kit.in_seconds(60);
    let part = Outcomes::of(&second).success(0).retry(1, Some(due));
    kit.record(worker, part.ends()).await;
    kit.abort(id).await;
    let interrupted = RowOutcome::of(OutcomeStatus::Aborted, Message::new("interrupted", 17));
    let part = Outcomes::of(&first).success(0).put(1, interrupted);
    kit.record(worker, part.ends_as(EndedAs::Aborted, vec![2]))
        .await;
    assert!(kit.batch(id).await.done);
    assert_eq!(line(kit, id, 1).await, ["*1 queued→success"]);
    assert_eq!(line(kit, id, 2).await, ["*1 queued→aborted interrupted"]);
    assert_eq!(line(kit, id, 3).await, ["*1 queued→aborted"]);
    assert_eq!(line(kit, id, 4).await, ["*1 queued→success"]);
    assert_eq!(
        line(kit, id, 5).await,
        ["*1 queued→queued busy", "1 queued→aborted"]
    );
    assert_eq!(line(kit, id, 6).await, ["0 queued→aborted"]);
    assert_eq!(
        blocks(kit, id).await,
        [
            "1+3: *1 queued→aborted interrupted",
            "5+1: 1 queued→aborted",
            "4+2: *1 queued→queued busy",
            "6+1: 0 queued→aborted"
        ]
    );
}

pub async fn rows_that_expired_or_were_refused_ran_in_no_attempt(h: &impl Harness) {
    let kit = h.kit();
    let new = NewBatch {
        expires_at: Some(kit.in_seconds(5)),
        ..kit.new_batch()
    };
    let blocks_of = vec![kit.block_with_rejected(&[false, true, false])];
    let id = kit.try_submit(new, blocks_of).await.unwrap().id();
    assert_eq!(line(kit, id, 2).await, ["0 -→failed bad_json"]);
    kit.advance(5);
    kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(line(kit, id, 1).await, ["0 queued→expired expired"]);
    assert_eq!(line(kit, id, 2).await, ["0 -→failed bad_json"]);
    assert_eq!(
        blocks(kit, id).await,
        ["2+1: 0 -→failed bad_json", "1+2: 0 queued→expired expired"]
    );
}

pub async fn a_row_that_would_go_again_and_was_stopped_is_told_as_stopped(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    let part = Outcomes::of(&task).success(0).retry(1, None);
    kit.record(worker, part.ends()).await;
    assert_eq!(line(kit, id, 2).await, ["*1 queued→aborted busy"]);
    assert_eq!(line(kit, id, 1).await, ["*1 queued→success"]);
}

pub async fn halves_of_a_split_task_are_told_by_their_workers(h: &impl Harness) {
    let kit = h.kit();
    let (op, one) = kit.op_and_worker().await;
    let two = kit.worker().await;
    let id = kit.rows_of(4).await;
    let half = |worker| Claim {
        max_tasks: 1,
        split_over: Some(2),
        ..kit.ask(worker, op)
    };
    let first = kit.claim_as(half(one)).await.remove(0);
    let second = kit.claim_as(half(two)).await.remove(0);
    kit.succeed(one, &first).await;
    kit.record(two, Outcomes::of(&second).success(2).failed(3).ends())
        .await;
    let page = kit.store.history(id, 0).await.unwrap();
    let workers: Vec<_> = page.entries.iter().map(|e| e.worker).collect();
    assert_eq!(workers, [Some(one), Some(two)]);
    assert_eq!(
        blocks(kit, id).await,
        [
            "1+2: *1 queued→success",
            "3+2: *1 queued→failed no_such_account"
        ]
    );
}

pub async fn a_redacted_row_keeps_its_attempts_and_loses_their_codes(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).failed(0).failed(1).ends())
        .await;
    let by = "auditor".to_owned();
    assert!(kit.store.redact(id, 1, by, kit.now()).await.unwrap());
    assert_eq!(line(kit, id, 1).await, ["*1 queued→failed"]);
    assert_eq!(line(kit, id, 2).await, ["*1 queued→failed no_such_account"]);
    assert!(kit.row(id, 1).await.redacted && !kit.row(id, 2).await.redacted);
}

pub async fn histories_of_many_blocks_come_in_pages(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2; 150]).await;
    kit.work_off(worker, op).await;
    let first = kit.store.history(id, 0).await.unwrap();
    assert!(first.entries.len() < 150 && first.next.is_some());
    let all = blocks(kit, id).await;
    let expected = (0..150).map(|i| format!("{}+2: *1 queued→success", 2 * i + 1));
    assert!(all.into_iter().eq(expected));
}

pub async fn a_line_that_is_not_there_has_no_history(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.rows_of(2).await;
    assert!(kit.store.line_history(id, 3).await.unwrap().is_none());
    assert!(kit.store.line_history(id, 0).await.unwrap().is_none());
    let missing = BatchId::new();
    let line = kit.store.line_history(missing, 1).await;
    assert!(matches!(line, Err(StoreError::NotFound(id)) if id == missing));
    let blocks = kit.store.history(missing, 0).await;
    assert!(matches!(blocks, Err(StoreError::NotFound(id)) if id == missing));
}
