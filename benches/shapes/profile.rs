//! What a profiler is to look at: `bench/profile` starts one that waits for a word, and this says it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use crate::figures::Failed;

/// What is to be looked at, and the pipes by which `perf` is told so and answers.
const OF: &str = "ROWMILL_PROFILE";
const PIPES: &str = "ROWMILL_PROFILE_PIPES";

/// As long as it lives it is looked at what goes on, on the whole machine.
pub struct Profiled(Option<(File, File)>);

impl Profiled {
    /// Where this is what is to be looked at.
    pub fn of(name: &str) -> Result<Self, Failed> {
        if std::env::var(OF).is_ok_and(|of| of == name) {
            let pipes = std::env::var(PIPES)?;
            let (tell, hear) = pipes.split_once(':').ok_or("there are two pipes")?;
            let tell = OpenOptions::new().write(true).open(tell)?;
            let mut profiled = Self(Some((tell, File::open(hear)?)));
            profiled.say("enable")?;
            // What a shape prints is read by whoever started it.
            eprintln!("profiling {name}");
            return Ok(profiled);
        }
        Ok(Self(None))
    }

    fn say(&mut self, word: &str) -> Result<(), Failed> {
        if let Some((tell, hear)) = &mut self.0 {
            writeln!(tell, "{word}")?;
            let mut answer = [0; 5];
            hear.read_exact(&mut answer)?;
        }
        Ok(())
    }
}

impl Drop for Profiled {
    fn drop(&mut self) {
        if let Err(error) = self.say("disable") {
            eprintln!("the profiler goes on: {error}");
        }
    }
}
