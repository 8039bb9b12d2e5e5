//! HTTP: what is asked, what is accepted, where redirects lead, and what is told when it ends early.

use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::module;
use super::probe;
use super::probe_so;
use super::stub;
use super::stub::answer;
use crate::probe::outcome::Cause;

fn http(options: &str) -> String {
    format!("prober: http\ntimeout: 5s\nhttp: {{preferred_ip_protocol: ip4, {options}}}")
}

#[tokio::test]
async fn statuses_are_two_hundreds_or_those_of_the_list() {
    for (status, list, good) in [
        (200, "", true),
        (201, "", true),
        (299, "", true),
        (404, "", false),
        (500, "", false),
        (404, "404, 200", true),
        (201, "404", false),
    ] {
        let address = stub::http(move |_| answer(status, "", "x")).await;
        let outcome = probe(&http(&format!("valid_status_codes: [{list}]")), &format!("http://{address}")).await;
        assert_eq!(outcome.success, good, "{status} {list}");
        outcome.is("probe_http_status_code", f64::from(status));
        outcome.is("probe_http_content_length", 1.0);
        outcome.is("probe_http_version", 1.1);
        if !good {
            outcome.failed(Cause::Status, "transfer");
        }
    }
}

#[tokio::test]
async fn versions_are_compared() {
    let address = stub::http(|_| b"HTTP/1.0 200 OK\r\n\r\nbody".to_vec()).await;
    let outcome = probe(&http("valid_http_versions: [HTTP/1.1]"), &address.to_string()).await;
    outcome.failed(Cause::Version, "transfer");
    outcome.is("probe_http_version", 1.0);
    // Ended by the connection's end: the length is not known before.
    outcome.is("probe_http_content_length", -1.0);
    outcome.is("probe_http_uncompressed_body_length", 4.0);
    probe(&http("valid_http_versions: [HTTP/1.0, HTTP/2]"), &address.to_string()).await.good();
}

#[tokio::test]
async fn metrics_have_the_names_of_blackbox_exporter() {
    let address = stub::http(|_| answer(200, "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n", "x")).await;
    let outcome = probe(&http(""), &format!("HtTp://{address}")).await;
    outcome.good();
    outcome.is("probe_http_last_modified_timestamp_seconds", 784_903_526.0);
    outcome.is("probe_ip_protocol", 4.0);
    for phase in ["resolve", "connect", "tls", "processing", "transfer"] {
        assert!(outcome.value(&format!("probe_http_duration_seconds{{phase=\"{phase}\"}}")).is_some(), "{phase}");
    }
    outcome.is("probe_http_duration_seconds{phase=\"tls\"}", 0.0);
    outcome.is("probe_http_ssl", 0.0);
    outcome.is("probe_failed_due_to_regex", 0.0);
    assert!(outcome.value("probe_duration_seconds").unwrap() > 0.0 && outcome.value("probe_dns_lookup_time_seconds").is_some());
}

