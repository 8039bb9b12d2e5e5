//! The guard's judgements, one by one.

use super::*;
use crate::shard::command::Command;
use crate::shard::control::Control;
use crate::shard::control::ControlEffects;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::tokens::NewToken;

const NOW: i64 = 1_000;
const WRITE: &str = "/api/v1/write";
const STATUS: &str = "/api/v1/status";

struct Knows {
    tokens: Arc<Tokens>,
    current: bool,
}

impl Known for Knows {
    fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    fn current(&self) -> bool {
        self.current
    }
}

fn after(commands: Vec<Command>) -> Arc<Tokens> {
    let mut control = Control::default();
    for command in commands {
        let (mut bytes, mut effects) = (Vec::new(), ControlEffects::default());
        entry::encode(1, &Entry::Command(command), &mut bytes);
        control.apply(control.applied + 1, &bytes, &mut effects).unwrap();
    }
    control.tokens
}

fn create(name: &str, token: &str, expires_ms: i64) -> Command {
    let expires_ms = Some(expires_ms);
    Command::CreateToken(NewToken { name: name.into(), hash: token::hash(token), expires_ms, ..NewToken::default() })
}

/// `slc_good` and, ended since `NOW`, `slc_old`.
fn two_tokens() -> Arc<Tokens> {
    after(vec![create("good", "slc_good", NOW + 1), create("old", "slc_old", NOW)])
}

struct Scene {
    guard: Guard,
    local: String,
}

fn scene(listen: &str, access: Access, known: Option<(Arc<Tokens>, bool)>) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let (guard, own) = Guard::new(access, listen.parse().unwrap()).unwrap();
    leave(&own, dir.path()).unwrap();
    let local = std::fs::read_to_string(dir.path().join(token::LOCAL_FILE)).unwrap().trim().to_owned();
    assert_eq!(local, own.reveal());
    if let Some((tokens, current)) = known {
        guard.knows(Box::new(Knows { tokens, current }));
    }
    Scene { guard, local }
}

impl Scene {
    /// The name of who is let in (`-`: nobody in particular), or why nobody is.
    fn judge(&self, path: &str, token: Option<&str>) -> String {
        let mut request = hyper::Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        match self.guard.judge(&request.body(()).unwrap(), NOW) {
            Ok(Caller { name, tenant }) => {
                name.unwrap_or_else(|| "-".to_owned()) + &tenant.map(|tenant| format!(" of {tenant}")).unwrap_or_default()
            }
            Err(refusal) => refusal.word().to_owned(),
        }
    }
}

#[test]
fn a_tokens_tenant_comes_with_it() {
    let tokens = after(vec![Command::CreateToken(NewToken {
        name: "a".into(),
        hash: token::hash("slc_a"),
        tenant: "team-a".into(),
        ..NewToken::default()
    })]);
    let scene = scene("127.0.0.1:1", Access::default(), Some((tokens, true)));
    assert_eq!([scene.judge(WRITE, Some("slc_a")), scene.judge(WRITE, Some(&scene.local))], ["a of team-a", "local"]);
}

#[test]
fn loopback_without_tokens_wants_none() {
    let open = scene("127.0.0.1:9201", Access::default(), Some((Arc::default(), true)));
    assert_eq!([open.judge(WRITE, None), open.judge(STATUS, Some("slc_good")), open.judge("/metrics", None)], ["-", "-", "-"]);
    assert_eq!(open.judge(STATUS, Some(&open.local)), "local", "who asks is known all the same");
    assert!(scene("[::1]:1", Access::default(), None).judge(STATUS, None) == "-");
}

#[test]
fn once_there_is_a_token_every_request_needs_a_good_one() {
    for listen in ["127.0.0.1:9201", "0.0.0.0:9201", "[::]:9201", "10.0.0.1:9201"] {
        let closed = scene(listen, Access::default(), Some((two_tokens(), true)));
        for path in
            [WRITE, "/api/v1/push", "/groups/g/replicas/r/api/v1/write", STATUS, "/metrics", "/-/reload", "/api/v1/tokens", "/nothing"]
        {
            let judged =
                ["", "slc_wrong", "slc_old", "slc_good"].map(|token| closed.judge(path, Some(token).filter(|token| !token.is_empty())));
            assert_eq!(judged, ["missing", "unknown", "expired", "good"], "{listen} {path}");
            assert_eq!(closed.judge(path, Some(&closed.local)), "local");
        }
        for path in ["/-/healthy", "/-/ready", "/", "/app.js", "/style.css"] {
            assert_eq!(closed.judge(path, None), "-", "{path}");
        }
    }
}

