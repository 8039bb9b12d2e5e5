//! The public door: TLS, tokens, and certificates that are exchanged under way.

use super::crash::sender;
use super::manual::{dev, seen_in_chromium};
use super::senders::{block, typed};
use crate::support::http::{Client, Http};
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, Signal, eventually, free_port, now_ms};
use crate::support::sluice::{BINARY, Sluice, write_request};
use crate::support::tls::{Authority, shown, trusting};
use crate::support::trio::{NOWHERE, Trio, is_private};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A node with this configuration besides the usual.
fn node(scratch: &Scratch, listen: &str, more: &str) -> Sluice {
    let (dir, port) = (scratch.sub("sluice"), free_port());
    let text = format!("listen: {listen}:{port}\ndata_dir: {}\n{more}{NOWHERE}", dir.join("data").display());
    Sluice::prepare_as("sluice", dir, SocketAddr::from(([127, 0, 0, 1], port)), &text, None)
}

#[test]
fn a_certificate_exchanged_under_load_costs_no_request_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new("certificate");
    let authority = Authority::new(scratch.sub("ca"));
    let mut sluice = node(&scratch, "127.0.0.1", &authority.configuration());
    let refused = Command::new(BINARY).args(["run", "--config", &sluice.config()]).output().expect("the binary");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    let said = ["tls.cert_file", "tls.key_file", "cannot be read", "is the path right?"].iter().all(|words| text.contains(words));
    assert!(refused.status.code() == Some(2) && said, "{text}");

    let first = authority.renew();
    let client = authority.client();
    sluice.launch();
    let (address, mut keeping) = (sluice.address(), Client::new(sluice.address()).secure(Arc::clone(&client)));
    eventually(Duration::from_secs(60), "the node to be ready", || {
        let answer = keeping.call("GET", "/-/ready").map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
    });
    assert_eq!(shown(&client, address, "127.0.0.1").unwrap(), first);
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // One that keeps its connection as Prometheus does, and two that come anew with each request.
    let load: Vec<_> = [true, false, false]
        .into_iter()
        .enumerate()
        .map(|(number, keeps)| {
            let (stop, taken, client) = (Arc::clone(&stop), Arc::clone(&taken), Arc::clone(&client));
            std::thread::spawn(move || {
                let mut connection = Client::new(address).secure(client);
                let sender = sender(&format!("g{number}"), "a", 0);
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match connection.send(&write_request(sender.body(now_ms()))) {
                        Ok(answer) if answer.status() == 204 => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        other => failed.push(format!("{other:?}")),
                    }
                    if !keeps {
                        connection.hang_up();
                    }
                }
                failed
            })
        })
        .collect();
    let more = |than: u64| {
        eventually(Duration::from_secs(60), "writes", || {
            let now = taken.load(Ordering::Relaxed);
            if now > than { Ok(now) } else { Err(format!("{now}")) }
        })
    };
    let mut number = more(50);
    for _ in 0..5 {
        let renewed = authority.renew();
        let answer = keeping.call("POST", "/-/reload").unwrap();
        assert!(answer.status() == 200 && answer.text().contains("listener's certificate renewed"), "{}", answer.text());
        assert_eq!(shown(&client, address, "127.0.0.1").unwrap(), renewed, "the next connection sees it");
        number = more(number + 50);
    }
    let last = shown(&client, address, "127.0.0.1").unwrap();
    std::fs::write(authority.key(), "no key").unwrap();
    let answer = keeping.call("POST", "/-/reload").unwrap();
    assert!(
        answer.status() == 400 && answer.text().contains("tls.key_file") && answer.text().contains("holds no key"),
        "{}",
        answer.text()
    );
    sluice.process().signal(Signal::HUP);
    eventually(Duration::from_secs(20), "the refusal in the log", || {
        let log = sluice.process().log_tail(5000);
        if log.contains("not reloaded, all stays as it was") { Ok(()) } else { Err(log) }
    });
    assert_eq!(shown(&client, address, "127.0.0.1").unwrap(), last);
    more(number + 50);
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<String> = load.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());

    let status = keeping.call("GET", "/api/v1/status").unwrap().json();
    let ends = status["public_certificate_expires"].as_i64().expect("when it ends");
    let metrics = keeping.call("GET", "/metrics").unwrap().text();
    let line = metrics.lines().find(|line| line.starts_with("sluice_certificate_expiry_timestamp_seconds{certificate=\"public\"}"));
    let value: f64 = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).expect("the metric");
    assert!((value * 1000.0 - ends as f64).abs() < 1.0 && ends > now_ms(), "{value} {ends}");
    // The command line speaks TLS too, and whoever does not is told.
    let ask = |server: String, more: &[&str]| {
        let output = Command::new(BINARY).args(["group", "list", "--server", &server]).args(more).output().expect("the binary");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let trusted = authority.trusted().display().to_string();
    eventually(Duration::from_secs(10), "the groups to be shown", || {
        let text = ask(format!("https://{address}"), &["--ca-file", &trusted]);
        if text.contains("g2") { Ok(()) } else { Err(text) }
    });
    assert!(ask(format!("https://{address}"), &[]).contains("--ca-file"));
    assert!(ask(format!("http://{address}"), &[]).contains("write https://"));
    sluice.stop();
}