#[tokio::test]
async fn the_request_is_what_the_module_says() {
    let seen = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&seen);
    let address = stub::http(move |request| {
        *heard.lock().unwrap() = request.to_owned();
        answer(200, "", "")
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), " from-file \n").unwrap();
    let path = file.path().display();
    let ask = async |options: &str| {
        probe(&http(options), &format!("http://{address}/a b?c=d#e")).await.good();
        seen.lock().unwrap().to_ascii_lowercase()
    };
    let plain = ask("").await;
    assert!(
        plain.starts_with("get /a%20b?c=d http/1.1\r\n")
            && plain.contains(&format!("host: {address}"))
            && plain.contains("user-agent: sluice/")
    );
    let posted = ask("method: POST, body: 'some: body', headers: {Host: my.host, User-Agent: me, X-A: b}").await;
    assert!(
        posted.starts_with("post ")
            && posted.ends_with("\r\n\r\nsome: body")
            && posted.contains("host: my.host")
            && posted.contains("user-agent: me")
    );
    assert!(posted.contains("x-a: b\r\n") && posted.contains("content-length: 10"));
    assert!(ask(&format!("body_file: {path}, method: PUT")).await.ends_with("\r\n\r\n from-file \n"));
    assert!(ask("basic_auth: {username: u, password: p}").await.contains("authorization: basic dtpw"));
    assert!(ask(&format!("basic_auth: {{username: u, password_file: {path}}}")).await.contains("authorization: basic dtpmcm9tlwzpbgu="));
    assert!(ask("bearer_token: T").await.contains("authorization: bearer t\r\n"));
    assert!(ask(&format!("authorization: {{type: Token, credentials_file: {path}}}")).await.contains("authorization: token from-file\r\n"));
    let more = ask(&format!("http_headers: {{X-K: {{values: [one], secrets: [two], files: [{path}]}}}}")).await;
    assert!(more.contains("x-k: one\r\n") && more.contains("x-k: two\r\n") && more.contains("x-k: from-file\r\n"), "{more}");
    // Nothing is no gzip.
    probe(&http("compression: gzip"), &address.to_string()).await.failed(Cause::Encoding, "transfer");
    assert!(seen.lock().unwrap().contains("accept-encoding: gzip"));
    // The name that whoever asks wants it to be asked by.
    probe_so(&module(&http(""), false), &format!("http://{address}"), Some("asked.example")).await.good();
    assert!(seen.lock().unwrap().contains("asked.example"));
    // A target may say who asks.
    probe(&http(""), &format!("http://u:p@{address}/")).await.good();
    assert!(seen.lock().unwrap().contains("Basic dTpw"));
    probe(&http("bearer_token_file: /nowhere"), &address.to_string()).await.failed(Cause::File, "");
}

