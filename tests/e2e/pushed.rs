//! Pushed metrics: the calls of client libraries and of people, made to the real Pushgateway and to sluice, leave the same metrics and the same answers; what was
//! pushed survives nodes, goes out as samples, ends, expires, and is seen by its tenant only.

use crate::support::http::{Client, Http};
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, eventually, free_port};
use crate::support::sluice::Sluice;
use crate::support::trio::{NAMES, NOWHERE, Trio};
use base64::Engine;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// What client_golang 1.25 pushes: a gauge, a counter, a summary, and a histogram that is native and classic.
const GO: &str = "cQorZGJfYmFja3VwX2xhc3RfY29tcGxldGlvbl90aW1lc3RhbXBfc2Vjb25kcxIzVGhlIHRpbWVzdGFtcCBvZiB0aGUgbGFzdCBjb21wbGV0aW9uIG9mIGEgImJhY2t1cCIuGAEiCxIJCQAAA\
OBOrNpBQAoNZGJfcm93c190b3RhbBIFUm93cy4YACImCgwKBXRhYmxlEgNhImIaFgkAAAAAAAAIQBoLCImpodgGEI2ZwjdcCg1kYl9zaXplX2J5dGVzEgVTaXplLhgCIkIiQAgBEQAAAAAAABxAGhIJAAAAAAA\
A4D8RAAAAAAAAHEAaEgmuR+F6FK7vPxEAAAAAAAAcQCILCImpodgGEJKXxTdyCg9kYl90b29rX3NlY29uZHMSBVRvb2suGAQiVjpUCAERAAAAAAAA4D8aCwgAEZqZmZmZmbk/GgsIAREAAAAAAADwPxoLCAERA\
AAAAAAAJEAoBjEAAAAAAADwNzgAYgQIDxABaAJ6CwiJqaHYBhDY48I3";

/// What prometheus_client 0.26 of Python does.
const PYTHON: &str = "# HELP job_last_success_unixtime Last time a batch job\\nfinished \"well\"\n# TYPE job_last_success_unixtime gauge\n\
    job_last_success_unixtime 1.79e+09\n# HELP rows_total Rows by table\n# TYPE rows_total counter\nrows_total{table=\"a\\\"b\\\\c\"} 3.0\n\
    # HELP rows_created Rows by table\n# TYPE rows_created gauge\nrows_created{table=\"a\\\"b\\\\c\"} 1.7957077304398046e+09\n\
    # HELP took_seconds Took\n# TYPE took_seconds histogram\ntook_seconds_bucket{le=\"0.1\"} 0.0\ntook_seconds_bucket{le=\"1.0\"} 1.0\n\
    took_seconds_bucket{le=\"10.0\"} 1.0\ntook_seconds_bucket{le=\"+Inf\"} 1.0\ntook_seconds_count 1.0\ntook_seconds_sum 0.5\n\
    # HELP size_bytes Size\n# TYPE size_bytes summary\nsize_bytes_count 1.0\nsize_bytes_sum 7.0\n";

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Http {
    let headers = headers.iter().chain(&[("Host", "gateway")]).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Http { first: format!("{method} {path} HTTP/1.1"), headers, body: body.to_vec() }
}

/// Its samples and their types: without those of the process itself, and without times, of which only whether there is one is the same.
fn plain(text: &str) -> Vec<String> {
    let own = ["go_", "process_", "promhttp_", "pushgateway_"];
    let of = |line: &str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").to_owned();
    let lines = text.lines().filter(|line| !own.iter().any(|prefix| of(line).starts_with(prefix)));
    lines
        .map(|line| match line.rsplit_once(' ') {
            Some((series, value)) if series.starts_with("push_") && value != "0" => format!("{series} some"),
            _ => line.to_owned(),
        })
        .collect()
}

struct Both {
    ours: Client,
    theirs: Client,
    _processes: (Sluice, Process),
}

impl Both {
    fn start(scratch: &Scratch) -> Both {
        let mut sluice = Sluice::prepare_with(scratch, "pushed", NOWHERE.strip_prefix("sinks:\n").unwrap(), None);
        sluice.up();
        let port = free_port();
        let args = [format!("--web.listen-address=127.0.0.1:{port}")];
        let log = scratch.join("pushgateway.log");
        let theirs = Process::start("pushgateway", "prometheus-pushgateway", &args, scratch.path(), &log);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(SOON, "the Pushgateway to listen", || {
            Client::new(address).call("GET", "/-/ready").map(|_| ()).map_err(|error| format!("{error}\n{}", theirs.log_tail(2000)))
        });
        Both { ours: Client::new(sluice.address()), theirs: Client::new(address), _processes: (sluice, theirs) }
    }

