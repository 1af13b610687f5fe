//! What the system says of this process, and a process of its own for a part of a shape.

use std::process::Stdio;

use tokio::process::Command;

use crate::figures::Failed;
use crate::place::Fresh;

/// Runs this program with a part of a shape, whose memory is then its own: the numbers that it says.
pub async fn alone<const N: usize>(
    part: &str,
    fresh: &Fresh,
    rows: u64,
) -> Result<[f64; N], Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).arg(fresh.at()).arg(fresh.folder());
    command.arg(rows.to_string());
    let command = command.stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await?;
    if !output.status.success() {
        return Err(format!("{part}: a process of its own failed").into());
    }
    let said = String::from_utf8(output.stdout)?;
    let numbers: Result<Vec<f64>, _> = said.split_whitespace().map(str::parse).collect();
    let numbers: Result<[f64; N], _> = numbers?.try_into();
    Ok(numbers.map_err(|_| "a process failed")?)
}

/// Forgets the most memory that was held before, where the system can: proc(5), `clear_refs`.
pub fn forget_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// The most memory that was held, in MB of a million bytes.
pub fn peak() -> Result<f64, Failed> {
    let kilobytes = number("/proc/self/status", "VmHWM:")?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// Bytes that were given to the system to write.
pub fn written() -> Result<f64, Failed> {
    number("/proc/self/io", "wchar:")
}

fn number(file: &str, name: &str) -> Result<f64, Failed> {
    let text = std::fs::read_to_string(file)?;
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name));
    let value = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(value.ok_or(format!("no {name} in {file}"))?.parse()?)
}

/// Seconds of processor time.
pub fn cpu() -> Result<f64, Failed> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc(5): after the name in brackets, the 12th and 13th field, in hundredths of a second.
    let fields = stat.rsplit(')').next().ok_or("no stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64, Failed> { Ok(fields.get(at).ok_or("short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
