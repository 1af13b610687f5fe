//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod bad;
mod inputs;
mod interrupted;
mod rowmill;
mod run;
mod submit;
