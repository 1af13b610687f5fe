//! Any bytes as CSV, beside the slow reader.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/it/ingest/against.rs"]
mod against;
#[path = "../../tests/it/ingest/grammar.rs"]
mod grammar;
#[path = "../../tests/it/ingest/slow.rs"]
mod slow;

libfuzzer_sys::fuzz_target!(|data: &[u8]| against::csv(data));
