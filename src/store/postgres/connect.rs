//! How the server is reached: the pool, connections of the store's own, and whether a pooler is in between.

use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
};
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::errors::postgres_error;
use super::tls::Tls;
use crate::store::StoreError;

/// Connections of the pool, unless it is said.
const CONNECTIONS: usize = 10;
/// A server that does not answer is given up after this.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// A connection of the pool is waited for no longer.
pub(super) const WAIT: Duration = Duration::from_secs(30);
/// How often a connection of somebody's pool is looked at while nothing is asked on it.
const LOOK: Duration = Duration::from_millis(200);
/// Asks for what a session of the server's own has from its beginning, and a pooler's has not.
const PROBE: &str = "-c rowmill.session=direct";

/// BEGIN says that its transaction writes; where it fails, a statement that was sent after it must not be made alone.
const GUARD: &str = "set default_transaction_read_only to on";

/// Where a PostgreSQL store is, and how it is used.
///
/// ```
/// use rowmill::store::postgres::{Address, Options};
///
/// let mut options = Options::new("postgres://rowmill@pooler:6432/rowmill")?;
/// options.session = Some(Address::new("postgres://rowmill@db/rowmill")?);
/// assert_eq!(options.schema, "rowmill");
/// # Ok::<(), rowmill::store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) way: Way,
    /// An address without a pooler in between, for the workers' locks and for hearing of changes.
    pub session: Option<Address>,
    /// Whether a pooler gives each transaction another session of the server, as PgBouncer does in its
    /// transaction mode; where it is not said it is found out when the store is opened.
    pub pooler: Option<bool>,
    /// The schema in which everything lives: letters, digits and `_`.
    pub schema: String,
    /// Connections of the pool, where it is the store's own; one more is the worker's.
    pub connections: usize,
    /// A worker whose lock is free is looked at again after this before it is declared dead.
    pub dead_after: Duration,
    /// A worker that was not heard of for so long is dead, whatever it holds: it stands still, or is cut off.
    ///
    /// It notes that it lives six times as often, and starts no row when it could not for two thirds of
    /// this. All workers of a database have the same.
    pub heartbeat: Duration,
    pub(super) migrate: bool,
    /// There is no session of the server that is this store's own: nothing can be held or heard.
    pub(super) lockless: bool,
}

/// How connections are made.
#[derive(Clone)]
pub(super) enum Way {
    /// To an address, in a pool of the store's own.
    Address(Box<Address>),
    /// By somebody's pool.
    Pool(Pool),
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Pool(_) => f.write_str("Pool"),
        }
    }
}

/// Who is silent for longer is dead, unless it is said.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The shortest heartbeat: a busy machine keeps a thread waiting for some time.
const SHORTEST: Duration = Duration::from_secs(1);

