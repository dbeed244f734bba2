//! A file, and the response that streams it. What it is, nobody here knows: so a browser may only save it, never run it.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::ensure;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use millrace_kit::link::{Link, encoded};
use spin_sdk::http::{BoxBody, box_body};

/// How much of a file is in memory at once.
const CHUNK: usize = 64 * 1024;

/// An open file.
pub struct File {
    file: std::fs::File,
    length: u64,
    name: String,
}

impl File {
    /// Opens the file that a link is for; `None` where there is none, or something else. The mount is a sandbox: whatever
    /// would lead out of it, a symbolic link too, is not there.
    pub fn open(link: &Link) -> Option<Self> {
        let path = link.file();
        // Looked at before it is opened: opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(&path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        let file = std::fs::File::open(&path).ok()?;
        Some(Self {
            length: file.metadata().ok()?.len(),
            file,
            name: link.path.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }

    /// The response that streams the file.
    pub fn response(self) -> Response<BoxBody> {
        let media_type = mime_guess::from_path(&self.name).first_raw();
        let media_type = media_type.unwrap_or("application/octet-stream");
        let disposition = format!("attachment; filename*=UTF-8''{}", encoded(&self.name));
        let length = self.length;
        let mut response = Response::new(box_body(Chunks {
            file: self.file,
            left: length,
        }));
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, media_type),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
            (CACHE_CONTROL, "private"),
            // The link is the credential, so whoever has it may read the file, a page of any origin too.
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let Ok(disposition) = HeaderValue::try_from(disposition) {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        response
    }
}

/// A file's bytes, read as they are sent: exactly as many as were announced, whatever happens to the file meanwhile.
struct Chunks {
    file: std::fs::File,
    left: u64,
}

impl Chunks {
    fn next(&mut self) -> anyhow::Result<Bytes> {
        let most = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        let mut chunk = vec![0; most];
        let length = self.file.read(&mut chunk)?;
        ensure!(length > 0, "the file has become shorter");
        chunk.truncate(length);
        self.left = self.left.saturating_sub(length as u64);
        Ok(chunk.into())
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<anyhow::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.left {
            0 => None,
            _ => Some(self.next().map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
