//! Reception of a response body: sniffed, hashed and stored as a stream.

use std::io;

use bytes::Bytes;
use domain::{ContentHash, FailureCode, MediaType};
use ports::StagedUpload;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::checkpoint::{Checkpoint, location, query, sha256_state};
use super::declared::Declared;
use super::decode::{Coding, Decoder};
use super::download::{self, Download, Stop};
use super::limits::TransferLimits;
use super::sniff::SniffBuffer;
use super::stream_hasher::StreamHasher;
use crate::error::FetchError;

/// The number of body chunks (about 16 to 400 kB each) that may wait to be stored.
const CHUNKS_AHEAD: usize = 8;

/// Receives the body. Decoding, size check, sniffing, hashing and storing run concurrently with the download.
pub(crate) async fn receive(
    limits: &TransferLimits,
    mut download: Download<'_>,
    declared: &Declared,
    (mut beginning, mut hasher): (SniffBuffer, StreamHasher),
    staged: &mut dyn StagedUpload,
    pause: &CancellationToken,
) -> Result<End, Stop> {
    let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
    let media_type = declared.media_type.as_ref();
    let mut size = download.received();
    let receive = async move {
        while let Some(chunk) = pause.run_until_cancelled(download.chunk()).await {
            let Some(chunk) = chunk? else { return Ok(None) };
            // The decoder may have ended: bytes after the end of the encoded content are still counted and checked,
            // but are not part of it.
            let _ = sender.send(chunk).await;
        }
        download.checkpoint().map(Some).ok_or(Stop::Paused)
    };
    let store = async {
        let mut body = Body::new(chunks, declared.coding).await?;
        while let Some(chunk) = body.chunk().await? {
            size += chunk.len() as u64;
            limits.check_size(size)?;
            if beginning.take(&chunk) {
                limits.check_shown(media_type, &beginning)?;
            }
            hasher.update(chunk.clone()).await.map_err(FetchError::from)?;
            staged.write(chunk).await.map_err(FetchError::from)?;
        }
        Ok(())
    };
    let (paused, ()) = tokio::try_join!(receive, store)?;
    if let Some(download) = paused {
        let hasher = hasher.stop().await.map_err(FetchError::from)?;
        return Ok(End::Paused(Paused { download, beginning, hasher }));
    }
    if beginning.end() {
        limits.check_shown(media_type, &beginning)?;
    }
    let hash = hasher.finish().await.map_err(FetchError::from)?;
    if size == 0 {
        let message = "the content is empty; a torrent needs at least one byte";
        return Err(FetchError::new(FailureCode::EmptyContent, message).into());
    }
    let shown = beginning.shows.and_then(|shown| shown.parse().ok()).unwrap_or_else(MediaType::unknown);
    let media_type = declared.media_type.clone().unwrap_or(shown);
    // A content that is neither declared nor recognized is application/octet-stream, which must be allowed as well.
    limits.check_media_type(media_type.as_str(), "assumed")?;
    Ok(End::Complete(Received { hash, size, media_type }))
}

/// The chunks of a body without its content coding.
enum Body {
    Plain(mpsc::Receiver<Bytes>),
    Decoded(Decoder<'static>),
}

impl Body {
    async fn new(mut chunks: mpsc::Receiver<Bytes>, coding: Option<Coding>) -> Result<Self, FetchError> {
        let Some(coding) = coding else { return Ok(Self::Plain(chunks)) };
        let stream =
            futures::stream::poll_fn(move |context| chunks.poll_recv(context).map(|chunk| chunk.map(io::Result::Ok)));
        Ok(Self::Decoded(Decoder::new(stream, coding).await?))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match self {
            Self::Plain(chunks) => Ok(chunks.recv().await),
            Self::Decoded(decoder) => decoder.chunk().await,
        }
    }
}

/// The outcome of a received body.
pub(crate) enum End {
    Complete(Received),
    Paused(Paused),
}

/// A completely received content.
pub(crate) struct Received {
    pub hash: ContentHash,
    pub size: u64,
    pub media_type: MediaType,
}

/// A suspended transfer.
pub(crate) struct Paused {
    download: download::Paused,
    beginning: SniffBuffer,
    hasher: Sha256,
}

impl Paused {
    pub fn checkpoint(self, declared: Declared, url: &Url) -> Checkpoint {
        let download::Paused { validator, received, total, digests } = self.download;
        Checkpoint {
            location: location(url),
            query: query(url),
            validator,
            received,
            total,
            sha256: sha256_state(&self.hasher),
            digests,
            media_type: declared.media_type,
            disposition: declared.disposition,
            origin_status: declared.origin_status,
            beginning: self.beginning,
        }
    }
}
