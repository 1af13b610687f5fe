//! The real binary: what it prints, where, and its exit codes.

mod answers;
mod append;
mod bad;
mod cache;
mod doctor;
mod expired;
mod first;
mod guide;
mod handlers;
mod inputs;
mod interrupted;
mod listing;
mod ops;
mod own;
mod people;
mod postgres;
mod purge;
mod query;
mod rowmill;
mod run;
mod s3;
mod shapes;
mod submit;
mod surroundings;
mod waits;
mod watch;
