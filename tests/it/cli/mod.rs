//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod bad;
mod first;
mod handlers;
mod interrupted;
mod people;
mod query;
mod rowmill;
mod run;
mod submit;
mod surroundings;
mod watch;
