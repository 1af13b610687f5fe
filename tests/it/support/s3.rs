//! An S3 server in the test's process, with one bucket, that notes what it is asked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rowmill::ObjectStore;
use rowmill::files::s3::aws_sdk_s3::Client;
use rowmill::files::s3::aws_sdk_s3::config::{
    Config, Credentials, Region, RequestChecksumCalculation,
};
use rowmill::files::s3::{Connection, Options};
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::sync::{RwLock, oneshot};

pub const KEY: &str = "testkey";
pub const SECRET: &str = "testsecret123";
pub const BUCKET: &str = "reports";
pub const PREFIX: &str = "row mill";

pub struct S3 {
    root: TempDir,
    endpoint: String,
    asked: Asked,
    /// Dropped, it ends the server.
    _stop: oneshot::Sender<()>,
}

/// A request: `PUT /bucket/key?query`, and headers of interest.
#[derive(Debug, Clone)]
pub struct Ask {
    pub line: String,
    pub bytes: u64,
    pub sse: Option<String>,
    pub kms_key: Option<String>,
    /// The CRC32 of what is sent.
    pub crc32: Option<String>,
}

impl Ask {
    /// Whether it sends a part of an upload; one that is copied sends nothing.
    pub fn is_part(&self) -> bool {
        self.line.starts_with("PUT ") && self.line.contains("partNumber=") && self.bytes > 0
    }
}

#[derive(Clone, Default)]
struct Asked {
    list: Arc<Mutex<Vec<Ask>>>,
    parts: Arc<AtomicU32>,
    most_parts: Arc<AtomicU32>,
    /// Written to, it lets no part be answered.
    gate: Arc<RwLock<()>>,
    busy: Arc<Mutex<Option<Busy>>>,
}

/// Requests that the store is too busy for.
struct Busy {
    /// How their lines begin, and what stands in them.
    line: (&'static str, &'static str),
    answer: (u16, &'static str),
    times: u32,
    refused: u32,
}

impl Asked {
    /// What is answered in place of what was asked for.
    fn is_busy(&self, line: &str) -> Option<(u16, &'static str)> {
        let mut busy = self.busy.lock().unwrap();
        let busy = busy.as_mut().filter(|busy| busy.times > 0)?;
        if !line.starts_with(busy.line.0) || !line.contains(busy.line.1) {
            return None;
        }
        busy.times -= 1;
        busy.refused += 1;
        Some(busy.answer)
    }
}

/// An error in S3's words, when the request has been read to its end.
async fn refusal(mut body: Incoming, (status, code): (u16, &str)) -> s3s::HttpResponse {
    use hyper::body::Body as _;
    while let Some(Ok(_)) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {}
    let text = format!("<Error><Code>{code}</Code><Message>Later.</Message></Error>");
    let answer = hyper::Response::builder().status(status);
    answer.body(s3s::Body::from(text)).expect("an answer")
}

/// The server's service with a look at each request.
struct Looking(S3Service, Asked);

impl hyper::service::Service<Request<Incoming>> for Looking {
    type Response = s3s::HttpResponse;
    type Error = s3s::HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            Some(value.to_str().expect("a text").to_owned())
        };
        let line = format!("{} {}", request.method(), request.uri());
        let ask = Ask {
            line,
            bytes: header("content-length").map_or(0, |n| n.parse().expect("a number")),
            sse: header("x-amz-server-side-encryption"),
            kms_key: header("x-amz-server-side-encryption-aws-kms-key-id"),
            crc32: header("x-amz-checksum-crc32"),
        };
        let is_part = ask.is_part();
        let asked = self.1.clone();
        let busy = asked.is_busy(&ask.line);
        asked.list.lock().unwrap().push(ask);
        if is_part {
            let now = asked.parts.fetch_add(1, Ordering::SeqCst) + 1;
            asked.most_parts.fetch_max(now, Ordering::SeqCst);
        }
        if let Some(busy) = busy {
            return Box::pin(async move {
                let answer = refusal(request.into_body(), busy).await;
                if is_part {
                    asked.parts.fetch_sub(1, Ordering::SeqCst);
                }
                Ok(answer)
            });
        }
        let answer = hyper::service::Service::call(&self.0, request);
        Box::pin(async move {
            if is_part {
                drop(asked.gate.read().await);
            }
            let answer = answer.await;
            if is_part {
                asked.parts.fetch_sub(1, Ordering::SeqCst);
            }
            answer
        })
    }
}

