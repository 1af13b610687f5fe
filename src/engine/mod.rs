//! The engine
pub mod probe;
