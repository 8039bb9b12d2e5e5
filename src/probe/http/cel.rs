//! Expressions on a body that is JSON (`fail_if_body_json_matches_cel`): in CEL, where `body` is the document.
//!
//! As blackbox_exporter evaluates them: all numbers are floating-point, a key that is not there is an error, and so is a body that is no JSON or an expression
//! that comes to no truth value; an error fails the probe, whichever way the expression is asked. Left out on purpose: dates and encodings of CEL's extensions.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Context;
use cel::Program;
use cel::Value;
use serde_json::Value as Json;

use crate::probe::outcome::Cause;
use crate::probe::record::Stop;
use crate::probe::record::Way;

/// What a module asks of a body.
#[derive(Clone, Debug, Default)]
pub struct Cel {
    /// The text, ready, and what it must not come to.
    rules: Arc<Vec<(String, Program, bool)>>,
}

impl Cel {
    /// Must not hold, must hold. Texts were judged where their lines are known.
    pub fn new(matches: Option<&str>, not_matches: Option<&str>) -> Cel {
        let ready = |text: Option<&str>, wrong: bool| {
            let text = text?;
            Some((text.to_owned(), Program::compile(text).ok()?, wrong))
        };
        Cel { rules: Arc::new(ready(matches, true).into_iter().chain(ready(not_matches, false)).collect()) }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Judges a body on a thread of its own, so that whoever waits can stop waiting.
    pub async fn judge_beside(&self, body: Vec<u8>) -> Way<()> {
        let own = self.clone();
        match tokio::task::spawn_blocking(move || own.judge(&body)).await {
            Ok(judged) => judged,
            Err(_) => Err(Stop::new(Cause::Body, "the expression could not be evaluated to its end")),
        }
    }

    /// Judges a body. Takes as long as the expression takes, which may be long: a body has a bound, an expression has none.
    pub fn judge(&self, body: &[u8]) -> Way<()> {
        let stop = |text: String| Stop::new(Cause::Body, text);
        let document: Json = serde_json::from_slice(body).map_err(|error| stop(format!("the body is no JSON: {error}")))?;
        let document = value(document);
        for (text, program, wrong) in self.rules.iter() {
            let mut context = Context::default();
            context.add_variable_from_value("body", document.clone());
            match program.execute(&context) {
                Ok(Value::Bool(found)) if found == *wrong => {
                    return Err(stop(format!("the body {} `{text}`", if found { "matches" } else { "does not match" })));
                }
                Ok(Value::Bool(_)) => {}
                Ok(_) => return Err(stop(format!("`{text}` comes to no truth value"))),
                Err(error) => return Err(stop(format!("`{text}` cannot be evaluated: {error}"))),
            }
        }
        Ok(())
    }
}

/// As Go reads JSON into what CEL is given.
fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(Arc::new(text)),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(value).collect())),
        Json::Object(pairs) => pairs.into_iter().map(|(key, item)| (key, value(item))).collect::<HashMap<String, Value>>().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(matches: Option<&str>, not_matches: Option<&str>, body: &str) -> Result<(), String> {
        Cel::new(matches, not_matches).judge(body.as_bytes()).map_err(|stop| stop.text)
    }

    #[test]
    fn a_body_is_judged_as_blackbox_exporter_does() {
        let body = r#"{"status": "ok", "load": 2, "nodes": [{"up": true}, {"up": false}], "ü": 1.5}"#;
        for (expression, holds) in [
            ("body.status == 'ok'", true),
            ("body.status == 'bad'", false),
            ("body.load == 2", true),
            ("body.load > 1 && body.load < 2.5", true),
            ("body.nodes.size() == 2", true),
            ("body.nodes.all(node, node.up)", false),
            ("body.nodes.exists(node, node.up)", true),
            ("body.nodes[1].up", false),
            ("has(body.gone)", false),
            ("body['ü'] == 1.5", true),
            ("body.status.matches('^o.$')", true),
        ] {
            assert_eq!(judged(None, Some(expression), body).is_ok(), holds, "{expression}: {:?}", judged(None, Some(expression), body));
            assert_eq!(judged(Some(expression), None, body).is_ok(), !holds, "{expression}");
        }
        for wrong in ["body.gone == 1", "body.status", "body.load + 'x' == 3", "nobody"] {
            assert!(judged(None, Some(wrong), body).is_err() && judged(Some(wrong), None, body).is_err(), "{wrong}");
        }
        for (root, expression) in
            [("7", "body == 7"), ("true", "body"), ("[1]", "body[0] == 1.0"), ("\"x\"", "body == 'x'"), ("null", "body == null")]
        {
            assert_eq!(judged(None, Some(expression), root), Ok(()), "{root}");
        }
        for none in ["", "{", "ok", "{} {}"] {
            assert!(judged(Some("true == false"), None, none).unwrap_err().contains("no JSON"), "{none}");
        }
    }

    #[test]
    fn damaged_documents_are_judged_to_their_end() {
        let cel = Cel::new(None, Some("body.nodes.all(node, node.up) && body.load < 3"));
        let body = br#"{"load": 2, "nodes": [{"up": true}, {"up": false}], "more": [[[{"a": 1e300}]]]}"#;
        for seed in crate::mutate::seeds(2_000) {
            let (mut random, mut damaged) = (fastrand::Rng::with_seed(seed), body.to_vec());
            crate::mutate::damage(&mut random, &mut damaged);
            drop(cel.judge(&damaged));
        }
        let deep = "[".repeat(100_000);
        assert!(cel.judge(deep.as_bytes()).is_err());
    }
}
