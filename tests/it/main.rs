//! One integration binary: one link, one place.

mod ingest;
