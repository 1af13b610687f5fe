//! Rows that run again because of what they did, and not because their worker died.

use std::time::Duration;

use futures_util::FutureExt;
use rowmill::RowFailure;
use rowmill::model::{Delivery, Kind, Status};
use serde_json::Value;

use super::world::{Tally, World, code, count, inputs, rows, rows_of, settings, statuses, submit};

/// Each way in which a row may fail by itself, and the code that tells of it.
const WAYS: [(&str, &str); 4] = [
    ("retry", "processing_error"),
    ("error", "processing_error"),
    ("panic", "panic"),
    ("hang", "timed_out"),
];

/// Each row was called as often as it had attempts, with the same key, and failed in its own way.
async fn runs_again(delivery: Delivery) {
    let world = World::new().await;
    let (calls, keys) = (Tally::default(), Tally::default());
    let (called, known) = (calls.clone(), keys.clone());
    let processor = rows(move |cx, input| {
        count(&called, &input);
        count(&known, &cx.key().into());
        async move {
            match input.as_str().unwrap() {
                "retry" => Err(RowFailure::retry("busy")),
                "error" => Err(RowFailure::Error("down".into())),
                "panic" => panic!("down"),
                _ => std::future::pending::<Result<Value, _>>().await,
            }
        }
        .boxed()
    });
    let twice = settings(|s| {
        s.delivery = delivery;
        s.max_attempts = 2;
        s.timeout = Some(Duration::from_millis(20));
    });
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, twice)
        .build()
        .unwrap();
    let words = WAYS.map(|(word, _)| Value::from(word));
    let id = submit(&manager, "post", inputs(&words)).await;
    world.work_to_the_end(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Status::Failed; 4]);
    let codes: Vec<String> = rows_of(&manager, id).await.iter().map(code).collect();
    assert_eq!(codes, WAYS.map(|(_, code)| code));
    for tally in [calls, keys] {
        let tally = tally.lock().unwrap();
        assert_eq!(tally.values().copied().collect::<Vec<_>>(), [2; 4]);
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_fails_or_is_timed_out_runs_again_while_it_has_attempts() {
    runs_again(Delivery::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_is_about_deaths_and_not_about_answers() {
    runs_again(Delivery::AtMostOnce).await;
}
