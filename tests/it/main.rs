//! One integration binary: one link, one place.

mod cli;
mod fault;
mod ingest;
