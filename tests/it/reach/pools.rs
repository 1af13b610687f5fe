//! A pool of the caller's.

use deadpool_postgres::{Manager, Pool, Runtime};
use rowmill::Store;
use rowmill::store::postgres::{Address, Options};
use tokio_postgres::NoTls;

use super::works_off;
use crate::support::servers::{Database, PgBouncer, Postgres};

pub fn pool(url: &str) -> Pool {
    let mut config: tokio_postgres::Config = url.parse().expect("a URL");
    config.application_name("mine");
    let builder = Pool::builder(Manager::new(config, NoTls)).max_size(3);
    builder.runtime(Runtime::Tokio1).build().expect("a pool")
}

/// Who is connected, by name, the test's own connection aside.
fn connected(database: &Database) -> Vec<String> {
    let sql = "select distinct application_name from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() order by 1";
    let found = database.rows(sql, None);
    found.iter().map(|row| row.get(0)).collect()
}

fn locks(database: &Database) -> usize {
    let sql =
        "select 1 from pg_locks where locktype = 'advisory' and classid = 1919907693 and granted
                  and database = (select oid from pg_database where datname = current_database())";
    database.rows(sql, None).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_pool_is_used_as_it_is_and_makes_the_stores_own_connection_too() {
    let database = Database::fresh();
    let pool = pool(database.url());
    let stores = [
        Store::postgres(pool.clone()).await.expect("a store"),
        Store::postgres(pool.clone()).await.expect("another"),
    ];
    assert_eq!(connected(&database), ["mine"]);
    works_off(stores.into()).await;
    assert!(pool.status().size <= 3);
    // What was set for a transaction is gone with it.
    let client = pool.get().await.expect("a connection");
    let path = client.query_one("show search_path", &[]).await;
    let path: String = path.expect("an answer").get(0);
    assert_eq!(path, "\"$user\", public");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_own_connection_is_made_by_an_address_that_is_given() {
    let database = Database::fresh();
    let mut options = Options::pool(pool(database.url()));
    options.session = Some(Address::new(database.url()).expect("an address"));
    let store = Store::postgres_by(options).await.expect("a store");
    assert_eq!(connected(&database), ["mine", "rowmill"]);
    works_off(vec![store]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_connections_to_a_pooler_is_told_by_the_session_that_two_of_them_share() {
    let database = Database::fresh();
    let pooler = PgBouncer::start(Postgres::shared(), database.name());
    let pool = pool(pooler.url());
    let store = Store::postgres(pool).await.expect("a store");
    works_off(vec![store]).await;
    assert_eq!(locks(&database), 0, "a pooler's session keeps no lock");
}
