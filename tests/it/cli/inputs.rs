//! Inputs as the world sends them: packed, in other encodings, with any JSON.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::rowmill::Rowmill;

const SUBMIT: &str = "--app test --op rows --json";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The inputs of a batch, as its JSON Lines show them.
#[track_caller]
fn inputs(rowmill: &Rowmill, id: &str) -> Vec<String> {
    let rows = rowmill.run(&format!("rows {id} --format jsonl")).code(0);
    rows.stdout.lines().map(|row| raw(row, "input")).collect()
}

/// The text of one member of a JSON object, byte for byte.
#[track_caller]
fn raw(object: &str, member: &str) -> String {
    type Members<'a> = std::collections::HashMap<&'a str, &'a serde_json::value::RawValue>;
    let members: Members<'_> = serde_json::from_str(object).unwrap();
    members[member].get().to_owned()
}

#[test]
fn packed_files_and_pipes_are_unpacked() {
    let rowmill = Rowmill::new();
    let csv = b"n\n1\n\xC3\xA9\n";
    let jsonl = "{\"n\":\"1\"}\n{\"n\":\"é\"}\n".as_bytes();
    for (name, bytes) in [
        ("in.csv.gz", gzip(csv)),
        ("in.csv.zst", zstd(csv)),
        ("in.CSV.GZ", gzip(csv)),
        ("in.jsonl.gz", gzip(jsonl)),
        ("in.ndjson.zst", zstd(jsonl)),
        ("in.csv", gzip(csv)),
        (
            "two.csv.gz",
            [gzip(b"n\n1"), gzip(b"\n\xC3\xA9\n")].concat(),
        ),
        (
            "two.csv.zst",
            [zstd(b"n\n1"), zstd(b"\n\xC3\xA9\n")].concat(),
        ),
        ("in.gz --format csv", gzip(csv)),
        ("in.dat.zst --format csv", zstd(csv)),
        ("in.txt --format csv", zstd(csv)),
    ] {
        rowmill.write_bytes(name.split(' ').next().unwrap(), &bytes);
        let id = rowmill.run(&format!("submit {name} {SUBMIT}")).code(0).id();
        assert_eq!(
            inputs(&rowmill, &id),
            [r#"{"n":"1"}"#, r#"{"n":"é"}"#],
            "{name}"
        );
    }
    for bytes in [gzip(csv), zstd(csv), csv.to_vec()] {
        let submit = format!("submit - --format csv {SUBMIT}");
        let id = rowmill.run_fed_bytes(&submit, &bytes).code(0).id();
        assert_eq!(inputs(&rowmill, &id).len(), 2);
    }
}

fn cut(mut packed: Vec<u8>) -> Vec<u8> {
    packed.truncate(packed.len() - 5);
    packed
}

#[test]
fn a_damaged_archive_is_exit_2_and_is_named() {
    let rowmill = Rowmill::new();
    let text = b"n\n1\n2\n";
    for (name, bytes) in [
        ("cut.csv.gz", cut(gzip(text))),
        ("cut.csv.zst", cut(zstd(text))),
        ("more.csv.gz", [gzip(text), b"more".to_vec()].concat()),
        ("more.csv.zst", [zstd(text), b"more".to_vec()].concat()),
        ("plain.csv.gz", text.to_vec()),
        ("empty.csv.zst", Vec::new()),
        ("twice.csv.gz", gzip(&gzip(text))),
    ] {
        rowmill.write_bytes(name, &bytes);
        for command in ["submit", "submit --dry-run", "run"] {
            let args = format!("{command} {name} {SUBMIT}");
            let problem = rowmill.run(&args).code(2).problem();
            assert_eq!(problem["id"], "unreadable_input", "{args}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{name}: ")), "{detail}");
            assert!(detail.contains("cannot be unpacked"), "{detail}");
        }
    }
}

