//! `completions`: a script that teaches a shell the commands and flags.

use std::path::Path;

use clap::Args;
use clap_complete::Shell;

use super::exit::Failure;
use super::{help, output};

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill completions bash >~/.local/share/bash-completion/completions/rowmill
  rowmill completions zsh >~/.zfunc/_rowmill
  rowmill completions fish >~/.config/fish/completions/rowmill.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// The script goes to a shell, whatever the environment says of JSON.
pub(super) fn run(args: &Completions, program: &str) -> Result<(), Failure> {
    // An application's own binary completes itself.
    let name = Path::new(program).file_name();
    let name = name.map_or(program.into(), std::ffi::OsStr::to_string_lossy);
    output::print(&script(args.shell, &name))
}

fn script(shell: Shell, name: &str) -> String {
    let mut command = help::command();
    // Not to stdout at once: what writes it there would panic at a pipe that was closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        let command = help::command();
        for shell in Shell::value_variants() {
            let script = script(*shell, "bankjobs");
            assert!(script.contains("bankjobs"), "{shell}");
            for command in command.get_subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell} does not know {name}");
            }
            assert!(
                script.contains("--database") || script.contains("-l database"),
                "{shell}"
            );
        }
    }
}
