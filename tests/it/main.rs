//! One integration binary: one link, one place.

mod docs;
mod fault;
mod ingest;
