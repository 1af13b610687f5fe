//! One integration binary: one link, one place.

mod architecture;
mod conformance;
mod e2e;
mod ingest;
mod model;
mod sql;
mod states;
mod support;
