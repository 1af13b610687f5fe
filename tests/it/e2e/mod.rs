//! The engine from the outside: a manager, processors, a clock that stands still.

mod build;
mod chunk;
mod ends;
mod files;
mod init;
mod inputs;
mod limits;
mod stop;
mod submit_in;
mod transactional;
mod work;
mod world;
