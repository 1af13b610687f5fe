//! `files`: the output files of a batch that has ended.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt as _;

use super::args::Files;
use super::exit::{About, Failure};
use super::named;
use super::output;
use super::session::Session;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::model::OutputFile;

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

pub(super) async fn run(session: &Session, args: &Files) -> Result<(), Failure> {
    let (client, id) = named::find(session, &args.named).await?;
    client.files(id).await.about(id)?;
    let batch = client.batch_now(id).await.about(id)?;
    let mut places = Vec::new();
    if let Some(dir) = &args.download {
        std::fs::create_dir_all(dir)
            .map_err(|e| Failure::io(format_args!("making {}", dir.display()), e))?;
        for file in &batch.files {
            places.push(download(&client, file, dir).await?);
        }
    }
    if session.json {
        return output::print_json(&batch);
    }
    if batch.files.is_empty() {
        return output::print("no output files\n");
    }
    if args.download.is_none() {
        return output::print(&output::files(&client, &batch));
    }
    let lines: String = places
        .iter()
        .map(|place| format!("{}\n", place.display()))
        .collect();
    output::print(&lines)
}

/// Writes one file under its logical name: whole, or not at all.
async fn download(client: &Client, file: &OutputFile, dir: &Path) -> Result<PathBuf, Failure> {
    let to = dir.join(&file.name);
    let failed = |e| Failure::io(format_args!("writing {}", to.display()), e);
    let mut from = client.open_file(file).await?;
    let mut temp = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The umask takes its part of it, as of any file that a program makes.
        temp.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut temp = temp.prefix(".rowmill-").tempfile_in(dir).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = from
            .read(&mut piece)
            .await
            .map_err(|e| Failure::io(format_args!("reading {}", client.file_place(file)), e))?;
        let bytes = piece.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hash.update(bytes);
        temp.write_all(bytes).map_err(failed)?;
    }
    if crate::files::hex(&hash.finalize()) != file.sha256 {
        let text = format!(
            "{} is not the file that was published: its SHA-256 differs",
            client.file_place(file)
        );
        return Err(Error::new(ErrorKind::Internal, "corrupt", text).into());
    }
    temp.persist(&to).map_err(|e| failed(e.error))?;
    Ok(to)
}
