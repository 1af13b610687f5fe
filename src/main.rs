//! The `rowmill` command.

fn main() -> std::process::ExitCode {
    rowmill::cli::run(rowmill::Builder::new())
}
