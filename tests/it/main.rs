//! One integration binary: one link, one place.

mod cli;
mod docs;
mod fault;
mod ingest;
