//! finalise: output files of a batch whose rows have all ended, in the order of its lines.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::files::{ObjectStore, StageError, Staged, Staging, content_type, object_key};
use crate::model::{BatchId, FileName, FilesOf, OutputFile};
use crate::probe;
use crate::store::{BlockOutcomes, CloseTask, OutcomePart, Store, StoreError};

type Page = Result<Vec<BlockOutcomes>, StoreError>;

/// Outcomes that are read at once.
const PAGE: usize = 2 << 20;
/// Files that are assembled at once: many systems let a process have 1,024 open.
const OPEN: usize = 256;

/// Why a close has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum FinaliseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("a stored outcome cannot be read: {0}")]
    Outcome(#[from] serde_json::Error),
    #[error("a stored file name cannot be: {0}")]
    Name(#[from] crate::model::IdError),
}

/// Assembles and publishes the files; done twice, they have the same bytes.
pub(super) async fn finalise(
    store: &Store,
    objects: &ObjectStore,
    task: &CloseTask,
) -> Result<Vec<OutputFile>, FinaliseError> {
    let batch = task.claim.batch;
    let mut done: BTreeMap<FileName, Staged> = BTreeMap::new();
    let mut turns = Turns::new(OPEN.min(objects.files_at_once()).max(1));
    loop {
        assemble(store, objects, batch, &mut turns, &mut done).await?;
        if !turns.next() {
            break;
        }
    }
    probe::at("assembled");
    let mut files = Vec::with_capacity(done.len());
    for (name, staged) in done {
        let key = object_key(&task.key, batch, &name);
        objects.publish(&staged, &key).await?;
        files.push(OutputFile {
            content_type: content_type(&name),
            name: name.as_str().to_owned(),
            key,
            size: staged.size,
            sha256: staged.sha256,
        });
    }
    probe::at("published");
    Ok(files)
}

/// Whose turn it is: a batch with more files than may be open is read once for each so many.
struct Turns {
    /// How many files are open at once.
    open: usize,
    now: BTreeSet<FileName>,
    later: BTreeSet<FileName>,
    /// All names are known: it has been read once.
    known: bool,
}

impl Turns {
    fn new(open: usize) -> Self {
        Self {
            open,
            now: BTreeSet::new(),
            later: BTreeSet::new(),
            known: false,
        }
    }

    fn has(&mut self, name: &FileName) -> bool {
        if self.now.contains(name) || self.known {
            return self.now.contains(name);
        }
        let now = self.now.len() < self.open;
        let names = if now { &mut self.now } else { &mut self.later };
        names.insert(name.clone());
        now
    }

    /// Goes on to the next; false where there is none.
    fn next(&mut self) -> bool {
        self.known = true;
        self.now.clear();
        while self.now.len() < self.open
            && let Some(name) = self.later.pop_first()
        {
            self.now.insert(name);
        }
        !self.now.is_empty()
    }
}

/// Reads all outcomes for the files whose turn it is.
async fn assemble(
    store: &Store,
    objects: &ObjectStore,
    batch: BatchId,
    turns: &mut Turns,
    done: &mut BTreeMap<FileName, Staged>,
) -> Result<(), FinaliseError> {
    let mut open: BTreeMap<FileName, Box<dyn Staging>> = BTreeMap::new();
    let (tell, mut told) = mpsc::channel(1);
    let reader = AbortOnDropHandle::new(tokio::spawn(decode(store.clone(), batch, tell)));
    while let Some(Written { texts, streamed }) = told.recv().await {
        for (name, text) in texts {
            let name = name.parse()?;
            if !turns.has(&name) {
                continue;
            }
            let staging = match open.entry(name) {
                Entry::Occupied(e) => e.into_mut(),
                Entry::Vacant(e) => e.insert(objects.stage(batch).await?),
            };
            staging.write(text.as_bytes()).await?;
        }
        for (name, staged) in streamed {
            done.insert(name.parse()?, staged);
        }
    }
    // What it could not read or decode is no end of the rows.
    reader
        .await
        .map_err(|e| StoreError::unavailable("decoding outcomes", e))??;
    for (name, staging) in open {
        let staged = staging.finish().await?;
        // A file that was streamed under the same name stands for itself.
        done.entry(name).or_insert(staged);
    }
    Ok(())
}

/// What the rows of a page of blocks wrote, each file's in the order of its lines.
#[derive(Default)]
struct Written {
    texts: BTreeMap<String, String>,
    streamed: Vec<(String, Staged)>,
}

impl Written {
    /// What a block's rows wrote, in line order.
    fn add(&mut self, block: &BlockOutcomes) -> Result<(), FinaliseError> {
        // Most blocks are recorded whole, their lines in order.
        if let [
            OutcomePart {
                ordinals: None,
                body,
                ..
            },
        ] = block.parts.as_slice()
        {
            return if may_write(body) {
                self.lines(body)
            } else {
                Ok(())
            };
        }
        let mut lines: Vec<(u32, &str)> = Vec::new();
        for part in &block.parts {
            for (i, line) in (0_u32..).zip(part.body.lines()) {
                let at = usize::try_from(i).unwrap_or(usize::MAX);
                let ordinal = part
                    .ordinals
                    .as_ref()
                    .map_or(Some(i), |list| list.get(at).copied());
                if let (Some(ordinal), true) = (ordinal, may_write(line)) {
                    lines.push((ordinal, line));
                }
            }
        }
        lines.sort_by_key(|(ordinal, _)| *ordinal);
        lines.into_iter().try_for_each(|(_, line)| self.lines(line))
    }

    /// What lines wrote that stand together.
    fn lines(&mut self, lines: &str) -> Result<(), FinaliseError> {
        let mut files = FilesOf::new(lines);
        for _ in lines.lines() {
            let streamed = files.next(|name, text| match self.texts.get_mut(name) {
                Some(before) => before.push_str(text),
                None => {
                    self.texts.insert(name.to_owned(), text.to_owned());
                }
            })?;
            for file in streamed {
                let staged = Staged::from(&file);
                self.streamed.push((file.name, staged));
            }
        }
        Ok(files.end()?)
    }
}

/// Most rows write to no file; the words may stand in a result, which costs a look.
fn may_write(text: &str) -> bool {
    text.contains("\"files\":") || text.contains("\"staged\":")
}

/// Decodes page after page, while the one before is written and the next one is read.
async fn decode(
    store: Store,
    batch: BatchId,
    tell: mpsc::Sender<Written>,
) -> Result<(), FinaliseError> {
    let mut page = read(&store, batch, 0);
    loop {
        let blocks = page
            .await
            .map_err(|e| StoreError::unavailable("reading outcomes", e))??;
        let Some(last) = blocks.last() else {
            return Ok(());
        };
        page = read(&store, batch, last.no + 1);
        let mut written = Written::default();
        for block in &blocks {
            written.add(block)?;
            tokio::task::yield_now().await;
        }
        drop(blocks);
        if tell.send(written).await.is_err() {
            return Ok(());
        }
    }
}

/// Reads a page while the one before is decoded.
fn read(store: &Store, batch: BatchId, from: i64) -> AbortOnDropHandle<Page> {
    let store = store.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        store.outcomes(batch, from, PAGE).await
    }))
}