    /// Both answer alike, and have the same afterwards.
    #[track_caller]
    fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let asked = request(method, path, headers, body);
        let (ours, theirs) = (self.ours.send(&asked).unwrap(), self.theirs.send(&asked).unwrap());
        let story = format!("{method} {path}: {} and {}", ours.text(), theirs.text());
        assert_eq!(ours.status(), theirs.status(), "{story}");
        let ours = plain(&self.ours.call("GET", "/pushgateway/metrics").unwrap().text());
        // A deletion is only queued there.
        eventually(SOON, &story, || {
            let theirs = plain(&self.theirs.call("GET", "/metrics").unwrap().text());
            if ours == theirs { Ok(()) } else { Err(format!("{ours:#?}\nbut there\n{theirs:#?}")) }
        });
        theirs.status()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn client_libraries_find_a_pushgateway() {
    if !need(&[Peer::Pushgateway]) {
        return;
    }
    let scratch = Scratch::new("pushed-both");
    let mut both = Both::start(&scratch);
    let go = base64::engine::general_purpose::STANDARD.decode(GO).unwrap();
    let text = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")];
    // As client_golang does it.
    assert_eq!(both.call("PUT", "/metrics/job/db_backup/db/customers", &[("Content-Type", PROTOBUF)], &go), 200);
    let path = "/metrics/job@base64/ZGIvYmFja3Vw/path@base64/L3Zhci90bXA/empty@base64/=/zone/Z%C3%BCrich+1";
    assert_eq!(both.call("POST", path, &[("Content-Type", PROTOBUF)], &go), 200);
    assert_eq!(both.call("DELETE", "/metrics/job/db_backup/db/customers", &[], b""), 202);
    // As prometheus_client does it.
    assert_eq!(both.call("PUT", "/metrics/job/batchA", &text, PYTHON.as_bytes()), 200);
    let path = "/metrics/job@base64/YmF0Y2gvQg==/empty@base64/=/path@base64/L3Zhci90bXA=/zone@base64/WsO8cmljaCAx";
    assert_eq!(both.call("POST", path, &text, PYTHON.as_bytes()), 200);
    assert_eq!(both.call("DELETE", "/metrics/job/batchA", &text, b""), 202);
    // As people do it with curl.
    let curl = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut put = |method: &str, path: &str, body: &str, status: u16| {
        let told = both.call(method, path, &curl, body.as_bytes());
        assert_eq!(told, status, "{method} {path} {body:?}");
    };
    put("POST", "/metrics/job/some_job", "some_metric 3.14\n", 200);
    put(
        "PUT",
        "/metrics/job/some_job/instance/some_instance",
        "# TYPE some_metric untyped\nsome_metric{label=\"val1\",job=\"x\"} 42\nother{a=\"b\"} 1e7\n",
        200,
    );
    put("POST", "/metrics/job/some_job/instance/some_instance", "other{a=\"c\"} -2\n", 200);
    put("PUT", "/metrics/job/some_job", "", 200);
    put("POST", "/metrics/job/some_job/instance/some_instance", "", 200);
    for body in ["some_metric 3.14", "x 1 2 3\n", "1x 2\n", "x{a=\"b\" 1\n", "x 1 \n", "x{a=\"\\t\"} 1\n"] {
        put("POST", "/metrics/job/some_job", body, 400);
    }
    put("POST", "/metrics/job/late", "some_metric 3.14 1700000000000\n", 400);
    put("POST", "/metrics/job/other_job", "# TYPE some_metric counter\nsome_metric 1\n", 400);
    put("POST", "/metrics/job/other_job", "y{a=\"1\"} 1\ny{a=\"1\"} 2\n", 400);
    put("POST", "/metrics/job/some_job", "other{instance=\"some_instance\",a=\"c\"} 5\n", 400);
    put("PUT", "/metrics/job/other_job/__x/y", "z 1\n", 400);
    put("PUT", "/metrics/job/other_job/x", "z 1\n", 400);
    put("PUT", "/metrics/job@base64/!/x/y", "z 1\n", 400);
    put("PUT", "/metrics/job@base64/=", "z 1\n", 400);
    put("DELETE", "/metrics/job/some_job/instance/some_instance", "", 202);
    put("DELETE", "/metrics/job/never_there", "", 202);
    assert_eq!(both.call("PUT", "/metrics/job/packed", &[("Content-Encoding", "gzip")], &gzip(b"packed_metric 1\n")), 200);
    assert_eq!(both.call("PUT", "/metrics/job/packed", &[("Content-Encoding", "gzip")], b"packed_metric 1\n"), 400);
    // The same of the interface for programs, but for the moments.
    let mut json = |path: &str, ours: bool| {
        let client = if ours { &mut both.ours } else { &mut both.theirs };
        let mut all = client.call("GET", path).unwrap().json();
        let groups = all["data"].as_array_mut().unwrap();
        groups.sort_by_key(|group| group["labels"].to_string());
        for family in groups.iter_mut().flat_map(|group| group.as_object_mut().unwrap().values_mut()) {
            let Some(family) = family.as_object_mut() else { continue };
            if family.remove("time_stamp").is_some() {
                family["metrics"].as_array_mut().unwrap().sort_by_key(|metric| metric["labels"].to_string());
            }
        }
        for group in groups {
            for time in ["push_time_seconds", "push_failure_time_seconds"] {
                group[time]["metrics"][0]["value"] = serde_json::Value::from(group[time]["metrics"][0]["value"] != "0");
            }
        }
        all
    };
    assert_eq!(json("/api/v1/metrics", true), json("/api/v1/metrics", false));
}

fn group(node: &Sluice) -> Result<serde_json::Value, String> {
    let groups = Client::new(node.address()).call("GET", "/api/v1/groups").map_err(|error| error.to_string())?.json();
    groups["groups"].as_array().into_iter().flatten().find(|group| group["name"] == "push").cloned().ok_or_else(|| "no group".to_owned())
}

fn push(to: &Sluice, method: &str, path: &str, body: &str) -> Http {
    Client::new(to.address()).send(&request(method, path, &[], body.as_bytes())).unwrap()
}

#[test]
fn what_was_pushed_survives_the_node_that_leads_and_a_restart_of_all() {
    let scratch = Scratch::new("pushed-trio");
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}push: {{ interval: 1s }}\n"));
    for (node, member) in trio.nodes.iter().enumerate() {
        let answer = push(&member.sluice, "PUT", &format!("/metrics/job/backup/node/{node}"), &format!("rows {node}\n"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    let shown = |sluice: &Sluice| sluice.get("/pushgateway/metrics").text().lines().filter(|line| line.starts_with("rows{")).count();
    for member in &trio.nodes {
        eventually(SOON, "every node to have all of it", || if shown(&member.sluice) == 3 { Ok(()) } else { Err("not yet".to_owned()) });
    }
    eventually(SOON, "samples", || {
        let group = group(&trio.nodes[0].sluice)?;
        if group["series"].as_u64() == Some(9) && group["counts"]["emitted"].as_u64() > Some(20) { Ok(()) } else { Err(group.to_string()) }
    });
    let view = trio.nodes[0].json("/api/v1/cluster").unwrap();
    let control = view["shards"].as_array().unwrap().iter().find(|shard| shard["shard"] == 0).unwrap()["leader"].clone();
    let leader = NAMES.iter().position(|name| control == **name).unwrap();
    trio.nodes[leader].sluice.kill();
    let other = (leader + 1) % 3;
    let before = eventually(SOON, "its group", || group(&trio.nodes[other].sluice))["counts"]["emitted"].as_u64().unwrap_or(0);
    eventually(SOON, "samples by another node", || {
        let group = group(&trio.nodes[other].sluice)?;
        if group["counts"]["emitted"].as_u64() > Some(before + 30) { Ok(()) } else { Err(group.to_string()) }
    });
    assert_eq!(shown(&trio.nodes[other].sluice), 3);
    eventually(SOON, "a push after that", || {
        let answer = push(&trio.nodes[other].sluice, "POST", "/metrics/job/backup/node/3", "rows 3\n");
        if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
    });
    for node in [other, (leader + 2) % 3] {
        trio.nodes[node].sluice.kill();
    }
    trio.nodes.iter_mut().for_each(|node| node.sluice.launch());
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(SOON));
    for member in &trio.nodes {
        eventually(SOON, "every node to have all of it again", || {
            let shown = shown(&member.sluice);
            if shown == 4 { Ok(()) } else { Err(shown.to_string()) }
        });
    }
}

#[test]
fn groups_expire_their_series_end_and_tenants_see_their_own() {
    let scratch = Scratch::new("pushed-alone");
    let rows = scratch.sub("rows");
    let sinks = format!(
        "  - name: rows\n    file: {{ directory: {}, sync: 100ms, compression: none }}\npush: {{ interval: 1s, expire: 4s }}\n",
        rows.display()
    );
    let mut sluice = Sluice::prepare_with(&scratch, "pushed-alone", &sinks, None);
    sluice.up();
    assert_eq!(push(&sluice, "PUT", "/metrics/job/once", "# TYPE done gauge\ndone{a=\"b\"} 7\n").status(), 200);
    assert_eq!(push(&sluice, "PUT", "/tenants/team-a/metrics/job/once", "# TYPE done counter\ndone 8\ntheirs 8\n").status(), 200);
    assert_eq!(push(&sluice, "PUT", "/tenants/team|a/metrics/job/once", "done 8\n").status(), 400);
    let seen = |path: &str| sluice.get(path).text();
    assert!(seen("/pushgateway/metrics").contains("done{a=\"b\",instance=\"\",job=\"once\"} 7"));
    assert!(seen("/tenants/team-a/pushgateway/metrics").contains("done{instance=\"\",job=\"once\"} 8"));
    assert!(!seen("/pushgateway/metrics").contains(" 8"));
    eventually(SOON, "the groups to expire", || {
        let all = format!("{}{}", seen("/pushgateway/metrics"), seen("/tenants/team-a/pushgateway/metrics"));
        if all.is_empty() { Ok(()) } else { Err(all) }
    });
    let written = || -> String {
        let files = std::fs::read_dir(&rows).unwrap().map(|file| file.unwrap().path());
        files.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    };
    eventually(SOON, "the end of the series", || {
        let all = written();
        let of = |name: &str| all.lines().filter(|line| line.contains(&format!("\"name\":\"{name}\""))).collect::<Vec<_>>();
        let ended = |name: &str| of(name).iter().any(|line| line.contains("\"stale\""));
        if of("done").len() >= 3 && ended("done") && ended("theirs") { Ok(()) } else { Err(format!("{:?}", of("done"))) }
    });
}

/// The settings of tenants hold for pushes as they do for remote write.
#[test]
fn a_push_names_its_tenant_where_one_is_required() {
    let scratch = Scratch::new("pushed-tenants");
    let sinks = format!(
        "  - name: rows\n    file: {{ directory: {} }}\ngroups: {{ tenant: {{ header: X-Scope-OrgID, required: true }} }}\n",
        scratch.sub("rows").display()
    );
    let mut sluice = Sluice::prepare_with(&scratch, "pushed-tenants", &sinks, None);
    sluice.up();
    let told = push(&sluice, "PUT", "/metrics/job/once", "done 7\n");
    assert!(told.status() == 400 && told.text().contains("it names no tenant (groups.tenant.required)"), "{}", told.text());
    let with = |method: &str, path: &str, tenant: &str, body: &str| {
        let headers = [("Host", "sluice"), ("X-Scope-OrgID", tenant)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let asked = Http { first: format!("{method} {path} HTTP/1.1"), headers: headers.into(), body: body.as_bytes().to_vec() };
        Client::new(sluice.address()).send(&asked).expect("an answer")
    };
    assert_eq!(with("PUT", "/metrics/job/once", "team-a", "done 7\n").status(), 200);
    assert_eq!(push(&sluice, "PUT", "/tenants/team-b/metrics/job/once", "done 8\n").status(), 200);
    assert_eq!(with("PUT", "/tenants/team-b/metrics/job/once", "team-a", "done 9\n").status(), 400);
    assert_eq!(sluice.get("/pushgateway/metrics").status(), 400);
    let seen = with("GET", "/pushgateway/metrics", "team-a", "").text();
    assert!(seen.contains("done{instance=\"\",job=\"once\"} 7") && !seen.contains(" 8"), "{seen}");
    assert_eq!(with("DELETE", "/metrics/job/once", "team-a", "").status(), 202);
    assert_eq!(with("GET", "/pushgateway/metrics", "team-a", "").text(), "");
    assert_eq!(sluice.get("/pushgateway/api/v1/status").status(), 200, "the gateway itself is nobody's");
}
