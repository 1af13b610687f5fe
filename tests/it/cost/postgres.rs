//! The costs on PostgreSQL.

use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rowmill::clock::ManualClock;
use rowmill::store::Dialect;
use rowmill::store::postgres::{Address, Options};
use rowmill::{JobManager, ObjectStore, Store};
use tokio_postgres::NoTls;

use super::noted::{Book, Costs, is_headed};
use super::shapes::{ALL, At, Shape};
use super::wire::{Asked, Wire};
use super::{Counts, add, is_look, runtime, woken};
use crate::support::servers::{self, Database, Postgres};

pub const FILE: &str = "postgresql.txt";
const ACCOUNTS: &str =
    "create table accounts (id bigint primary key, cents bigint not null) with (fillfactor = 50);
     insert into accounts select n, 0 from generate_series(0, 999) n";

/// Records of rowmill's tables that were inserted, updated, updated in place and deleted, but for those of workers.
const RECORDS: &str = "
    select relname::text, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del from pg_stat_user_tables
     where relname not in ('workers', 'worker_ops') and n_tup_ins + n_tup_upd + n_tup_del > 0";
const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";

/// What had been written until a moment.
#[derive(Default)]
struct Written {
    records: Counts,
    wal: i64,
}

impl Written {
    /// Older servers tell of it some time later, and cannot be asked: their records are not counted.
    async fn until_now(database: &Database, pool: &Pool, counts: bool) -> Self {
        let wal = database.rows(WAL, None)[0].get(0);
        if !counts {
            return Self {
                records: Counts::new(),
                wal,
            };
        }
        // What the store's session has counted is told to the others.
        let session = pool.get().await.expect("a connection");
        let flush = "select pg_stat_force_next_flush()";
        session.batch_execute(flush).await.expect("flushed");
        drop(session);
        let mut records = Counts::new();
        for row in database.rows(RECORDS, None) {
            let table: String = row.get(0);
            for (at, what) in ["inserted", "updated", "hot", "deleted"].iter().enumerate() {
                let n: i64 = row.get(at + 1);
                records.insert(format!("{table} {what}"), n.try_into().expect("a count"));
            }
        }
        Self { records, wal }
    }

    fn since(mut self, before: &Self) -> Self {
        for (name, n) in &mut self.records {
            *n -= before.records.get(name).copied().unwrap_or_default();
        }
        self.records.retain(|_, n| *n > 0);
        self.wal -= before.wal;
        self
    }
}

/// What a shape came to: the transactions, and what was written.
async fn measured(shape: Shape, database: &Database, counts: bool) -> (Vec<Asked>, Written) {
    let wire = Wire::before(database.url()).await;
    let config: tokio_postgres::Config = wire.url().parse().expect("a URL");
    let recycle = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    // On one connection everything comes one after the other, and each statement is prepared once.
    let pool = Pool::builder(Manager::from_config(config, NoTls, recycle)).max_size(1);
    let pool = pool.runtime(Runtime::Tokio1).build().expect("a pool");
    let mut options = Options::pool(pool.clone());
    options.session = Some(Address::new(database.url()).expect("an address"));
    let store = Store::postgres_by(options).await.expect("a store");
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::at(crate::support::kit::start()));
    let at = At {
        store: store.clone(),
        builder: JobManager::builder(store)
            .objects(ObjectStore::folder(folder.path()))
            .clock(Arc::clone(&clock)),
        clock,
    };
    let mut before = Written::default();
    let ready = async || {
        before = Written::until_now(database, &pool, counts).await;
        wire.take();
    };
    let manager = shape.measure(&at, ready).await;
    let asked = wire.take();
    let written = Written::until_now(database, &pool, counts)
        .await
        .since(&before);
    manager.stop().await.expect("left");
    (asked, written)
}

/// `counts`: records were counted; `same`: by the server that costs were noted with.
fn costs(shape: Shape, asked: &[Asked], written: &Written, counts: bool, same: bool) -> Costs {
    let (mut costs, many) = (Costs::default(), f64::from(shape.many()));
    let mut all = Asked::default();
    let work: Vec<&Asked> = asked.iter().filter(|a| !is_look(&a.statements)).collect();
    for asked in &work {
        add(&mut all.statements, &asked.statements);
        all.trips += asked.trips;
        all.prepared += asked.prepared;
        all.sent += asked.sent;
        all.received += asked.received;
    }
    costs.exact("transactions", work.len());
    // One wait more for each of a hundred that come one after the other is to be seen; of others the moment decides more.
    let within = match shape {
        Shape::QueriesOneByOne | Shape::QueriesAtOnce => 0.04,
        Shape::Batches => 0.07,
        _ => 0.1,
    };
    costs.about("round_trips", all.trips, within);
    costs.all("statements", &all.statements);
    costs.exact("prepared", all.prepared);
    if counts {
        costs.all("records", &written.records);
    } else {
        costs.another("records");
    }
    let each = |n: u64| format!("{:.1}", n as f64 / many);
    costs.exact("bytes_sent_each", each(all.sent));
    costs.exact("bytes_received_each", each(all.received));
    match shape {
        Shape::PollsOfEnded | Shape::PollsOfOpen => {}
        _ if same => costs.near("wal_bytes_each", written.wal as f64 / many),
        _ => costs.another("wal_bytes_each"),
    }
    let looks = woken(asked.iter().map(|asked| &asked.statements));
    costs.most("looks", looks);
    costs
}

#[test]
fn what_each_shape_of_work_costs_on_postgresql_is_what_is_noted() {
    let settings = [
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1h"),
        ("max_wal_size", "8GB"),
    ];
    let server = Postgres::start(&servers::Options {
        settings: &settings,
        ..servers::Options::default()
    });
    // A database that is dropped writes to the log that is measured: they go with the server.
    let mut databases = Vec::new();
    let heading = format!(
        "What each shape of work costs on PostgreSQL {}.",
        server.major()
    );
    let (counts, same) = (server.major() >= 15, is_headed(FILE, &heading));
    let mut book = Book::open(FILE);
    for shape in ALL.into_iter().filter(|s| s.is_for(Dialect::Postgres)) {
        book.measure(shape.name(), || {
            let database = Database::on(&server);
            database.run(ACCOUNTS);
            let (asked, written) = runtime().block_on(measured(shape, &database, counts));
            databases.push(database);
            costs(shape, &asked, &written, counts, same)
        });
    }
    book.close(&heading);
}
