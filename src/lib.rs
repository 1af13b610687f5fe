//! rowmill
#![warn(missing_docs, unreachable_pub)]

pub mod clock;
pub mod config;
pub mod engine;
pub mod files;
pub mod model;
pub mod processor;
pub mod store;

pub use files::ObjectStore;
pub use model::Message;
pub use processor::*;
pub use store::Store;
