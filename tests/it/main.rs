//! One integration binary: one link, one place.

mod conformance;
mod ingest;
mod support;
