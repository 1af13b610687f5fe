//! The log: to stderr, so that stdout holds answers alone.

use tracing_subscriber::EnvFilter;

use super::args::LogForm;

/// Starts the log, unless the application has started one.
///
/// `base` is what is logged without `-v`; each `-v` adds a level. `RUST_LOG` wins over both.
pub(super) fn start(form: LogForm, base: u8, verbose: u8) {
    let level = match base.saturating_add(verbose) {
        // What a handler says on its stderr is for whoever runs it.
        0 => "warn,rowmill::handler=info",
        // What AWS's libraries say of a request shows its headers, what PostgreSQL's driver says its rows.
        1 => "info,refinery_core=warn,aws_=warn,tokio_postgres=info",
        2 => "debug,refinery_core=warn,aws_=warn,tokio_postgres=info",
        _ => "trace,aws_=warn,tokio_postgres=info",
    };
    let filter = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(super::progress::Beside)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let started = match form {
        LogForm::Text => builder.try_init(),
        LogForm::Json => builder.json().with_ansi(false).try_init(),
    };
    // An application that has its own log keeps it.
    drop(started);
}
