//! The server: its version, its settings, its time, who follows it.

use std::time::Duration;

use tokio_postgres::Row;

use super::super::Options;
use super::super::errors::postgres_error;
use super::WORDS;
use super::pieces::Pieces;
use crate::model::Timestamp;
use crate::store::steps::db::{Us, time};
use crate::store::{Check, StoreError};

/// The versions that are supported.
const OLDEST: i32 = 14;
const NEWEST: i32 = 18;
/// Clocks that are further apart than this are told.
const APART: Duration = Duration::from_secs(5);
/// Of the server's connections so many stay free for others.
const SPARE: i32 = 5;

/// What the server says of itself.
struct Server {
    version: i32,
    commit: String,
    connections: i32,
    connected: i32,
    now: Timestamp,
    standby: bool,
    standbys: i32,
    /// Nothing where this role may not see it.
    awaited: Option<i32>,
    names: String,
    fsync: String,
    full_pages: String,
    invalid: Vec<String>,
}

impl Server {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            version: row.try_get::<_, i32>(0)? / 10_000,
            commit: row.try_get(1)?,
            connections: row.try_get(2)?,
            connected: row.try_get(3)?,
            now: time(row.try_get::<_, Us>(4)?),
            standby: row.try_get(5)?,
            standbys: row.try_get(6)?,
            awaited: row.try_get(7)?,
            names: row.try_get(8)?,
            fsync: row.try_get(9)?,
            full_pages: row.try_get(10)?,
            invalid: row.try_get(11)?,
        })
    }
}

pub(super) async fn looks(c: &Pieces, now: Timestamp, options: &Options, checks: &mut Vec<Check>) {
    let server = match ask(c).await {
        Ok(server) => server,
        Err(error) => return checks.push(WORDS.unread("server", &error)),
    };
    checks.push(version(server.version));
    checks.push(durability(&server));
    checks.push(connections(&server, options));
    checks.push(clock(server.now, now));
    checks.push(replication(&server));
    checks.push(indexes(&server.invalid));
}

async fn ask(c: &Pieces) -> Result<Server, StoreError> {
    let found = c.ask(alone!("server"), &[]).await?;
    let row = found
        .first()
        .ok_or_else(|| StoreError::unavailable("looking at the server", "it says nothing"))?;
    Server::of(row).map_err(postgres_error("looking at the server"))
}

fn version(version: i32) -> Check {
    if (OLDEST..=NEWEST).contains(&version) {
        return Check::ok("server", format!("PostgreSQL {version} answers"));
    }
    Check::repair(
        "server",
        format!("PostgreSQL {version}; rowmill is made for {OLDEST} to {NEWEST}"),
        "use one of these versions",
    )
}

fn durability(server: &Server) -> Check {
    let settings = [
        ("synchronous_commit", &server.commit),
        ("fsync", &server.fsync),
        ("full_page_writes", &server.full_pages),
    ];
    let off: Vec<&str> = settings
        .iter()
        .filter(|(_, value)| *value == "off")
        .map(|(name, _)| *name)
        .collect();
    if off.is_empty() {
        let detail = format!(
            "commits are on the disk (synchronous_commit = {})",
            server.commit
        );
        return Check::ok("durability", detail);
    }
    Check::repair(
        "durability",
        format!(
            "{} off: what is acknowledged can be lost in a crash",
            off.join(", ")
        ),
        "set to on what is off: in postgresql.conf, or with `alter database … set`",
    )
}

fn connections(server: &Server, options: &Options) -> Check {
    let needs = i32::try_from(options.connections.saturating_add(1)).unwrap_or(i32::MAX);
    let free = server.connections.saturating_sub(server.connected);
    let detail = format!(
        "{} of {} connections are in use, and one process takes up to {needs}",
        server.connected, server.connections
    );
    if free >= needs.saturating_add(SPARE) {
        return Check::ok("connections", detail);
    }
    Check::repair(
        "connections",
        detail,
        "raise max_connections, or put PgBouncer in between (docs/pgbouncer.md)",
    )
}

fn clock(theirs: Timestamp, ours: Timestamp) -> Check {
    let apart = theirs.duration_since(ours).unsigned_abs();
    let detail = format!(
        "the server's is {} ms from this machine's",
        apart.as_millis()
    );
    if apart <= APART {
        return Check::ok("server_clock", detail);
    }
    Check::repair(
        "server_clock",
        detail,
        "set the clocks of both machines by NTP: times that people give are compared with the server's",
    )
}

