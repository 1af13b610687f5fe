//! One integration binary: one link, one place.

mod fault;
mod ingest;
