//! The number of Avro's schema at a registry that speaks Confluent's API: looked up, and registered where it is not there and may be.
//!
//! A number never changes, so a worker asks once for each subject. A registry that is down is a trouble: samples wait, and none is lost.

use bytes::Bytes;
use hyper::header;
use hyper::header::HeaderValue;

use crate::forward::avro;
use crate::forward::http;
use crate::forward::http::Question;
use crate::forward::remote_write::login::Credentials;
use crate::forward::settings::RegistrySettings;
use crate::forward::trouble::Trouble;

/// The media type of the API.
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// The subject of a topic's values.
pub fn subject(registry: &RegistrySettings, topic: &str) -> String {
    registry.subject.clone().unwrap_or_else(|| format!("{topic}-value"))
}

/// The schema's number under this subject. Blocking, for some seconds at most.
pub fn schema(registry: &RegistrySettings, subject: &str, runtime: &tokio::runtime::Handle) -> Result<u32, Trouble> {
    let trouble = |detail: String, remedy: &str| Trouble::Registry { url: registry.url.clone(), detail, remedy: remedy.to_owned() };
    let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT)), (header::ACCEPT, HeaderValue::from_static(CONTENT))];
    if let Some(login) = &registry.login {
        let (value, _) = Credentials::default().header(login).map_err(Trouble::Store)?;
        headers.push((header::AUTHORIZATION, value));
    }
    let body = serde_json::json!({ "schema": avro::SCHEMA, "schemaType": "AVRO" }).to_string();
    // Registering what is there already is how its number is asked for; without the right to, it is looked up.
    let path = if registry.register { format!("/subjects/{subject}/versions") } else { format!("/subjects/{subject}") };
    let question = Question { path, headers, body: Bytes::from(body) };
    let asked = runtime.block_on(http::post(&registry.place, question, "schema_registry.tls.ca_file"));
    let answer =
        asked.map_err(|error| trouble(error, "check that the registry runs, its URL and tls; sluice keeps trying, nothing is lost"))?;
    let remedy = match answer.status {
        200 => {
            let json: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
            let number = json.as_ref().and_then(|json| json.get("id")).and_then(serde_json::Value::as_u64);
            if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
                return Ok(number);
            }
            "the answer holds no id: is the URL that of a schema registry?"
        }
        401 | 403 => "check schema_registry.basic_auth, and what that user may do with the subject",
        404 if !registry.register => "register the schema (`sluice schema avro` prints it) under this subject, or write register: true",
        404 => "check the path of schema_registry.url",
        409 => "the subject holds another schema: name another one with schema_registry.subject, or ask its owner",
        _ => "look at the registry; sluice keeps trying, nothing is lost",
    };
    Err(trouble(format!("subject {subject}: {}", answer.text()), remedy))
}
