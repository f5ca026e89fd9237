//! Content codings (RFC 9110, 8.4). The fetcher requests none, but decodes a response that is encoded anyway.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use domain::FailureCode;
use futures::Stream;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use crate::error::FetchError;

/// The size of a decoded chunk in bytes.
const CHUNK: usize = 64 * 1024;

/// The maximum zstd window: 8 MB. RFC 9659 does not require decoders of the content coding to support more, and a
/// larger window would allow an origin to exhaust the memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A supported content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The limit of concurrent decoders with windows of several megabytes (brotli and zstd).
static WINDOWS: Semaphore = Semaphore::const_new(32);

/// The timeout for a decoder permit.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the content coding of a response, if any. More than one is refused: it does not occur in practice, and
/// nested codings could cost unlimited work without producing bytes (decompression bomb).
pub(crate) fn coding(headers: &HeaderMap, declared: Option<&str>) -> Result<Option<Coding>, FetchError> {
    let mut coding = None;
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in String::from_utf8_lossy(value.as_bytes()).split(',') {
            let found = match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                other => {
                    let shown: String = other.chars().take(32).collect();
                    let message = format!(
                        "the origin used an unsupported content coding ({shown}); supported are gzip, deflate, br and \
                         zstd"
                    );
                    return Err(FetchError::new(FailureCode::BadEncoding, message));
                }
            };
            if coding.replace(found).is_some() {
                let message = "the origin used more than one content coding; at most one is supported";
                return Err(FetchError::new(FailureCode::BadEncoding, message));
            }
        }
    }
    // Servers often send a .gz file with `Content-Encoding: gzip` too. The file is compressed only once and must stay
    // so; browsers do the same.
    let is_gz = matches!(declared, Some("application/gzip" | "application/x-gzip"));
    Ok(coding.filter(|coding| *coding != Coding::Gzip || !is_gz))
}

/// The decoder of a body.
pub(crate) struct Decoder<'a> {
    reader: Pin<Box<dyn AsyncRead + Send + 'a>>,
    buffer: BytesMut,
    _window: Option<SemaphorePermit<'static>>,
}

impl<'a> Decoder<'a> {
    /// Creates a decoder of `chunks` with this coding.
    pub async fn new(
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'a,
        coding: Coding,
    ) -> Result<Self, FetchError> {
        let window = match coding {
            Coding::Gzip | Coding::Deflate => None,
            Coding::Brotli | Coding::Zstd => {
                let busy = |_| FetchError::new(FailureCode::Internal, "too many encoded contents are decoded at once");
                timeout(PATIENCE, WINDOWS.acquire()).await.map_err(busy)?.ok()
            }
        };
        let mut reader: Pin<Box<dyn AsyncBufRead + Send + 'a>> = Box::pin(StreamReader::new(chunks));
        let reader: Pin<Box<dyn AsyncRead + Send + 'a>> = match coding {
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            // `deflate` means zlib in RFC 9110, but some servers send raw deflate (RFC 1951).
            Coding::Deflate if is_zlib(&mut reader).await? => Box::pin(ZlibDecoder::new(reader)),
            Coding::Deflate => Box::pin(DeflateDecoder::new(reader)),
            Coding::Brotli if is_large_window(&mut reader).await? => return Err(broken()),
            Coding::Brotli => Box::pin(BrotliDecoder::new(reader)),
            Coding::Zstd => {
                let window = [DParameter::window_log_max(ZSTD_WINDOW_LOG)];
                let mut decoder = ZstdDecoder::with_params(reader, &window);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        Ok(Self { reader, buffer: BytesMut::new(), _window: window })
    }

    /// Returns the next decoded bytes, or `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.buffer.reserve(CHUNK);
        let read = self.reader.read_buf(&mut self.buffer).await.map_err(|_| broken())?;
        Ok((read > 0).then(|| self.buffer.split().freeze()))
    }
}

