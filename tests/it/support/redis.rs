//! A Redis server of the test's own, on a loopback port, which dies with the test.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue};
use tempfile::TempDir;

/// A test that waits longer than this has failed.
const LONG: Duration = Duration::from_secs(60);

pub struct Redis {
    child: Child,
    port: u16,
    args: Vec<String>,
    folder: TempDir,
}

impl Redis {
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        // Somebody else may be quicker to take a port that was free a moment ago.
        for _ in 0..20 {
            let port = free_port();
            let child = spawn(port, &args, &folder);
            let mut server = Self {
                child,
                port,
                args: args.clone(),
                folder: tempfile::tempdir().expect("a folder"),
            };
            if server.answers() {
                server.folder = folder;
                return server;
            }
        }
        panic!("no Redis server could be started");
    }

    /// Whether it answers before it ends or the time is over.
    fn answers(&mut self) -> bool {
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            let client = redis::Client::open(self.url()).expect("a URL");
            if client
                .get_connection()
                .and_then(|mut c| redis::cmd("PING").query::<String>(&mut c))
                .is_ok()
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("connected")
    }

    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut words = words.iter();
        let mut command = redis::cmd(words.next().expect("a command"));
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.connection()).expect("an answer")
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Starts it again on its port, with nothing in it.
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, &self.args, &self.folder);
        assert!(self.answers(), "it did not come back");
    }

    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process");
        // SAFETY: a plain system call; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    // A cluster's server listens on a port 10,000 above its own, too.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

fn spawn(port: u16, args: &[String], folder: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: between fork and exec a system call is all that is made.
    unsafe {
        command.pre_exec(|| {
            // It ends with the thread that runs the test, however that ends.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command
        .spawn()
        .expect("redis-server is missing: apt-get install -y redis-server")
}

/// Three servers that share the keys.
pub struct Cluster(pub Vec<Redis>);

impl Cluster {
    pub fn start() -> Self {
        let nodes: Vec<Redis> = (0..3)
            .map(|_| Redis::start(&["--cluster-enabled", "yes"]))
            .collect();
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (node, (from, to)) in nodes.iter().zip(slots) {
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", from, to]);
            let port = nodes[0].port().to_string();
            node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port]);
        }
        let until = Instant::now() + LONG;
        for node in &nodes {
            let ok = || {
                let info: String = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            };
            while !ok() {
                assert!(Instant::now() < until, "the cluster does not form");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Self(nodes)
    }

    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.0.iter().map(Redis::url).collect();
        urls.join(",")
    }
}
