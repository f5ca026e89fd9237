//! `proxytorrent content`: saves the content of a ready request.

use std::cell::RefCell;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use domain::ContentHash;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{SaveTarget, Target, interruptible};
use crate::client::{Client, Request, unreachable};
use crate::error::CommandError;
use crate::output::{file_name, is_content, keep, new_file, print};
use crate::progress::Display;
use crate::wait::Waiter;

pub(crate) async fn run(arguments: SaveTarget) -> Result<(), CommandError> {
    let Target { id, server } = arguments.target;
    let client = Client::new(server)?;
    interruptible(async {
        let request = client.get(id).await?;
        print(save(&Waiter::new(&client), &request, &arguments.output).await?.display())
    })
    .await
}

/// Saves the content of a request in a folder, which is created if necessary. Returns the path. An existing file is kept:
/// it is an error unless it is the content.
pub(super) async fn save(waiter: &Waiter<'_>, request: &Request, folder: &Path) -> Result<PathBuf, CommandError> {
    let path = folder.join(file_name(request.file_name.as_deref()));
    let failed = |source: io::Error| CommandError::Write { path: path.clone(), source };
    if std::fs::symlink_metadata(&path).is_ok() {
        let (file, size, hash) = (path.clone(), request.content_size, request.content_hash);
        // On a thread of its own, so that the command can be interrupted.
        let same = tokio::task::spawn_blocking(move || is_content(&file, size, hash)).await;
        let exists = || io::Error::new(io::ErrorKind::AlreadyExists, "another file with this name exists");
        let same = same.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
        return if same { Ok(path) } else { Err(failed(exists())) };
    }
    // Until it is complete, it has a temporary name, and is removed when the command is interrupted.
    let file = RefCell::new(new_file(folder).map_err(failed)?);
    let display = Display::of_transfer(request.content_size);
    let hash = waiter.patiently(None, async || receive(waiter.client, request, &file, &display).await).await;
    display.finish();
    if request.content_hash.is_some_and(|expected| hash.as_ref().is_ok_and(|hash| *hash != expected)) {
        return Err(CommandError::Failed(format!("the received content of {} does not have its SHA-256", request.id)));
    }
    hash?;
    keep(file.into_inner(), &path).map_err(failed)?;
    Ok(path)
}

/// Receives the rest of a content into a file. Returns the hash of the whole.
async fn receive(
    client: &Client,
    request: &Request,
    file: &RefCell<NamedTempFile>,
    display: &Display,
) -> Result<ContentHash, CommandError> {
    let failed = |source: io::Error| CommandError::Write { path: file.borrow().path().to_owned(), source };
    let mut hasher = Sha256::new();
    let had = hash_received(file, &mut hasher).map_err(failed)?;
    let mut response = client.content(request.id, had).await?;
    if response.status() != reqwest::StatusCode::PARTIAL_CONTENT && had > 0 {
        // The server has ignored the range.
        hasher = Sha256::new();
        let whole = file.borrow_mut().rewind().and_then(|()| file.borrow().as_file().set_len(0));
        whole.map_err(failed)?;
    }
    display.set(file.borrow_mut().stream_position().map_err(failed)?);
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        hasher.update(&chunk);
        let written = file.borrow_mut().write_all(&chunk);
        written.map_err(failed)?;
        display.add(chunk.len() as u64);
    }
    Ok(ContentHash::new(hasher.finalize().into()))
}

/// Hashes what a file has. Returns its length, where the next write goes.
fn hash_received(file: &RefCell<NamedTempFile>, hasher: &mut Sha256) -> io::Result<u64> {
    let mut file = file.borrow_mut();
    file.rewind()?;
    let (mut buffer, mut length) = (vec![0; 256 * 1024], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            read => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}
