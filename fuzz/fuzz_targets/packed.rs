//! Any bytes as packed and in other encodings, whole beside in pieces.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/it/ingest/against.rs"]
mod against;
#[path = "../../tests/it/ingest/grammar.rs"]
mod grammar;
#[path = "../../tests/it/ingest/slow.rs"]
mod slow;

libfuzzer_sys::fuzz_target!(|data: &[u8]| against::packed(data));
