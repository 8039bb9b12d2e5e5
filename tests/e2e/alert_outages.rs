//! Three nodes and receivers that hang, break off, answer 500 or 429, answer 200 with a body that says no, or lead to an address of the link, through a fire and its end and another leader: none holds up
//! a good one, and each is told both, in their order, when it is back.

use super::alerting::{leads, post};
use crate::support::http::{Http, Server};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::trio::{NAMES, NOWHERE, Trio};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
const BAD: [&str; 6] = ["hangs", "breaks", "fails", "waits", "denies", "leads"];

/// Its state, and its id.
type Message = (String, String);

/// Of each receiver what it took, with the messages' ids, and how often it was asked.
#[derive(Clone, Default)]
struct Heard {
    taken: Arc<Mutex<BTreeMap<String, Vec<Message>>>>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    well: Arc<AtomicBool>,
}

impl Heard {
    fn server(&self) -> Server {
        let heard = self.clone();
        Server::start(move |request: &Http| {
            let name = request.target().1.trim_start_matches('/').to_owned();
            *heard.asked.lock().unwrap().entry(name.clone()).or_default() += 1;
            if !heard.well.load(Ordering::Relaxed) {
                let answer = |status: u16, header: (&str, &str)| {
                    let mut answer = Http::answer(status, "no");
                    answer.headers.push((header.0.to_owned(), header.1.to_owned()));
                    Some(answer)
                };
                match &*name {
                    "hangs" => {
                        eventually(SOON, "all to be well", || if heard.well.load(Ordering::Relaxed) { Ok(()) } else { Err(String::new()) });
                        return None;
                    }
                    "breaks" => return None,
                    "fails" => return answer(500, ("X-Why", "none")),
                    "waits" => return answer(429, ("Retry-After", "2")),
                    "denies" => return Some(Http::answer(200, "{\"code\": 7, \"msg\": \"too many\"}")),
                    "leads" => return answer(307, ("Location", "http://169.254.169.254/latest/meta-data/")),
                    _ => {}
                }
            }
            let id = request.header("idempotency-key").unwrap_or_default().to_owned();
            let status = request.json()["status"].as_str().unwrap().to_owned();
            heard.taken.lock().unwrap().entry(name).or_default().push((status, id));
            Some(Http::answer(200, "{\"code\": 0}"))
        })
    }

    /// What it took; the same message twice is one, since a leader may die before it notes that it was taken.
    fn story(&self, name: &str) -> Vec<String> {
        let mut all = self.taken.lock().unwrap().get(name).cloned().unwrap_or_default();
        all.dedup();
        all.into_iter().map(|(status, _)| status).collect()
    }

    #[track_caller]
    fn wait(&self, name: &str, expected: &[&str]) {
        eventually(SOON, &format!("{name} to be told {expected:?}"), || {
            let story = self.story(name);
            if story == expected { Ok(()) } else { Err(format!("{story:?}")) }
        });
    }
}

#[test]
fn receivers_that_are_away_hold_up_nobody_and_are_told_the_fire_and_its_end() {
    let (scratch, heard) = (Scratch::new("alert-outages"), Heard::default());
    let hook = heard.server();
    let names = || BAD.into_iter().chain(["good"]);
    let routes: Vec<String> = names().map(|name| format!("{{ receiver: {name}, matchers: [alertname={name}] }}")).collect();
    let url = |name: &str| {
        let (kind, more) = if name == "denies" {
            ("alert_center_configs", ", expect: { field: code, values: [0], again: [7] }")
        } else {
            ("webhook_configs", "")
        };
        format!("{{ name: {name}, {kind}: [{{ url: \"http://{}/{name}\", timeout: 2s{more} }}] }}", hook.address)
    };
    let receivers: Vec<String> = names().map(url).collect();
    let mut trio = Trio::up(
        &scratch,
        &format!(
            "{NOWHERE}alerting:\n  config:\n    route: {{ receiver: good, group_by: [alertname, i], group_wait: 500ms, group_interval: 1s, routes: [{}] }}\n    \
             receivers: [{}]\n",
            routes.join(", "),
            receivers.join(", ")
        ),
    );
    // More of each than are under way to one receiver at once, and the good one's after all of them.
    let numbers: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    let all = |name: &'static str| numbers.iter().map(move |number| (name, number.as_str())).collect::<Vec<(&str, &str)>>();
    for name in BAD {
        post(&trio.nodes[0].sluice, &all(name), 3_600);
    }
    for name in BAD {
        eventually(SOON, &format!("{name} to be asked"), || {
            let asked = heard.asked.lock().unwrap().get(name).copied().unwrap_or(0);
            if asked > 0 { Ok(()) } else { Err("never".to_owned()) }
        });
    }
    post(&trio.nodes[1].sluice, &[("good", "0")], 3_600);
    heard.wait("good", &["firing"]);
    // Operators are told which and why.
    let teller = leads(&trio, 0).unwrap();
    for (name, why) in [("denies", "too many"), ("leads", "169.254.169.254"), ("fails", "500"), ("waits", "429")] {
        eventually(SOON, &format!("the status to say why {name} takes nothing"), || {
            let status = trio.nodes[teller].json("/api/v1/status")?;
            let said = status["problems"].as_array().into_iter().flatten().find(|one| one["about"] == format!("receiver {name}"));
            let said = said.map(ToString::to_string).unwrap_or_default();
            if said.contains(why) { Ok(()) } else { Err(status["problems"].to_string()) }
        });
    }
    BAD.into_iter().for_each(|name| post(&trio.nodes[2].sluice, &all(name), 0));
    post(&trio.nodes[1].sluice, &[("good", "0")], 0);
    heard.wait("good", &["firing", "resolved"]);

    // Another node leads when they are back.
    let node = leads(&trio, 0).unwrap();
    trio.nodes[node].sluice.kill();
    let other = (node + 1) % 3;
    eventually(SOON, "another leader", || match leads(&trio, other)? {
        leader if leader == node => Err(format!("{} still leads", NAMES[node])),
        _ => Ok(()),
    });
    post(&trio.nodes[other].sluice, &[("good", "1")], 3_600);
    heard.wait("good", &["firing", "resolved", "firing"]);
    for name in BAD {
        assert_eq!(heard.story(name), Vec::<String>::new(), "{name} has taken nothing yet");
    }
    heard.well.store(true, Ordering::Relaxed);
    for name in BAD {
        eventually(SOON, &format!("{name} to be told of each alert, and that it is over"), || {
            let taken = heard.taken.lock().unwrap().get(name).cloned().unwrap_or_default();
            // A message's id begins with its group.
            let mut groups = BTreeMap::<String, Vec<String>>::new();
            for (status, id) in taken {
                groups.entry(id.split('-').next().unwrap().to_owned()).or_default().push(status);
            }
            let good = groups.values().filter(|story| **story == ["firing", "resolved"]).count();
            if good == numbers.len() && groups.len() == good { Ok(()) } else { Err(format!("{groups:?}")) }
        });
    }
    let_pass(Duration::from_secs(2));
    assert_eq!(heard.story("good"), ["firing", "resolved", "firing"]);
    trio.nodes[node].sluice.up();
}
