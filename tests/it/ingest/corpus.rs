//! The seeds that fuzzing begins with, and what it found: read here at every run.

use std::path::Path;

use super::against;

/// Reads every file of a folder of seeds; how many there are.
fn each(folder: &str, check: fn(&[u8])) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ingest/seeds");
    let mut count = 0;
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        count += 1;
    }
    count
}

#[test]
fn every_seed_of_a_csv_is_read_as_the_slow_reader_reads_it() {
    assert!(each("csv", against::csv) >= 10);
}

#[test]
fn every_seed_of_json_lines_is_read_as_the_slow_reader_reads_it() {
    assert!(each("jsonl", against::jsonl) >= 10);
}

#[test]
fn every_seed_of_a_packed_input_is_read_alike_whole_and_in_pieces() {
    assert!(each("packed", against::packed) >= 10);
}
