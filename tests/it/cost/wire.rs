//! What goes over the wire between a store and PostgreSQL: a proxy that reads the protocol and counts.
//!
//! It runs on the store's own runtime of one thread: all that the store sends before it waits is there when the proxy
//! reads, so that it is seen where it waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::names;

/// What one transaction asked.
#[derive(Default, Clone)]
pub struct Asked {
    /// How often each statement was sent.
    pub statements: BTreeMap<String, u64>,
    /// How often an answer was waited for.
    pub trips: u64,
    /// Statements that were prepared.
    pub prepared: u64,
    pub sent: u64,
    pub received: u64,
}

/// A proxy in front of a server that counts what each transaction asks.
pub struct Wire {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// How many of them were taken.
    taken: AtomicUsize,
}

impl Wire {
    /// In front of the server of this URL.
    pub async fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address").to_string();
        let (_, rest) = target.split_once('@').expect("a user");
        let (server, _) = rest.split_once('/').expect("a database");
        let (server, asked) = (server.to_owned(), Arc::<Mutex<Vec<Asked>>>::default());
        let url = target.replace(&server, &at);
        let all = Arc::clone(&asked);
        let texts = Arc::new(names(&["postgres", "postgres_alone"]));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let server = TcpStream::connect(&server).await.expect("the server");
                for side in [&client, &server] {
                    side.set_nodelay(true).expect("a socket");
                }
                let line = Arc::new(Mutex::new(Line {
                    asked: Arc::clone(&all),
                    texts: Arc::clone(&texts),
                    statements: HashMap::new(),
                    bound: String::new(),
                    now: None,
                    questions: VecDeque::new(),
                    waits: false,
                    synced: false,
                }));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let asks = Messages::new(false);
                let asking = Arc::clone(&line);
                let ask = move |kind, body: &[u8]| asking.lock().unwrap().ask(kind, body);
                tokio::spawn(pass(from_client, to_server, asks, ask));
                let answers = Messages::new(true);
                let answer = move |kind, body: &[u8]| line.lock().unwrap().answer(kind, body);
                tokio::spawn(pass(from_server, to_client, answers, answer));
            }
        });
        Self {
            url,
            asked,
            taken: AtomicUsize::new(0),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked since this was called last, a transaction each.
    pub fn take(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let from = self.taken.swap(asked.len(), Ordering::Relaxed);
        asked[from..].to_vec()
    }
}

