//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod bad;
mod interrupted;
mod ops;
mod rowmill;
mod run;
mod submit;
mod waits;
