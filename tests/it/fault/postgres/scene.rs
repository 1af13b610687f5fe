//! What a cell of the table plays in: a batch, a worker behind a proxy, and another one.

use std::time::Duration;

use rowmill::model::{BatchId, JobKey, Kind, NewBatch, RawJson};
use rowmill::{Batch, Client, NewRow};
use tempfile::TempDir;

use super::worker::{HALTS, Halt, Job, LONG, Worker, manager, result};
use crate::support::s3::S3;
use crate::support::servers::{Database, Options, Postgres as Server, Proxy, until};
use crate::support::{Harness as _, Postgres};

/// Rows of a batch; a block has 20.
pub(super) const ROWS: u32 = 100;

/// Where the worker is when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    AfterClaim,
    WithinRow,
    AfterEffect,
    AtCommit,
    BeforeClose,
    WithinUpload,
    AfterUpload,
    WhileTold,
    WhileAborted,
    /// Its files are staged and not published.
    Assembled,
    /// The batch has ended, and what was staged is not cleared.
    Closed,
    /// The end is to be told, and its receiver has not been called.
    BeforeTold,
    /// The receiver has answered, and nobody knows.
    Told,
}

impl Moment {
    /// The fault point at which the worker stops itself, if it is one of rowmill's own.
    fn probe(self) -> &'static str {
        match self {
            Self::AfterClaim => "claimed=stop",
            Self::BeforeClose => "close_claimed=stop",
            Self::WithinUpload => "part_sent=stop",
            Self::AfterUpload => "published=stop",
            Self::Assembled => "assembled=stop",
            Self::Closed => "closed=stop",
            Self::BeforeTold => "before_notice=stop",
            Self::Told => "told=stop",
            _ => "",
        }
    }

    fn halt(self) -> Option<Halt> {
        match self {
            Self::WithinRow => Some(Halt::WithinRow),
            Self::WhileAborted => Some(Halt::WithinAbortedRow),
            Self::AfterEffect => Some(Halt::AfterEffect),
            Self::WhileTold => Some(Halt::WhileTold),
            _ => None,
        }
    }
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// kill -9; another worker starts after it.
    Killed,
    /// Every connection of it is reset; it goes on.
    CutOff,
    /// The server stops and starts; it goes on.
    Restarted,
    /// It is stopped until it is taken for dead, and goes on when another has ended its batch.
    Frozen,
}

impl Fault {
    /// Another takes over what the worker had.
    pub(super) fn is_death(self) -> bool {
        matches!(self, Self::Killed | Self::Frozen)
    }
}

pub(super) struct Scene {
    pub(super) moment: Moment,
    pub(super) job: Job,
    pub(super) id: BatchId,
    pub(super) store: Postgres,
    pub(super) s3: S3,
    proxy: Proxy,
    server: Option<Server>,
    _dir: TempDir,
}

impl Scene {
    /// A batch is submitted, and nobody works yet.
    pub(super) async fn new(moment: Moment, fault: Option<Fault>) -> Self {
        let own_server = fault == Some(Fault::Restarted);
        let server = own_server.then(|| Server::start(&Options::default()));
        let store = match &server {
            Some(server) => Postgres::on(server).await,
            None => Postgres::open().await,
        };
        let effects =
            "create table public.effects (key text, attempt integer, primary key (key, attempt))";
        Database::run_at(store.url(), effects);
        let (proxy, s3) = (Proxy::start(store.url()), S3::start());
        let dir = tempfile::tempdir().expect("a folder");
        let job = Job {
            dir: dir.path().to_owned(),
            url: proxy.url().to_owned(),
            s3: s3.endpoint().to_owned(),
            halt: moment.halt(),
            // Where nobody is frozen a busy machine frightens nobody.
            heartbeat: (fault == Some(Fault::Frozen)).then_some(Duration::from_secs(5)),
            // Enough for an upload in parts.
            line: match moment {
                Moment::WithinUpload => 60_000,
                _ => 0,
            },
        };
        let scene = Self {
            id: BatchId::new(),
            moment,
            job,
            store,
            s3,
            proxy,
            server,
            _dir: dir,
        };
        scene.submit().await;
        scene
    }

