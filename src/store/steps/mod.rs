//! The steps that every store makes: written once, over whatever can run their statements.
//!
//! A step is one transaction's work. It reads the state that it leaves under a lock or names it in
//! the write, so that it is right whether it is alone (SQLite) or one of many (PostgreSQL, READ
//! COMMITTED). What the drivers do differently is in [`db::Db`] and in the text of the statements.

pub(in crate::store) mod append;
pub(in crate::store) mod claim;
pub(in crate::store) mod close;
pub(in crate::store) mod damage;
pub(in crate::store) mod db;
pub(in crate::store) mod discard;
pub(in crate::store) mod doctor;
pub(in crate::store) mod end;
pub(in crate::store) mod guard;
pub(in crate::store) mod history;
pub(in crate::store) mod keep;
pub(in crate::store) mod list;
pub(in crate::store) mod look;
pub(in crate::store) mod lost;
pub(in crate::store) mod ops;
pub(in crate::store) mod pass;
pub(in crate::store) mod purge;
pub(in crate::store) mod read;
pub(in crate::store) mod record;
pub(in crate::store) mod redact;
pub(in crate::store) mod release;
pub(in crate::store) mod retry;
pub(in crate::store) mod rows;
pub(in crate::store) mod single;
pub(in crate::store) mod submit;
pub(in crate::store) mod take_over;
pub(in crate::store) mod together;
