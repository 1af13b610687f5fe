//! Where a server is: a URL or pairs as libpq takes them, and `PG*` variables for what they leave open.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;

use super::connect::{CONNECT, WAIT};
use super::tls::{Root, Tls, Trust};
use crate::config::{self, Server};
use crate::store::StoreError;

/// The port where nobody says another.
const PORT: u16 = 5432;
/// Where the sockets of PostgreSQL's packages are.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Looks a variable of the environment up.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where a server is, who asks it for which database, and what is looked at of its certificate.
///
/// ```
/// use rowmill::store::postgres::Address;
///
/// let address = Address::new("postgres://rowmill@db.example/rowmill?sslmode=verify-full")?;
/// assert_eq!(address.config.get_user(), Some("rowmill"));
/// # Ok::<(), rowmill::store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Address {
    /// The server, the database and who asks.
    pub config: Config,
    /// Whether the connection is encrypted, and what is looked at of the server's certificate.
    pub tls: Tls,
}

impl Address {
    /// Takes a URL (`postgres://user@host/database`) or `key=value` pairs, as libpq does. What they leave
    /// open is taken from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE`,
    /// `PGSSLROOTCERT`, `PGAPPNAME` and `PGCONNECT_TIMEOUT`; `postgres://` alone leaves all of it open.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where it is neither, or a variable that counts holds what cannot be.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Self::with(url, &|name| std::env::var(name).ok())
    }

    pub(crate) fn with(url: &str, env: Env<'_>) -> Result<Self, StoreError> {
        let var = |name: &str| env(name).filter(|text| !text.is_empty());
        let Server {
            text,
            sslmode,
            sslrootcert,
            has_port,
        } = Server::read(url).map_err(unusable)?;
        let port = var("PGPORT").map(|text| parsed::<u16>("PGPORT", &text, "a port"));
        let port = port.transpose()?;
        let text = match port {
            Some(port) if !has_port => config::with_port(&text, port),
            _ => text,
        };
        let mut config = Config::from_str(&text)
            .map_err(|_| unusable(format!("the database's address: {}", config::SERVER)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            let port = port.unwrap_or(PORT);
            for host in var("PGHOST").unwrap_or_else(|| nearest(port)).split(',') {
                config.host(host);
            }
            if config.get_ports().is_empty() {
                config.port(port);
            }
        }
        type Set = fn(&mut Config, String);
        let open: [(&str, bool, Set); 4] = [
            ("PGUSER", config.get_user().is_none(), |c, v| {
                c.user(v);
            }),
            ("PGPASSWORD", config.get_password().is_none(), |c, v| {
                c.password(v);
            }),
            ("PGDATABASE", config.get_dbname().is_none(), |c, v| {
                c.dbname(v);
            }),
            (
                "PGAPPNAME",
                config.get_application_name().is_none(),
                |c, v| {
                    c.application_name(v);
                },
            ),
        ];
        for (name, is_open, set) in open {
            if let Some(value) = var(name).filter(|_| is_open) {
                set(&mut config, value);
            }
        }
        if let Some(text) =
            var("PGCONNECT_TIMEOUT").filter(|_| config.get_connect_timeout().is_none())
        {
            let seconds = parsed::<u64>("PGCONNECT_TIMEOUT", &text, "whole seconds")?;
            // To libpq none is no limit; here everything has one.
            if seconds > 0 {
                config.connect_timeout(Duration::from_secs(seconds));
            }
        }
        let root = sslrootcert.or_else(|| var("PGSSLROOTCERT"));
        let is_system = root.as_deref() == Some("system");
        let trust = match (sslmode, var("PGSSLMODE")) {
            (Some(word), _) => Trust::of("sslmode", &word)?,
            (None, Some(word)) => Trust::of("PGSSLMODE", &word)?,
            (None, None) if is_system => Trust::VerifyFull,
            (None, None) => Trust::default(),
        };
        // Of those whom a system trusts anybody can have a certificate, for some name.
        if is_system && !matches!(trust, Trust::VerifyFull | Trust::Disable) {
            return Err(unusable(
                "sslrootcert=system: wants sslmode=verify-full, for only the name tells one server from another",
            ));
        }
        let home = || var("HOME").map(|home| Path::new(&home).join(".postgresql/root.crt"));
        let root = match root.as_deref() {
            Some("system") => Root::System,
            Some(file) => Root::File(PathBuf::from(file)),
            None => home()
                .filter(|file| file.exists())
                .map_or(Root::System, Root::Home),
        };
        settle(&mut config);
        Ok(Self {
            config,
            tls: Tls { trust, root },
        })
    }

    /// What a caller has made, with what is looked at of the server's certificate.
    #[must_use]
    pub fn of(mut config: Config, tls: Tls) -> Self {
        settle(&mut config);
        Self { config, tls }
    }

    /// With which a connection is made: encrypted where a certificate is looked at, whatever the driver was told.
    pub(super) fn settled(&self) -> Config {
        let mut config = self.config.clone();
        config.ssl_mode(self.tls.trust.mode());
        config
    }
}

