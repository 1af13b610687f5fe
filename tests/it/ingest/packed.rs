//! Encode, pack, read: what is read is the plain text's, in whatever pieces it comes.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use rowmill::ingest::{Encoding, IngestError, Options, Packing};

use super::against::{Pieces, outcome, read};
use super::slow;
use super::{CSV_KINDS, JSON_KINDS, csv_options, sizes, soup};

/// Packs each part by itself, and puts them one after the other.
fn pack(parts: &[&[u8]], packing: Packing) -> Vec<u8> {
    let one = |part: &&[u8]| match packing {
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap()
        }
    };
    parts.iter().flat_map(one).collect()
}

fn packings() -> impl Strategy<Value = Packing> {
    prop_oneof![Just(Packing::Gzip), Just(Packing::Zstd)]
}

/// Units of UTF-16 of few kinds, lone surrogates among them.
const UNITS: &[&[u16]] = &[
    &[0x61],
    &[0x2C],
    &[0x2C],
    &[0x22],
    &[0x22],
    &[0x0A],
    &[0x0D],
    &[0x0D, 0x0A],
    &[0],
    &[0xE9],
    &[0xFEFF],
    &[0xFFFD],
    &[0x0A0A],
    &[0x222C],
    &[0xD83E, 0xDD80],
    &[0xD83E],
    &[0xDD80],
];

/// What packed and marked inputs begin with.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"\x1F\x8B\x08\0",
    b"\x28\xB5\x2F\xFD",
    b"\xFF\xFE",
    b"\xFE\xFF",
    b"\x50\x2A\x4D\x18",
];

/// What UTF-16 is in UTF-8, with a byte that is none for each unit that stands for no character.
fn in_utf8(units: &[u16], half: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(_) => bytes.push(0xFF),
        }
    }
    // A high surrogate and half a unit after it are one mistake.
    let open = matches!(units.last(), Some(0xD800..=0xDBFF));
    if half && !open {
        bytes.push(0xFF);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn utf_16_is_read_as_the_slow_reader_reads_its_text(
        units in prop::collection::vec(prop::sample::select(UNITS), 0..40).prop_map(|u| u.concat()),
        (little, marked, half) in any::<(bool, bool, bool)>(),
        packing in prop::option::of(packings()),
        options in csv_options(),
        sizes in sizes(),
    ) {
        let mut bytes: Vec<u8> = Vec::new();
        for unit in marked.then_some(0xFEFF).iter().chain(&units) {
            bytes.extend(if little { unit.to_le_bytes() } else { unit.to_be_bytes() });
        }
        bytes.extend(half.then_some(0x61));
        // A text that looks like the mark of UTF-32 is another test's.
        prop_assume!(!bytes.starts_with(b"\xFF\xFE\0\0") && !bytes.starts_with(b"\0\0\xFE\xFF"));
        let label = if little { "utf-16le" } else { "utf-16be" };
        let options = Options { encoding: label.parse().unwrap(), ..options };
        let mut text = in_utf8(&units, half);
        if marked {
            text.splice(0..0, "\u{FEFF}".bytes());
        }
        let expected = slow::csv(&text, &options);
        let bytes = packing.map_or(bytes.clone(), |packing| pack(&[&bytes], packing));
        let pieces = Pieces { bytes: &bytes, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, options), &expected);
    }

    #[test]
    fn any_bytes_in_any_encoding_are_read_as_the_whole_of_them_is_decoded(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            soup(CSV_KINDS, 60),
            soup(&[b"\x82", b"\xA0", b"\xFE", b"a", b",", b"\"", b"\n", b"\r", b"\x1B$B", b"\x81\x30"], 60),
        ],
        encoding in prop::sample::select(&[
            "windows-1252", "iso-8859-15", "windows-1253", "shift_jis", "euc-jp", "iso-2022-jp",
            "gb18030", "big5", "euc-kr", "koi8-r",
        ]),
        sizes in sizes(),
    ) {
        let known = encoding_rs::Encoding::for_label(encoding.as_bytes()).unwrap();
        let (text, _) = known.decode_without_bom_handling(&bytes);
        prop_assume!(!bytes.starts_with(b"\xFF\xFE") && !bytes.starts_with(b"\xFE\xFF"));
        prop_assume!(!bytes.starts_with(b"\xEF\xBB\xBF") && !bytes.starts_with(b"\0\0\xFE\xFF"));
        prop_assume!(!bytes.starts_with(b"\x1F\x8B\x08") && !bytes.starts_with(b"\x28\xB5\x2F\xFD"));
        let mut model = Vec::new();
        for c in text.chars() {
            match c {
                '\u{FFFD}' => model.push(0xFF),
                _ => model.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let options = Options { header: false, encoding: encoding.parse().unwrap(), ..Options::csv() };
        let expected = slow::csv(&model, &options);
        let pieces = Pieces { bytes: &bytes, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, options), &expected);
    }

    #[test]
    fn what_is_packed_in_parts_is_read_as_its_text(
        parts in prop::collection::vec(soup(CSV_KINDS, 20), 1..4),
        packing in packings(),
        named in any::<bool>(),
        options in csv_options(),
        sizes in sizes(),
    ) {
        let text = parts.concat();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let packed = pack(&parts, packing);
        let expected = slow::csv(&text, &options);
        let options = Options { packing: named.then_some(packing), ..options };
        let pieces = Pieces { bytes: &packed, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, options), &expected);
    }

    #[test]
    fn packed_json_lines_are_read_as_their_text(
        text in soup(JSON_KINDS, 40),
        packing in packings(),
        sizes in sizes(),
    ) {
        let packed = pack(&[&text], packing);
        let expected = Ok(slow::jsonl(&text, 1024 * 1024));
        let pieces = Pieces { bytes: &packed, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, Options::jsonl()), &expected);
    }

    #[test]
    fn a_damaged_packing_gives_its_text_or_an_error(
        text in soup(CSV_KINDS, 60),
        packing in packings(),
        at in any::<prop::sample::Index>(),
        change in prop_oneof![
            (1_u8..=255).prop_map(Some),
            Just(None),
        ],
    ) {
        let options = Options { header: false, packing: Some(packing), ..Options::csv() };
        let mut packed = pack(&[&text], packing);
        let whole = outcome(packed.as_slice(), options.clone()).unwrap();
        let at = at.index(packed.len());
        match change {
            Some(bits) => packed[at] ^= bits,
            None => packed.truncate(at),
        }
        match outcome(packed.as_slice(), options) {
            Ok(reading) => prop_assert_eq!(reading, whole),
            Err(IngestError::Packed { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        begin in prop::sample::select(BEGINNINGS),
        packing in prop::option::of(packings()),
        encoding in prop::sample::select(&["utf-8", "utf-16le", "windows-1252", "gb18030"]),
    ) {
        let bytes = [begin, &bytes].concat();
        let encoding: Encoding = encoding.parse().unwrap();
        for options in [Options::csv(), Options::jsonl()] {
            let options = Options { packing, encoding, ..options };
            drop(outcome(bytes.as_slice(), options));
        }
    }
}
