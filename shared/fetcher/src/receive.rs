//! The body of an answer: looked at, hashed and stored as it comes.

use std::io;

use bytes::Bytes;
use domain::{ContentHash, FailureCode};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use ports::StagedUpload;
use reqwest::Response;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::checkpoint::{Checkpoint, SniffBuffer, location, query, sha256_state};
use crate::decode::{Coding, Decoder, coding};
use crate::download::{self, Download, Stop};
use crate::failure::FetchError;
use crate::media_type;
use crate::stream_hasher::StreamHasher;
use crate::transfer::Fetcher;

/// Chunks of the body (some 16 to 400 kB each) that may wait to be stored.
const CHUNKS_AHEAD: usize = 8;

impl Fetcher {
    /// Checks what the answer's headers say of the content.
    pub(crate) fn check_declared(&self, response: &Response) -> Result<ResponseInfo, FetchError> {
        let headers = response.headers();
        // Chunks are the connection's matter, and undone by now; another transfer coding is not.
        if headers.get_all(TRANSFER_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            let message = "the origin used a transfer coding that it was not asked for";
            return Err(FetchError::new(FailureCode::BadEncoding, message));
        }
        let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(length) = header(CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
            self.check_size(length)?;
        }
        let declared = header(CONTENT_TYPE).and_then(media_type::essence);
        if let Some(declared) = &declared {
            self.check_media_type(declared, "declared")?;
        }
        let disposition = headers.get(CONTENT_DISPOSITION);
        Ok(ResponseInfo {
            coding: coding(headers, declared.as_deref())?,
            declared,
            disposition: disposition.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            origin_status: response.status().as_u16(),
        })
    }

    fn check_media_type(&self, essence: &str, how: &str) -> Result<(), FetchError> {
        if media_type::is_allowed(&self.whitelist, essence) {
            return Ok(());
        }
        let message = format!("the {how} type {essence} is not on the list FETCHER__MIME_WHITELIST");
        Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
    }

    /// Takes the body in: decoded, counted and looked at as it comes, hashed and stored meanwhile.
    pub(crate) async fn receive(
        &self,
        mut download: Download<'_>,
        answer: &ResponseInfo,
        (mut beginning, mut hasher): (SniffBuffer, StreamHasher),
        staged: &mut dyn StagedUpload,
        pause: &CancellationToken,
    ) -> Result<End, Stop> {
        let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
        let declared = answer.declared.as_deref();
        let mut size = download.received();
        let receive = async move {
            while let Some(chunk) = pause.run_until_cancelled(download.chunk()).await {
                let Some(chunk) = chunk? else { return Ok(None) };
                // What follows the end of the coded content is counted and checked, and no part of it.
                let _ = sender.send(chunk).await;
            }
            download.checkpoint().map(Some).ok_or(Stop::Paused)
        };
        let store = async {
            let mut body = Body::new(chunks, answer.coding).await?;
            while let Some(chunk) = body.chunk().await? {
                size += chunk.len() as u64;
                self.check_size(size)?;
                if beginning.take(&chunk) {
                    self.check_shown(declared, &beginning)?;
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
            self.check_shown(declared, &beginning)?;
        }
        let hash = hasher.finish().await.map_err(FetchError::from)?;
        if size == 0 {
            let message = "the content is empty: no torrent can be made of it";
            return Err(FetchError::new(FailureCode::EmptyContent, message).into());
        }
        let shown = beginning.shows.unwrap_or_else(|| media_type::UNKNOWN.to_owned());
        let media_type = answer.declared.clone().unwrap_or(shown);
        // Neither declared nor recognised: as "anything", it must be on the list too.
        self.check_media_type(&media_type, "assumed")?;
        Ok(End::Complete(Received { hash, size, media_type }))
    }

    /// Checks the type that the first bytes show against the whitelist and against what was declared.
    fn check_shown(&self, declared: Option<&str>, beginning: &SniffBuffer) -> Result<(), FetchError> {
        let shown = beginning.shows.as_deref();
        if let Some(shown) = shown {
            self.check_media_type(shown, "actual")?;
        }
        match declared {
            Some(declared) if media_type::contradicts(declared, shown, beginning.markup) => {
                let message = format!("declared as {declared}, but its bytes are {}", shown.unwrap_or("markup"));
                Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
            }
            _ => Ok(()),
        }
    }
}

/// The chunks of a body, without its content codings.
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

/// What the head of an answer says of the content.
pub(crate) struct ResponseInfo {
    pub coding: Option<Coding>,
    pub declared: Option<String>,
    pub disposition: Option<String>,
    pub origin_status: u16,
}

impl ResponseInfo {
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            coding: None,
            declared: checkpoint.media_type.clone(),
            disposition: checkpoint.disposition.clone(),
            origin_status: checkpoint.origin_status,
        }
    }
}

/// How the body of an answer ended.
pub(crate) enum End {
    Complete(Received),
    Paused(Paused),
}

pub(crate) struct Received {
    pub hash: ContentHash,
    pub size: u64,
    pub media_type: String,
}

pub(crate) struct Paused {
    download: download::Paused,
    beginning: SniffBuffer,
    hasher: Sha256,
}

impl Paused {
    pub fn checkpoint(self, answer: ResponseInfo, url: &Url) -> Checkpoint {
        let download::Paused { validator, received, total, digests } = self.download;
        Checkpoint {
            location: location(url),
            query: query(url),
            validator,
            received,
            total,
            sha256: sha256_state(&self.hasher),
            digests,
            media_type: answer.declared,
            disposition: answer.disposition,
            origin_status: answer.origin_status,
            beginning: self.beginning,
        }
    }
}
