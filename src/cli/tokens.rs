//! `sluice token`: who may ask a node, and write to it.

use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::clock;
use crate::config::values;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a token and print it, once: for a sender, or for a person.
    Create {
        /// Whose it is: letters, digits, `-`, `_`, `.`.
        name: String,
        /// It ends after this time (90d, 12h); without it, when it is revoked.
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
        /// Whatever is sent with it is this tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        #[command(flatten)]
        asked: Asked,
    },
    /// All tokens: by whom they were made, when they end, their last letters.
    List(Asked),
    /// Let a token be good for nothing, on every node.
    Revoke {
        /// Its name.
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
}

fn time(text: &str) -> Result<Duration, String> {
    values::duration(text).map_err(|(rule, remedy)| format!("{rule}, {remedy}"))
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create { name, expires, tenant, asked } => create(&name, expires, tenant.as_deref(), &asked).await,
        Verb::List(asked) => {
            let answer = asked.client().get("/api/v1/tokens").await?;
            if asked.json {
                println!("{answer:#}");
            } else {
                print!("{}", list(&answer));
            }
            Ok(())
        }
        Verb::Revoke { name, asked } => {
            let answer = asked.client().post(&format!("/api/v1/tokens/{}/revoke", segment(&name)), &Value::Null).await?;
            if asked.json {
                println!("{answer:#}");
            } else {
                println!("{}", cell(&answer["done"]));
            }
            Ok(())
        }
    }
}

/// The token alone goes to standard output, so that it can go straight into a file.
async fn create(name: &str, expires: Option<Duration>, tenant: Option<&str>, asked: &Asked) -> Result<(), Failure> {
    let mut body = json!({ "name": name });
    if let Some(expires) = expires {
        body["expires_seconds"] = expires.as_secs().into();
    }
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    let answer = asked.client().post("/api/v1/tokens", &body).await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        println!("{}", cell(&answer["token"]));
    }
    let until =
        answer["expires"].as_i64().map_or_else(|| "until it is revoked".to_owned(), |ends| format!("until {}", clock::rfc3339(ends)));
    eprintln!("{name}: good {until}; it is not kept anywhere and cannot be shown again");
    if answer["first"] == true {
        eprintln!(
            "it is the first one: from now on requests without a token are answered 401, unless the file says `allow_unauthenticated: true`"
        );
    }
    Ok(())
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["TOKEN", "LETTERS", "TENANT", "CREATED", "BY", "EXPIRES"]);
    let when = |value: &Value| value.as_i64().map_or_else(|| "-".to_owned(), clock::rfc3339);
    for token in answer["tokens"].as_array().map_or(&[][..], Vec::as_slice) {
        let expires = if token["expired"] == true { format!("{} (ended)", when(&token["expires"])) } else { when(&token["expires"]) };
        table.row(vec![
            cell(&token["name"]),
            format!("...{}", cell(&token["hint"])),
            token["tenant"].as_str().filter(|tenant| !tenant.is_empty()).unwrap_or("-").to_owned(),
            when(&token["created"]),
            cell(&token["created_by"]),
            expires,
        ]);
    }
    table.text("no token: whoever reaches the node on loopback may ask, nobody else; `sluice token create NAME` makes one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_what_tells_tokens_apart_and_no_token() {
        let answer = json!({ "tokens": [
            { "name": "k8s-0", "hint": "wxyz", "created": 0, "created_by": "local", "expires": null, "expired": false },
            { "name": "old", "hint": "abcd", "created": 0, "created_by": "k8s-0", "expires": 1000, "expired": true },
        ]});
        let text = list(&answer);
        assert!(text.contains("...wxyz") && text.contains("1970-01-01T00:00:01.000Z (ended)") && !text.contains("slc_"), "{text}");
        assert!(list(&json!({ "tokens": [] })).contains("sluice token create"));
        assert_eq!(time("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert!(time("soon").is_err());
    }
}
