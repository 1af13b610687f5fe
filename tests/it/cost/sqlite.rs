//! The costs on SQLite.

use std::sync::Arc;

use rowmill::clock::ManualClock;
use rowmill::store::Dialect;
use rowmill::{JobManager, ObjectStore, Store};

use super::noted::{Book, Costs};
use super::shapes::{ALL, At, Shape};
use super::traced::{Ran, Step, Trace};
use super::{Counts, add, is_look, runtime, woken};

pub const FILE: &str = "sqlite.txt";
const ACCOUNTS: &str = "
    create table accounts (id integer primary key, cents integer not null);
    insert into accounts with recursive n (id) as (select 0 union all select id + 1 from n where id < 999) select id, 0 from n";

async fn measured(shape: Shape) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a path");
    let path = real.join("rowmill.db");
    let trace = Trace::of(&path);
    let store = Store::sqlite(&path).await.expect("a store");
    let db = rusqlite::Connection::open(&path).expect("the file");
    db.execute_batch(ACCOUNTS).expect("accounts");
    drop(db);
    let clock = Arc::new(ManualClock::at(crate::support::kit::start()));
    let at = At {
        store: store.clone(),
        builder: JobManager::builder(store)
            .objects(ObjectStore::folder(real.join("files")))
            .clock(Arc::clone(&clock)),
        clock,
    };
    let manager = shape.measure(&at, async || drop(trace.take())).await;
    let ran = trace.take();
    manager.stop().await.expect("left");
    ran
}

fn costs(ran: &Ran) -> Costs {
    let mut costs = Costs::default();
    let is_work = |step: &&Step| !step.records.is_empty() || !is_look(&step.statements);
    let work: Vec<&Step> = ran.steps.iter().filter(is_work).collect();
    let (mut statements, mut records) = (Counts::new(), Counts::new());
    for step in &work {
        add(&mut statements, &step.statements);
        add(&mut records, &step.records);
    }
    costs.exact("steps", work.len());
    costs.all("statements", &statements);
    costs.all("records", &records);
    costs.exact("commits", ran.commits);
    costs.near("pages", ran.pages as f64);
    let looks = woken(ran.steps.iter().map(|step| &step.statements));
    costs.most("looks", looks);
    costs
}

#[test]
fn what_each_shape_of_work_costs_on_sqlite_is_what_is_noted() {
    let mut book = Book::open(FILE);
    for shape in ALL.into_iter().filter(|s| s.is_for(Dialect::Sqlite)) {
        book.measure(shape.name(), || costs(&runtime().block_on(measured(shape))));
    }
    book.close("What each shape of work costs on SQLite.");
}
