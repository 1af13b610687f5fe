//! Packed inputs.

use std::io::Write as _;

use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::super::Packing;
use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("packs");
    encoder.finish().expect("packs")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).expect("packs")
}

/// A frame that is to be passed over.
fn skippable(content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("short").to_le_bytes();
    [b"\x53\x2A\x4D\x18", &len[..], content].concat()
}

fn named(packing: Packing) -> Options {
    Options {
        packing: Some(packing),
        ..Options::csv()
    }
}

/// Reads to the end or to the error, wherever it comes.
fn outcome(bytes: &[u8], options: Options) -> Result<Rows, IngestError> {
    let mut records = Records::open(bytes, options)?;
    let mut rows = Rows::new();
    let mut input = String::new();
    while let Some(record) = records.read(&mut input)? {
        let code = record.rejected.map(|r| r.code);
        rows.push((record.line, std::mem::take(&mut input), code));
    }
    Ok(rows)
}

/// The packing that was refused, and why.
fn refused(bytes: &[u8], options: Options) -> (Packing, String) {
    match outcome(bytes, options) {
        Err(IngestError::Packed { packing, reason }) => (packing, reason),
        other => panic!("{other:?}"),
    }
}

/// A CSV of 5,000 rows of which no two are alike, so that it stays large when it is packed.
fn large() -> String {
    let rows = (1_u64..=5_000).map(|n| {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("{n},{mixed:016x},{:x}\n", mixed.rotate_left(17) ^ n)
    });
    std::iter::once("a,b,c\n".to_string()).chain(rows).collect()
}

#[test]
fn what_is_packed_is_read_as_if_it_were_not() {
    let text = large();
    let expected = csv(&text);
    assert_eq!(expected.len(), 5_000);
    for (packing, packed) in [
        (Packing::Gzip, gzip(text.as_bytes())),
        (Packing::Zstd, zstd(text.as_bytes())),
    ] {
        for options in [Options::csv(), named(packing)] {
            let mut records = Records::open(packed.as_slice(), options).expect("opens");
            assert_eq!(records.packing(), Some(packing));
            assert_eq!(read_all(&mut records), expected);
            assert_eq!(records.bytes(), text.len() as u64);
        }
    }
}

