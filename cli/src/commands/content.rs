//! `proxytorrent content`: saves the content of a ready request.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use domain::{ContentHash, FileName};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{Target, interruptible};
use crate::client::{Client, Request, unreachable};
use crate::error::CommandError;
use crate::progress::Display;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The folder to save the content in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let Target { id, server } = arguments.target;
    let client = Client::new(server)?;
    interruptible(async {
        let request = client.get(&id).await?;
        let name = request.file_name.clone().unwrap_or_else(|| "download".to_owned());
        println!("{}", save(&client, &request, &arguments.output, &name).await?.display());
        Ok(())
    })
    .await
}

/// Saves the content of a request under this name in a folder, which is created if necessary. Returns the path. An
/// existing file is kept: it is an error unless it is the content.
pub(super) async fn save(
    client: &Client,
    request: &Request,
    folder: &Path,
    name: &str,
) -> Result<PathBuf, CommandError> {
    // The name comes from the server and is not trusted.
    let path = folder.join(FileName::sanitize(name).unwrap_or_default().to_string());
    let failed = |source: io::Error| CommandError::Write { path: path.clone(), source };
    let hash = request.content_hash;
    if path.exists() {
        let same = hash.is_some() && hash_of(&path).map_err(failed)? == hash;
        let exists = || io::Error::new(io::ErrorKind::AlreadyExists, "another file with this name exists");
        return if same { Ok(path) } else { Err(failed(exists())) };
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    // Until it is complete, it has a temporary name, and is removed when the command is interrupted.
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    let mut response = client.content(&request.id).await?;
    let display = Display::of_transfer(request.content_size);
    let mut hasher = Sha256::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        hasher.update(&chunk);
        file.write_all(&chunk).map_err(failed)?;
        display.add(chunk.len() as u64);
    }
    display.finish();
    if hash.is_some_and(|hash| hash != ContentHash::new(hasher.finalize().into())) {
        return Err(CommandError::Failed(format!("the received content of {} does not have its SHA-256", request.id)));
    }
    let kept = file.persist_noclobber(&path).map_err(|error| failed(error.error))?;
    // As a file that a shell creates.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    kept.set_permissions(mode).map_err(failed)?;
    Ok(path)
}

/// Returns the hash of a file.
fn hash_of(path: &Path) -> io::Result<Option<ContentHash>> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(ContentHash::new(hasher.finalize().into()))),
            read => hasher.update(&buffer[..read]),
        }
    }
}