impl Options {
    /// As [`Address::new`] takes it.
    ///
    /// # Errors
    /// As [`Address::new`].
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Ok(Self::at(Address::new(url)?))
    }

    /// An address that is known already.
    #[must_use]
    pub fn at(address: Address) -> Self {
        Self::by(Way::Address(Box::new(address)))
    }

    /// By a pool of the caller's, which is used as it is.
    ///
    /// The store's own connection is made as the pool makes its own, and is none of the pool's. It holds the
    /// workers' locks and hears of nothing, for the pool's driver keeps what it is told: with
    /// [`session`](Self::session) it hears of changes at once, without it by looking.
    #[must_use]
    pub fn pool(pool: Pool) -> Self {
        Self::by(Way::Pool(pool))
    }

    fn by(way: Way) -> Self {
        Self {
            way,
            session: None,
            pooler: None,
            schema: super::SCHEMA.to_owned(),
            connections: CONNECTIONS,
            dead_after: Duration::from_millis(500),
            heartbeat: HEARTBEAT,
            migrate: true,
            lockless: false,
        }
    }

    /// Refuses an older schema, and a database without one, instead of bringing it up to date.
    #[must_use]
    pub fn migrate_by_hand(mut self) -> Self {
        self.migrate = false;
        self
    }

    /// The schema's name, which stands in statements.
    pub(super) fn checked(self) -> Result<Self, StoreError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.schema.is_empty() || self.schema.len() > 63 || !self.schema.chars().all(fits) {
            return Err(StoreError::Unusable(format!(
                "the schema {:?}: its name has 1 to 63 letters, digits and `_`",
                self.schema
            )));
        }
        if self.heartbeat < SHORTEST {
            let text = format!("a heartbeat of {:?} is too short", self.heartbeat);
            return Err(StoreError::Unusable(text));
        }
        Ok(self)
    }

    /// Whether connections of the pool are the store's alone, so that they can be kept from writing outside of a transaction.
    pub(super) fn is_guarded(&self, is_pooler: bool) -> bool {
        matches!(self.way, Way::Address(_)) && !is_pooler
    }

    /// The pool: the caller's, or one of the store's own; a guarded one writes nothing outside of a transaction.
    pub(super) fn pool_of(&self, guarded: bool) -> Result<Pool, StoreError> {
        let address = match &self.way {
            Way::Pool(pool) => return Ok(pool.clone()),
            Way::Address(address) => address,
        };
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let connector = address.tls.connector()?;
        let manager = Manager::from_config(address.settled(), connector, recycle);
        // Who was last used is used next: what a connection keeps of its largest message is not kept by all of them.
        let pool = Pool::builder(manager).queue_mode(deadpool::managed::QueueMode::Lifo);
        let pool = if guarded {
            pool.post_create(Hook::async_fn(|client, _| {
                let guard = client.batch_execute(GUARD);
                async move { guard.await.map_err(HookError::Backend) }.boxed()
            }))
        } else {
            pool
        };
        pool.max_size(self.connections)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CONNECT))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::unavailable("making a pool of connections", e))
    }

    /// The store's own connection is made as a caller's pool makes its own.
    pub(super) fn is_made_by_pool(&self) -> bool {
        matches!(self.way, Way::Pool(_)) && self.session.is_none()
    }

    /// How the server is asked, beside a connection of the pool, to end a statement. How a caller's pool trusts is
    /// not shown: whoever is in the way of that request can do no more than end the statement.
    pub(super) fn tls(&self) -> Tls {
        match (&self.way, &self.session) {
            (Way::Address(address), _) => address.tls.clone(),
            (Way::Pool(_), Some(address)) => address.tls.clone(),
            (Way::Pool(_), None) => Tls::default(),
        }
    }

    /// A connection of its own, for whoever measures.
    pub(crate) async fn client(&self) -> Result<Line, StoreError> {
        Ok(self.first().await?.0)
    }

    /// A connection outside the pool, and whether a pooler is in between.
    pub(super) async fn first(&self) -> Result<(Line, bool), StoreError> {
        let found = match &self.way {
            // Some poolers refuse to be asked.
            Way::Address(address) if self.pooler == Some(true) => (address.own(read).await?, true),
            Way::Address(address) => address.probe(read).await?,
            Way::Pool(pool) => {
                let own = Line::by(pool).await?;
                let is_pooler = shares(&own, pool).await?;
                (own, is_pooler)
            }
        };
        Ok((found.0, self.pooler.unwrap_or(found.1)))
    }

    /// The connection that holds locks and hears of changes; `drive` reads what the server says on it.
    ///
    /// Where the pool makes it, nothing is heard.
    pub(super) async fn own(
        &self,
        drive: impl Fn(Driven) -> JoinHandle<()> + Send + Sync,
    ) -> Result<Line, StoreError> {
        match (&self.session, &self.way) {
            (Some(address), _) => match address.probe(drive).await? {
                (own, false) => Ok(own),
                (_, true) => Err(StoreError::Unusable(
                    "database_session: a pooler answers there; it must be an address of the server itself, for a lock is held on it"
                        .to_owned(),
                )),
            },
            (None, Way::Address(address)) => address.own(drive).await,
            (None, Way::Pool(pool)) => Line::by(pool).await,
        }
    }
}

/// What reads what the server says on a connection.
pub(super) type Driven = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A connection outside the pool; it ends when this is dropped.
pub(crate) struct Line {
    client: Made,
    driver: Option<JoinHandle<()>>,
}

enum Made {
    Here(Client),
    ByPool(ClientWrapper),
}

