//! The engine from the outside: a manager, processors, a clock that stands still.

mod again;
mod append;
mod build;
mod chunk;
mod ends;
mod fair;
mod files;
mod init;
mod inputs;
mod large;
mod limits;
mod listing;
mod live;
mod many_files;
mod panics;
mod partition;
mod postgres;
mod purge;
mod refused;
mod retry;
mod staged;
mod stop;
mod submit_in;
mod transactional;
mod turns;
mod work;
pub mod world;
