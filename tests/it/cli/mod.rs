//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod append;
mod bad;
mod doctor;
mod interrupted;
mod listing;
mod ops;
mod purge;
mod rowmill;
mod run;
mod submit;
mod waits;
