//! A store with an object folder, processors made of closures, and gates at which rows meet the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use rowmill::model::{
    Batch, BatchId, JobKey, Kind, NewBatch, OpSettings, RawJson, RowView, Status,
};
use rowmill::{
    BatchProcessor, BoxError, Builder, ChunkCx, ChunkOut, ChunkProcessor, Client, DoneCx, InputRow,
    JobManager, NewRow, ObjectStore, QueryCx, RowCx, RowFailure, SlowQueryProcessor,
};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use crate::support::{Facts, Harness, Kit, Sqlite, invariants};

/// A test that waits longer than this has failed.
pub const LONG: Duration = Duration::from_secs(60);

pub struct World {
    h: Sqlite,
}

impl World {
    pub async fn new() -> Self {
        Self {
            h: Sqlite::open().await,
        }
    }

    pub fn kit(&self) -> &Kit {
        self.h.kit()
    }

    pub async fn again(&self) -> rowmill::Store {
        self.h.again().await
    }

    /// The application's own connection to the file.
    pub fn db(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.h.path()).expect("the file");
        db.busy_timeout(LONG).expect("set");
        db
    }

    pub fn facts(&self) -> Facts {
        self.h.facts()
    }

    pub fn folder(&self) -> std::path::PathBuf {
        self.h.folder().join("files")
    }

    pub fn builder(&self) -> Builder {
        JobManager::builder(self.kit().store.clone())
            .objects(ObjectStore::folder(self.folder()))
            .clock(Arc::clone(&self.kit().clock))
            .grace(Duration::ZERO)
    }

    /// Works until nothing is ready at the clock's time.
    pub async fn work(&self, manager: &JobManager) {
        while !manager.tick().await.expect("a turn").is_idle() {}
    }

    /// Moves the clock to whatever is due next, and works it off.
    pub async fn work_to_the_end(&self, manager: &JobManager) {
        for _ in 0..10_000 {
            self.work(manager).await;
            // A turn looks at the time first: what it put off is seen by the next one.
            let tick = manager.tick().await.expect("a turn");
            if !tick.is_idle() {
                continue;
            }
            let Some(due) = tick.next_due else { return };
            let wait = Duration::try_from(due.duration_since(self.kit().now()));
            self.kit().clock.advance(wait.unwrap_or_default());
        }
        panic!("there is no end of it");
    }

    /// Leaves, and checks what must hold whatever happened.
    pub async fn end(&self, manager: &JobManager) {
        manager.stop().await.expect("left");
        invariants(&self.h).await;
    }
}

pub fn key(op: &str) -> JobKey {
    JobKey::new("bank", op, Kind::Batch).expect("names")
}

pub fn query(op: &str) -> JobKey {
    JobKey::new("bank", op, Kind::Query).expect("names")
}

pub fn raw(json: &str) -> Box<RawJson> {
    RawJson::from_string(json.to_owned()).expect("JSON")
}

pub fn inputs(values: &[Value]) -> Vec<NewRow> {
    let row = |value: &Value| NewRow {
        line: None,
        input: raw(&value.to_string()),
    };
    values.iter().map(row).collect()
}

/// Rows 1 to n, whose inputs are their lines.
pub fn numbers(n: u32) -> Vec<NewRow> {
    inputs(&(1..=n).map(Value::from).collect::<Vec<_>>())
}

pub async fn submit(client: &Client, op: &str, rows: Vec<NewRow>) -> BatchId {
    let new = NewBatch {
        context: raw("{}"),
        ..NewBatch::new(key(op))
    };
    client.batch_submit(new, rows).await.expect("submitted").id
}

pub async fn ask(client: &Client, op: &str, input: &str) -> BatchId {
    let new = NewBatch {
        context: raw("{}"),
        ..NewBatch::new(query(op))
    };
    let submitted = client.slow_query_submit(new, raw(input)).await;
    submitted.expect("submitted").id
}

/// Waits for the end of a batch that another task works on.
pub async fn done(client: &Client, id: BatchId) -> Batch {
    let batch = client.wait_done(id, Some(LONG)).await.expect("a batch");
    assert!(batch.done, "{batch:?}");
    batch
}

pub async fn rows_of(client: &Client, id: BatchId) -> Vec<RowView> {
    client.rows(id, None).try_collect().await.expect("rows")
}