#[tokio::test]
async fn tokens_are_fetched_and_kept() {
    let fetched = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&fetched);
    let tokens = stub::http(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        let good =
            request.contains("grant_type=client_credentials") && request.contains("scope=a+b") && request.contains("Basic aWQ6c2VjcmV0");
        if good {
            answer(200, "", r#"{"access_token": "T", "token_type": "bearer", "expires_in": 3600}"#)
        } else {
            answer(400, "", request)
        }
    })
    .await;
    let address = stub::http(|request| answer(if request.contains("Bearer T\r\n") { 200 } else { 401 }, "", "")).await;
    let options = format!("oauth2: {{client_id: id, client_secret: secret, scopes: [a, b], token_url: 'http://{tokens}/t'}}");
    let module = module(&http(&options), false);
    for _ in 0..3 {
        probe_so(&module, &address.to_string(), None).await.good();
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_of_tokens_may_want_to_be_told_by_the_content_who_asks() {
    let tokens = stub::http(|request| {
        let told = request.contains("client_id=i+d&client_secret=s%3A") && !request.to_ascii_lowercase().contains("authorization:");
        if told { answer(201, "", r#"{"access_token": "T", "expires_in": "3600"}"#) } else { answer(401, "", "") }
    })
    .await;
    let address = stub::http(|request| answer(if request.contains("Bearer T\r\n") { 200 } else { 401 }, "", "")).await;
    let options = format!("oauth2: {{client_id: 'i d', client_secret: 's:', token_url: 'http://{tokens}/t'}}");
    probe(&http(&options), &address.to_string()).await.good();
    // The same by the header, where a colon within the name would make another name of it.
    let tokens = stub::http(|request| {
        // i+d:s%3A
        if request.contains("Basic aStkOnMlM0E=") { answer(200, "", r#"{"access_token": "T"}"#) } else { answer(401, "", "") }
    })
    .await;
    let options = format!("oauth2: {{client_id: 'i d', client_secret: 's:', token_url: 'http://{tokens}/t'}}");
    probe(&http(&options), &address.to_string()).await.good();
}

#[tokio::test]
async fn a_token_that_is_refused_is_forgotten() {
    let fetched = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&fetched);
    let tokens = stub::http(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        answer(200, "", format!(r#"{{"access_token": "T{number}", "expires_in": 3600}}"#))
    })
    .await;
    // The first one was withdrawn.
    let address = stub::http(|request| answer(if request.contains("Bearer T1\r\n") { 200 } else { 401 }, "", "")).await;
    let module = module(&http(&format!("oauth2: {{client_id: id, client_secret: secret, token_url: 'http://{tokens}/t'}}")), false);
    probe_so(&module, &address.to_string(), None).await.failed(Cause::Status, "transfer");
    for _ in 0..2 {
        probe_so(&module, &address.to_string(), None).await.good();
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn redirects_are_followed_ten_times() {
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    let address = stub::http(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        let step: u32 = request.split(['/', ' ']).nth(2).and_then(|step| step.parse().ok()).unwrap_or(0);
        answer(302, &format!("Location: /{}\r\n", step + 1), "")
    })
    .await;
    let outcome = probe(&http(""), &format!("http://{address}/0")).await;
    outcome.failed(Cause::Redirect, "processing");
    outcome.is("probe_http_redirects", 11.0);
    outcome.is("probe_http_status_code", 302.0);
    assert_eq!(seen.load(Ordering::Relaxed), 11, "the twelfth was never asked for");
    let outcome = probe(&http("follow_redirects: false, valid_status_codes: [302]"), &format!("http://{address}/0")).await;
    outcome.good();
    outcome.is("probe_http_redirects", 1.0);
    probe(&http("no_follow_redirects: true"), &format!("http://{address}/0")).await.failed(Cause::Status, "transfer");
    let nowhere = stub::http(|_| answer(302, "Location: ftp://x/\r\n", "")).await;
    probe(&http(""), &nowhere.to_string()).await.failed(Cause::Redirect, "processing");
}

#[tokio::test]
async fn passwords_stay_and_cookies_go_along() {
    let other = stub::http(|request| answer(if request.contains("uthorization") { 500 } else { 200 }, "", "")).await;
    let away = format!("http://localhost:{}/", other.port());
    let address = stub::http(move |request| match request.split(' ').nth(1) {
        Some("/away") => answer(307, &format!("Location: {away}\r\n"), ""),
        Some("/in") if request.contains("ookie: s=1") && request.starts_with("GET") && request.contains("uthorization") => {
            answer(200, "", "")
        }
        Some("/in") => answer(403, "", request),
        _ => answer(303, "Location: /in\r\nSet-Cookie: s=1; Path=/\r\n", ""),
    })
    .await;
    let module = http("method: POST, body: x, basic_auth: {username: u, password: p}");
    let outcome = probe(&module, &format!("http://{address}/")).await;
    outcome.good();
    outcome.is("probe_http_redirects", 1.0);
    probe(&module, &format!("http://{address}/away")).await.good();
}

#[tokio::test]
async fn secrets_in_headers_go_to_the_host_that_was_asked_and_no_other() {
    let told = |request: &str| {
        ["X-A: open", "X-B: secret", "X-C: of-file"].map(|header| request.to_ascii_lowercase().contains(&header.to_ascii_lowercase()))
    };
    let other = stub::http(move |request| answer(if told(request) == [true, false, false] { 200 } else { 500 }, "", "")).await;
    let away = format!("http://localhost:{}/", other.port());
    let address = stub::http(move |request| {
        if told(request) != [true; 3] {
            return answer(500, "", "");
        }
        match request.split(' ').nth(1) {
            Some("/away") => answer(302, &format!("Location: {away}\r\n"), ""),
            Some("/") => answer(302, "Location: /in\r\n", ""),
            _ => answer(200, "", ""),
        }
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "of-file").unwrap();
    let headers =
        format!("http_headers: {{X-A: {{values: [open]}}, X-B: {{secrets: [secret]}}, X-C: {{files: [{}]}}}}", file.path().display());
    probe(&http(&headers), &format!("http://{address}/")).await.good();
    probe(&http(&headers), &format!("http://{address}/away")).await.good();
}

#[tokio::test]
async fn bodies_are_looked_at() {
    let address = stub::http(|_| answer(200, "", "Could not connect to database")).await;
    let fails = async |options: &str| {
        let outcome = probe(&http(options), &address.to_string()).await;
        outcome.failed(Cause::Body, "transfer");
        outcome.is("probe_failed_due_to_regex", 1.0);
        outcome.is("probe_http_content_length", 29.0);
    };
    fails("fail_if_body_matches_regexp: ['Could not connect']").await;
    fails("fail_if_body_matches_regexp: [nothing, '^Could']").await;
    fails("fail_if_body_not_matches_regexp: [Download]").await;
    fails("fail_if_body_not_matches_regexp: [Could, Download]").await;
    probe(&http("fail_if_body_matches_regexp: [Download], fail_if_body_not_matches_regexp: [database$]"), &address.to_string())
        .await
        .good();
}

#[tokio::test]
async fn bodies_of_json_are_looked_at() {
    let address = stub::http(|_| answer(200, "", r#"{"status": "ok", "nodes": 3}"#)).await;
    for (options, good) in [
        ("fail_if_body_json_not_matches_cel: 'body.nodes == 3'", true),
        ("fail_if_body_json_matches_cel: 'body.nodes < 3'", true),
        ("fail_if_body_json_matches_cel: 'body.status == \"ok\"'", false),
        ("fail_if_body_json_not_matches_cel: 'body.gone == 1'", false),
        // The expression sees the body that the other one has read.
        ("fail_if_body_not_matches_regexp: [ok], fail_if_body_json_not_matches_cel: 'body.nodes == 3'", true),
    ] {
        let outcome = probe(&http(options), &address.to_string()).await;
        match good {
            true => outcome.good(),
            false => outcome.failed(Cause::Body, "transfer"),
        }
        outcome.is("probe_failed_due_to_cel", f64::from(u8::from(!good)));
        outcome.is("probe_http_content_length", 28.0);
    }
    let plain = probe(&http("fail_if_body_matches_regexp: [nothing]"), &address.to_string()).await;
    assert!(!plain.metrics.iter().any(|metric| metric.name == "probe_failed_due_to_cel"));
}

#[tokio::test]
async fn headers_are_looked_at() {
    let address = stub::http(|_| answer(200, "Content-Language: en\r\nEmpty:\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n", "")).await;
    for (kind, header, regexp, allow_missing, good) in [
        ("matches", "CONTENT-language", "en", false, false),
        ("matches", "Content-Language", "de", false, true),
        ("matches", "Missing", ".*", false, false),
        ("matches", "Missing", ".*", true, true),
        ("matches", "Empty", "^$", false, false),
        ("matches", "Empty", ".+", false, true),
        ("matches", "Set-Cookie", "^c=", false, false),
        ("matches", "Set-Cookie", "^e=", false, true),
        ("not_matches", "Content-Language", "en", false, true),
        ("not_matches", "Content-Language", "de", false, false),
        ("not_matches", "Missing", ".*", false, false),
        ("not_matches", "Missing", ".*", true, true),
        ("not_matches", "Empty", "^$", false, true),
        ("not_matches", "Set-Cookie", "^c=", false, true),
        ("not_matches", "Set-Cookie", "^e=", false, false),
    ] {
        let rule = format!("fail_if_header_{kind}: [{{header: {header}, regexp: '{regexp}', allow_missing: {allow_missing}}}]");
        let outcome = probe(&http(&rule), &address.to_string()).await;
        assert_eq!(outcome.success, good, "{rule}");
        outcome.is("probe_failed_due_to_regex", f64::from(u8::from(!good)));
        if !good {
            outcome.failed(Cause::Header, "transfer");
        }
    }
}

fn packed(how: &str, text: &[u8]) -> Vec<u8> {
    match how {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "zlib" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        // "hello world" as `brotli` packs it.
        "br" => vec![0x0b, 0x05, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x77, 0x6f, 0x72, 0x6c, 0x64, 0x03],
        _ => text.to_vec(),
    }
}

#[tokio::test]
async fn bodies_are_unpacked_as_the_module_says() {
    for (how, said, good) in [
        ("gzip", "gzip", true),
        ("deflate", "deflate", true),
        ("zlib", "deflate", true),
        ("br", "br", true),
        ("plain", "identity", true),
        ("gzip", "deflate", false),
        ("plain", "gzip", false),
        ("gzip", "", true),
    ] {
        let body = packed(how, b"hello world");
        let (length, sent) = (body.len(), body.clone());
        let address = stub::http(move |_| answer(200, "Content-Encoding: whatever\r\n", &sent)).await;
        let option = if said.is_empty() {
            String::new()
        } else {
            format!("compression: {said}, fail_if_body_not_matches_regexp: ['^hello world$']")
        };
        let outcome = probe(&http(&option), &address.to_string()).await;
        assert_eq!(outcome.success, good, "{how} as {said}: {:?}", outcome.failure);
        outcome.is("probe_http_content_length", length as f64);
        outcome.is(
            "probe_http_uncompressed_body_length",
            if said.is_empty() {
                length as f64
            } else if good {
                11.0
            } else {
                0.0
            },
        );
        if !good {
            outcome.failed(Cause::Encoding, "transfer");
        }
    }
    // Cut off in the middle.
    let mut body = packed("gzip", &[b'x'; 5000]);
    body.truncate(body.len() - 9);
    let address = stub::http(move |_| answer(200, "", &body)).await;
    probe(&http("compression: gzip"), &address.to_string()).await.failed(Cause::Encoding, "transfer");
}

#[tokio::test]
async fn bodies_may_be_too_long() {
    for (length, packed_as, good) in
        [(127, "plain", true), (128, "plain", true), (129, "plain", false), (127, "gzip", true), (129, "gzip", false)]
    {
        let body = packed(packed_as, &vec![b'x'; length]);
        let sent = body.len();
        let address = stub::http(move |_| answer(200, "", &body)).await;
        let compression = if packed_as == "gzip" { ", compression: gzip" } else { "" };
        let outcome = probe(&http(&format!("body_size_limit: 128B{compression}")), &address.to_string()).await;
        assert_eq!(outcome.success, good, "{length} {packed_as}");
        outcome.is("probe_http_content_length", sent as f64);
        outcome.is("probe_http_uncompressed_body_length", length.min(128) as f64);
        if !good {
            outcome.failed(Cause::Size, "transfer");
        }
    }
}

#[tokio::test]
async fn encryption_may_be_demanded() {
    let address = stub::http(|_| answer(200, "", "")).await;
    probe(&http("fail_if_not_ssl: true"), &address.to_string()).await.failed(Cause::Encryption, "transfer");
    probe(&http("fail_if_ssl: true"), &address.to_string()).await.good();
}

#[tokio::test]
async fn what_is_no_target_is_told() {
    for target in ["invalid://x", "http://", "http://a b/"] {
        let outcome = probe(&http(""), target).await;
        outcome.failed(Cause::Target, "");
        outcome.is("probe_http_status_code", 0.0);
    }
    probe(&http("ip_protocol_fallback: false"), "http://[::1]:9/").await.failed(Cause::NoAddress, "resolve");
    probe(&http(""), "http://no-such-name.invalid/").await.failed_in("resolve");
}

impl crate::probe::outcome::Outcome {
    #[track_caller]
    fn failed_in(&self, phase: &str) {
        assert_eq!(self.failure.as_ref().map(|failure| failure.phase), Some(phase), "{:?}", self.failure);
    }
}

#[tokio::test]
async fn the_phase_that_dies_has_its_time() {
    let timed = |phase: &str| format!("probe_http_duration_seconds{{phase=\"{phase}\"}}");
    let within = "prober: http\ntimeout: 300ms\nhttp: {preferred_ip_protocol: ip4}";
    // Accepts, and says nothing.
    let silent = stub::tcp(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let outcome = probe(within, &silent.to_string()).await;
    outcome.failed(Cause::Timeout, "processing");
    assert!(outcome.value(&timed("processing")).unwrap() > 0.2);
    assert!(!outcome.phases.last().unwrap().done);
    let outcome = probe(within, &format!("https://{silent}")).await;
    outcome.failed(Cause::Timeout, "tls");
    assert!(outcome.value(&timed("tls")).unwrap() > 0.2);
    // A body, a byte at a time, without end.
    let drip = stub::tcp(|mut stream| async move {
        let _ = stub::request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let outcome = probe(within, &drip.to_string()).await;
    outcome.failed(Cause::Timeout, "transfer");
    assert!(outcome.value(&timed("transfer")).unwrap() > 0.2);
    outcome.is("probe_http_status_code", 200.0);
    outcome.is("probe_http_content_length", 100_000.0);
}

#[tokio::test]
async fn ends_that_come_early_are_told() {
    let refused = stub::tcp(|_| async {}).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    probe(&http(""), &closed.to_string()).await.failed(Cause::Refused, "connect");
    probe(&http(""), &refused.to_string()).await.failed(Cause::Closed, "processing");
    let half = stub::http(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await;
    let outcome = probe(&http(""), &half.to_string()).await;
    outcome.failed(Cause::Closed, "transfer");
    outcome.is("probe_http_status_code", 200.0);
    let noise = stub::http(|_| b"220 mail.example ESMTP\r\n".to_vec()).await;
    probe(&http(""), &noise.to_string()).await.failed(Cause::Protocol, "processing");
    let plain = stub::http(|_| answer(200, "", "")).await;
    probe(&http(""), &format!("https://{plain}")).await.failed_in("tls");
}

#[tokio::test]
async fn proxies_are_asked() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    let proxy = stub::http(move |request| {
        heard.lock().unwrap().push(request.to_owned());
        if request.starts_with("CONNECT") { b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec() } else { answer(200, "", "by proxy") }
    })
    .await;
    let options = format!("proxy_url: 'http://u:p@{proxy}', proxy_connect_header: {{X-C: [d]}}");
    let outcome = probe(&http(&format!("{options}, skip_resolve_phase_with_proxy: true")), "http://no-such-name.invalid/x").await;
    outcome.good();
    assert!(outcome.value("probe_http_duration_seconds{phase=\"resolve\"}").is_none() && outcome.value("probe_ip_protocol").is_none());
    let request = seen.lock().unwrap().pop().unwrap();
    assert!(request.starts_with("GET http://no-such-name.invalid/x HTTP/1.1") && request.contains("Basic dTpw"), "{request}");
    probe(&http(&options), "http://127.0.0.1:9/x").await.good();
    assert!(seen.lock().unwrap().pop().unwrap().starts_with("GET http://127.0.0.1:9/x "));
    // By its name, though it is resolved here: a proxy tells the server no other one. Another `Host` does not lead it elsewhere.
    probe(&http(&options), "http://localhost:9/x").await.good();
    let request = seen.lock().unwrap().pop().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get http://localhost:9/x ") && request.contains("host: localhost:9\r\n"), "{request}");
    probe(&http(&format!("{options}, headers: {{Host: other.example}}")), "http://localhost:9/x").await.good();
    assert!(seen.lock().unwrap().pop().unwrap().starts_with("GET http://localhost:9/x "));
    probe(&http(&options), "https://127.0.0.1:9/x").await.failed(Cause::Refused, "connect");
    let request = seen.lock().unwrap().pop().unwrap();
    assert!(
        request.starts_with("CONNECT 127.0.0.1:9 ") && request.contains("X-C: d") && request.contains("Proxy-Authorization: Basic dTpw"),
        "{request}"
    );
}

#[tokio::test]
async fn many_at_the_same_time_do_not_disturb_each_other() {
    let address = stub::http(|request| answer(200, "", request.split(' ').nth(1).unwrap_or_default())).await;
    let mut all = tokio::task::JoinSet::new();
    for number in 0..200 {
        all.spawn(async move {
            let module = http(&format!("fail_if_body_not_matches_regexp: ['^/{number}$']"));
            probe(&module, &format!("http://{address}/{number}")).await.success
        });
    }
    assert!(all.join_all().await.into_iter().all(|good| good));
}
