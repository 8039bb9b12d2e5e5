//! Two nodes' connections without a cluster behind them: who may send messages, and what becomes of a stream that is none.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use crate::clock;
use crate::config::cluster::Cluster;
use crate::config::cluster::Member;
use crate::model::ShardId;
use crate::node::settings::Reserve;
use crate::node::settings::Settings;
use crate::node::start::Node;
use crate::peer::OFFER;
use crate::peer::Peering;
use crate::peer::Plan;
use crate::peer::charter::Charter;
use crate::peer::charter::Founder;
use crate::peer::frame::Letter;
use crate::peer::frame::write_letters;
use crate::peer::link::LETTERS_PATH;
use crate::peer::link::Link;
use crate::peer::link::Sight;
use crate::secret::Bundle;
use crate::shard::replica::PeerMessage;

const NAMES: [&str; 2] = ["n1", "n2"];

fn charter(cluster: u8, members: &[u64]) -> Charter {
    Charter {
        cluster: format!("{cluster:032x}"),
        seed: format!("{:016x}", 5),
        data_shards: 1,
        nodes: members.iter().map(|id| Founder { id: format!("{id:016x}"), name: format!("n{id}") }).collect(),
        founded_ms: 0,
        begun: true,
        admitted: false,
        recovered: false,
    }
}

/// Two nodes that know each other's addresses, n1 with id 1 and n2 with id 2.
async fn two(dir: &Path) -> [Peering; 2] {
    let places = NAMES.map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let members = [0, 1].map(|at| Member { name: NAMES[at].to_owned(), address: places[at].to_string() });
    let bundle = Bundle::make("dc1", &NAMES.map(str::to_owned), clock::wall_ms()).unwrap();
    let begin = async |at: usize| {
        let (away, slow_sync) = (Duration::from_secs(60), Duration::from_secs(1));
        let plan = Plan {
            cluster: Cluster { nodes: members.to_vec(), listen: places[at], away, slow_sync },
            secrets: bundle.admit(at as u64 + 1, NAMES[at], clock::wall_ms()).unwrap(),
            data_dir: dir.join(NAMES[at]),
            data_shards: 1,
            agreed: String::new(),
            data: false,
        };
        Peering::start(plan).await.unwrap()
    };
    [begin(0).await, begin(1).await]
}

async fn eventually(what: &str, link: &Link, holds: impl Fn(&Sight) -> bool) {
    for _ in 0..1_000 {
        if holds(&link.sight()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: {:?}", link.sight());
}

fn greeted(sight: &Sight) -> bool {
    matches!(sight, Sight::Greeted { .. })
}

fn says(words: &str) -> impl Fn(&Sight) -> bool {
    move |sight| matches!(sight, Sight::Unreachable(why) if why.contains(words))
}

fn letter() -> Letter {
    Letter { shard: ShardId(1), floor: 0, message: PeerMessage { from: 1, to: 2, ..PeerMessage::default() } }
}

#[tokio::test]
async fn messages_are_refused_by_whoever_may_not_take_them_and_the_sender_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let [n1, n2] = two(dir.path()).await;
    let link = Arc::clone(&n1.common.links()[0]);
    eventually("a greeting", &link, greeted).await;
    // Founded here and not there.
    n1.common.charter.send_replace(Some(charter(7, &[1, 2])));
    assert!(link.post(letter()));
    eventually("no cluster", &link, says("it refuses messages (409 Conflict): this node belongs to no cluster yet")).await;
    // Not a member to the other one: the connection stays, to hear when that changes.
    n2.common.charter.send_replace(Some(charter(7, &[2])));
    eventually("a greeting again", &link, greeted).await;
    let before = link.figures().0;
    while link.figures().0 < before + 3 {
        let _ = link.post(letter());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(greeted(&link.sight()), "{:?}", link.sight());
    }
    // A member, and the other one has not begun.
    n2.common.charter.send_replace(Some(charter(7, &[1, 2])));
    let _ = link.post(letter());
    eventually("a start", &link, says("this node is only starting")).await;
    n2.common.charter.send_replace(Some(charter(8, &[1, 2])));
    eventually("another cluster", &link, says("it belongs to another cluster")).await;
    n2.stop().await;
    eventually("an end", &link, says("")).await;
    assert!(!link.post(letter()), "nothing waits for a connection");
    n1.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_is_none_is_refused_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let [n1, n2] = two(dir.path()).await;
    let link = Arc::clone(&n1.common.links()[0]);
    for one in [&n1, &n2] {
        one.common.charter.send_replace(Some(charter(7, &[1, 2])));
    }
    let settings = Settings { data_shards: 1, reserve: Reserve::Bytes(1), ..Settings::new(dir.path().join("data")) };
    let node = Node::start(settings, Box::new(|why| panic!("{why}"))).unwrap();
    n2.common.begun(node.handle.clone()).unwrap();
    eventually("a greeting", &link, greeted).await;
    let whole = write_letters(&[letter()]);
    let torn = whole[..whole.len() - 1].to_vec();
    let mut damaged = whole.clone();
    damaged[4] = 99;
    let huge = vec![255; 64];
    for (bytes, status) in [
        (whole.clone(), StatusCode::NO_CONTENT),
        (torn, StatusCode::BAD_REQUEST),
        (damaged, StatusCode::BAD_REQUEST),
        (huge, StatusCode::BAD_REQUEST),
        ([whole.clone(), whole].concat(), StatusCode::NO_CONTENT),
    ] {
        let answer = link.ask(&n1.common, LETTERS_PATH, Bytes::from(bytes), OFFER).await;
        assert_eq!(answer.unwrap().map(|(status, _)| status), Some(status));
    }
    // The stream proper, on the same connection.
    for _ in 0..20 {
        assert!(link.post(letter()));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(greeted(&link.sight()), "{:?}", link.sight());
    n1.stop().await;
    n2.stop().await;
    drop(node.stop());
}