#[test]
fn nothing_is_stored_of_an_archive_whose_end_is_missing() {
    let rowmill = Rowmill::new();
    // More than a piece of a load, so that some of it is stored before the end turns out to be missing.
    let mixed = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let rows = (0..100_000).map(|n| format!("{n},{:x}\n", mixed(n)));
    let text: String = std::iter::once("n,m\n".to_owned()).chain(rows).collect();
    rowmill.write_bytes("cut.csv.gz", &cut(gzip(text.as_bytes())));
    rowmill.write_bytes("cut.csv.zst", &cut(zstd(text.as_bytes())));
    for name in ["cut.csv.gz", "cut.csv.zst"] {
        let submit = format!("submit {name} {SUBMIT} --external-id x");
        let problem = rowmill.run(&submit).code(2).problem();
        assert_eq!(problem["id"], "unreadable_input");
        rowmill.run("status ext:test/x").code(3);
    }
    let database = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    let left = |table: &str| -> i64 {
        let count = format!("select count(*) from {table}");
        database.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((left("batches"), left("blocks")), (0, 0));
}

#[test]
fn a_bomb_is_held_to_the_limit_of_unpacked_bytes() {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    rowmill.write(
        "rowmill.toml",
        &format!("max_input_bytes = 1000000\n{config}"),
    );
    let bomb = [b"n\n".to_vec(), b"1\n".repeat(1_000_000)].concat();
    for (name, packed) in [("bomb.csv.gz", gzip(&bomb)), ("bomb.csv.zst", zstd(&bomb))] {
        assert!(packed.len() < 100_000);
        rowmill.write_bytes(name, &packed);
        let problem = rowmill
            .run(&format!("submit {name} {SUBMIT}"))
            .code(2)
            .problem();
        assert_eq!(problem["id"], "input_too_large");
        assert!(problem["detail"].as_str().unwrap().starts_with(name));
    }
}

#[test]
fn encodings_are_read_by_mark_or_by_name() {
    let rowmill = Rowmill::new();
    let text = "n,café\n1,€\n";
    for (flags, bytes) in [
        ("", utf16(&format!("\u{FEFF}{text}"))),
        ("--encoding windows-1252", utf16(&format!("\u{FEFF}{text}"))),
        ("--encoding utf-16le", utf16(text)),
        ("--encoding UTF-16", utf16(text)),
        ("--encoding windows-1252", b"n,caf\xE9\n1,\x80\n".to_vec()),
        ("--encoding latin1", b"n,caf\xE9\n1,\x80\n".to_vec()),
        ("--encoding utf-8", text.as_bytes().to_vec()),
    ] {
        for packed in [bytes.clone(), gzip(&bytes)] {
            rowmill.write_bytes("in.csv", &packed);
            let submit = format!("submit in.csv {SUBMIT} {flags}");
            let id = rowmill.run(&submit).code(0).id();
            assert_eq!(
                inputs(&rowmill, &id),
                [r#"{"n":"1","café":"€"}"#],
                "{flags}"
            );
        }
    }
    for label in ["utf-32", "ebcdic", "x"] {
        let told = rowmill
            .run(&format!("submit in.csv {SUBMIT} --encoding {label}"))
            .code(2)
            .problem();
        let detail = told["detail"].as_str().unwrap();
        assert!(
            detail.contains("UTF-16LE, UTF-16BE, windows-1252"),
            "{detail}"
        );
    }
    rowmill.write_bytes("in.csv", b"\xFF\xFE\0\0n\0\0\0");
    let told = rowmill
        .run(&format!("submit in.csv {SUBMIT}"))
        .code(2)
        .problem();
    assert_eq!(told["id"], "unusable_input");
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .starts_with("in.csv: the input is in UTF-32")
    );
    rowmill.write_bytes("in.csv", b"caf\xE9\n1\n");
    let told = rowmill
        .run(&format!("submit in.csv {SUBMIT}"))
        .code(2)
        .problem();
    assert_eq!(told["id"], "unusable_input");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with("in.csv: line 1: "), "{detail}");
}

#[test]
fn a_dry_run_tells_how_an_input_is_packed_and_written() {
    let rowmill = Rowmill::new();
    let mut bytes = utf16("\u{FEFF}a,b\n1,2\n\n3\n");
    bytes.extend([0x00, 0xD8]);
    bytes.extend(utf16(",4\n"));
    rowmill.write_bytes("in.csv.zst", &zstd(&bytes));
    let dry = "submit --dry-run in.csv.zst --app test --op rows";
    let counted = rowmill.run(&format!("{dry} --json")).code(0).json();
    assert_eq!(counted["encoding"], "UTF-16LE");
    assert_eq!(counted["packing"], "zstd");
    assert_eq!(
        [&counted["rows"], &counted["rejected"], &counted["blank"]],
        [3, 2, 1]
    );
    let bad = &counted["first_rejected"];
    assert_eq!((&bad[0]["line"], &bad[1]["line"]), (&json!(4), &json!(5)));
    assert_eq!(bad[0]["message"]["errcode"], "field_count");
    assert_eq!(bad[1]["message"]["errcode"], "bad_encoding");
    let text = rowmill.run(dry).code(0).stdout;
    assert!(text.contains("\n  form: zstd, UTF-16LE\n"), "{text}");
    assert!(
        text.contains("line 5: not UTF-16LE at character 1 of the record"),
        "{text}"
    );

    rowmill.write("in.csv", "a\n1\n");
    let plain = "submit --dry-run in.csv --app test --op rows";
    let counted = rowmill.run(&format!("{plain} --json")).code(0).json();
    assert_eq!(
        (&counted["encoding"], &counted["packing"]),
        (&json!("UTF-8"), &json!(null))
    );
    assert!(!rowmill.run(plain).code(0).stdout.contains("form:"));
    assert!(!rowmill.path("rowmill.db").exists());
}

