//! The commands of `docs/guide.md`, typed as they stand there, print what stands there.

use std::path::Path;
use std::process::{Command, Stdio};

/// A command of the page, and the lines below it.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// What stands in the page's blocks of commands, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut document) = (false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(step) = steps.last_mut().filter(|_| document) {
            step.command.push_str(&format!("\n{line}"));
            document = line != "END";
        } else if let Some(command) = line.strip_prefix("$ ") {
            document = command.ends_with("<<'END'");
            steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            });
        } else {
            let step = steps.last_mut().expect("a block begins with a command");
            step.shown.push(line.to_owned());
        }
    }
    steps
}

/// All of them for one shell, so that what one leaves (a folder, a job, an exit code) is there for the next.
fn script(steps: &[Step]) -> String {
    let mut script = "out=$PWD\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n".to_owned();
    for (n, step) in steps.iter().enumerate() {
        let command = &step.command;
        script.push_str(&format!(
            "(exit ${{code:-0}})\n{{ {command}\n}} >\"$out/{n}.txt\" 2>&1\ncode=$?\n"
        ));
    }
    script
}

/// Ids and times replaced, and blanks told as one: those of a table follow from what it holds.
fn masked(line: &str) -> String {
    let is_time = |word: &str| {
        let marks = word.matches(':').count().max(word.matches('-').count());
        marks == 2 && word.chars().all(|c| "0123456789:-.TZ".contains(c))
    };
    let words = line.split_whitespace().map(|word| match word {
        word if is_time(word) => "TIME".to_owned(),
        word => without_ids(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_ids(word: &str) -> String {
    let parts = word.split('/').map(|part| {
        let is_id = part.parse::<rowmill::BatchId>().is_ok();
        if is_id { "ID" } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether the lines are those that are shown, where `…` stands for any.
fn fits(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..]))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, after)| line == first && fits(rest, after)),
    }
}

#[test]
fn the_commands_of_the_guide_print_what_it_shows() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md");
    let steps = steps(&std::fs::read_to_string(page).unwrap());
    assert!(steps.len() >= 40, "the commands are gone from the guide");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("typed.sh"), script(&steps)).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_rowmill")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("timeout");
    shell.args(["300", "bash", "typed.sh"]);
    shell.current_dir(folder.path()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ROWMILL_") || ["RUST_LOG", "USER", "COLUMNS"].contains(&&*text) {
            shell.env_remove(&name);
        }
    }
    shell.env("PATH", format!("{}:{path}", program.display()));
    let ended = shell.output().unwrap();

    for (n, step) in steps.iter().enumerate() {
        let printed = folder.path().join(format!("{n}.txt"));
        let printed = std::fs::read_to_string(printed).unwrap_or_else(|_| {
            panic!("`{}` was not reached: {ended:?}", step.command);
        });
        let shown: Vec<String> = step.shown.iter().map(|line| masked(line)).collect();
        // The shell's own word for the worker that is killed comes when it pleases.
        let lines = printed.lines().filter(|line| !line.contains(" Killed "));
        let lines: Vec<String> = lines.map(masked).collect();
        assert!(
            fits(&shown, &lines),
            "`{}` printed\n{printed}\nand the guide shows\n{}",
            step.command,
            step.shown.join("\n")
        );
    }
}
