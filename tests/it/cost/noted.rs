//! What is noted in a file, and how what was found is compared with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What makes the noted costs anew.
const WRITE: &str = "ROWMILL_COSTS=write cargo test --features probe --test it cost";
/// Of what is near: a page that was full earlier, a beat in between.
const NEAR: f64 = 0.03;
/// A shape is measured again so often where it did not cost what is noted. What the machine was too busy for comes
/// later and costs more, once: rows that took so long that their outcomes were recorded in two parts. What the
/// code costs it costs each time.
const AGAIN: u32 = 4;

/// What a shape costs, one measure a line.
#[derive(Default)]
pub struct Costs {
    lines: Vec<(String, Cost)>,
}

#[derive(Clone)]
enum Cost {
    /// The same wherever and whenever it is measured.
    Exact(String),
    /// The same but for a thirtieth.
    Near(f64),
    /// The same but for this part of it.
    About(u64, f64),
    /// Never more: how often it is looked at something depends on what comes at the same moment.
    Most(u64),
    /// Another server's, which nothing is known of.
    Another,
}

impl Costs {
    pub fn exact(&mut self, measure: &str, cost: impl ToString) {
        let cost = Cost::Exact(cost.to_string());
        self.lines.push((measure.to_owned(), cost));
    }

    pub fn near(&mut self, measure: &str, cost: f64) {
        self.lines.push((measure.to_owned(), Cost::Near(cost)));
    }

    /// Of what is sent together as far as it is there to be sent: how much that is depends on the moment.
    pub fn about(&mut self, measure: &str, cost: u64, within: f64) {
        self.lines
            .push((measure.to_owned(), Cost::About(cost, within)));
    }

    /// What was seen now; noted is three times as much.
    pub fn most(&mut self, measure: &str, cost: u64) {
        self.lines.push((measure.to_owned(), Cost::Most(cost)));
    }

    /// What another server says in other words, or not at all.
    pub fn another(&mut self, measure: &str) {
        self.lines.push((measure.to_owned(), Cost::Another));
    }

    /// The sum of these, and each of them.
    pub fn all(&mut self, measure: &str, parts: &BTreeMap<String, u64>) {
        let list: Vec<String> = parts.iter().map(|(of, n)| format!("{of} {n}")).collect();
        let colon = if list.is_empty() { "" } else { ": " };
        let sum = parts.values().sum::<u64>();
        self.exact(measure, format!("{sum}{colon}{}", list.join(", ")));
    }

    /// How it differs from what is noted, measure by measure.
    fn wrong(&self, noted: &BTreeMap<String, String>) -> Vec<String> {
        let found = self.lines.iter().filter_map(|(measure, cost)| {
            let how = match noted.get(measure) {
                None if matches!(cost, Cost::Another) => return None,
                None => "is not noted".to_owned(),
                Some(noted) => cost.wrong(noted)?,
            };
            Some(format!("{measure} {how}"))
        });
        let has = |measure: &String| self.lines.iter().any(|(known, _)| known == measure);
        let gone = noted.keys().filter(|measure| !has(measure));
        let gone = gone.map(|measure| format!("{measure} is noted, and was not measured"));
        found.chain(gone).collect()
    }

    fn noted(&self) -> BTreeMap<String, String> {
        let lines = self.lines.iter();
        lines
            .map(|(measure, cost)| (measure.clone(), cost.noted()))
            .collect()
    }
}

impl Cost {
    fn noted(&self) -> String {
        match self {
            Self::Exact(cost) => cost.clone(),
            Self::Near(cost) => format!("~{cost:.1}"),
            Self::About(cost, _) => format!("~{cost}"),
            Self::Most(cost) => format!("<={}", (cost * 3 + 10).next_multiple_of(10)),
            Self::Another => "-".to_owned(),
        }
    }

    /// How it differs.
    fn wrong(&self, noted: &str) -> Option<String> {
        let is = match self {
            Self::Exact(cost) if cost == noted => None,
            Self::Exact(cost) => return Some(parts_that_differ(cost, noted)),
            Self::Near(cost) => {
                let was = noted.strip_prefix('~').and_then(|was| was.parse().ok());
                let is_near = |was: f64| (cost - was).abs() <= (was * NEAR).max(0.1);
                (!was.is_some_and(is_near)).then(|| format!("~{cost:.1}"))
            }
            Self::About(cost, within) => {
                let was = noted.strip_prefix('~').and_then(|was| was.parse().ok());
                #[allow(clippy::cast_precision_loss)]
                let differs = |was: u64| cost.abs_diff(was) as f64 > was as f64 * within;
                was.is_none_or(differs).then(|| format!("~{cost}"))
            }
            Self::Most(cost) => {
                let most = noted.strip_prefix("<=").and_then(|most| most.parse().ok());
                most.is_none_or(|most: u64| *cost > most)
                    .then(|| cost.to_string())
            }
            Self::Another => None,
        };
        is.map(|is| format!("= {is}, noted: {noted}"))
    }
}

/// A sum, and which of its parts are others than noted.
fn parts_that_differ(cost: &str, noted: &str) -> String {
    let parts = |cost: &str| -> BTreeMap<String, String> {
        let (_, parts) = cost.split_once(": ").unwrap_or_default();
        let parts = parts.split(", ").filter_map(|part| part.rsplit_once(' '));
        parts.map(|(of, n)| (of.to_owned(), n.to_owned())).collect()
    };
    let sum = |cost: &str| cost.split(':').next().unwrap_or_default().to_owned();
    let mut text = format!("= {}, noted: {}", sum(cost), sum(noted));
    let (is, was) = (parts(cost), parts(noted));
    let none = "0".to_owned();
    for of in is
        .keys()
        .chain(was.keys().filter(|of| !is.contains_key(*of)))
    {
        let (is, was) = (is.get(of).unwrap_or(&none), was.get(of).unwrap_or(&none));
        if is != was {
            let _ = write!(text, "\n    {of} {is}, noted: {was}");
        }
    }
    text
}