#[test]
fn a_nul_in_a_field_goes_all_the_way() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n,a\0b\n\0,\"x\0\"\nbad,\0\0\n");
    let id = rowmill.run(&format!("run in.csv {SUBMIT}")).code(1).id();
    assert_eq!(
        inputs(&rowmill, &id),
        [
            r#"{"n":"\u0000","a\u0000b":"x\u0000"}"#,
            r#"{"n":"bad","a\u0000b":"\u0000\u0000"}"#
        ]
    );
    let shown = rowmill.run(&format!("rows {id} --json")).code(0).stdout;
    // The handler gave it back, as Python writes it.
    assert_eq!(
        raw(shown.lines().next().unwrap(), "result"),
        r#"{"n": "\u0000"}"#
    );
    let report = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert_eq!(
        report,
        "n,a\0b,_line,_status,_errcode,_message\n\0,x\0,2,success,,\n\
         bad,\0\0,3,failed,is_bad,n: it is bad\n"
    );
    rowmill.write("back.csv", &report);
    let again = rowmill
        .run(&format!("submit back.csv {SUBMIT}"))
        .code(0)
        .id();
    assert_eq!(inputs(&rowmill, &again), inputs(&rowmill, &id));
}

/// Answers each row with its input's very text, which no reader of JSON has touched.
const ECHO: &str = r#"
import sys
for row in sys.stdin.buffer:
    row = row.rstrip(b"\n")
    line = row.split(b'"line":', 1)[1].split(b",", 1)[0]
    text = row[:-1].split(b'"input":', 1)[1]
    sys.stdout.buffer.write(b'{"line":%s,"status":"success","result":%s}\n' % (line, text))
    sys.stdout.buffer.flush()
"#;

#[test]
fn a_json_text_comes_through_store_and_handler_byte_for_byte() {
    let rowmill = Rowmill::new();
    rowmill.write("handler.py", ECHO);
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let digits = "1234567890".repeat(10);
    let texts = [
        r#"{"n":1e400,"m":-1E-400,"k":1.10,"z":-0,"y":0.0}"#,
        digits.as_str(),
        r#""lone \ud800 and \udc00\ud83e, whole \ud83e\udd80, nul \u0000, slash \/""#,
        r#"{"b":1,"a":2,"b":3,"":null}"#,
        r#"{ "a" : [ 1 , 2 ],	"b":{ } }"#,
        "null",
        "-12",
        "\"\"",
        "[]",
        r#"[1,"two",null,{"input":{"line":7}}]"#,
        "\"\u{2028}é🦀\u{7F}\"",
        deep.as_str(),
    ];
    let file: String = texts.iter().map(|text| format!(" {text}\t\r\n")).collect();
    rowmill.write("in.jsonl", &format!("\u{FEFF}{file}"));
    let id = rowmill.run(&format!("run in.jsonl {SUBMIT}")).code(0).id();
    let shown = rowmill
        .run(&format!("rows {id} --format jsonl"))
        .code(0)
        .stdout;
    assert_eq!(shown.lines().count(), texts.len());
    for ((shown, text), line) in shown.lines().zip(texts).zip(1..) {
        assert_eq!(raw(shown, "line"), line.to_string());
        assert_eq!(raw(shown, "input"), text);
        assert_eq!(raw(shown, "result"), text);
    }
}

#[test]
fn what_is_no_json_is_a_failed_row_with_its_line_as_a_string() {
    let rowmill = Rowmill::new();
    let too_deep = format!("{}{}", "[".repeat(501), "]".repeat(501));
    let bad = [
        "NaN",
        "[1,]",
        "{\"a\":1,}",
        "{'a':1}",
        "1 2",
        "{\"a\":",
        too_deep.as_str(),
    ];
    let file: String = bad.iter().map(|line| format!("{line}\n")).collect();
    rowmill.write("in.jsonl", &format!("{file}{{\"n\":\"1\"}}\n"));
    let batch = rowmill
        .run(&format!("run in.jsonl {SUBMIT}"))
        .code(1)
        .json();
    assert_eq!(batch["counts"]["failed"], bad.len());
    assert_eq!(batch["counts"]["success"], 1);
    let id = batch["id"].as_str().unwrap();
    for (kept, line) in inputs(&rowmill, id).iter().zip(bad) {
        assert_eq!(serde_json::from_str::<String>(kept).unwrap(), line);
    }
    let shown = rowmill
        .run(&format!("rows {id} --status failed --json"))
        .code(0)
        .stdout;
    assert_eq!(shown.matches("\"bad_json\"").count(), bad.len());
}
