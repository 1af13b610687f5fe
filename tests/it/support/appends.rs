//! Short words for appends.

use rowmill::BatchId;
use rowmill::model::ContentHash;
use rowmill::store::{Added, AppendBlocks, AppendContent, NewAppend, StoreError};

use super::Kit;

impl Kit {
    /// An append under a key of its own.
    pub fn new_append(&self, id: BatchId, key: &str) -> NewAppend {
        NewAppend {
            batch: id,
            key: Some(key.to_owned()),
            release: false,
            by: "ann".to_owned(),
        }
    }

    /// Rows behind the batch's last one, with the hash that the client makes of them.
    pub fn following(&self, sizes: &[u32]) -> (AppendBlocks, AppendContent) {
        self.content(AppendBlocks {
            following: self.blocks(sizes),
            given: Vec::new(),
        })
    }

    pub fn content(&self, blocks: AppendBlocks) -> (AppendBlocks, AppendContent) {
        let mut hash = ContentHash::default();
        blocks.following.iter().for_each(|b| hash.add(b));
        if !blocks.given.is_empty() {
            hash.lines_begin_anew();
        }
        blocks.given.iter().for_each(|b| hash.add(b));
        let content = AppendContent {
            hash: hash.finish(),
            columns: None,
        };
        (blocks, content)
    }

    pub async fn try_append(&self, append: NewAppend, sizes: &[u32]) -> Result<Added, StoreError> {
        let (blocks, content) = self.following(sizes);
        self.store.append(append, blocks, content, self.now()).await
    }

    pub async fn append(&self, id: BatchId, key: &str, sizes: &[u32]) -> Added {
        let added = self.try_append(self.new_append(id, key), sizes).await;
        added.expect("appended")
    }
}
