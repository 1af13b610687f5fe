//! Progress bars: on stderr, to a terminal alone, and out of the way of the log.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::exit::{About as _, Failure};
use super::session::Session;
use super::signals::{Signal, Stop};
use super::waits::{self, Who};
use crate::client::Client;
use crate::model::{Batch, BatchId, Status};

/// The bar that is on the terminal now: whoever writes beside it must move it away first.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Between two looks at a batch; what is answered is late by that much at most.
const PAUSE: Duration = Duration::from_millis(20);
/// Progress that nobody tells of is looked for so often.
const PROGRESS: Duration = Duration::from_millis(250);
/// Between two looks at what may hold a batch up, until that has been said.
const LOOK: Duration = Duration::from_secs(1);

fn shown() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    SHOWN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A bar of rows, on the terminal until it is dropped.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        // Draws nothing where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:24} {human_pos}/{human_len} rows  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        *shown() = Some(bar.clone());
        Self(bar)
    }

    fn show(&self, batch: &Batch) {
        let counts = &batch.counts;
        self.0.set_length(counts.rows);
        self.0
            .set_position(counts.rows.saturating_sub(counts.pending));
        let mut text = batch.status.to_string();
        if let Some(progress) = &batch.progress {
            text = format!("{:.0}/s", progress.rows_per_second);
            if let Some(left) = progress.eta_seconds {
                text.push_str(&format!("  {} left", seconds(left)));
            }
        }
        if counts.failed > 0 {
            text.push_str(&format!("  {} failed", counts.failed));
        }
        self.0.set_message(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        *shown() = None;
    }
}

/// Whole seconds as people read them.
pub(super) fn seconds(seconds: f64) -> String {
    // Beyond a year nobody reads the seconds, and a rate near nothing would give no number at all.
    let whole = seconds.ceil().clamp(0.0, 31_536_000.0);
    let duration = Duration::try_from_secs_f64(whole).unwrap_or_default();
    crate::model::format_duration(duration)
}

/// What waiting for a batch came to.
pub(super) enum Waited {
    Done(Box<Batch>),
    Stopped(Signal),
}

/// Shows the batch's progress until it is done, or a signal comes.
///
/// Where it is held, its op is paused or nobody works on it, that is said once.
pub(super) async fn wait(
    session: &Session,
    client: &Client,
    id: BatchId,
    who: Who,
    stop: &Stop,
) -> Result<Waited, Failure> {
    let (mut told, mut told_held) = (false, false);
    let mut look = tokio::time::interval(LOOK);
    let bar = Bar::new();
    let mut signal = client.store.signal();
    loop {
        signal.take();
        let batch = client.batch_now(id).await.about(id)?;
        if batch.done {
            return Ok(Waited::Done(Box::new(batch)));
        }
        bar.show(&batch);
        if batch.status == Status::Wait && !std::mem::replace(&mut told_held, true) {
            say_held(session, id);
        }
        let due = !told && look.tick().now_or_never().is_some();
        told |= due && waits::tell(session, client, &batch, who).await?;
        let changed = async {
            tokio::time::sleep(PAUSE).await;
            // Only what somebody may wait for is told: either way it is looked at.
            tokio::time::timeout(PROGRESS, signal.changed()).await.ok();
        };
        tokio::select! {
            () = changed => {}
            _ = look.tick(), if !told => look.reset_immediately(),
            signal = stop.stopped() => return Ok(Waited::Stopped(signal)),
        }
    }
}

/// Says something to people on stderr, beside the bar.
pub(super) fn say(text: &str) {
    // Where even stderr is closed there is nobody left to tell.
    drop(Beside.write_all(text.as_bytes()));
}

/// Says that nothing happens until somebody does something.
fn say_held(session: &Session, id: BatchId) {
    let release = session.command(format_args!("release {id}"));
    if session.json {
        tracing::info!(batch = %id, "it is held: waiting until it is released");
        return;
    }
    say(&format!(
        "batch {id} is held; waiting until it is released: {release}\n"
    ));
}

/// Writes to stderr beside the bar.
#[derive(Clone, Copy)]
pub(super) struct Beside;

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let bar = shown().clone();
        let write = || std::io::stderr().lock().write_all(bytes);
        match bar {
            Some(bar) => bar.suspend(write)?,
            None => write()?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Beside {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
