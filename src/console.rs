//! The page at `/`: the files of `web/`, compiled in, so that there is nothing to install and nothing to mislay.
//!
//! Deliberately absent: any data. The page asks `/api/v1/status` and `/api/v1/probes` like every other client.

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;
use hyper::header::CONTENT_SECURITY_POLICY;
use hyper::header::ETAG;
use hyper::header::HeaderValue;
use hyper::header::IF_NONE_MATCH;
use hyper::header::REFERRER_POLICY;
use hyper::header::X_CONTENT_TYPE_OPTIONS;
use xxhash_rust::xxh3::xxh3_64;

use crate::serve;
use crate::serve::Response;

/// Only files of this node, nothing inline, in nobody's frame: a name in the data can never become a program.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, content type, content.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../web/app.js")),
    ("/probes.js", "text/javascript; charset=utf-8", include_str!("../web/probes.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../web/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../web/icon.svg")),
];

/// Whether there is a file at this path.
pub fn has(path: &str) -> bool {
    FILES.iter().any(|(known, _, _)| *known == path)
}

/// The file at this path, for GET and HEAD; `None`: no such file.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Response> {
    let (_, content_type, content) = FILES.into_iter().find(|(known, _, _)| *known == path)?;
    let tag = format!("\"{:016x}\"", xxh3_64(content.as_bytes()));
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|tags| names(tags, &tag));
    let mut response = if known {
        serve::answer(StatusCode::NOT_MODIFIED, content_type, "")
    } else {
        serve::answer(StatusCode::OK, content_type, content)
    };
    let headers = response.headers_mut();
    // Kept, but asked for again each time: after an upgrade the page must fit the API at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    Some(response)
}

/// Whether `If-None-Match` names the tag; proxies that compress make it weak.
fn names(tags: &str, tag: &str) -> bool {
    tags.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, if_none_match: Option<&str>) -> Response {
        let headers = if_none_match.map(|tag| (IF_NONE_MATCH, tag.parse().unwrap())).into_iter().collect();
        answer(path, &headers).unwrap()
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere_or_stands_inline() {
        let policy = get("/", None).headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'));
        for (path, _, content) in FILES.into_iter().filter(|(path, _, _)| *path != "/icon.svg") {
            for forbidden in
                ["http://", "https://", "style=", "onclick", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(forbidden), "{path} holds {forbidden}");
            }
        }
        let page = FILES[0].2;
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"/").count(), "a script stands inline");
        assert!(!page.contains("<style"));
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let page = FILES[0].2;
        for part in page.split(['"', '\'']).filter(|part| part.starts_with('/') && part.contains('.')) {
            assert!(answer(part, &HeaderMap::new()).is_some(), "{part} is missing");
        }
        assert!(answer("/app.js.map", &HeaderMap::new()).is_none());
        assert!(answer("/../Cargo.toml", &HeaderMap::new()).is_none());
    }

    #[test]
    fn every_element_that_the_program_asks_for_is_in_the_page() {
        let page = FILES[0].2;
        for (path, _, program) in FILES.into_iter().filter(|(path, _, _)| path.ends_with(".js")) {
            let asked: Vec<&str> = program.split("byId(\"").skip(1).filter_map(|rest| rest.split_once("\")")).map(|(id, _)| id).collect();
            assert!(asked.len() > 5, "{path}");
            for id in asked {
                assert!(page.contains(&format!("id=\"{id}\"")), "index.html has no #{id}, which {path} asks for");
            }
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let first = get("/style.css", None);
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(get("/style.css", Some(&tag)).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/style.css", Some(&format!("\"x\", W/{tag}"))).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/style.css", Some("\"x\"")).status(), StatusCode::OK);
        assert_eq!(first.headers()[CACHE_CONTROL], "no-cache");
    }
}