#[test]
fn a_node_that_joins_again_shows_its_new_certificate_to_new_connections_without_a_restart() {
    let scratch = Scratch::new("rejoin");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let of = |trio: &Trio, node: usize, file: &str| trio.nodes[node].sluice.data().join("cluster").join(file);
    let shown_by_n2 = |trio: &Trio| {
        let (ca, certificate, key) = (of(trio, 0, "ca.pem"), of(trio, 0, "node.pem"), of(trio, 0, "node.key"));
        shown(&trusting(&ca, Some((&certificate, &key))), trio.peer_address(1), "n2").unwrap()
    };
    let expires = |trio: &Trio| {
        let view = trio.nodes[0].json("/api/v1/cluster").unwrap();
        view["nodes"][1]["certificate_expires"].as_i64().expect("n2's")
    };
    let (first, ends) = (shown_by_n2(&trio), expires(&trio));
    trio.nodes[1].must(&["cluster", "join", &trio.bundle(), "--config", &trio.nodes[1].sluice.config(), "--node", "n2"]);
    assert_eq!(shown_by_n2(&trio), first, "it has not looked yet");
    let reloaded = trio.nodes[1].post("/-/reload").unwrap();
    assert!(reloaded.status() == 200 && reloaded.text().contains("node's certificate renewed"), "{}", reloaded.text());
    assert_ne!(shown_by_n2(&trio), first);
    // The others hear of it over the links that were there before.
    eventually(Duration::from_secs(20), "n1 to know of it", || if expires(&trio) > ends { Ok(()) } else { Err(String::new()) });
    trio.wait_well();
    // A link made anew uses it, both ways.
    trio.nodes[0].sluice.stop();
    trio.nodes[0].sluice.up();
    trio.wait_well();
    // A certificate of strangers is refused, in words, and changes nothing.
    let strange = scratch.join("strange.bundle").display().to_string();
    trio.nodes[2].must(&["cluster", "prepare", "--bundle", &strange, "--config", &trio.nodes[2].sluice.config()]);
    trio.nodes[2].must(&["cluster", "join", &strange, "--config", &trio.nodes[2].sluice.config(), "--node", "n3"]);
    let refused = trio.nodes[2].post("/-/reload").unwrap();
    assert!(refused.status() == 400 && refused.text().contains("another bundle"), "{}", refused.text());
    trio.wait_well();
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

/// What a write of our own is answered, with this token.
fn write(sluice: &Sluice, token: Option<&str>) -> Http {
    let mut client = Client::new(sluice.address());
    if let Some(token) = token {
        client = client.with_token(token);
    }
    client.send(&write_request(sender("g", "a", 0).body(now_ms()))).expect("an answer")
}

#[test]
fn once_there_is_a_token_nothing_is_to_be_had_without_a_good_one() {
    if !need(&[Peer::Curl]) {
        return;
    }
    let scratch = Scratch::new("tokens");
    let mut sluice = node(&scratch, "127.0.0.1", "");
    sluice.up();
    assert!(is_private(&sluice.data().join("local-token")));
    assert_eq!((write(&sluice, None).status(), sluice.get("/api/v1/status").status()), (204, 200), "loopback without tokens is open");
    let token = sluice.ask(&["token", "create", "prometheus-a", "--expires", "90d"]).trim().to_owned();
    assert!(token.starts_with("slc_") && !token.contains('\n'), "{token}");
    for (shown, status) in [(None, 401), (Some("slc_wrong"), 401), (Some(&*token), 204)] {
        let answer = write(&sluice, shown);
        assert_eq!(answer.status(), status, "{}", answer.text());
        if status == 401 {
            assert!(answer.header("www-authenticate").is_some_and(|said| said.starts_with("Bearer")));
            assert!(answer.text().contains("credentials_file") && answer.text().contains("sluice token create"), "{}", answer.text());
        }
    }
    for (path, status) in [("/-/healthy", 200), ("/-/ready", 200), ("/", 200), ("/app.js", 200), ("/api/v1/status", 401), ("/metrics", 401)]
    {
        assert_eq!(sluice.get(path).status(), status, "{path}");
    }
    // As a password, for whoever knows nothing else.
    let address = format!("http://{}/api/v1/tokens", sluice.address());
    let output = Command::new("curl").args(["-s", "-u", &format!("grafana:{token}"), &address]).output().expect("curl");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(listed.contains("prometheus-a") && !listed.contains(&token), "{listed}");

    // The command line: a named token, none, or that of the node itself for whoever may read it.
    let ask = |args: &[&str], data: &str| {
        let server = format!("http://{}", sluice.address());
        let output =
            Command::new(BINARY).args(args).env("SLUICE_SERVER", server).env("SLUICE_DATA_DIR", data).output().expect("the binary");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(ask(&["token", "list", "--token", &token], "/nowhere").contains("prometheus-a"));
    assert!(ask(&["token", "list"], "/nowhere").contains("a token is wanted"));
    let file = scratch.join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let list = ask(&["token", "list", "--token-file", &file.display().to_string()], "/nowhere");
    assert!(list.contains(&format!("...{}", &token[token.len() - 4..])) && list.contains("local"), "{list}");
    assert!(sluice.ask(&["token", "create", "other"]).starts_with("slc_"));
    assert!(ask(&["token", "create", "other"], &sluice.data().display().to_string()).contains("already"));

    // What is asked for is changed by a reload, and tokens outlive the process.
    let file = sluice.config();
    let before = std::fs::read_to_string(&file).unwrap();
    let mut keeping = Client::new(sluice.address()).with_token(&token);
    let mut with = |line: &str| {
        std::fs::write(&file, format!("{line}\n{before}")).unwrap();
        let answer = keeping.call("POST", "/-/reload").unwrap();
        assert!(answer.text().contains("access changed"), "{}", answer.text());
    };
    with("metrics_without_token: true");
    assert_eq!((sluice.get("/metrics").status(), write(&sluice, None).status()), (200, 401));
    with("allow_unauthenticated: true");
    assert_eq!((write(&sluice, None).status(), write(&sluice, Some("slc_wrong")).status()), (204, 204));
    with("");
    sluice.stop();
    sluice.up();
    assert_eq!((write(&sluice, None).status(), write(&sluice, Some(&token)).status()), (401, 204));
    assert!(sluice.process().log_tail(20_000).contains("a request without a good token was refused"));
    sluice.ask(&["token", "revoke", "prometheus-a"]);
    assert_eq!(write(&sluice, Some(&token)).status(), 401);
    sluice.stop();
}

#[test]
fn a_revoked_token_is_refused_by_every_node_and_a_new_one_taken_by_every_node() {
    let scratch = Scratch::new("tokens-trio");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let each = |trio: &Trio, token: Option<&str>| trio.nodes.iter().map(|node| write(&node.sluice, token).status()).collect::<Vec<_>>();
    let all = |trio: &Trio, token: Option<&str>, status: u16, what: &str| {
        let begun = std::time::Instant::now();
        eventually(Duration::from_secs(20), what, || {
            let answered = each(trio, token);
            if answered == [status; 3] { Ok(()) } else { Err(format!("{answered:?}")) }
        });
        eprintln!("tokens: {what} after {} ms", begun.elapsed().as_millis());
    };
    all(&trio, None, 204, "open before there is a token");
    let token = trio.nodes[0].must(&["token", "create", "prometheus-a"]).trim().to_owned();
    all(&trio, Some(&token), 204, "the token is taken by all");
    all(&trio, None, 401, "without one nobody is let in");
    all(&trio, Some("slc_wrong"), 401, "a wrong one is refused");
    // A node that was away hears of what happened meanwhile before it says 401.
    trio.nodes[2].sluice.stop();
    let late = trio.nodes[0].must(&["token", "create", "late"]).trim().to_owned();
    trio.nodes[2].sluice.launch();
    let mut seen = Vec::new();
    eventually(Duration::from_secs(60), "n3 to take the new token", || {
        let mut client = Client::new(trio.nodes[2].sluice.address()).with_token(&late);
        let answer = client.send(&write_request(sender("g", "a", 0).body(now_ms()))).map_err(|error| error.to_string())?;
        seen.push(answer.status());
        if answer.status() == 204 { Ok(()) } else { Err(answer.text()) }
    });
    assert!(!seen.contains(&401), "a Prometheus would have thrown data away: {seen:?}");
    trio.nodes[1].must(&["token", "revoke", "prometheus-a"]);
    all(&trio, Some(&token), 401, "the revoked one is refused by all");
    assert_eq!(each(&trio, Some(&late)), [204; 3]);
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

#[test]
fn a_real_prometheus_writes_over_tls_with_a_token_as_the_page_says_and_is_refused_once_it_is_revoked() {
    if !need(&[Peer::Prometheus]) {
        return;
    }
    let scratch = Scratch::new("prometheus-token");
    let authority = Authority::new(scratch.sub("ca"));
    authority.renew();
    let mut sluice = node(&scratch, "127.0.0.1", &authority.configuration());
    sluice.launch();
    let (address, trusted) = (sluice.address(), authority.trusted().display().to_string());
    let data = sluice.data().to_owned();
    let ask = |args: &[&str]| {
        let command = Command::new(BINARY)
            .args(args)
            .args(["--server", &format!("https://{address}"), "--ca-file", &trusted])
            .env("SLUICE_DATA_DIR", &data)
            .output()
            .expect("the binary");
        let out = String::from_utf8_lossy(&command.stdout).into_owned();
        if command.status.success() { Ok(out) } else { Err(format!("{out}{}", String::from_utf8_lossy(&command.stderr))) }
    };
    let token = eventually(Duration::from_secs(60), "the node, and its token", || ask(&["token", "create", "prometheus-a"]));
    let file = scratch.join("token");
    std::fs::write(&file, token.trim()).unwrap();
    let own = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let write = typed(
        &block("TLS and tokens", "yaml"),
        &[
            ("mon1.example:9201", &address.to_string()),
            ("/etc/prometheus/sluice.token", &file.display().to_string()),
            ("/etc/prometheus/sluice-ca.pem", &trusted),
        ],
    );
    let head = format!(
        "global:\n  scrape_interval: 1s\n  external_labels: {{ cluster: secure, __replica__: a }}\nscrape_configs:\n  - job_name: own\n    \
         static_configs: [{{ targets: ['{own}'] }}]\n"
    );
    let dir = scratch.sub("prometheus");
    std::fs::write(dir.join("prometheus.yml"), head + &write).unwrap();
    let args = ["--config.file=prometheus.yml".to_owned(), "--storage.tsdb.path=data".to_owned(), format!("--web.listen-address={own}")];
    let mut prometheus = Process::start("prometheus", "prometheus", &args, &dir, &dir.join("log"));
    let samples = || {
        let list: serde_json::Value = serde_json::from_str(&ask(&["group", "list", "--json"])?).map_err(|error| error.to_string())?;
        let group = list["groups"].as_array().and_then(|all| all.iter().find(|group| group["name"] == "secure")).ok_or("no group yet")?;
        group["counts"]["received"].as_u64().ok_or_else(|| group.to_string())
    };
    eventually(Duration::from_secs(60), "samples to come in", || {
        samples().and_then(|count| if count > 1_000 { Ok(()) } else { Err(count.to_string()) })
    });
    ask(&["token", "revoke", "prometheus-a"]).unwrap();
    eventually(Duration::from_secs(60), "Prometheus to say that it is refused", || {
        let log = prometheus.log_tail(20_000);
        if log.contains("401 Unauthorized") && log.contains("not known, or was revoked") { Ok(()) } else { Err(log) }
    });
    // A new token in the same file is enough.
    let again = ask(&["token", "create", "prometheus-a2"]).unwrap();
    std::fs::write(&file, again.trim()).unwrap();
    let before = samples().unwrap();
    eventually(Duration::from_secs(60), "samples to come in again", || {
        samples().and_then(|count| if count > before { Ok(()) } else { Err(count.to_string()) })
    });
    prometheus.terminate(Duration::from_secs(60));
    sluice.stop();
}

#[test]
fn the_page_asks_for_a_token_and_shows_everything_once_it_has_one() {
    if !need(&[Peer::Chromium]) {
        return;
    }
    let scratch = Scratch::new("page-token");
    let (process, address) = dev(&scratch, &["--interval", "1", "--data-dir", &scratch.join("data").display().to_string()]);
    let output =
        Command::new(BINARY).args(["token", "create", "people", "--server", &format!("http://{address}")]).output().expect("the binary");
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let shut = seen_in_chromium(address, "", &scratch);
    assert!(shut.contains("a token is wanted") && shut.contains("class=\"loading\"") && !shut.contains("prometheus-shop-0"), "{shut}");
    let wrong = seen_in_chromium(address, "token=slc_wrong", &scratch);
    assert!(wrong.contains("this token is not known"), "{wrong}");
    let open = seen_in_chromium(address, &format!("token={token}"), &scratch);
    assert!(open.contains("demo/shop") && !open.contains("class=\"loading\"") && !open.contains(&token), "{open}");
    assert!(open.contains("credentials_file"), "the block to paste names the token's file: {open}");
    drop(process);
}

#[test]
fn a_cluster_beyond_loopback_begins_with_the_token_that_prepare_printed() {
    let scratch = Scratch::new("first-token");
    let mut trio = Trio::prepare(&scratch, NOWHERE);
    // Servers of tests stay on loopback: only `prepare` sees the file of a listener that does not.
    let (file, open) = (trio.nodes[0].sluice.config(), scratch.join("open.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&open, text.replacen("listen: 127.0.0.1:", "listen: 0.0.0.0:", 1)).unwrap();
    let said = trio.nodes[0].must(&["cluster", "prepare", "--bundle", &trio.bundle(), "--config", &open.display().to_string()]);
    let token = said.split_whitespace().find(|word| word.starts_with("slc_")).unwrap_or_else(|| panic!("{said}")).to_owned();
    assert!(!std::fs::read_to_string(trio.bundle()).unwrap().contains(&token), "only its hash is kept");
    for node in &trio.nodes {
        node.must(&["cluster", "join", &trio.bundle(), "--config", &node.sluice.config(), "--node", node.name]);
    }
    trio.nodes.iter_mut().for_each(|node| node.sluice.launch());
    trio.init();
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
    let answered = |trio: &Trio, token: Option<&str>| trio.nodes.iter().map(|node| write(&node.sluice, token).status()).collect::<Vec<_>>();
    eventually(Duration::from_secs(20), "the first token to be in force", || {
        let both = (answered(&trio, Some(&token)), answered(&trio, None));
        if both == (vec![204; 3], vec![401; 3]) { Ok(()) } else { Err(format!("{both:?}")) }
    });
    // Revoked is revoked: a start does not bring it back.
    assert!(trio.nodes[0].must(&["token", "create", "people"]).starts_with("slc_"));
    trio.nodes[1].must(&["token", "revoke", "first"]);
    trio.nodes[2].sluice.stop();
    trio.nodes[2].sluice.up();
    trio.wait_well();
    let list = trio.nodes[2].must(&["token", "list"]);
    assert!(list.contains("people") && !list.contains("first"), "{list}");
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

/// Typed in a network of its own, where an address beyond loopback reaches nobody.
const BEYOND: &str = r#"
python3 -c 'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 65))' # SIOCSIFFLAGS: up, running
"$SLUICE" run --config "$FILE" >"$LOG" 2>&1 & node=$!
asked() { curl -s -o "$LOG.answer" -w '%{http_code}' "$@"; }
until [ "$(asked "$URL/-/ready")" = 200 ] || ! kill -0 $node; do :; done
write() { asked "$@" -H 'Content-Type: application/x-protobuf' -H 'Content-Encoding: snappy' --data-binary @"$BODY" "$URL/api/v1/write"; }
echo "early $(write) $(asked "$URL/api/v1/status") $(asked "$URL/") $("$SLUICE" status | grep -c 'there is no token')"
token=$("$SLUICE" token create prometheus-a)
echo "later $(write) $(write -H 'Authorization: Bearer slc_wrong') $(write -H "Authorization: Bearer $token") $(asked "$URL/metrics")"
kill $node; wait $node
"#;

#[test]
fn beyond_loopback_nobody_is_let_in_before_there_is_a_token_and_no_sender_loses_data_by_it() {
    if !need(&[Peer::Curl, Peer::Python, Peer::Tmpfs]) {
        return;
    }
    let scratch = Scratch::new("beyond");
    let sluice = node(&scratch, "0.0.0.0", "");
    let body = scratch.join("body");
    std::fs::write(&body, sender("g", "a", 0).body(now_ms())).unwrap();
    let output = Command::new("timeout")
        .args(["60", "unshare", "--map-root-user", "--net", "bash", "-c", BEYOND])
        .env("SLUICE", BINARY)
        .env("FILE", sluice.config())
        .env("LOG", sluice.log())
        .env("BODY", &body)
        .env("URL", format!("http://{}", sluice.address()))
        .env("SLUICE_SERVER", format!("http://{}", sluice.address()))
        .env("SLUICE_DATA_DIR", sluice.data())
        .output()
        .expect("timeout");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(said.contains("early 503 401 200 1\n") && said.contains("later 401 401 204 401\n"), "{said}{wrong}");
    let log = std::fs::read_to_string(sluice.log()).unwrap();
    for words in ["cross the network in clear", "sluice token create NAME", "listen on 127.0.0.1", "allow_unauthenticated: true"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}
