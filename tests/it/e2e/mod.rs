//! The engine from the outside: a manager, processors, a clock that stands still.

mod chunk;
mod ends;
mod files;
mod init;
mod work;
mod world;