pub async fn statuses(client: &Client, id: BatchId) -> Vec<Status> {
    rows_of(client, id).await.iter().map(|r| r.status).collect()
}

/// The code of a row's first message.
pub fn code(row: &RowView) -> String {
    let messages = row.messages.as_ref().expect("messages").get();
    let messages: Value = serde_json::from_str(messages).expect("JSON");
    messages[0]["errcode"].as_str().expect("a code").to_owned()
}

pub async fn read(client: &Client, batch: &Batch, name: &str) -> String {
    let file = batch.files.iter().find(|f| f.name == name).expect(name);
    let mut text = String::new();
    let mut open = client.open_file(file).await.expect("opened");
    open.read_to_string(&mut text).await.expect("read");
    assert_eq!(file.size, u64::try_from(text.len()).unwrap());
    text
}

/// Where rows wait for the test, and the test for rows.
#[derive(Clone)]
pub struct Gate {
    entered: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self {
            entered: Arc::new(Semaphore::new(0)),
            go: Arc::new(Semaphore::new(0)),
        }
    }

    /// A row is here, and waits.
    pub async fn pass(&self) {
        let mut turn = std::pin::pin!(self.go.acquire());
        // It stands in line before it is counted, so that nobody who comes later overtakes it.
        let at_once = futures_util::poll!(&mut turn);
        self.entered.add_permits(1);
        let turn = match at_once {
            std::task::Poll::Ready(turn) => turn,
            std::task::Poll::Pending => turn.await,
        };
        turn.expect("open").forget();
    }

    /// So many rows are here.
    pub async fn entered(&self, rows: u32) {
        let entered = tokio::time::timeout(LONG, self.entered.acquire_many(rows));
        entered.await.expect("rows came").expect("open").forget();
    }

    /// So many rows may go on.
    pub fn open(&self, rows: usize) {
        self.go.add_permits(rows);
    }

    /// Rows that came and were not waited for.
    pub fn here(&self) -> usize {
        self.entered.available_permits()
    }
}

/// What `mark_done` was told, and what it answers each time.
#[derive(Clone, Default)]
pub struct Ends {
    told: Arc<Mutex<Vec<(i64, BatchId, Status)>>>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

#[derive(Clone, Copy)]
pub enum Answer {
    Error,
    Panic,
}

impl Ends {
    /// What it answers first, second, …; then it is content.
    pub fn answering(answers: &[Answer]) -> Self {
        let ends = Self::default();
        let mut later: Vec<Answer> = answers.to_vec();
        later.reverse();
        *ends.answers.lock().unwrap() = later;
        ends
    }

    pub fn told(&self) -> Vec<(i64, BatchId, Status)> {
        self.told.lock().unwrap().clone()
    }

    pub fn of(&self, id: BatchId) -> Vec<Status> {
        let told = self.told();
        told.iter().filter(|t| t.1 == id).map(|t| t.2).collect()
    }

