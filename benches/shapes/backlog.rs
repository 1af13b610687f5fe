//! A claim where millions of tasks are queued, without and with a reader who holds an old snapshot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowmill::model::{EndedAs, OpId, RowOutcome, Token, encode_outcome};
use rowmill::store::{Claim, ClaimedTask, Part, Recorded, Then};

use crate::Size;
use crate::figures::{Failed, Figures, Target, median, milliseconds};
use crate::load::{Loaded, TASKS};
use crate::place::{On, Place};
use crate::profile::Profiled;

/// Ops, of which some have a tenth of all tasks each.
const OPS: usize = 100;
const DEEP: usize = 9;
/// Claims that are timed, and the tasks of each: as many as a worker of so many cores begins with.
const CLAIMS: usize = 200;
/// Claims before, on connections whose statements are not prepared yet.
const FIRST: usize = 10;
const CLAIM: u32 = 8;
/// Tasks that a busy worker claims together.
const BULK: u32 = 1_024;

/// What one measure found: each claim's time in milliseconds, sorted.
struct Claims(Vec<f64>);

impl Claims {
    fn median(&self) -> f64 {
        median(&self.0)
    }

    fn longest(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

impl Loaded {
    /// One claim of an op as a worker makes it, and how long it takes.
    async fn claim(&self, op: OpId, tasks: u32) -> Result<(Vec<ClaimedTask>, Duration), Failed> {
        let ask = Claim {
            worker: self.worker,
            op,
            token: Token::random()?,
            max_tasks: tasks,
            max_rows: u64::from(tasks) * 1_000,
            max_bytes: 4 << 20,
            split_over: None,
            cap: None,
            only: None,
            oldest: false,
            once: false,
        };
        let now = self.store.clock().now();
        let began = Instant::now();
        let claimed = self.store.claim(ask, now).await?;
        Ok((claimed, began.elapsed()))
    }

    /// Records that all of them have succeeded.
    async fn record(&self, tasks: &[ClaimedTask]) -> Result<(), Failed> {
        let mut body = String::new();
        encode_outcome(&mut body, &RowOutcome::success(Some("\"1.00\"".into())));
        let body = Arc::new(body);
        let parts = tasks.iter().map(|task| Part {
            claim: task.claim,
            part: 0,
            ordinals: None,
            body: Arc::clone(&body),
            success: 1,
            failed: 0,
            files: false,
            again: Vec::new(),
            then: Then::Ends {
                ended_as: EndedAs::Finished,
                rest: Vec::new(),
                interrupted: 0,
            },
            capped: false,
            more: false,
        });
        let now = self.store.clock().now();
        let recorded = self.store.record(self.worker, parts.collect(), now).await?;
        match recorded.iter().all(|answer| *answer == Recorded::Done) {
            true => Ok(()),
            false => Err("an outcome was not taken".into()),
        }
    }

    /// Claims as many as asked for, a few at a time, each of which is recorded before the next.
    async fn claims(&self, op: OpId, name: &str) -> Result<Claims, Failed> {
        let profiled = Profiled::of(name)?;
        let mut times = Vec::with_capacity(CLAIMS);
        for nth in 0..FIRST + CLAIMS {
            let (tasks, took) = self.claim(op, CLAIM).await?;
            if tasks.len() != CLAIM as usize {
                return Err(format!("{} tasks were claimed", tasks.len()).into());
            }
            self.record(&tasks).await?;
            if nth >= FIRST {
                times.push(milliseconds(took));
            }
        }
        drop(profiled);
        times.sort_unstable_by(f64::total_cmp);
        Ok(Claims(times))
    }

    /// Works off so many tasks of an op as a busy worker does, and ends the batches of which none is left.
    async fn churn(&self, op: OpId, tasks: u64) -> Result<(), Failed> {
        let mut ended = 0;
        while ended < tasks {
            let (claimed, _) = self.claim(op, BULK).await?;
            if claimed.is_empty() {
                return Err("an op has too few tasks".into());
            }
            self.record(&claimed).await?;
            ended += claimed.len() as u64;
        }
        loop {
            let now = self.store.clock().now();
            let token = Token::random()?;
            let closes = self.store.claim_close(self.worker, token, 100, now).await?;
            if closes.is_empty() {
                return Ok(());
            }
            for close in closes {
                self.store
                    .close(self.worker, close.claim, Vec::new(), now)
                    .await?;
            }
        }
    }
}

/// All rounds on one load, each on ops of its own.
pub async fn backlog(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    if place.on == On::Sqlite {
        figures.note("on a server alone".into());
        return Ok(());
    }
    let all = size.rows * 10;
    let deep = (all / 10 / TASKS).max(1);
    let shallow = (all / 10 / TASKS / (OPS - DEEP) as u64).max(1);
    let batches: Vec<u64> = (0..OPS)
        .map(|op| if op < DEEP { deep } else { shallow })
        .collect();
    // Enough of them for what is claimed in a round.
    let needed = ((FIRST + CLAIMS) as u64 * u64::from(CLAIM)).div_ceil(TASKS) + 1;
    let in_deep = deep * TASKS;
    // What ends while the old snapshot is held: a little, and then much.
    let ends = [in_deep / 100, in_deep / 10];
    // An op's turn comes again after three rounds.
    let turns = size.rounds.div_ceil(DEEP / 3) as u64;
    let taken = ends
        .iter()
        .map(|tasks| tasks + u64::from(BULK) + needed * TASKS);
    if in_deep < turns * taken.sum::<u64>() {
        return Err("a backlog wants more rows, or fewer rounds".into());
    }
    let short = Loaded::of(place, &vec![needed; size.rounds]).await?;
    let long = Loaded::of(place, &batches).await?;
    figures.note(long.note.clone());
    figures.note(format!(
        "a claim takes {CLAIM} tasks and is recorded before the next; {DEEP} ops have {in_deep} tasks each; the old snapshot is from before tasks \
         of the op ended"
    ));
    for round in 0..size.rounds {
        let deep = |nth: usize| long.ops[(round * 3 + nth) % DEEP];
        let name = format!("a claim, {} queued", needed * TASKS);
        let claims = short.claims(short.ops[round], &name).await?;
        figures.add(format!("{name}: median"), "ms", claims.median());
        figures.add(format!("{name}: longest"), "ms", claims.longest());

        let (most, name) = (Target::AtMost(3.0), "a claim behind the backlog");
        let claims = long.claims(deep(0), name).await?;
        figures.aim(format!("{name}: median"), "ms", claims.median(), most);
        figures.add(format!("{name}: longest"), "ms", claims.longest());

        let most_ended = ends[1];
        long.churn(deep(1), most_ended).await?;
        let name = format!("{most_ended} ended");
        let claims = long.claims(deep(1), &name).await?;
        figures.aim(format!("{name}: median"), "ms", claims.median(), most);
        figures.add(format!("{name}: longest"), "ms", claims.longest());

        let reader = long.fresh.server().await?;
        let begin = "begin isolation level repeatable read; select count(*) from rowmill.ops";
        reader.batch_execute(begin).await?;
        let mut before = 0;
        for ended in ends {
            long.churn(deep(2), ended - before).await?;
            before = ended;
            let (most, name) = (Target::AtMost(10.0), format!("{ended} ended, old snapshot"));
            let claims = long.claims(deep(2), &name).await?;
            figures.aim(format!("{name}: median"), "ms", claims.median(), most);
            figures.add(format!("{name}: longest"), "ms", claims.longest());
        }
        reader.batch_execute("rollback").await?;
    }
    // What is left is nobody's any more.
    long.server.batch_execute("truncate queue, blocks").await?;
    Ok(())
}
