//! How many instructions a row costs where no database is asked: read from a file, kept in a block, its outcome written.
//!
//! Callgrind counts them in a child, where valgrind is there. A compiler makes other ones than the next: they are
//! compared where it is the one that they were noted with.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};

use rowmill::ingest::{Options, Records};
use rowmill::model::{BlockBuilder, RowOutcome, encode_outcome};

use super::noted::{Book, Costs, is_headed, is_written, read};

pub const FILE: &str = "instructions.txt";
/// What is counted, by what is written of it.
const COUNTED: [(&str, &str); 3] = [
    ("json_lines", "rowmill_cost_of_json_lines"),
    ("csv", "rowmill_cost_of_csv"),
    ("outcomes", "rowmill_cost_of_outcomes"),
];
/// How many rows the child has.
const CHILD: &str = "ROWMILL_TEST_INSTRUCTIONS";
const ROWS: u32 = 2000;

fn blocks(text: &str, options: Options) -> u32 {
    let mut records = Records::open(text.as_bytes(), options).expect("opened");
    let mut builder = BlockBuilder::new(500, usize::MAX);
    let (mut input, mut blocks, mut line) = (String::new(), 0, 0);
    while records.read(&mut input).expect("readable").is_some() {
        line += 1;
        blocks += u32::from(builder.push(line, &input).is_some());
        input.clear();
    }
    blocks
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rowmill_cost_of_json_lines(text: &String) -> u32 {
    blocks(text, Options::jsonl())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rowmill_cost_of_csv(text: &String) -> u32 {
    blocks(text, Options::csv())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rowmill_cost_of_outcomes(outcomes: &Vec<RowOutcome>) -> usize {
    let mut body = String::new();
    outcomes
        .iter()
        .for_each(|outcome| encode_outcome(&mut body, outcome));
    body.len()
}

#[test]
fn run_as_what_is_counted() {
    let Ok(rows) = std::env::var(CHILD) else {
        return;
    };
    let rows: u32 = rows.parse().expect("a number");
    let lines: String = (0..rows)
        .map(|n| {
            format!(
                "{{\"account\":\"ACC{n:06}\",\"amount\":\"{n}.00\",\"ref\":\"REF-{n:012x}\"}}\n"
            )
        })
        .collect();
    let csv: String = (0..rows)
        .map(|n| format!("ACC{n:06},{n}.00,REF-{n:012x}\n"))
        .collect();
    let csv = format!("account,amount,ref\n{csv}");
    let outcomes: Vec<RowOutcome> = (0..rows)
        .map(|n| RowOutcome::success(Some(format!("{{\"ref\":\"REF-{n:012x}\",\"ok\":true}}"))))
        .collect();
    rowmill_cost_of_json_lines(&lines);
    rowmill_cost_of_csv(&csv);
    rowmill_cost_of_outcomes(&outcomes);
}

/// The instructions of each function that is called from another one, with what it calls itself, and which compiler made it.
fn counted(out: &Path) -> (BTreeMap<String, u64>, String) {
    let text = std::fs::read(out).expect("what was counted");
    let text = String::from_utf8_lossy(&text);
    let (_, compiler) = text
        .split_once("/rustc/")
        .expect("a path of the compiler's");
    let compiler = compiler.split('/').next().expect("its commit").to_owned();
    // A name is told once, with its number.
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut counts = BTreeMap::new();
    let (mut called, mut counts_next) = ("", false);
    for line in text.lines() {
        let named = line.strip_prefix("cfn=").or(line.strip_prefix("fn="));
        if let Some((number, name)) = named.and_then(|named| named.split_once(')')) {
            if !name.is_empty() {
                names.insert(number, name.trim());
            }
            if line.starts_with("cfn=") {
                called = names.get(number).copied().unwrap_or_default();
            }
        } else if line.starts_with("calls=") {
            counts_next = true;
        } else if std::mem::take(&mut counts_next) {
            let count = line.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
            *counts.entry(called.to_owned()).or_default() += count.unwrap_or_default();
        }
    }
    (counts, compiler)
}

#[test]
fn what_a_row_costs_in_instructions_is_what_is_noted() {
    let asked = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !asked.is_ok_and(|status| status.success()) {
        println!("valgrind is not there: no instructions are counted");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("counted");
    let mut child = Command::new("valgrind");
    child
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "cost::instructions::run_as_what_is_counted"])
        .args(["--test-threads", "1"])
        .env(CHILD, ROWS.to_string());
    let mut heading = String::new();
    let mut measure = || {
        let ran = child.output().expect("valgrind");
        assert!(ran.status.success(), "{ran:?}");
        let (counts, compiler) = counted(&out);
        heading = format!(
            "What a row costs in instructions, by the compiler {compiler:.9}, debug {}, AVX2 {}.",
            cfg!(debug_assertions),
            has_avx2()
        );
        let same = is_headed(FILE, &heading);
        if !same {
            println!("nothing is compared, they were noted elsewhere: {heading}");
        }
        let mut costs = Costs::default();
        for (what, function) in COUNTED {
            match counts.get(function) {
                None => panic!("{function} was not counted"),
                Some(count) if same => costs.near(what, *count as f64 / f64::from(ROWS)),
                Some(_) => costs.another(what),
            }
        }
        costs
    };
    let mut book = Book::open(FILE);
    assert!(is_written() || !read(FILE).is_empty(), "nothing is noted");
    book.measure("row", &mut measure);
    book.close(&heading);
}

/// What searches and copies bytes is chosen by it.
fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}