/// What nobody has said.
fn settle(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name("rowmill");
    }
    if config.get_connect_timeout().is_none() {
        // One that is silent leaves time for the others.
        let hosts = config.get_hosts().len().max(1);
        config.connect_timeout(CONNECT / u32::try_from(hosts).unwrap_or(1));
    }
    // A server that is gone without a word is noticed, on a connection where an answer is awaited too.
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(WAIT);
        config.keepalives_idle(CONNECT);
        config.keepalives_interval(CONNECT);
        config.keepalives_retries(3);
    }
}

fn unusable(text: impl Into<String>) -> StoreError {
    StoreError::Unusable(text.into())
}

fn parsed<T: FromStr>(name: &str, text: &str, what: &str) -> Result<T, StoreError> {
    let wrong = |_| unusable(format!("{name}: must be {what}"));
    text.trim().parse().map_err(wrong)
}

/// Where a server of this machine is: its socket, where there is one.
fn nearest(port: u16) -> String {
    let has = |folder: &&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    let folder = SOCKETS.iter().copied().find(has);
    folder.unwrap_or("localhost").to_owned()
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{Host, SslMode};

    use super::*;

    fn with(url: &str, vars: &[(&str, &str)]) -> Result<Address, StoreError> {
        Address::with(url, &|name| {
            let found = vars.iter().find(|(var, _)| *var == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ALL: [(&str, &str); 9] = [
        ("PGHOST", "db.example"),
        ("PGPORT", "6543"),
        ("PGUSER", "ann"),
        ("PGPASSWORD", "hunter2"),
        ("PGDATABASE", "jobs"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/ca.pem"),
        ("PGAPPNAME", "night"),
        ("PGCONNECT_TIMEOUT", "3"),
    ];

    #[test]
    fn what_an_address_leaves_open_comes_from_the_environment() {
        for url in ["postgres://", "postgresql://", "postgres:///", ""] {
            let Address { config, tls } = with(url, &ALL).unwrap();
            assert_eq!(config.get_hosts(), [Host::Tcp("db.example".to_owned())]);
            assert_eq!(config.get_ports(), [6543], "{url}");
            assert_eq!(config.get_user(), Some("ann"));
            assert_eq!(config.get_password(), Some(&b"hunter2"[..]));
            assert_eq!(config.get_dbname(), Some("jobs"));
            assert_eq!(config.get_application_name(), Some("night"));
            assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
            assert_eq!(tls.trust, Trust::VerifyFull);
            assert_eq!(tls.root, Root::File("/ca.pem".into()));
        }
    }

    #[test]
    fn what_an_address_says_wins_over_the_environment() {
        let url = "postgres://bob:secret@h:1/d?sslmode=require&sslrootcert=%2Fb%20c.pem&application_name=a&connect_timeout=7";
        let pairs = r"user=bob password='secret' host = h port=1 dbname=d sslmode=require sslrootcert='/b c.pem' application_name=\a connect_timeout=7";
        for address in [url, pairs] {
            let Address { config, tls } = with(address, &ALL).unwrap();
            assert_eq!(config.get_hosts(), [Host::Tcp("h".to_owned())]);
            assert_eq!(config.get_ports(), [1], "{address}");
            assert_eq!(config.get_user(), Some("bob"));
            assert_eq!(config.get_password(), Some(&b"secret"[..]));
            assert_eq!(config.get_dbname(), Some("d"));
            assert_eq!(config.get_application_name(), Some("a"));
            assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
            assert_eq!(tls.trust, Trust::Require);
            assert_eq!(tls.root, Root::File("/b c.pem".into()));
        }
    }

    #[test]
    fn a_host_without_a_port_gets_the_environments() {
        for (url, ports) in [
            ("postgres://h/d", [6543].as_slice()),
            ("postgres://a,b/d", &[6543, 6543]),
            ("postgres://u:p@[::1]/d", &[6543]),
            ("postgres://[::1]:7/d", &[7]),
            ("postgres://h/d?port=7", &[5432, 7]),
            ("host=h", &[6543]),
        ] {
            assert_eq!(with(url, &ALL).unwrap().config.get_ports(), ports, "{url}");
        }
        assert_eq!(
            with("postgres://h", &[]).unwrap().config.get_ports(),
            [PORT]
        );
    }

    #[test]
    fn every_word_of_sslmode_is_known() {
        for (word, trust, mode) in [
            ("disable", Trust::Disable, SslMode::Disable),
            ("allow", Trust::Prefer, SslMode::Prefer),
            ("prefer", Trust::Prefer, SslMode::Prefer),
            ("require", Trust::Require, SslMode::Require),
            ("verify-ca", Trust::VerifyCa, SslMode::Require),
            ("verify-full", Trust::VerifyFull, SslMode::Require),
        ] {
            let found = with(&format!("postgres://h/d?sslmode={word}"), &[]).unwrap();
            assert_eq!(
                (found.tls.trust, found.settled().get_ssl_mode()),
                (trust, mode)
            );
        }
    }

    #[test]
    fn whom_the_system_trusts_is_told_by_the_name_alone() {
        let tls = |url: &str| with(url, &[]).map(|address| address.tls.trust);
        let system = "postgres://h/d?sslrootcert=system";
        assert_eq!(tls(system).unwrap(), Trust::VerifyFull);
        for weak in ["prefer", "require", "verify-ca"] {
            let refused = tls(&format!("{system}&sslmode={weak}")).unwrap_err();
            assert!(refused.to_string().contains("verify-full"), "{refused}");
        }
    }

    #[test]
    fn a_connection_is_encrypted_where_a_certificate_is_looked_at() {
        let tls = Tls {
            trust: Trust::VerifyFull,
            root: Root::System,
        };
        let made = Address::of(Config::new(), tls).settled();
        assert_eq!(made.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn a_silent_host_leaves_time_for_the_next_one() {
        let two = with("postgres://a,b/d", &[]).unwrap().config;
        assert_eq!(two.get_connect_timeout(), Some(&(CONNECT / 2)));
    }

    #[test]
    fn what_cannot_be_is_refused_without_being_shown() {
        for (url, vars) in [
            ("postgres://h/d?sslmode=hunter2", [].as_slice()),
            ("postgres://u:hunter2@h:x/d", &[]),
            ("postgres://u:hunter2@h/d?hunter=2", &[]),
            ("hunter2", &[]),
            ("password='hunter2", &[]),
            ("postgres://", &[("PGPORT", "hunter2")]),
            ("postgres://", &[("PGCONNECT_TIMEOUT", "hunter2")]),
            ("postgres://", &[("PGSSLMODE", "hunter2")]),
        ] {
            let refused = with(url, vars).unwrap_err();
            assert!(matches!(refused, StoreError::Unusable(_)), "{refused:?}");
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_has_no_password() {
        let shown = format!("{:?}", with("postgres://u:hunter2@h/d", &[]).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
