//! Tokens: from a file that somebody renews, and from an authorization server.

use super::desk::desk;
use super::*;
use crate::config::kafka::OauthClient;
use crate::config::kafka::Sasl;
use crate::config::remote_write::ClientTls;
use crate::forward::kafka::access::Tokens;

fn tokens(bench: &Bench, sasl: Sasl) -> Tokens {
    let draft = KafkaDraft { sasl: Some(sasl), ..bench.draft.clone() };
    Tokens::of(&KafkaSettings::check(&draft).unwrap(), Some(bench.runtime.handle())).unwrap()
}

#[test]
fn a_client_asks_for_tokens_with_its_secret_and_keeps_one_for_half_its_life() {
    let (desk, bench, dir) = (desk(), bench(), tempfile::tempdir().unwrap());
    let secret_file = dir.path().join("secret");
    std::fs::write(&secret_file, "p:w\n").unwrap();
    let url = format!("{}/oauth2/token", desk.address);
    let client = OauthClient { url, id: "sluice".into(), secret_file, scope: Some("kafka write".into()), tls: ClientTls::default() };
    let tokens = tokens(&bench, Sasl::Client(client));
    assert!(tokens.token().err().unwrap().contains("503"));
    *desk.says.lock().unwrap() = (200, r#"{"access_token":"first","token_type":"Bearer","expires_in":3600}"#.to_owned());
    let first = tokens.token().unwrap();
    let hour = clock::wall_ms() + 3_600_000;
    assert!(first.token == "first" && (hour - 60_000..=hour).contains(&first.lifetime_ms));
    *desk.says.lock().unwrap() = (200, r#"{"access_token":"second","expires_in":0}"#.to_owned());
    assert_eq!(tokens.token().unwrap().token, "first", "another client of the same sink asks nobody");
    let heard = desk.heard.lock().unwrap();
    let asked = heard.last().unwrap();
    assert_eq!(heard.len(), 2);
    assert!(asked.starts_with("POST /oauth2/token HTTP/1.1\r\n"), "{asked}");
    // As RFC 6749 has it, both are encoded before they stand in the header: sluice:p%3Aw.
    assert!(asked.contains("authorization: Basic c2x1aWNlOnAlM0F3\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka+write"), "{asked}");
}

#[test]
fn a_token_of_a_file_is_read_again_and_one_that_has_ended_is_said_to_have() {
    let (bench, dir) = (bench(), tempfile::tempdir().unwrap());
    let file = dir.path().join("token");
    let tokens = tokens(&bench, Sasl::TokenFile(file.clone()));
    assert!(tokens.token().err().unwrap().contains("sasl.token_file"));
    // {"exp":1000}
    std::fs::write(&file, "e30.eyJleHAiOjEwMDB9.").unwrap();
    assert!(tokens.token().err().unwrap().contains("has ended"));
    std::fs::write(&file, "opaque\n").unwrap();
    assert_eq!(tokens.token().unwrap().token, "opaque");
}
