//! The page's table of what probe jobs look at, as a browser draws it.

use super::manual::seen_in_chromium;
use crate::support::http::{Http, Server};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, free_port};
use crate::support::sluice::Sluice;
use crate::support::trio::NOWHERE;
use std::time::Duration;

#[test]
fn targets_are_shown_with_their_phases_and_a_hostile_name_stays_text() {
    if !need(&[Peer::Chromium]) {
        return;
    }
    let scratch = Scratch::new("probe-page");
    let shop = Server::start(|_: &Http| Some(Http::answer(200, "open")));
    let gone = free_port();
    let jobs = format!(
        "probe:\n  jobs:\n    - {{ name: shops, module: http_2xx, interval: 1s, targets: [\"http://{}\"] }}\n    - name: gone\n      module: tcp_connect\n      interval: 1s\n      \
         static_configs: [ {{ targets: [\"127.0.0.1:{gone}\"], labels: {{ instance: '<img src=x onerror=\"document.title=1\">' }} }} ]\n",
        shop.address
    );
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(&scratch, "probe-page", &format!("{sinks}{jobs}"), None);
    sluice.up();
    eventually(Duration::from_secs(60), "one to be down, one to be up", || {
        let all = sluice.get("/api/v1/probes").json();
        let (down, up) = (&all["targets"][0], &all["targets"][1]);
        if down["verdict"] == "down" && up["success"] == true { Ok(()) } else { Err(all.to_string()) }
    });
    let page = |fragment: &str| {
        let page = seen_in_chromium(sluice.address(), fragment, &scratch);
        assert!(page.contains("1 of 2 down") && !page.contains("<img src=\"x\"") && !page.contains("<title>1</title>"), "{page}");
        let at = page.find("id=\"probes-section\"").unwrap_or_else(|| panic!("{page}"));
        page[at..].split("</section>").next().unwrap_or_default().to_owned()
    };
    let (hostile, shop) = ("&lt;img src=x onerror", format!("http://{}", shop.address));
    let down = page("");
    for words in [hostile, "refused", "connect ", "(cut off)", "target-down", "class=\"cut\""] {
        assert!(down.contains(words), "{words} is not in\n{down}");
    }
    assert!(!down.contains(&shop), "what is well is not shown unless it is asked for\n{down}");
    let all = page("targets=all");
    assert!(all.contains(hostile) && all.contains(&shop) && all.contains("processing "), "{all}");
    let one = page("targets=all&match=SHOPS");
    assert!(one.contains(&shop) && !one.contains(hostile), "{one}");
    let none = page("match=nobody");
    assert!(none.contains("No target like that.") && !none.contains(hostile), "{none}");
}
