//! How the server is reached: the address, TLS, the pool.

use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use rustls::RootCertStore;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors::postgres_error;
use crate::store::StoreError;

/// Connections of the pool, unless it is said.
const CONNECTIONS: usize = 10;
/// A server that does not answer is given up after this.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// A connection of the pool is waited for no longer.
pub(super) const WAIT: Duration = Duration::from_secs(30);

/// Where a PostgreSQL store is, and how it is used.
///
/// ```
/// let options = rowmill::store::postgres::Options::new("postgres://rowmill@db/rowmill")?;
/// assert_eq!(options.schema, "rowmill");
/// # Ok::<(), rowmill::store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// The server, the database and who asks.
    pub config: Config,
    /// The schema in which everything lives: letters, digits and `_`.
    pub schema: String,
    /// Connections of the pool; one more is the worker's own.
    pub connections: usize,
    /// A worker whose lock is free is looked at again after this before it is declared dead.
    pub dead_after: Duration,
    /// A worker that was not heard of for so long is dead, whatever it holds: it stands still, or is cut off.
    ///
    /// It notes that it lives six times as often, and starts no row when it could not for two thirds of
    /// this. All workers of a database have the same.
    pub heartbeat: Duration,
}

/// Who is silent for longer is dead, unless it is said.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The shortest heartbeat: a busy machine keeps a thread waiting for some time.
const SHORTEST: Duration = Duration::from_secs(1);

impl Options {
    /// Takes a URL (`postgres://user@host/database`) or `key=value` pairs, as libpq does.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where it is neither.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let mut config = Config::from_str(url)
            .map_err(|e| StoreError::Unusable(format!("the database's address: {e}")))?;
        if config.get_application_name().is_none() {
            config.application_name("rowmill");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        // A server that is gone without a word is noticed, on a connection where an answer is awaited too.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(WAIT);
            config.keepalives_idle(CONNECT);
            config.keepalives_interval(CONNECT);
            config.keepalives_retries(3);
        }
        Ok(Self {
            config,
            schema: super::SCHEMA.to_owned(),
            connections: CONNECTIONS,
            dead_after: Duration::from_millis(500),
            heartbeat: HEARTBEAT,
        })
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
}

/// The certificates that the system trusts: read once, for that takes a while.
fn roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One that cannot be read is trusted by nobody.
            drop(roots.add(certificate));
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}

/// TLS by the certificates that the system trusts; with `sslmode=disable` it is not asked for.
pub(super) fn tls(config: &Config) -> Result<MakeRustlsConnect, StoreError> {
    let roots = match config.get_ssl_mode() {
        SslMode::Disable => Arc::new(RootCertStore::empty()),
        _ => roots(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::unavailable("setting up TLS", e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(client))
}

/// A connection of its own; it ends when the client is dropped.
pub(crate) async fn client(options: &Options) -> Result<Client, StoreError> {
    let connected = options.config.connect(tls(&options.config)?).await;
    let (client, connection) = connected.map_err(postgres_error("connecting to PostgreSQL"))?;
    tokio::spawn(connection);
    Ok(client)
}

pub(super) fn pool(options: &Options) -> Result<Pool, StoreError> {
    let recycle = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(options.config.clone(), tls(&options.config)?, recycle);
    Pool::builder(manager)
        .max_size(options.connections)
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(CONNECT))
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .build()
        .map_err(|e| StoreError::unavailable("making a pool of connections", e))
}
