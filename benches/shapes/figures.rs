//! Figures by name: their median, least and most, and what they are to reach.

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What a figure's median is to be.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Target {
    fn is_met_by(self, median: f64) -> bool {
        match self {
            Self::AtLeast(least) => median >= least,
            Self::AtMost(most) => median <= most,
            Self::Below(bound) => median < bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Below(bound) => write!(f, "< {bound}"),
        }
    }
}

struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    target: Option<Target>,
}

/// What was measured, in the order in which it came first.
pub struct Figures {
    shape: String,
    of: Vec<Figure>,
    notes: Vec<String>,
}

impl Figures {
    pub fn new(shape: &str) -> Self {
        Self {
            shape: shape.to_owned(),
            of: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// One more value of a figure, in a unit.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.aim(name, unit, value, None);
    }

    /// One more value of a figure that is to reach something.
    pub fn aim(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        target: impl Into<Option<Target>>,
    ) {
        let name = name.into();
        match self.of.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.of.push(Figure {
                name,
                unit,
                values: vec![value],
                target: target.into(),
            }),
        }
    }

    /// How something was made, once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The values of a figure, the least first; none where it was not measured.
    pub fn sorted(&self, name: &str) -> Vec<f64> {
        let figure = self.of.iter().find(|figure| figure.name == name);
        let mut values = figure.map_or_else(Vec::new, |figure| figure.values.clone());
        values.sort_unstable_by(f64::total_cmp);
        values
    }

    pub fn print(&self) {
        for note in &self.notes {
            println!("{:<16}{note}", self.shape);
        }
        for Figure {
            name, unit, target, ..
        } in &self.of
        {
            let values = self.sorted(name);
            let median = median(&values);
            let (least, most) = (values[0], values[values.len() - 1]);
            let judged = target.map_or_else(String::new, |target| {
                let word = if target.is_met_by(median) {
                    "met"
                } else {
                    "missed"
                };
                format!("  target {target}: {word}")
            });
            println!(
                "{:<16}{name:<46}{:>13} {unit:<9}({} to {}){judged}",
                self.shape,
                short(median),
                short(least),
                short(most)
            );
        }
    }
}

/// Of values that are sorted; between the two in the middle where their number is even.
pub fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*below, *above)
        }
        (_, middle) => middle.copied().unwrap_or(f64::NAN),
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

pub fn per_second(count: u64, took: std::time::Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

pub fn milliseconds(took: std::time::Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
