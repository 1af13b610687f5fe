//! One integration binary: one link, one place.

mod architecture;
mod cache;
mod cli;
mod conformance;
mod docs;
mod e2e;
mod fault;
mod ingest;
mod model;
mod sql;
mod states;
mod support;
