//! One integration binary: one link, one place.

mod architecture;
mod conformance;
mod ingest;
mod sql;
mod states;
mod support;
