//! Figures by name, and their median, least and most.

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What was measured, in the order in which it came first.
pub struct Figures {
    shape: String,
    of: Vec<(String, &'static str, Vec<f64>)>,
}

impl Figures {
    pub fn new(shape: &str) -> Self {
        Self {
            shape: shape.to_owned(),
            of: Vec::new(),
        }
    }

    /// One more value of a figure, in a unit.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        let name = name.into();
        match self.of.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push(value),
            None => self.of.push((name, unit, vec![value])),
        }
    }

    pub fn print(self) {
        for (name, unit, mut values) in self.of {
            values.sort_unstable_by(f64::total_cmp);
            let median = values[values.len() / 2];
            let (least, most) = (values[0], values[values.len() - 1]);
            println!(
                "{:<14}{name:<44}{:>13} {unit:<9}({} to {})",
                self.shape,
                short(median),
                short(least),
                short(most)
            );
        }
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
