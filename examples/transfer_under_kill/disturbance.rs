//! What the program is asked, and what happens to the workers at random moments.

use std::process::{Child, Command};
use std::time::Duration;

use rowmill::BoxError;

/// What the command line asks for.
pub struct Asked {
    /// The server's address; without one it is a file of this run.
    pub database: Option<String>,
    /// The same seed makes the same choices; how far the workers are at each is a matter of chance.
    pub seed: u64,
    /// Restarts the server.
    pub restart: Option<String>,
}

impl Asked {
    pub fn read(args: &[String]) -> Result<Self, BoxError> {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos();
        let mut asked = Self {
            database: None,
            seed: now.into(),
            restart: None,
        };
        for pair in args.chunks(2) {
            match pair {
                [name, value] if name == "--database" => asked.database = Some(value.clone()),
                [name, value] if name == "--seed" => asked.seed = value.parse()?,
                [name, value] if name == "--restart" => asked.restart = Some(value.clone()),
                _ => return Err("[--database URL] [--seed N] [--restart COMMAND]".into()),
            }
        }
        if asked.restart.is_some() && asked.database.is_none() {
            return Err("--restart is for a server: with --database".into());
        }
        Ok(asked)
    }
}

pub struct Dice(pub u64);

impl Dice {
    /// A number below another.
    pub fn roll(&mut self, below: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(20 + self.roll(100))
    }
}

/// This program once more, as a worker; dropping it kills it.
pub struct Worker {
    args: [String; 3],
    child: Child,
}

impl Worker {
    pub fn start(at: &str, files: &str) -> Result<Self, BoxError> {
        let args = ["work".to_owned(), at.to_owned(), files.to_owned()];
        let child = spawn(&args)?;
        Ok(Self { args, child })
    }

    pub fn kill(&mut self) -> Result<(), BoxError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again if it has ended: it was killed, or came when there was no server.
    pub fn revive(&mut self) -> Result<(), BoxError> {
        if self.child.try_wait()?.is_some() {
            self.child = spawn(&self.args)?;
        }
        Ok(())
    }
}

fn spawn(args: &[String]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).args(args).spawn()
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// Runs a command line to its end.
pub fn shell(command: &str) -> Result<(), BoxError> {
    let status = Command::new("sh").args(["-c", command]).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command}: {status}").into()),
    }
}