    pub fn tell(&self, event: i64, batch: &Batch) -> Result<(), BoxError> {
        assert!(batch.done);
        let told = (event, batch.id, batch.status);
        self.told.lock().unwrap().push(told);
        let answer = self.answers.lock().unwrap().pop();
        match answer {
            None => Ok(()),
            Some(Answer::Error) => Err("the receiver is down".into()),
            Some(Answer::Panic) => panic!("the receiver is broken"),
        }
    }
}

pub type Answered<'a> = BoxFuture<'a, Result<Value, RowFailure>>;

/// A processor of rows made of a closure.
pub struct Rows<F>(pub F, pub Ends);

pub fn rows<F>(f: F) -> Rows<F>
where
    F: for<'a, 'b> Fn(&'a mut RowCx<'b, (), Value>, Value) -> Answered<'a> + Send + Sync + 'static,
{
    Rows(f, Ends::default())
}

impl<F> Rows<F> {
    pub fn telling(self, ends: &Ends) -> Self {
        Self(self.0, ends.clone())
    }
}

impl<F> BatchProcessor for Rows<F>
where
    F: for<'a, 'b> Fn(&'a mut RowCx<'b, (), Value>, Value) -> Answered<'a> + Send + Sync + 'static,
{
    type Block = ();
    type Context = Value;
    type Input = Value;
    type Output = Value;

    async fn process(
        &self,
        cx: &mut RowCx<'_, (), Value>,
        input: Value,
    ) -> Result<Value, RowFailure> {
        (self.0)(cx, input).await
    }

    async fn mark_done(&self, cx: &DoneCx<'_, ()>, batch: &Batch) -> Result<(), BoxError> {
        self.1.tell(cx.event(), batch)
    }
}

/// A processor of queries made of a closure.
pub struct Queries<F>(pub F, pub Ends);

pub fn queries<F>(f: F) -> Queries<F>
where
    F: for<'a, 'b> Fn(&'a mut QueryCx<'b, (), Value>, Value) -> Answered<'a>
        + Send
        + Sync
        + 'static,
{
    Queries(f, Ends::default())
}

impl<F> Queries<F> {
    pub fn telling(self, ends: &Ends) -> Self {
        Self(self.0, ends.clone())
    }
}

impl<F> SlowQueryProcessor for Queries<F>
where
    F: for<'a, 'b> Fn(&'a mut QueryCx<'b, (), Value>, Value) -> Answered<'a>
        + Send
        + Sync
        + 'static,
{
    type Block = ();
    type Context = Value;
    type Input = Value;
    type Output = Value;

    async fn query(
        &self,
        cx: &mut QueryCx<'_, (), Value>,
        input: Value,
    ) -> Result<Value, RowFailure> {
        (self.0)(cx, input).await
    }

    async fn mark_done(&self, cx: &DoneCx<'_, ()>, batch: &Batch) -> Result<(), BoxError> {
        self.1.tell(cx.event(), batch)
    }
}

pub type ChunkAnswered<'a> = BoxFuture<'a, Result<(), RowFailure>>;

/// A processor of chunks made of a closure; its inputs are numbers.
pub struct Chunks<F>(pub F);

pub fn chunks<F>(f: F) -> Chunks<F>
where
    F: for<'a, 'b> Fn(
            &'a ChunkCx<'b, (), Value>,
            Vec<InputRow<i64>>,
            &'a mut ChunkOut<Value>,
        ) -> ChunkAnswered<'a>
        + Send
        + Sync
        + 'static,
{
    Chunks(f)
}

impl<F> ChunkProcessor for Chunks<F>
where
    F: for<'a, 'b> Fn(
            &'a ChunkCx<'b, (), Value>,
            Vec<InputRow<i64>>,
            &'a mut ChunkOut<Value>,
        ) -> ChunkAnswered<'a>
        + Send
        + Sync
        + 'static,
{
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = Value;

    async fn process(
        &self,
        cx: &ChunkCx<'_, (), Value>,
        rows: Vec<InputRow<i64>>,
        out: &mut ChunkOut<Value>,
    ) -> Result<(), RowFailure> {
        (self.0)(cx, rows, out).await
    }
}

/// A list that closures add to.
pub type Log<T> = Arc<Mutex<Vec<T>>>;

pub fn log<T>() -> Log<T> {
    Arc::default()
}

/// Counts what runs at once.
#[derive(Clone, Default)]
pub struct Crowd(Arc<Mutex<(usize, usize)>>);

impl Crowd {
    pub fn enter(&self) {
        let mut crowd = self.0.lock().unwrap();
        crowd.0 += 1;
        crowd.1 = crowd.1.max(crowd.0);
    }

    pub fn leave(&self) {
        self.0.lock().unwrap().0 -= 1;
    }

    /// The most that ever ran at once.
    pub fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

/// How often each input was processed.
pub type Tally = Arc<Mutex<BTreeMap<String, u32>>>;

pub fn count(tally: &Tally, input: &Value) -> u32 {
    let mut tally = tally.lock().unwrap();
    let count = tally.entry(input.to_string()).or_default();
    *count += 1;
    *count
}

pub fn settings(change: impl FnOnce(&mut OpSettings)) -> OpSettings {
    let mut settings = OpSettings::default();
    change(&mut settings);
    settings
}

/// A processor whose rows wait at a gate and are counted while they are there.
macro_rules! crowded {
    ($gate:ident, $crowd:ident) => {{
        let (gate, crowd) = ($gate.clone(), $crowd.clone());
        rows(move |_, input| {
            let (gate, crowd) = (gate.clone(), crowd.clone());
            async move {
                crowd.enter();
                gate.pass().await;
                crowd.leave();
                Ok(input)
            }
            .boxed()
        })
    }};
}
pub(crate) use crowded;
