//! What doctor asks of a server: whether it answers, how fast, and whether it makes room.

use std::time::{Duration, Instant};

use super::link::{Link, Target};
use super::options::RedisOptions;

/// Who answers later than this is taken for down.
const LOOK: Duration = Duration::from_secs(2);
/// So often it is asked how fast it answers.
const TIMES: u32 = 5;

/// What a look at Redis found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// How long its answer took, at best: a busy machine is slow now and then.
    pub answer: Duration,
    /// What it does when its memory is full, where that is limited.
    pub when_full: Option<String>,
}

impl RedisOptions {
    /// Looks at the server; says in words why it cannot be used.
    ///
    /// # Errors
    /// Why it does not answer: never its URL.
    pub async fn look(&self) -> Result<RedisHealth, String> {
        let target = self.target().map_err(|e| e.to_string())?;
        let looked = tokio::time::timeout(LOOK, look(&target)).await;
        let late = |_| format!("it does not answer within {LOOK:?}");
        looked.map_err(late)?.map_err(|e| e.to_string())
    }

    /// How long a call waits for it.
    #[must_use]
    pub fn most(&self) -> Duration {
        self.response
    }
}

async fn look(target: &Target) -> redis::RedisResult<RedisHealth> {
    let mut link = target.connect(LOOK).await?;
    let mut answer = Duration::MAX;
    for _ in 0..TIMES {
        let asked = Instant::now();
        link.ask(&redis::cmd("PING")).await?;
        answer = answer.min(asked.elapsed());
    }
    let when_full = match link {
        Link::One(_) => {
            let info = link.ask(redis::cmd("INFO").arg("memory")).await?;
            when_full(&redis::from_redis_value::<String>(info)?)
        }
        Link::Cluster(_) => None,
    };
    Ok(RedisHealth { answer, when_full })
}

fn when_full(info: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    };
    match value("maxmemory") {
        None | Some("0") => None,
        Some(_) => value("maxmemory_policy").map(str::to_owned),
    }
}