/// Passes on what comes, all that is there at once.
async fn pass(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut messages: Messages,
    mut seen: impl FnMut(u8, &[u8]),
) {
    let mut piece = vec![0; 256 * 1024];
    loop {
        let mut all = Vec::new();
        let ended = loop {
            match from.try_read(&mut piece) {
                Ok(0) => break true,
                Ok(n) => all.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        messages.take(&all, &mut seen);
        if to.write_all(&all).await.is_err() {
            return;
        }
        if ended {
            to.shutdown().await.ok();
            return;
        }
        if from.readable().await.is_err() {
            return;
        }
    }
}

/// Cuts one direction into messages: a type, a length that counts itself, and what it says.
struct Messages {
    /// What a client says first has no type.
    has_types: bool,
    left: Vec<u8>,
}

impl Messages {
    fn new(has_types: bool) -> Self {
        Self {
            has_types,
            left: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8], seen: &mut impl FnMut(u8, &[u8])) {
        self.left.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(rest) = self.left.get(at..) {
            let head = usize::from(self.has_types);
            let Some(len) = rest.get(head..head + 4) else {
                break;
            };
            let len = u32::from_be_bytes(len.try_into().expect("four bytes"));
            let whole = head + usize::try_from(len).expect("a length");
            let Some(message) = rest.get(..whole) else {
                break;
            };
            if self.has_types {
                seen(message[0], &message[5..]);
            }
            self.has_types = true;
            at += whole;
        }
        self.left.drain(..at);
    }
}

/// A question that is not answered yet.
struct Question {
    /// The transaction that asked it.
    of: Option<usize>,
    /// Somebody waits for it.
    waited: bool,
}

/// One connection.
struct Line {
    asked: Arc<Mutex<Vec<Asked>>>,
    texts: Arc<HashMap<String, String>>,
    /// The names of what is prepared.
    statements: HashMap<String, String>,
    bound: String,
    /// The open transaction.
    now: Option<usize>,
    questions: VecDeque<Question>,
    /// Something was sent that is waited for.
    waits: bool,
    synced: bool,
}

impl Line {
    fn note(&self, note: impl FnOnce(&mut Asked)) {
        if let Some(at) = self.now {
            note(&mut self.asked.lock().unwrap()[at]);
        }
    }

    fn ask(&mut self, kind: u8, body: &[u8]) {
        let text = |from: usize| {
            let rest = body.get(from..).unwrap_or_default();
            let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
            String::from_utf8_lossy(&rest[..end]).into_owned()
        };
        let query = if kind == b'Q' { text(0) } else { String::new() };
        if query.starts_with("begin") || query.starts_with("START TRANSACTION") {
            let mut asked = self.asked.lock().unwrap();
            asked.push(Asked::default());
            self.now = Some(asked.len() - 1);
        }
        // What is prepared has a number for its name, which is longer the later it comes.
        let mut size = body.len() + 5;
        let name = match kind {
            b'P' => text(0),
            b'B' => text(text(0).len() + 1),
            b'D' | b'C' => text(1),
            _ => String::new(),
        };
        size -= name.len();
        // What ends a read is sent whenever there is something else to send.
        let ends_read = query == "end";
        if ends_read {
            self.forget_empty();
        }
        let unheard = ends_read || kind == b'C' || (kind == b'S' && !self.waits);
        let waits = self.waits;
        self.waits |= !unheard;
        let begins = self.waits && !waits;
        self.note(|asked| {
            asked.sent += if ends_read { 0 } else { size as u64 };
            asked.trips += u64::from(begins);
        });
        match kind {
            b'Q' if !ends_read => {
                let words = query.split([' ', ';']).map(str::to_lowercase);
                let word = match words.take(1).collect::<String>() {
                    word if word == "start" => "begin".to_owned(),
                    word => word,
                };
                self.note(|asked| *asked.statements.entry(word).or_default() += 1);
            }
            b'P' => {
                let sql = text(name.len() + 1);
                let known = self.texts.get(sql.trim()).cloned();
                let known = known.unwrap_or_else(|| "application".to_owned());
                self.note(|asked| asked.prepared += u64::from(!name.is_empty()));
                self.statements.insert(name, known);
            }
            b'B' => self.bound = self.statements.get(&name).cloned().unwrap_or_default(),
            b'E' => {
                let bound = self.bound.clone();
                self.note(|asked| *asked.statements.entry(bound).or_default() += 1);
            }
            // A server that is being given the records of a copy does not answer the sync before them.
            b'd' | b'c' | b'f' if self.synced => drop(self.questions.pop_back()),
            _ => {}
        }
        if matches!(kind, b'Q' | b'S') {
            self.questions.push_back(Question {
                of: self.now.filter(|_| !ends_read),
                waited: !unheard,
            });
        }
        self.synced = kind == b'S';
        if matches!(
            query.as_str(),
            "commit" | "rollback" | "end" | "COMMIT" | "ROLLBACK"
        ) {
            self.now = None;
        }
    }

    /// The beginning of a read that asked nothing is waited for by nobody.
    fn forget_empty(&mut self) {
        let mut is_empty = false;
        self.note(|asked| {
            is_empty = asked.statements.keys().eq(["begin"]);
            asked.trips = if is_empty { 0 } else { asked.trips };
        });
        let now = self.now.filter(|_| is_empty);
        let begun = self.questions.iter_mut();
        for question in begun.filter(|question| now.is_some() && question.of == now) {
            question.waited = false;
        }
        self.waits &= self.questions.iter().any(|question| question.waited);
    }

    fn answer(&mut self, kind: u8, body: &[u8]) {
        let of = self.questions.front().and_then(|question| question.of);
        if let Some(at) = of {
            self.asked.lock().unwrap()[at].received += body.len() as u64 + 5;
        }
        match kind {
            // It wants the records of a copy.
            b'G' => self.waits = false,
            b'Z' => {
                self.questions.pop_front();
                self.waits = self.questions.iter().any(|question| question.waited);
            }
            _ => {}
        }
    }
}