impl Line {
    async fn by(pool: &Pool) -> Result<Self, StoreError> {
        let made = deadpool::managed::Manager::create(pool.manager());
        let made = tokio::time::timeout(WAIT, made).await;
        let late = |e| StoreError::unavailable("connecting to PostgreSQL", e);
        let made = made.map_err(late)?;
        Ok(Self {
            client: Made::ByPool(made.map_err(postgres_error("connecting to PostgreSQL"))?),
            driver: None,
        })
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        match &mut self.driver {
            // How it ended is in the log.
            Some(driver) => drop(driver.await),
            None => {
                while !self.is_closed() {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

impl Deref for Line {
    type Target = Client;

    fn deref(&self) -> &Client {
        match &self.client {
            Made::Here(client) => client,
            Made::ByPool(client) => client,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

impl Address {
    async fn own(
        &self,
        drive: impl Fn(Driven) -> JoinHandle<()> + Send + Sync,
    ) -> Result<Line, StoreError> {
        let connected = self.settled().connect(self.tls.connector()?).await;
        let (client, connection) = connected.map_err(postgres_error("connecting to PostgreSQL"))?;
        Ok(Line {
            client: Made::Here(client),
            driver: Some(drive(connection)),
        })
    }

    /// A connection, and whether a pooler is in between: one refuses what a session is to begin with, or drops it.
    pub(super) async fn probe(
        &self,
        drive: impl Fn(Driven) -> JoinHandle<()> + Send + Sync,
    ) -> Result<(Line, bool), StoreError> {
        let mut asking = self.clone();
        let own = match self.config.get_options() {
            Some(options) => format!("{options} {PROBE}"),
            None => PROBE.to_owned(),
        };
        asking.config.options(own);
        match asking.own(&drive).await {
            Ok(own) => {
                let is_pooler = !is_direct(&own).await?;
                Ok((own, is_pooler))
            }
            Err(error) if is_refused_at_start(&error) => Ok((self.own(drive).await?, true)),
            Err(error) => Err(error),
        }
    }

    /// Whether the server itself answers there.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        match self.probe(read).await? {
            (_, false) => Ok(()),
            (_, true) => Err(StoreError::Unusable("a pooler answers there".to_owned())),
        }
    }
}

/// Reads what the server says, and keeps nothing of it.
fn read(connection: Driven) -> JoinHandle<()> {
    tokio::spawn(async move {
        // How it ended says whoever asked something on it.
        drop(connection.await);
    })
}

async fn is_direct(client: &Client) -> Result<bool, StoreError> {
    let asked = "select coalesce(current_setting('rowmill.session', true), '') = 'direct'";
    let found = client.query_typed_one(asked, &[]).await;
    let failed = || postgres_error("looking whether a pooler is in between");
    found.map_err(failed())?.try_get(0).map_err(failed())
}

fn is_refused_at_start(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    let code = source
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code);
    matches!(
        code,
        Some(&SqlState::PROTOCOL_VIOLATION | &SqlState::FEATURE_NOT_SUPPORTED)
    )
}

/// Whether a connection of the pool has the same session of the server as one outside of it: only a pooler
/// gives one to two.
async fn shares(own: &Line, pool: &Pool) -> Result<bool, StoreError> {
    let failed = || postgres_error("looking whether a pooler is in between");
    let asked = "select pg_backend_pid()";
    let mine = own.query_typed_one(asked, &[]).await.map_err(failed())?;
    let other = get(pool).await?;
    let other = other.query_typed_one(asked, &[]).await.map_err(failed())?;
    let pid = |row: &tokio_postgres::Row| row.try_get::<_, i32>(0);
    Ok(pid(&mine).map_err(failed())? == pid(&other).map_err(failed())?)
}

/// A connection of the pool.
pub(super) async fn get(pool: &Pool) -> Result<deadpool_postgres::Object, StoreError> {
    pool.get().await.map_err(|e| match e {
        PoolError::Backend(e) | PoolError::PostCreateHook(HookError::Backend(e)) => {
            postgres_error("connecting to PostgreSQL")(e)
        }
        e => StoreError::unavailable("waiting for a connection to PostgreSQL", e),
    })
}
