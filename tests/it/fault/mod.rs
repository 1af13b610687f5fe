//! Faults in child processes: kill -9 at every named point, at random moments, and by a poison row.
//!
//! The child is this same test binary, started again for the one test [`child::run_as_child`].

mod child;
mod halted;
mod live;
mod once;
mod outage;
#[cfg(feature = "probe")]
mod points;
#[cfg(feature = "probe")]
mod postgres;
#[cfg(feature = "probe")]
mod power;
#[cfg(feature = "probe")]
mod purge;
mod races;
mod random;
#[cfg(feature = "probe")]
mod s3;
mod staged;
mod together;
mod told;
#[cfg(feature = "probe")]
mod transfer;
mod worker;