impl S3 {
    /// Starts it on a thread of its own, so that a test that waits holds up nothing.
    pub fn start() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let files = s3s_fs::FileSystem::new(root.path()).expect("a file system");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(s3s::auth::SimpleAuth::from_single(KEY, SECRET));
        let (service, asked) = (service.build(), Asked::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel();
        let notes = asked.clone();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = serve(listener, service, notes) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            root,
            endpoint,
            asked,
            _stop: stop,
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn client(&self) -> Client {
        client(&self.endpoint, SECRET)
    }

    /// The object store in the bucket, below a prefix.
    pub fn objects(&self) -> ObjectStore {
        objects(&self.endpoint)
    }

    /// The keys that there are below the prefix.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let top = self.bucket().join(PREFIX);
        collect(&top, &top, &mut keys);
        keys.sort();
        keys
    }

    pub fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// How many uploads have begun and not ended.
    pub fn uploads(&self) -> usize {
        let entries = std::fs::read_dir(self.root.path()).expect("a folder");
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let uploads = names.filter(|name| name.starts_with(".upload-") && name.ends_with(".json"));
        uploads.count()
    }

    pub fn asked(&self) -> MutexGuard<'_, Vec<Ask>> {
        self.asked.list.lock().unwrap()
    }

    /// Answers so many requests with an error, whose lines begin and go on like this.
    pub fn is_busy(
        &self,
        line: (&'static str, &'static str),
        answer: (u16, &'static str),
        times: u32,
    ) {
        *self.asked.busy.lock().unwrap() = Some(Busy {
            line,
            answer,
            times,
            refused: 0,
        });
    }

    /// How many requests were answered so.
    pub fn refused(&self) -> u32 {
        let busy = self.asked.busy.lock().unwrap();
        busy.as_ref().map_or(0, |busy| busy.refused)
    }

    /// How many parts are on their way.
    #[cfg(feature = "probe")]
    pub fn parts(&self) -> u32 {
        self.asked.parts.load(Ordering::SeqCst)
    }

    /// Holds every part on its way until what is returned is dropped.
    #[cfg(feature = "probe")]
    pub fn hold_parts(&self) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        let gate = Arc::clone(&self.asked.gate);
        gate.try_write_owned().expect("no part is on its way")
    }

    /// The most parts that were on their way at once.
    pub fn most_parts(&self) -> u32 {
        self.asked.most_parts.load(Ordering::SeqCst)
    }
}

async fn serve(listener: tokio::net::TcpListener, service: S3Service, asked: Asked) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("set");
        let looking = Looking(service.clone(), asked.clone());
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // A client that goes away in the middle is nothing to tell of.
            drop(server.serve_connection(TokioIo::new(stream), looking).await);
        });
    }
}

fn collect(top: &Path, dir: &Path, keys: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(top, &path, keys);
        } else {
            let key = path.strip_prefix(top).expect("below it");
            keys.push(key.to_str().expect("UTF-8").to_owned());
        }
    }
}

/// The object store in the bucket of the server at this address.
pub fn objects(endpoint: &str) -> ObjectStore {
    let options = Options::new(BUCKET).prefix(PREFIX);
    ObjectStore::s3(client(endpoint, SECRET), options)
}

/// A client with these credentials.
pub fn client(endpoint: &str, secret: &str) -> Client {
    let config = Config::builder()
        .behavior_version_latest()
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(KEY, secret, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    Client::from_conf(config.build())
}

/// How a program without a client of its own finds the server.
pub fn connection(endpoint: &str) -> Connection {
    Connection {
        endpoint: Some(endpoint.to_owned()),
        ..Connection::default()
    }
}
