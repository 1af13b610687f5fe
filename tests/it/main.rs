//! One integration binary: one link, one place.

mod architecture;
mod cache;
mod cli;
mod conformance;
mod docs;
mod e2e;
mod fault;
mod files;
mod ingest;
mod model;
mod reach;
mod servers;
mod sql;
mod states;
mod support;