/// The costs that are noted in a file, and those that were found.
pub struct Book {
    file: &'static str,
    noted: BTreeMap<String, BTreeMap<String, String>>,
    found: Vec<(&'static str, Costs)>,
    wrong: Vec<String>,
}

impl Book {
    pub fn open(file: &'static str) -> Self {
        Self {
            file,
            noted: read(file),
            found: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Measures a shape until it costs what is noted; where that is written anew, until it costs the same twice.
    pub fn measure(&mut self, shape: &'static str, mut measure: impl FnMut() -> Costs) {
        let mut noted = self.noted.get(shape).cloned().unwrap_or_default();
        let mut costs = measure();
        for _ in 0..AGAIN {
            if is_written() {
                noted = costs.noted();
            } else if costs.wrong(&noted).is_empty() {
                break;
            }
            if !is_written() {
                println!("{shape} is measured again: {:?}", costs.wrong(&noted));
            }
            let again = measure();
            let is_same = is_written() && again.wrong(&noted).is_empty();
            costs = again;
            if is_same {
                break;
            }
        }
        let wrong = costs.wrong(&noted);
        self.wrong
            .extend(wrong.iter().map(|wrong| format!("{shape} {wrong}")));
        self.found.push((shape, costs));
    }

    /// Fails where anything differs from what the file says, with how it is made anew; writes it where that is asked.
    pub fn close(self, heading: &str) {
        if is_written() {
            let mut text = format!("# {heading}\n# Made anew by: {WRITE}\n");
            for (shape, costs) in &self.found {
                for (measure, cost) in &costs.lines {
                    let _ = writeln!(text, "{shape} {measure} = {}", cost.noted());
                }
            }
            std::fs::write(path(self.file), text).expect("written");
        }
        let mut wrong = self.wrong;
        let has = |shape: &String| self.found.iter().any(|(found, _)| found == shape);
        let gone = self
            .noted
            .keys()
            .filter(|shape| !is_written() && !has(shape));
        wrong.extend(gone.map(|shape| format!("{shape} is noted, and was not measured")));
        assert!(
            wrong.is_empty(),
            "{}\n\nWhat costs more is slower: mend it, or say in the change why it has to be. \
             What costs less is a gain: note it, so that it is kept.\n{WRITE}",
            wrong.join("\n")
        );
    }
}

/// Whether what is found is to be noted.
pub fn is_written() -> bool {
    std::env::var("ROWMILL_COSTS").is_ok_and(|word| word == "write")
}

fn path(file: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cost");
    folder.join(file)
}

/// Whether it was noted under this heading.
pub fn is_headed(file: &str, heading: &str) -> bool {
    let text = std::fs::read_to_string(path(file)).unwrap_or_default();
    is_written()
        || text
            .lines()
            .next()
            .is_some_and(|line| line == format!("# {heading}"))
}

/// What is noted, by shape and measure.
pub fn read(file: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path(file)).unwrap_or_default();
    let mut noted: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (of, cost) = line.split_once(" = ").expect("a measure and its cost");
        let (shape, measure) = of.split_once(' ').expect("a shape and a measure");
        let noted = noted.entry(shape.to_owned()).or_default();
        noted.insert(measure.to_owned(), cost.to_owned());
    }
    noted
}

#[test]
fn a_cost_that_differs_is_wrong_in_either_direction_and_one_that_is_gone_too() {
    let costs = |statements: &str, wal, looks| {
        let mut costs = Costs::default();
        costs.exact("statements", statements);
        costs.near("wal", wal);
        costs.most("looks", looks);
        costs
    };
    let noted = costs("5: begin 2, commit 3", 100.0, 10).noted();
    let wrong = |found: &Costs| found.wrong(&noted).len();
    assert_eq!(wrong(&costs("5: begin 2, commit 3", 102.9, 40)), 0);
    for statements in ["6: begin 3, commit 3", "4: begin 1, commit 3"] {
        assert_eq!(wrong(&costs(statements, 100.0, 10)), 1);
    }
    for wal in [96.9, 103.1] {
        assert_eq!(wrong(&costs("5: begin 2, commit 3", wal, 0)), 1);
    }
    assert_eq!(wrong(&costs("5: begin 2, commit 3", 100.0, 41)), 1);
    assert_eq!(wrong(&Costs::default()), 3, "noted, and not measured");
    let differs = costs("6: begin 3, commit 2, end 1", 100.0, 10).wrong(&noted);
    let named = "statements = 6, noted: 5\n    begin 3, noted: 2\n    commit 2, noted: 3\n    end 1, noted: 0";
    assert_eq!(differs, [named]);
    let trips = |trips| {
        let mut costs = Costs::default();
        costs.about("round_trips", trips, 0.1);
        costs
    };
    let wrong = |was: u64, found: [u64; 4]| {
        let noted = trips(was).noted();
        found.map(|found| trips(found).wrong(&noted).len())
    };
    assert_eq!(wrong(20, [18, 22, 17, 23]), [0, 0, 1, 1]);
    assert_eq!(wrong(0, [0, 1, 2, 3]), [0, 1, 1, 1]);
    assert_eq!(wrong(100, [90, 110, 89, 111]), [0, 0, 1, 1]);
}
