//! Lines and fields as Python's `csv` module sees them: the readers that users compare with.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rowmill::ingest::{Options, Records};

use super::slow;

/// Reads a JSON list of texts; writes of each the line and the fields of each record that is not
/// blank. `line_num` is the last line of a record, so that the next one begins after it.
const SCRIPT: &str = r#"
import csv, io, json, sys
csv.field_size_limit(1 << 30)
answers = []
for text in json.load(sys.stdin):
    reader = csv.reader(io.StringIO(text, newline=""))
    records, line = [], 1
    for fields in reader:
        if fields:
            records.append([line, fields])
        line = reader.line_num + 1
    answers.append(records)
json.dump(answers, sys.stdout)
"#;

const PARTS: [&str; 14] = [
    "a", "é", ",", ",", "\"", "\"", "\n", "\r", "\r\n", " ", "\"\"", ",\"", "\",", "\"\n",
];

/// Texts of few parts, the same at every run.
fn texts() -> Vec<String> {
    let mut state = 1_u64;
    let mut next = |most: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from((state >> 33) % most).unwrap()
    };
    (0..20_000)
        .map(|_| (0..next(25)).map(|_| PARTS[next(14)]).collect())
        .collect()
}

#[test]
fn lines_and_fields_are_those_that_python_sees() {
    // What to make of a quote that nothing closes is ours.
    let closed = |text: &String| slow::fields_of_all(text.as_bytes()).is_some();
    let texts: Vec<String> = texts().into_iter().filter(closed).collect();
    assert!(texts.len() > 5_000, "{}", texts.len());
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin
        .write_all(&serde_json::to_vec(&texts).unwrap())
        .unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs: Vec<Vec<(u32, Vec<String>)>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs.len(), texts.len());
    for (text, theirs) in texts.iter().zip(theirs) {
        let options = Options {
            header: false,
            ..Options::csv()
        };
        let mut records = Records::open(text.as_bytes(), options).unwrap();
        let mut ours = Vec::new();
        let mut input = String::new();
        while let Some(record) = records.read(&mut input).unwrap() {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&input).unwrap();
            let field = |n: usize| object[&format!("column_{n}")].as_str().unwrap().to_owned();
            ours.push((record.line, (1..=object.len()).map(field).collect()));
            input.clear();
        }
        assert_eq!(ours, theirs, "{text:?}");
    }
}