    async fn submit(&self) {
        let new = NewBatch {
            id: self.id,
            ..NewBatch::new(JobKey::new("fault", "work", Kind::Batch).expect("names"))
        };
        let rows = (1..=ROWS).map(|n| NewRow {
            line: Some(n),
            input: RawJson::from_string(n.to_string()).expect("JSON"),
        });
        let rows: Vec<_> = rows.collect();
        let manager = manager(self.store.kit().store.clone(), self.job.clone());
        let submitted = manager.batch_submit(new, rows).await;
        submitted.expect("submitted");
    }

    /// In this process, past the proxy.
    pub(super) fn client(&self) -> Client {
        Client::new(self.store.kit().store.clone())
    }

    /// The worker, at the moment: it is stopped there, or waits for the answer to its commit.
    pub(super) async fn at_the_moment(&self) -> Worker {
        if self.moment == Moment::AtCommit {
            let recorded = format!("\"{}\"", result(HALTS));
            let needles = [recorded.as_bytes(), b"commit"];
            self.proxy.hold_next_answer_to(&needles);
        }
        let worker = self.job.start(self.moment.probe());
        match self.moment {
            Moment::AtCommit => until("an answer that is held", || {
                (self.proxy.held() > 0).then_some(())
            }),
            _ => worker.has_stopped(),
        }
        if self.moment == Moment::WhileAborted {
            let aborted = self.client().batch_abort(self.id, Duration::ZERO).await;
            assert!(!aborted.expect("asked for").done);
        }
        worker
    }

    /// Another worker, which nothing happens to.
    pub(super) fn other(&self) -> Worker {
        let job = Job {
            url: self.store.url().to_owned(),
            halt: None,
            ..self.job.clone()
        };
        job.start("")
    }

    /// Whether the batch has ended.
    pub(super) async fn is_done(&self) -> bool {
        let batch = self.client().batch_status(self.id).await;
        batch.expect("an answer").done
    }

    /// Another worker starts and ends the batch.
    pub(super) async fn another_ends_it(&self, fault: Fault) -> Batch {
        let other = self.other();
        let done = self.done(Some(fault)).await;
        other.ends();
        done
    }

    /// Waits until so many workers have entered.
    pub(super) fn have_entered(&self, workers: usize) {
        until("a worker that enters", || {
            let entered = Database::rows_at(self.store.url(), "select 1 from rowmill.workers");
            // A busy machine may have frightened one of them once more.
            (entered.len() >= workers).then_some(())
        });
    }

    /// The numbers of the workers that have entered; who is declared dead is none of them any more.
    pub(super) fn entered(&self) -> Vec<i64> {
        self.store
            .numbers("select no::bigint from rowmill.workers order by no")
    }

    /// Waits until the worker has seen that it was taken for dead, and has entered as a third one.
    pub(super) fn has_entered_again(&self) {
        self.have_entered(3);
        // What it staged for a batch that had ended is removed by the new one's first look.
        self.has_nothing_staged();
    }

    pub(super) fn has_nothing_staged(&self) {
        until("no staged files", || {
            let keys = self.s3.keys();
            let staged = keys.iter().any(|key| key.starts_with(".staging/"));
            (!staged).then_some(())
        });
    }

    /// Resets the worker's connections.
    pub(super) fn cut(&self) {
        self.proxy.cut();
    }

    /// The answer that the proxy holds never comes.
    pub(super) fn cut_if_held(&self) {
        if self.moment == Moment::AtCommit {
            self.cut();
        }
    }

    /// Stops the server and starts it.
    pub(super) fn restart(&mut self) {
        self.server.as_mut().expect("one of its own").restart();
        // A client whose answer the proxy held has not seen that the server went.
        self.proxy.cut();
    }

    /// How often the end is told: twice where the one who had told it could not say so any more.
    pub(super) fn times_told(&self, fault: Option<Fault>) -> usize {
        let died = fault.is_some_and(Fault::is_death);
        let was_told = matches!(self.moment, Moment::WhileTold | Moment::Told);
        1 + usize::from(died && was_told)
    }

    /// The batch, when it has ended and all were told.
    pub(super) async fn done(&self, fault: Option<Fault>) -> Batch {
        let (client, id) = (self.client(), self.id);
        let times = self.times_told(fault);
        let done = async {
            loop {
                match client.batch_status(id).await {
                    Ok(batch) if batch.done && self.job.told().len() >= times => break batch,
                    // The server may have been away.
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let done = tokio::time::timeout(LONG, done).await;
        done.expect("it ends")
    }
}
