//! Pages of other sites that may ask Alertmanager's API from their readers' browsers, as Karma's do where its server does not pass their requests on (`proxy: false`).
//!
//! Alertmanager lets in any page there is. Here the settings name the sites (`alerting.pages`), and a page of another one gets nothing, reads no answer and
//! changes nothing. A site that is named can do what its reader's token can, which the page must have and send itself: no cookie and no password that a
//! browser keeps is asked for (no `Access-Control-Allow-Credentials`). Left out on purpose: everything but `/api/v2`.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::ACCESS_CONTROL_ALLOW_HEADERS;
use hyper::header::ACCESS_CONTROL_ALLOW_METHODS;
use hyper::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use hyper::header::ACCESS_CONTROL_MAX_AGE;
use hyper::header::ACCESS_CONTROL_REQUEST_METHOD;
use hyper::header::HeaderValue;
use hyper::header::ORIGIN;
use hyper::header::VARY;

use crate::api::alertmanager::json_of;
use crate::serve::Response;

/// A browser need not ask again whether it may for so long, seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// What a page may send besides what every page may.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");

/// The site whose page asks, if it is one of these.
pub fn site(pages: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let text = origin.to_str().ok()?.to_ascii_lowercase();
    pages.contains(&text).then(|| origin.clone())
}

/// Whether a browser only asks whether a page may ask.
pub fn asks_first(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// It may, by these methods.
pub fn may(methods: &'static str) -> Response {
    let mut response = json_of(StatusCode::NO_CONTENT, Bytes::new());
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    response.headers_mut().insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Lets the site's page read an answer.
pub fn let_read(site: HeaderValue, response: &mut Response) {
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, site);
    response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
}
