//! The page at `/`: files of `web/`, compiled in.

use hyper::HeaderMap;

use crate::serve::Response;

/// The file at this path, for GET and HEAD; `None`: no such file.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Response> {
    let _ = (path, headers);
    None
}