#[test]
fn the_first_bytes_tell_how_it_is_packed_whatever_the_name_says() {
    let rows = [ok(2, r#"{"a":"1"}"#)];
    assert_eq!(read(gzip(b"a\n1\n"), named(Packing::Zstd)), rows);
    assert_eq!(read(zstd(b"a\n1\n"), named(Packing::Gzip)), rows);
}

#[test]
fn members_and_frames_are_one_text() {
    let rows = [ok(2, r#"{"a":"12"}"#), ok(3, r#"{"a":"3"}"#)];
    let parts: [&[u8]; 5] = [b"a\n1", b"", b"2", b"\n3", b"\n"];
    assert_eq!(csv(parts.map(gzip).concat()), rows);
    assert_eq!(csv(parts.map(zstd).concat()), rows);
    let many: Vec<u8> = std::iter::repeat_n(gzip(b"1\n"), 10_000)
        .flatten()
        .collect();
    assert_eq!(read(many, Options::jsonl()).len(), 10_000);
    let many: Vec<u8> = std::iter::repeat_n(zstd(b"1\n"), 10_000)
        .flatten()
        .collect();
    assert_eq!(read(many, Options::jsonl()).len(), 10_000);
}

#[test]
fn a_gzip_header_may_hold_more() {
    let mut encoder = GzBuilder::new()
        .filename("in.csv")
        .comment("from the bank")
        .extra(vec![7; 60_000])
        .write(Vec::new(), Compression::best());
    encoder.write_all(b"a\n1\n").expect("packs");
    let packed = encoder.finish().expect("packs");
    assert_eq!(csv(packed), [ok(2, r#"{"a":"1"}"#)]);
}

#[test]
fn zeros_after_a_gzip_are_padding() {
    let packed = gzip(b"a\n1\n");
    for zeros in [1, 511, 200_000] {
        let padded = [packed.clone(), vec![0; zeros]].concat();
        assert_eq!(csv(&padded), [ok(2, r#"{"a":"1"}"#)]);
    }
    let apart = [gzip(b"a\n1\n"), vec![0; 512], gzip(b"2\n")].concat();
    assert_eq!(csv(apart).len(), 2);
}

#[test]
fn anything_else_after_its_end_is_refused() {
    for garbage in [
        &b"x"[..],
        b"\0\0x",
        b"\x1F",
        b"\x1F\x8B",
        b"\x1Fx garbage that follows",
    ] {
        let bytes = [&gzip(b"a\n1\n"), garbage].concat();
        assert_eq!(
            refused(&bytes, Options::csv()).0,
            Packing::Gzip,
            "{garbage:?}"
        );
    }
    for garbage in [&b"x"[..], b"\0", b"\x28\xB5", b"some garbage that follows"] {
        let bytes = [&zstd(b"a\n1\n"), garbage].concat();
        assert_eq!(
            refused(&bytes, Options::csv()).0,
            Packing::Zstd,
            "{garbage:?}"
        );
    }
}

#[test]
fn what_is_cut_off_anywhere_is_refused() {
    for packed in [gzip(b"a,b\n1,2\n3,4\n"), zstd(b"a,b\n1,2\n3,4\n")] {
        let packing = Packing::of_bytes(&packed).expect("packed");
        for len in 0..packed.len() {
            let cut = packed.get(..len).expect("shorter");
            let (refused, reason) = refused(cut, named(packing));
            assert_eq!(refused, packing, "{len}");
            if len >= 4 {
                assert!(reason.contains("its end is missing"), "{len}: {reason}");
            }
        }
    }
    let (_, reason) = refused(b"", named(Packing::Gzip));
    assert!(reason.contains("empty"), "{reason}");
}

#[test]
fn a_large_input_that_is_cut_off_is_refused_at_its_end() {
    let text = large();
    for packed in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
        let cut = packed.get(..packed.len() - 1).expect("shorter");
        let mut records = Records::open(cut, Options::csv()).expect("begins well");
        let mut input = String::new();
        let error = loop {
            match records.read(&mut input) {
                Ok(Some(_)) => input.clear(),
                Ok(None) => panic!("read as if it were whole"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, IngestError::Packed { .. }), "{error}");
    }
}

#[test]
fn a_changed_bit_is_found_by_the_checksum() {
    let text = large();
    let mut with_checksum = zstd::Encoder::new(Vec::new(), 1).expect("packs");
    with_checksum.include_checksum(true).expect("packs");
    with_checksum.write_all(text.as_bytes()).expect("packs");
    let expected = csv(&text);
    for packed in [
        gzip(text.as_bytes()),
        with_checksum.finish().expect("packs"),
    ] {
        for at in (18..packed.len()).step_by(packed.len() / 40) {
            let mut bytes = packed.clone();
            *bytes.get_mut(at).expect("there") ^= 4;
            match outcome(&bytes, Options::csv()) {
                Err(IngestError::Packed { .. }) => {}
                // A bit that says nothing of the text.
                Ok(rows) => assert_eq!(rows, expected, "byte {at}"),
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
}

#[test]
fn a_name_that_promises_a_packing_is_held_to_it() {
    let (packing, reason) = refused(b"a\n1\n", named(Packing::Gzip));
    assert_eq!(packing, Packing::Gzip);
    assert!(reason.contains("its name says gzip"), "{reason}");
    // A text may begin as a frame that zstd passes over.
    assert_eq!(csv(b"P*M\x18\n1\n"), [ok(2, "{\"P*M\\u0018\":\"1\"}")]);
    let led = [skippable(b"note"), zstd(b"a\n1\n"), skippable(b"")].concat();
    assert_eq!(read(led, named(Packing::Zstd)), [ok(2, r#"{"a":"1"}"#)]);
}

#[test]
fn what_is_packed_twice_is_refused() {
    for twice in [gzip(&zstd(b"a\n1\n")), zstd(&gzip(b"a\n1\n"))] {
        let (_, reason) = refused(&twice, Options::csv());
        assert!(reason.contains("packed twice"), "{reason}");
    }
}

#[test]
fn a_window_larger_than_the_bound_is_refused() {
    for (window_log, good) in [(27, true), (28, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("packs");
        encoder.window_log(window_log).expect("known");
        encoder.include_contentsize(false).expect("known");
        encoder.write_all(b"a\n1\n").expect("packs");
        let packed = encoder.finish().expect("packs");
        if good {
            assert_eq!(csv(packed), [ok(2, r#"{"a":"1"}"#)]);
        } else {
            let (_, reason) = refused(&packed, Options::csv());
            assert!(reason.contains("without --long"), "{reason}");
        }
    }
}

#[test]
fn a_bomb_meets_the_limit_of_unpacked_bytes_in_little_room() {
    let bomb = |packed: Vec<u8>| {
        assert!(packed.len() < 1 << 20, "{}", packed.len());
        let options = Options {
            max_input_bytes: Some(10_000_000),
            ..Options::csv()
        };
        let error = outcome(&packed, options).expect_err("refused");
        assert!(
            matches!(error, IngestError::TooLarge { limit: 10_000_000 }),
            "{error}"
        );
    };
    let zeros = [b"a\n".to_vec(), vec![b'0'; 11 << 20]].concat();
    bomb(gzip(&zeros));
    bomb(zstd(&zeros));
    let exact = Options {
        max_input_bytes: Some(4),
        ..Options::csv()
    };
    assert_eq!(read(gzip(b"a\n1\n"), exact), [ok(2, r#"{"a":"1"}"#)]);
}

#[test]
fn an_error_of_the_reader_below_stays_what_it_is() {
    struct Breaks(Vec<u8>, usize);
    impl std::io::Read for Breaks {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            let rest = self.0.get(self.1..).unwrap_or_default();
            if rest.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let count = rest.len().min(room.len()).min(3);
            room.iter_mut()
                .zip(rest)
                .take(count)
                .for_each(|(to, from)| *to = *from);
            self.1 += count;
            Ok(count)
        }
    }
    for whole in [gzip(b"a\n1\n"), zstd(b"a\n1\n"), b"a\n1\n".to_vec()] {
        for len in 0..whole.len() {
            let reader = Breaks(whole.get(..len).expect("shorter").to_vec(), 0);
            let error = Records::open(reader, Options::csv()).and_then(|mut records| {
                while records.read(&mut String::new())?.is_some() {}
                Ok(())
            });
            assert!(matches!(error, Err(IngestError::Io(_))), "{len}: {error:?}");
        }
    }
}

#[test]
fn interruptions_lose_nothing() {
    struct Interrupted(Vec<u8>, usize);
    impl std::io::Read for Interrupted {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1 % 2 == 1 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            match (self.0.get((self.1 / 2) - 1), room.first_mut()) {
                (Some(byte), Some(place)) => {
                    *place = *byte;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }
    for bytes in [
        b"a\n1\n2".to_vec(),
        [gzip(b"a\n1\n"), gzip(b"2")].concat(),
        [zstd(b"a\n1\n"), zstd(b"2")].concat(),
    ] {
        let mut records = Records::open(Interrupted(bytes, 0), Options::csv()).expect("opens");
        let mut input = String::new();
        let mut lines = Vec::new();
        while let Some(record) = records.read(&mut input).expect("reads") {
            lines.push(record.line);
        }
        assert_eq!(
            (lines, input.as_str()),
            (vec![2, 3], r#"{"a":"1"}{"a":"2"}"#)
        );
    }
}
