//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod bad;
mod doctor;
mod interrupted;
mod purge;
mod rowmill;
mod run;
mod submit;