/// What a failover keeps.
fn replication(server: &Server) -> Check {
    if server.standby {
        return Check::repair(
            "replication",
            "this server is a standby, which is not written to",
            "name the server that is written to in `database`",
        );
    }
    let followed = match server.standbys {
        0 => "no standby follows",
        1 => "one standby follows",
        _ => "standbys follow",
    };
    match (server.names.is_empty(), server.awaited) {
        (true, _) => Check::ok(
            "replication",
            format!(
                "{followed} and none is waited for: a failover goes back to what the standby has, effects and outcomes together"
            ),
        ),
        (false, None) => Check::ok(
            "replication",
            format!(
                "{followed} and commits wait for synchronous_standby_names; whether one of those is there this role may not see: grant it pg_read_all_stats"
            ),
        ),
        (false, Some(0)) => Check::repair(
            "replication",
            format!(
                "{followed} and none of synchronous_standby_names is there: commits wait for it"
            ),
            "start the standby, or take it out of synchronous_standby_names",
        ),
        (false, Some(_)) => Check::ok(
            "replication",
            format!(
                "{followed}, and commits wait for one: a failover to it keeps all that was acknowledged"
            ),
        ),
    }
}

fn indexes(invalid: &[String]) -> Check {
    if invalid.is_empty() {
        return Check::ok("indexes", "every index is valid");
    }
    Check::repair(
        "indexes",
        format!("not valid, and so used by no query: {}", invalid.join(", ")),
        "`reindex index concurrently` each of them",
    )
}

/// Whether a pooler is in between, and where the workers' locks are held.
pub(super) async fn pooler(options: &Options, is_pooler: bool) -> Check {
    let direct = match &options.session {
        None => None,
        Some(address) => Some(address.look().await),
    };
    match (is_pooler, direct) {
        (_, Some(Err(error))) => Check::repair(
            "pooler",
            format!("database_session: {error}"),
            "correct the address: it is the server's own, without a pooler",
        ),
        (true, None) => Check::repair(
            "pooler",
            "a pooler is in between, and no database_session is set: a killed worker is noticed after 30 s, and no worker is woken",
            "set database_session to the server's own address (docs/pgbouncer.md)",
        ),
        (true, Some(Ok(()))) => Check::ok(
            "pooler",
            "a pooler is in between; locks are held by database_session",
        ),
        (false, _) => Check::ok("pooler", "none is in between"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            version: 15,
            commit: "on".to_owned(),
            connections: 100,
            connected: 3,
            now: Timestamp::UNIX_EPOCH,
            standby: false,
            standbys: 0,
            awaited: Some(0),
            names: String::new(),
            fsync: "on".to_owned(),
            full_pages: "on".to_owned(),
            invalid: Vec::new(),
        }
    }

    #[test]
    fn versions_that_are_not_supported_are_told() {
        assert!(version(14).ok && version(18).ok);
        assert!(!version(13).ok && !version(19).ok);
    }

    #[test]
    fn what_is_lost_in_a_crash_is_told_by_the_settings_name() {
        assert!(durability(&server()).ok);
        let off = durability(&Server {
            fsync: "off".to_owned(),
            ..server()
        });
        assert!(!off.ok && off.detail.starts_with("fsync off"), "{off:?}");
    }

    #[test]
    fn connections_that_are_too_few_for_one_more_process_are_told() {
        let options = Options::new("postgres://h/d").unwrap();
        assert!(connections(&server(), &options).ok);
        let full = Server {
            connected: 90,
            ..server()
        };
        assert!(!connections(&full, &options).ok);
    }

    #[test]
    fn clocks_that_are_far_apart_are_told() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(clock(now + APART, now).ok && clock(now, now + APART).ok);
        assert!(!clock(now + APART * 2, now).ok && !clock(now, now + APART * 2).ok);
    }

    #[test]
    fn what_a_failover_keeps_is_told_and_a_standby_that_is_awaited_and_gone_is_a_fault() {
        let named = |awaited| Server {
            names: "a".to_owned(),
            standbys: 1,
            awaited,
            ..server()
        };
        let alone = replication(&server());
        assert!(alone.ok && alone.detail.contains("goes back"), "{alone:?}");
        assert!(!replication(&named(Some(0))).ok);
        let kept = replication(&named(Some(1)));
        assert!(kept.ok && kept.detail.contains("keeps all"), "{kept:?}");
        let blind = replication(&named(None));
        assert!(
            blind.ok && blind.detail.contains("may not see"),
            "{blind:?}"
        );
        let standby = Server {
            standby: true,
            ..server()
        };
        assert!(!replication(&standby).ok);
    }
}
