//! A network that fails when it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::frames::Frames;
use super::{block_on, folder, runtime};

/// How a step's transaction begins.
const BEGIN: &[u8] = b"begin; set transaction isolation level read committed";

/// Passes bytes on between clients and one server, until it is told otherwise.
pub struct Proxy {
    url: String,
    at: SocketAddr,
    listening: Mutex<Option<JoinHandle<()>>>,
    wire: Arc<Wire>,
}

/// What all connections share.
struct Wire {
    target: Mutex<String>,
    speaks_postgres: bool,
    frozen: watch::Sender<bool>,
    connections: Mutex<Connections>,
    hunt: Mutex<Option<Hunt>>,
    swallowed: AtomicUsize,
    spoils: AtomicUsize,
    spoiled: AtomicUsize,
    held: AtomicUsize,
}

/// What is looked for in what clients send.
struct Hunt {
    /// They come one after the other on one connection.
    needles: Vec<Vec<u8>>,
    then: Then,
}

/// What becomes of the answer to what was found.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The client's connection is reset in its place.
    Swallow,
    /// It waits at the proxy until the connection is cut.
    Hold,
}

#[derive(Default)]
struct Connections {
    cut: CancellationToken,
    open: JoinSet<()>,
}

impl Proxy {
    /// In front of the server of this URL.
    pub fn start(target: &str) -> Self {
        let (scheme, rest) = target.split_once("://").expect("a URL");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let begin = rest[..end].rfind('@').map_or(0, |at| at + 1);
        // Another process may have taken a port that was free a moment ago.
        let bound = (0..10).find_map(|_| {
            let at = SocketAddr::from(([127, 0, 0, 1], folder::free_port()));
            let listener = block_on(async move { TcpListener::bind(at).await });
            Some((at, listener.ok()?))
        });
        let (at, listener) = bound.expect("a port");
        let proxy = Self {
            url: format!("{scheme}://{}{at}{}", &rest[..begin], &rest[end..]),
            at,
            listening: Mutex::new(None),
            wire: Arc::new(Wire {
                target: Mutex::new(rest[begin..end].to_owned()),
                speaks_postgres: scheme.starts_with("postgres"),
                frozen: watch::Sender::new(false),
                connections: Mutex::default(),
                hunt: Mutex::new(None),
                swallowed: AtomicUsize::new(0),
                spoils: AtomicUsize::new(0),
                spoiled: AtomicUsize::new(0),
                held: AtomicUsize::new(0),
            }),
        };
        proxy.take(listener);
        proxy
    }

    /// The server's URL, with the proxy's address in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads to another server from now on: the one of this URL. Every connection there is is reset.
    pub fn lead_to(&self, target: &str) {
        let (_, rest) = target.split_once("://").expect("a URL");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let begin = rest[..end].rfind('@').map_or(0, |at| at + 1);
        *self.wire.target.lock().expect("unpoisoned") = rest[begin..end].to_owned();
        self.cut();
    }

    /// Resets every connection there is; new ones are taken.
    pub fn cut(&self) {
        let taken = std::mem::take(&mut *self.wire.connections.lock().expect("unpoisoned"));
        taken.cut.cancel();
        block_on(async move { taken.open.join_all().await });
    }

    /// Refuses new connections; those that are there stay.
    pub fn refuse(&self) {
        if let Some(listening) = self.listening.lock().expect("unpoisoned").take() {
            listening.abort();
            block_on(async move { listening.await.ok() });
        }
    }

    /// Takes new connections again.
    pub fn accept(&self) {
        if self.listening.lock().expect("unpoisoned").is_none() {
            let at = self.at;
            let listener = block_on(async move { TcpListener::bind(at).await });
            self.take(listener.expect("the port"));
        }
    }

    fn take(&self, listener: TcpListener) {
        let listens = runtime().spawn(listen(listener, Arc::clone(&self.wire)));
        *self.listening.lock().expect("unpoisoned") = Some(listens);
    }

    /// Passes no bytes on, in neither direction; connections are taken, and nothing comes of them.
    pub fn freeze(&self) {
        self.wire.frozen.send_replace(true);
    }

    /// Passes on what was held back, and all that follows.
    pub fn thaw(&self) {
        self.wire.frozen.send_replace(false);
    }

    /// The next time a client sends these bytes, the server gets them and answers; the client's connection is reset
    /// instead. A statement that is prepared sends its text when it is prepared, not when it runs.
    pub fn swallow_next_answer_to(&self, needle: &[u8]) {
        self.hunt(&[needle], Then::Swallow);
    }

    /// As [`Proxy::swallow_next_answer_to`] the last of these, which follows the others on its connection; but the
    /// answer is only held until the connection is cut.
    pub fn hold_next_answer_to(&self, needles: &[&[u8]]) {
        self.hunt(needles, Then::Hold);
    }

    fn hunt(&self, needles: &[&[u8]], then: Then) {
        let needles = needles.iter().map(|needle| needle.to_vec()).collect();
        *self.wire.hunt.lock().expect("unpoisoned") = Some(Hunt { needles, then });
    }

    /// How many answers are held, or were: the server has given each.
    pub fn held(&self) -> usize {
        self.wire.held.load(Ordering::SeqCst)
    }

    /// So many of the next transactions that a store begins with a message of its own do not begin: the server is asked
    /// for something that it does not know, says so, and takes what follows.
    pub fn spoil_begins(&self, times: usize) {
        self.wire.spoils.store(times, Ordering::SeqCst);
    }