#[test]
fn revoking_the_last_token_does_not_open_the_door() {
    let revoked = after(vec![create("good", "slc_good", NOW + 1), Command::RevokeToken { name: "good".into(), by: "good".into() }]);
    let shut = scene("127.0.0.1:9201", Access::default(), Some((revoked, true)));
    assert_eq!(
        [shut.judge(WRITE, Some("slc_good")), shut.judge(STATUS, None), shut.judge(STATUS, Some(&shut.local))],
        ["unknown", "missing", "local"]
    );
}

#[test]
fn what_a_token_is_wanted_for_is_said_in_the_configuration() {
    let tokens = || Some((two_tokens(), true));
    let metrics = scene("0.0.0.0:1", Access { metrics_without_token: true, ..Access::default() }, tokens());
    assert_eq!([metrics.judge("/metrics", None), metrics.judge(STATUS, None)], ["-", "missing"]);
    let open = scene("0.0.0.0:1", Access { allow_unauthenticated: true, ..Access::default() }, tokens());
    assert_eq!([open.judge(WRITE, None), open.judge(WRITE, Some("slc_wrong")), open.judge(STATUS, Some("slc_good"))], ["-", "-", "good"]);
    assert!(open.guard.reload(Access::default()) && !open.guard.reload(Access::default()));
    assert_eq!(open.judge(WRITE, None), "missing");
}

#[test]
fn what_is_not_known_for_sure_costs_no_sender_its_data() {
    // Beyond loopback without a token in being: nobody could have one.
    let early = scene("0.0.0.0:1", Access::default(), Some((Arc::default(), true)));
    assert_eq!([early.judge(WRITE, None), early.judge(WRITE, Some("slc_x")), early.judge(STATUS, None)], ["unsure", "unsure", "missing"]);
    assert_eq!(early.judge(STATUS, Some(&early.local)), "local");
    // A node that lags may not have heard of a token.
    let lags = scene("127.0.0.1:1", Access::default(), Some((two_tokens(), false)));
    assert_eq!(
        [lags.judge(WRITE, Some("slc_new")), lags.judge(WRITE, Some("slc_good")), lags.judge(WRITE, None)],
        ["unsure", "good", "missing"]
    );
    // One that only starts has heard of none.
    let starts = scene("0.0.0.0:1", Access::default(), None);
    assert_eq!([starts.judge(STATUS, Some("slc_good")), starts.judge(STATUS, Some(&starts.local))], ["unsure", "local"]);
    let told = lags.guard.refuse(Refusal::Unsure, "10.0.0.9:1".parse().unwrap(), WRITE);
    assert!(told.status() == StatusCode::SERVICE_UNAVAILABLE && told.headers().contains_key("retry-after"));
}

#[test]
fn the_answer_says_which_scheme_is_spoken() {
    let closed = scene("127.0.0.1:1", Access::default(), Some((two_tokens(), true)));
    let told = closed.guard.refuse(Refusal::Unknown, "10.0.0.9:1".parse().unwrap(), WRITE);
    assert_eq!((told.status().as_u16(), told.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"sluice\""));
}

#[test]
fn what_is_odd_about_a_door_is_told() {
    let told = |listen, access, tokens: Arc<Tokens>, secure| {
        let scene = scene(listen, access, Some((tokens, true)));
        (scene.guard.problems().len(), scene.guard.warnings(secure).len())
    };
    let open = Access { allow_unauthenticated: true, ..Access::default() };
    assert_eq!(told("127.0.0.1:1", Access::default(), Arc::default(), false), (0, 0));
    assert_eq!(told("127.0.0.1:1", open, Arc::default(), false), (0, 0));
    assert_eq!(told("0.0.0.0:1", open, Arc::default(), true), (0, 1));
    assert_eq!(told("0.0.0.0:1", Access::default(), Arc::default(), false), (1, 1));
    assert_eq!(told("0.0.0.0:1", Access::default(), two_tokens(), true), (0, 0));
}

/// A browser asks without a token whether a page may ask with one; what it then asks needs it.
#[test]
fn whether_a_page_may_ask_is_answered_without_a_token() {
    let scene = scene("0.0.0.0:9201", Access::default(), Some((two_tokens(), true)));
    let judge = |method: &str, path: &str| {
        let request = hyper::Request::builder().method(method).uri(path).body(()).unwrap();
        scene.guard.judge(&request, NOW).is_ok()
    };
    assert!(judge("OPTIONS", "/api/v2/silences"));
    for (method, path) in [("GET", "/api/v2/silences"), ("DELETE", "/api/v2/silence/x"), ("OPTIONS", STATUS), ("OPTIONS", WRITE)] {
        assert!(!judge(method, path), "{method} {path}");
    }
}
