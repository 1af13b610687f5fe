//! The least that a job on a server takes: a record that is committed, a worker that is told and ends it, and a client that
//! is told of that; nothing that keeps any promise.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rowmill::postgres::tokio_postgres::{self, AsyncMessage, Client, NoTls};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::figures::Failed;
use crate::place::Fresh;

/// Jobs before those that are measured, and those.
const WARM: usize = 20;
const JOBS: usize = 200;

const TABLE: &str = "create table jobs (id bigint generated always as identity primary key, ended boolean not null default false)";
const SUBMIT: &str = "insert into jobs default values; notify work";
const END: &str = "update jobs set ended = true where id = (select id from jobs where not ended order by id limit 1 for update skip locked);
    notify done";

/// A connection, and the notifications that come by it.
async fn listens(fresh: &Fresh, to: &str) -> Result<(Client, UnboundedReceiver<()>), Failed> {
    let (client, mut connection) = tokio_postgres::connect(&fresh.at(), NoTls).await?;
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        let mut said = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = said.next().await {
            if matches!(message, AsyncMessage::Notification(_)) && tell.send(()).is_err() {
                return;
            }
        }
    });
    client.batch_execute(&format!("listen {to}")).await?;
    Ok((client, told))
}

/// How long a job takes from its submit until its client knows that it has ended, in the median.
pub async fn median(fresh: &Fresh) -> Result<Duration, Failed> {
    let (client, ended) = listens(fresh, "done").await?;
    let (worker, mut work) = listens(fresh, "work").await?;
    client.batch_execute(TABLE).await?;
    let works = tokio::spawn(async move {
        while work.recv().await.is_some() {
            worker.batch_execute(END).await?;
        }
        Ok::<_, tokio_postgres::Error>(())
    });
    // Neither runs in the thread that waits for the runtime, which each answer would have to wake.
    let mut took = tokio::spawn(one_by_one(client, ended, works)).await??;
    took.sort_unstable();
    Ok(took[JOBS / 2])
}

/// How long each job takes, but for the first.
async fn one_by_one(
    client: Client,
    mut ended: UnboundedReceiver<()>,
    mut works: JoinHandle<Result<(), tokio_postgres::Error>>,
) -> Result<Vec<Duration>, Failed> {
    let mut took = Vec::with_capacity(JOBS);
    for job in 0..WARM + JOBS {
        let began = Instant::now();
        client.batch_execute(SUBMIT).await?;
        tokio::select! {
            ended = ended.recv() => ended.ok_or("the connection was lost")?,
            failed = &mut works => failed??,
        }
        if job >= WARM {
            took.push(began.elapsed());
        }
    }
    works.abort();
    Ok(took)
}