    /// How many were spoiled.
    pub fn spoiled(&self) -> usize {
        self.wire.spoiled.load(Ordering::SeqCst)
    }

    /// How many answers were swallowed.
    pub fn swallowed(&self) -> usize {
        self.wire.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
        self.cut();
    }
}

async fn listen(listener: TcpListener, wire: Arc<Wire>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let mut connections = wire.connections.lock().expect("unpoisoned");
        while connections.open.try_join_next().is_some() {}
        let cut = connections.cut.clone();
        let connection = connection(client, cut, Arc::clone(&wire));
        connections.open.spawn(connection);
    }
}

/// One connection, until a side closes it, it is cut, or an answer is swallowed.
async fn connection(mut client: TcpStream, cut: CancellationToken, wire: Arc<Wire>) {
    let target = wire.target.lock().expect("unpoisoned").clone();
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    for side in [&client, &server] {
        side.set_nodelay(true).expect("a socket");
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let exchange = Exchange::default();
    let passed = async {
        tokio::try_join!(
            wire.pass_questions(from_client, to_server, &exchange),
            wire.pass_answers(from_server, to_client, &exchange),
        )
    };
    let end = tokio::select! {
        () = cut.cancelled() => Err(Ended::Cut),
        end = passed => end,
    };
    match end {
        Ok(_) => {}
        Err(Ended::Broken) => drop(client.set_zero_linger()),
        Err(Ended::Cut) => {
            // A reset, where a close would let the other side read to the end.
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        Err(Ended::Swallowed) => {
            let _ = client.set_zero_linger();
            // Whoever sees the reset finds it counted.
            wire.swallowed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Why a connection ended that no side closed.
enum Ended {
    Broken,
    Cut,
    Swallowed,
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

/// How many questions a connection has asked, and from which on answers are held back.
#[derive(Default)]
struct Exchange {
    asked: AtomicUsize,
    held_from: Mutex<Option<(usize, Then)>>,
}

impl Wire {
    async fn pass_questions(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        exchange: &Exchange,
    ) -> Result<(), Ended> {
        let mut frames = Frames::asked();
        let mut buffer = vec![0; 64 * 1024];
        let mut seen = Seen::default();
        loop {
            let n = from.read(&mut buffer).await?;
            self.thawed().await;
            if n == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            if let Some(then) = self.is_looked_for(&mut seen, &buffer[..n]) {
                let mut held = exchange.held_from.lock().expect("unpoisoned");
                held.get_or_insert((frames.counted, then));
            }
            self.spoil(&mut buffer[..n]);
            if self.speaks_postgres {
                frames.take(&buffer[..n]);
                exchange.asked.store(frames.counted, Ordering::SeqCst);
            }
            to.write_all(&buffer[..n]).await?;
        }
    }

    async fn pass_answers(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        exchange: &Exchange,
    ) -> Result<(), Ended> {
        let mut frames = Frames::answered();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from.read(&mut buffer).await?;
            self.thawed().await;
            if n == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            if self.speaks_postgres {
                frames.take(&buffer[..n]);
            }
            let held_from = *exchange.held_from.lock().expect("unpoisoned");
            let Some((held_from, then)) = held_from else {
                to.write_all(&buffer[..n]).await?;
                continue;
            };
            // Answers to what was asked before may come first: only with as many answers as questions all is done.
            let asked = exchange.asked.load(Ordering::SeqCst);
            if !self.speaks_postgres || (asked > held_from && frames.counted == asked) {
                if then == Then::Swallow {
                    return Err(Ended::Swallowed);
                }
                self.held.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
        }
    }

    async fn thawed(&self) {
        let mut frozen = self.frozen.subscribe();
        let _ = frozen.wait_for(|frozen| !frozen).await;
    }

    fn spoil(&self, piece: &mut [u8]) {
        let takes_one = |left: usize| left.checked_sub(1);
        let spoils = || {
            let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
            self.spoils.fetch_update(set, fetch, takes_one).is_ok()
        };
        // It comes at the beginning of what is sent for a step.
        let found = memchr::memmem::find(piece, BEGIN);
        if let Some(at) = found.filter(|_| spoils()) {
            piece[at..at + 5].copy_from_slice(b"bogus");
            self.spoiled.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What is to be done where the last of what is looked for is in this piece, or in it and the end of the one
    /// before. It is found once.
    fn is_looked_for(&self, seen: &mut Seen, piece: &[u8]) -> Option<Then> {
        let mut hunt = self.hunt.lock().expect("unpoisoned");
        let Some(looked_for) = hunt.as_ref() else {
            *seen = Seen::default();
            return None;
        };
        seen.tail.extend_from_slice(piece);
        while let Some(needle) = looked_for.needles.get(seen.needles) {
            let Some(at) = memchr::memmem::find(&seen.tail, needle) else {
                let keep = seen.tail.len().min(needle.len() - 1);
                seen.tail.drain(..seen.tail.len() - keep);
                return None;
            };
            seen.tail.drain(..at + needle.len());
            seen.needles += 1;
        }
        let then = looked_for.then;
        *hunt = None;
        Some(then)
    }
}

/// What a connection has had of what is looked for.
#[derive(Default)]
struct Seen {
    needles: usize,
    /// The end of what was passed on before: bytes that are looked for may come in two pieces.
    tail: Vec<u8>,
}
