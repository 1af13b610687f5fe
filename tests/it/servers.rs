//! The servers that tests start do what the tests rely on.

use std::io::{BufRead, BufReader, ErrorKind, Lines, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use redis::cluster::ClusterClient;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::minio::Bucket;
use crate::support::servers::programs;
use crate::support::servers::{
    Database, Options, PgBouncer, Postgres, Proxy, Redis, RedisCluster, Template, until,
};

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connected(url: &str) -> Client {
    connect(url).await.expect("a connection")
}

/// The first value of a statement's answer, as text.
async fn value(client: &Client, sql: &str) -> Option<String> {
    let messages = client.simple_query(sql).await.expect("an answer");
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

async fn value_at(url: &str, sql: &str) -> Option<String> {
    value(&connected(url).await, sql).await
}

#[tokio::test]
async fn a_fresh_database_answers_over_tcp_and_over_its_socket() {
    let database = Database::fresh();
    let socket = Postgres::shared().socket_url(database.name());
    for url in [database.url(), &socket] {
        let name = value_at(url, "select current_database()").await;
        assert_eq!(name.as_deref(), Some(database.name()));
    }
}

#[tokio::test]
async fn two_fresh_databases_are_apart() {
    let (one, other) = (Database::fresh(), Database::fresh());
    one.run("create table only_here (n int)");
    let looks = "select to_regclass('only_here')";
    assert!(value_at(one.url(), looks).await.is_some());
    assert_eq!(value_at(other.url(), looks).await, None);
}

#[tokio::test]
async fn a_database_has_what_was_made_in_its_template() {
    static TEMPLATE: Template = Template::new(|url| {
        assert!(url.starts_with("postgres://postgres@127.0.0.1:"), "{url}");
        let mut words = url.rsplit('/');
        let name = words.next().expect("a name");
        let sql = "create table made (n int); insert into made values (7)";
        Postgres::shared().run(name, sql);
    });
    for _ in 0..2 {
        let database = Database::of(&TEMPLATE);
        let seen = value_at(database.url(), "delete from made returning n").await;
        assert_eq!(seen.as_deref(), Some("7"));
    }
}

#[tokio::test]
async fn a_dropped_database_is_gone_although_somebody_is_connected() {
    let server = Postgres::start(&Options::default());
    let database = Database::on(&server);
    let holds = connected(database.url()).await;
    let name = database.name().to_owned();
    drop(database);
    let admin = connected(&server.url("postgres")).await;
    let left = format!("select 1 from pg_database where datname = '{name}'");
    let gone = async { while value(&admin, &left).await.is_some() {} };
    let in_time = tokio::time::timeout(Duration::from_secs(60), gone).await;
    in_time.expect("gone");
    assert!(holds.simple_query("select 1").await.is_err());
}

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_has_what_was_committed() {
    let settings = [("fsync", "on"), ("application_name", "own")];
    let mut server = Postgres::start(&Options {
        settings: &settings,
        ..Options::default()
    });
    let url = server.url("postgres");
    let client = connected(&url).await;
    let sql = "create table kept (n int); insert into kept values (1)";
    client.batch_execute(sql).await.expect("committed");
    let open = "begin; insert into kept values (2)";
    client.batch_execute(open).await.expect("not committed");
    server.kill();
    assert!(client.simple_query("commit").await.is_err());
    assert!(connect(&url).await.is_err());
    server.restart();
    let client = connected(&url).await;
    let counted = value(&client, "select count(*) from kept").await;
    assert_eq!(counted.as_deref(), Some("1"));
    for (name, set) in settings {
        let found = value(&client, &format!("show {name}")).await;
        assert_eq!(found.as_deref(), Some(set));
    }
    server.stop();
    assert!(connect(&url).await.is_err());
}

#[tokio::test]
async fn a_standby_has_what_its_server_has_and_takes_over() {
    let primary = Postgres::start(&Options::default());
    primary.run("postgres", "create table kept (n int)");
    let standby = Postgres::start(&Options {
        standby_of: Some(&primary),
        ..Options::default()
    });
    let url = standby.url("postgres");
    let recovers = value_at(&url, "select pg_is_in_recovery()").await;
    assert_eq!(recovers.as_deref(), Some("t"));
    primary.run(
        "postgres",
        "set synchronous_commit = remote_apply; insert into kept values (1)",
    );
    drop(primary);
    standby.promote();
    standby.run("postgres", "insert into kept values (2)");
}

#[test]
fn a_servers_own_files_count() {
    let hba = "local all all reject\nhost all all 127.0.0.1/32 trust\n";
    let server = Postgres::start(&Options {
        files: &[("pg_hba.conf", hba)],
        ..Options::default()
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        assert!(connect(&server.url("postgres")).await.is_ok());
        let refused = connect(&server.socket_url("postgres")).await.err();
        let code = refused.expect("refused").code().cloned();
        let wanted = tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
        assert_eq!(code, Some(wanted), "{}", server.log());
    });
}

#[tokio::test]
async fn pgbouncer_gives_one_session_to_transactions_in_turn() {
    let database = Database::fresh();
    let pooler = PgBouncer::start(Postgres::shared(), database.name());
    let (one, other) = (connected(pooler.url()).await, connected(pooler.url()).await);
    let session = "select current_database() || pg_backend_pid()";
    let seen = value(&one, session).await.expect("a session");
    assert!(seen.starts_with(database.name()));
    assert_eq!(value(&other, session).await, Some(seen));
}

fn redis(url: &str) -> redis::Connection {
    let client = redis::Client::open(url).expect("a URL");
    client.get_connection().expect("a connection")
}

#[test]
fn redis_answers() {
    let mut connection = redis(&Redis::shared().url());
    let () = redis::cmd("SET")
        .arg("answers:n")
        .arg(7)
        .query(&mut connection)
        .unwrap();
    let n: u32 = redis::cmd("GET")
        .arg("answers:n")
        .query(&mut connection)
        .unwrap();
    assert_eq!(n, 7);
}

#[test]
fn a_redis_that_was_stopped_answers_once_it_goes_on() {
    let mut server = Redis::start();
    let mut connection = redis(&server.url());
    let mut ping = || redis::cmd("PING").query::<String>(&mut connection);
    server.stop();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    assert!(is_silent(&mut stream));
    server.cont();
    assert_eq!(ping().unwrap(), "PONG");
    server.kill();
    assert!(ping().is_err());
    server.restart();
    let mut again = redis(&server.url());
    assert_eq!(redis::cmd("DBSIZE").query::<u32>(&mut again).unwrap(), 0);
}

/// Whether nothing comes for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    let wait = Duration::from_millis(100);
    stream.set_read_timeout(Some(wait)).unwrap();
    let read = stream.read(&mut [0]).map_err(|e| e.kind());
    read == Err(ErrorKind::WouldBlock)
}

#[test]
fn a_redis_cluster_answers_on_keys_of_each_of_its_nodes() {
    let mut cluster = RedisCluster::start();
    let urls = cluster.urls();
    let client = ClusterClient::new(urls.clone()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut one = redis(&urls[0]);
    let mut met = [false; 3];
    for key in (0..).map(|n: u32| format!("key{n}")) {
        let slot: usize = redis::cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(&key)
            .query(&mut one)
            .unwrap();
        let () = redis::cmd("SET")
            .arg(&key)
            .arg(slot)
            .query(&mut connection)
            .unwrap();
        let seen: usize = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
        assert_eq!(seen, slot);
        met[slot * 3 / 16_384] = true;
        if met == [true; 3] {
            break;
        }
    }
    cluster.kill(2);
    assert!(
        redis::Client::open(urls[2].as_str())
            .unwrap()
            .get_connection()
            .is_err()
    );
}

#[tokio::test]
async fn the_proxy_swallows_a_commits_answer_while_the_commit_is_there() {
    let database = Database::fresh();
    database.run("create table kept (n int)");
    let proxy = Proxy::start(database.url());
    let mut client = connected(proxy.url()).await;
    let transaction = client.transaction().await.expect("begun");
    let insert = "insert into kept values ($1)";
    transaction.execute(insert, &[&1]).await.expect("inserted");
    proxy.swallow_next_answer_to(b"COMMIT");
    let commit = transaction.commit().await;
    assert!(commit.expect_err("cut").is_closed() || client.is_closed());
    assert_eq!(proxy.swallowed(), 1);
    let counted = value_at(database.url(), "select count(*) from kept").await;
    assert_eq!(counted.as_deref(), Some("1"));
    // That was one; the next is as ever.
    let again = connected(proxy.url()).await;
    again
        .batch_execute("begin; COMMIT")
        .await
        .expect("answered");
}

#[tokio::test]
async fn the_proxy_swallows_the_answer_of_the_last_of_statements_sent_together() {
    let database = Database::fresh();
    database.run("create table kept (n int)");
    let proxy = Proxy::start(database.url());
    let client = connected(proxy.url()).await;
    proxy.swallow_next_answer_to(b"COMMIT");
    // The answers before the last one come on their own.
    let together = tokio::join!(
        client.batch_execute("begin"),
        client.batch_execute("insert into kept values (1)"),
        client.batch_execute("select pg_sleep(0.05)"),
        client.batch_execute("COMMIT"),
    );
    assert!(together.3.is_err());
    let counted = value_at(database.url(), "select count(*) from kept").await;
    assert_eq!(counted.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_proxy_cuts_refuses_and_takes_connections() {
    let proxy = Proxy::start(&Postgres::shared().url("postgres"));
    let client = connected(proxy.url()).await;
    proxy.refuse();
    assert!(connect(proxy.url()).await.is_err());
    client.batch_execute("select 1").await.expect("it stays");
    proxy.cut();
    assert!(client.batch_execute("select 1").await.is_err());
    proxy.accept();
    let again = connected(proxy.url()).await;
    again.batch_execute("select 1").await.expect("taken");
}

#[test]
fn a_frozen_proxy_passes_on_later_what_it_held_back() {
    let proxy = Proxy::start(&Redis::shared().url());
    let address = proxy.url().trim_start_matches("redis://");
    let mut stream = TcpStream::connect(address).unwrap();
    proxy.freeze();
    stream.write_all(b"PING\r\n").unwrap();
    assert!(is_silent(&mut stream));
    proxy.thaw();
    let mut answer = [0; 7];
    stream.set_read_timeout(None).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn the_check_builds_the_minio_that_the_tests_look_for() {
    let check = std::fs::read_to_string("check").unwrap();
    let line = format!("\nminio={}\n", programs::MINIO);
    assert!(check.contains(&line), "{line}");
}

/// Says that this process is the child of the test below.
const CHILD: &str = "ROWMILL_TEST_SERVERS_CHILD";

/// A process with three servers, which ends when its input does.
struct Owner {
    process: Child,
    /// Kept to its end: a pipe that nobody reads is broken.
    said: Lines<BufReader<ChildStdout>>,
    servers: Vec<String>,
}

impl Owner {
    fn start(temp: &Path) -> Self {
        let test =
            "servers::servers_end_with_their_process_and_the_next_one_removes_what_a_kill_left";
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .env("TMPDIR", temp)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let lines = said.by_ref().map(|line| line.unwrap());
        let servers = lines.filter_map(|line| Some(line.strip_prefix("at ")?.to_owned()));
        let servers: Vec<_> = servers.take(3).collect();
        assert_eq!(servers.len(), 3);
        Self {
            process,
            said,
            servers,
        }
    }

    /// Lets it end by itself.
    fn end(&mut self) {
        drop(self.process.stdin.take());
        let said: Vec<_> = self.said.by_ref().map(|line| line.unwrap()).collect();
        assert!(self.process.wait().unwrap().success(), "{said:?}");
    }
}

#[test]
fn servers_end_with_their_process_and_the_next_one_removes_what_a_kill_left() {
    if std::env::var_os(CHILD).is_some() {
        let redis = Redis::shared().port();
        let postgres = Postgres::shared().port();
        let minio = Bucket::fresh().endpoint();
        let minio = minio.trim_start_matches("http://");
        println!("\nat 127.0.0.1:{redis}\nat 127.0.0.1:{postgres}\nat {minio}");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let left = || -> Vec<_> {
        let entries = std::fs::read_dir(temp.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let mut killed = Owner::start(temp.path());
    let of_killed = left();
    assert_eq!(of_killed.len(), 1);
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    for server in &killed.servers {
        until("its end", || TcpStream::connect(server).err());
    }
    assert_eq!(left(), of_killed);

    let mut next = Owner::start(temp.path());
    let of_next = left();
    assert!(of_next.len() == 1 && of_next != of_killed);
    next.end();
    for server in &next.servers {
        assert!(TcpStream::connect(server).is_err());
    }
    assert!(left().is_empty());
}
