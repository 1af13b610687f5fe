//! The help: commands in groups, by what people want to do.

use clap::{Command, CommandFactory as _};

use super::args::Cli;

/// Groups and their commands; a command that no group names stands at the end.
const GROUPS: &[(&str, &[&str])] = &[
    ("Start", &["init", "run"]),
    (
        "Batches",
        &[
            "submit", "append", "release", "status", "list", "rows", "files", "history", "abort",
            "retry",
        ],
    ),
    ("Slow queries", &["query"]),
    ("Workers", &["work", "serve", "workers", "ops"]),
    (
        "Housekeeping",
        &[
            "migrate",
            "doctor",
            "config",
            "purge",
            "bench",
            "token",
            "completions",
        ],
    ),
];
const OTHERS: &str = "More";
const COLUMNS: usize = 80;

/// The whole command line, with its help.
pub(super) fn command() -> Command {
    let command = Cli::command();
    let list = grouped(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}Global flags:\n{{options}}{{after-help}}\n"
    ))
}

/// What a command is for, a line each, in their groups.
fn grouped(command: &Command) -> String {
    let shown: Vec<&Command> = command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .collect();
    let of = |name: &&str| shown.iter().copied().find(|c| c.get_name() == *name);
    let mut groups: Vec<(&str, Vec<&Command>)> = GROUPS
        .iter()
        .map(|(title, names)| (*title, names.iter().filter_map(of).collect()))
        .collect();
    let named = |c: &&Command| {
        GROUPS
            .iter()
            .any(|(_, names)| names.contains(&c.get_name()))
    };
    let others = shown.iter().copied().filter(|c| !named(c)).collect();
    groups.push((OTHERS, others));
    let width = shown.iter().map(|c| c.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (title, commands) in groups.into_iter().filter(|(_, c)| !c.is_empty()) {
        text.push_str(&format!("{title}:\n"));
        for command in commands {
            let about = command.get_about().map(ToString::to_string);
            let about = about.unwrap_or_default();
            let mut name = command.get_name();
            for line in wrapped(&about, COLUMNS.saturating_sub(width + 4)) {
                text.push_str(&format!("  {name:width$}  {line}\n"));
                name = "";
            }
        }
        text.push('\n');
    }
    text
}

/// A text in lines of at most so many characters, where its words allow.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands that have none below them.
    fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            if below.has_subcommands() {
                leaves(below, &path, found);
            } else {
                found.push((path, below));
            }
        }
    }

    /// The commands of ours in one line of a shell, without what the shell does itself.
    fn typed(line: &str) -> Vec<Vec<String>> {
        let words = shlex::split(line).unwrap_or_else(|| panic!("no shell reads {line}"));
        words
            .split(|word| ["|", "&&", ";"].contains(&word.as_str()))
            .filter(|words| words.first().is_some_and(|word| word == "rowmill"))
            .map(|words| {
                let redirects = |word: &&String| !word.starts_with(['<', '>']);
                words.iter().filter(redirects).cloned().collect()
            })
            .collect()
    }

    #[test]
    fn every_command_ends_its_help_with_an_example_that_can_be_typed() {
        let command = command();
        let mut found = Vec::new();
        leaves(&command, "rowmill", &mut found);
        assert!(found.len() >= 12, "the commands are gone");
        for (path, leaf) in found {
            let after = leaf.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            let (_, examples) = after
                .split_once("Example:\n")
                .unwrap_or_else(|| panic!("{path} --help has no example: {after:?}"));
            let examples: Vec<_> = examples.lines().flat_map(typed).collect();
            let own = |words: &Vec<String>| words.join(" ").starts_with(&path);
            assert!(examples.iter().any(own), "{path} is not in its own example");
            for words in examples {
                let parsed = super::super::args::parse(words.iter().map(Into::into).collect());
                let parsed = parsed.map_err(|e| e.to_string());
                assert!(parsed.is_ok(), "{words:?}: {}", parsed.err().unwrap());
            }
        }
    }

    #[test]
    fn the_help_names_every_command_once_and_fits_a_terminal() {
        let mut command = command();
        let help = command.render_help().to_string();
        let named = |c: &&Command| c.get_name() != "help";
        for below in command.get_subcommands().filter(named) {
            let begins = format!("  {} ", below.get_name());
            let lines = help.lines().filter(|line| line.starts_with(&begins));
            assert_eq!(lines.count(), 1, "{}\n{help}", below.get_name());
        }
        let list = grouped(&command);
        assert!(
            list.lines().all(|line| line.chars().count() <= 80),
            "{list}"
        );
        assert!(list.starts_with("Start:\n  init"), "{list}");
    }
}
