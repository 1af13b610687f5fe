//! One integration binary: one link, one place.

mod architecture;
mod cache;
mod claims;
mod cli;
mod compose;
mod conformance;
mod cost;
mod docs;
mod e2e;
mod fault;
mod files;
mod ingest;
mod model;
mod plans;
mod reach;
mod servers;
mod sql;
mod states;
mod support;
