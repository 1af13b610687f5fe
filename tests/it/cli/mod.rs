//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod append;
mod bad;
mod interrupted;
mod listing;
mod ops;
mod rowmill;
mod run;
mod submit;
mod waits;