/// Whether the stream starts with a zlib header (RFC 1950, 2.2).
async fn is_zlib(reader: &mut (dyn AsyncBufRead + Send + Unpin)) -> Result<bool, FetchError> {
    let first = reader.fill_buf().await.map_err(|_| broken())?;
    Ok(match first {
        [cmf, flg, ..] => cmf & 0x0f == 8 && u16::from_be_bytes([*cmf, *flg]) % 31 == 0,
        [cmf] => cmf & 0x0f == 8,
        [] => true,
    })
}

/// Whether the stream is "large window brotli", with a window of up to a gigabyte. RFC 7932 (9.1) forbids this start,
/// but the decoder accepts it.
async fn is_large_window(reader: &mut (dyn AsyncBufRead + Send + Unpin)) -> Result<bool, FetchError> {
    let first = reader.fill_buf().await.map_err(|_| broken())?.first();
    Ok(first.is_some_and(|first| first & 0x7f == 0x11))
}

fn broken() -> FetchError {
    FetchError::new(FailureCode::BadEncoding, "the encoded content is invalid, or its window exceeds the memory limit")
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use http::HeaderValue;
    use tokio::io::AsyncWriteExt;

    use super::*;

    macro_rules! encoded {
        ($encoder:ident, $content:expr) => {{
            let mut encoder = $encoder::new(vec![]);
            encoder.write_all($content).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }};
    }

    async fn decoded(bytes: &[u8], coding: Coding) -> Option<Vec<u8>> {
        let chunks: Vec<_> = bytes.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut decoder = Decoder::new(futures::stream::iter(chunks), coding).await.ok()?;
        let mut whole = vec![];
        while let Some(chunk) = decoder.chunk().await.ok()? {
            whole.extend_from_slice(&chunk);
        }
        Some(whole)
    }

    #[tokio::test]
    async fn every_coding_is_decoded_and_invalid_input_is_refused() {
        let content = b"content ".repeat(10_000);
        let cases = [
            (encoded!(GzipEncoder, &content), Coding::Gzip),
            (encoded!(ZlibEncoder, &content), Coding::Deflate),
            (encoded!(DeflateEncoder, &content), Coding::Deflate),
            (encoded!(BrotliEncoder, &content), Coding::Brotli),
            (encoded!(ZstdEncoder, &content), Coding::Zstd),
        ];
        for (encoded, coding) in cases {
            assert_eq!(decoded(&encoded, coding).await.as_ref(), Some(&content), "{coding:?}");
            assert_eq!(decoded(&encoded[..encoded.len() - 3], coding).await, None, "{coding:?} cut short");
            assert_eq!(decoded(b"\xff\xfenothing of the kind", coding).await, None, "{coding:?}");
        }
    }

    #[tokio::test]
    async fn a_window_of_a_gigabyte_is_refused() {
        use async_compression::brotli::EncoderParams;
        for log in 10..=24 {
            let mut encoder = BrotliEncoder::with_params(vec![], EncoderParams::default().window_size(log));
            encoder.write_all(b"content").await.unwrap();
            encoder.shutdown().await.unwrap();
            assert!(decoded(&encoder.into_inner(), Coding::Brotli).await.is_some(), "{log}");
        }
        // An empty stream with a window of 30 bits.
        assert_eq!(decoded(&[0x11, 0xde], Coding::Brotli).await, None);
    }

    #[tokio::test]
    async fn every_member_of_a_gzip_file_is_decoded() {
        let two = [encoded!(GzipEncoder, b"one "), encoded!(GzipEncoder, b"two")].concat();
        assert_eq!(decoded(&two, Coding::Gzip).await.unwrap(), b"one two");
    }

    #[test]
    fn a_single_coding_is_accepted_and_unsupported_or_nested_ones_are_refused() {
        let read = |value: &str, declared| {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_str(value).unwrap())]);
            coding(&headers, declared).ok()
        };
        assert_eq!(read("X-Gzip", None), Some(Some(Coding::Gzip)));
        assert_eq!(read("identity, br", None), Some(Some(Coding::Brotli)));
        assert_eq!(read("identity", None), Some(None));
        assert_eq!(read("gzip", Some("application/gzip")), Some(None));
        for refused in ["compress", "gzip, aes128gcm", "gzip, gzip", "deflate, br"] {
            assert_eq!(read(refused, None), None, "{refused}");
        }
    }
}
