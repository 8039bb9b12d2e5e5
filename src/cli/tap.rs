//! `sluice tap`: samples as they go by, at the door, where it is decided which of them pass, or at a sink.

use std::io::Write;

use clap::Args;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;

/// `sluice tap`.
#[derive(Debug, Args)]
pub struct Tap {
    /// Where: `in` (as they come), `passed`, `waiting` (for the twin's copy), `covered` (what does not pass), or a sink's name for the rows that it delivers.
    #[arg(long = "at", value_name = "POINT", default_value = "passed")]
    at: String,
    /// Only samples of this group (not at a sink).
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only samples of this tenant (not at a sink).
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only samples that this selector takes, as PromQL writes them: 'up{job="node"}'.
    #[arg(long = "match", value_name = "SELECTOR")]
    selector: Option<String>,
    /// Samples a second at most; what is left out is counted (not at a sink).
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Stop after so many.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    #[command(flatten)]
    asked: Asked,
}

const POINTS: [&str; 4] = ["in", "passed", "waiting", "covered"];

impl Tap {
    fn at_point(&self) -> bool {
        POINTS.contains(&self.at.as_str())
    }

    fn path(&self) -> Result<String, Failure> {
        let selector = self.selector.as_ref().map(|selector| format!("match={}", segment(selector)));
        if self.at_point() {
            let group = self.group.as_ref().map(|group| format!("group={}", segment(group)));
            let tenant = self.tenant.as_ref().map(|tenant| format!("tenant={}", segment(tenant)));
            let query = [Some(format!("at={}", self.at)), Some(format!("rate={}", self.rate)), group, tenant, selector];
            return Ok(format!("/api/v1/tap?{}", query.into_iter().flatten().collect::<Vec<_>>().join("&")));
        }
        if self.group.is_some() || self.tenant.is_some() {
            return Err(Failure::Wrong("rows of a sink do not say of which group or tenant they are; use --match".to_owned()));
        }
        Ok(format!("/api/v1/sinks/{}/tap{}", segment(&self.at), selector.map(|query| format!("?{query}")).unwrap_or_default()))
    }
}

/// Copies lines to standard output until there are enough of them, or nobody reads on.
pub async fn carry_out(tap: Tap) -> Result<(), Failure> {
    let mut body = tap.asked.client().open(&tap.path()?).await?;
    let mut out = std::io::stdout().lock();
    let mut left = tap.count.unwrap_or(u64::MAX);
    let plain = tap.asked.json || !tap.at_point();
    let mut begun: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::NoAnswer(format!("the node broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        begun.extend_from_slice(&data);
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = begun.drain(..=end).collect();
            let (text, is_sample) = if plain { (None, !line.starts_with(br#"{"left_out":"#)) } else { shown(&line) };
            if let Some(text) = text.as_ref().filter(|_| !is_sample) {
                eprintln!("{text}");
                continue;
            }
            // A closed pipe (`| head`) is the reader's way to say that it has enough.
            if out.write_all(text.map(|text| text + "\n").as_ref().map_or(&line, |text| text.as_bytes())).is_err() {
                return Ok(());
            }
            left -= u64::from(is_sample);
            if left == 0 {
                return Ok(());
            }
        }
        let _ = out.flush();
    }
    Ok(())
}

/// A line for people, and whether it is a sample.
fn shown(line: &[u8]) -> (Option<String>, bool) {
    let Ok(line) = serde_json::from_slice::<Value>(line) else { return (None, true) };
    if let Some(left_out) = line["left_out"].as_u64() {
        return (Some(format!("... {left_out} more that fit, left out (--rate); {} not seen", line["missed"])), false);
    }
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let labels = line["labels"].as_object();
    let name = labels.and_then(|labels| labels.get("__name__")).and_then(Value::as_str).unwrap_or_default();
    let rest: Vec<String> =
        labels.into_iter().flatten().filter(|(name, _)| *name != "__name__").map(|(name, value)| format!("{name}={value}")).collect();
    let value = line["value"].as_str().map_or_else(|| line["value"].to_string(), str::to_owned);
    let (verdict, reason) = (text("verdict"), text("reason"));
    let verdict = if verdict == reason { verdict } else { format!("{verdict}/{reason}") };
    let time = line["time"].as_i64().map(crate::clock::rfc3339).unwrap_or_default();
    let replica = if line["replica"] == "" { "-".to_owned() } else { text("replica") };
    (Some(format!("{time} {verdict:<16} {} {replica} {name}{{{}}} {value}", text("group"), rest.join(","))), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_people_write_samples() {
        let line = br#"{"time":1000,"group":"g","replica":"a","verdict":"covered","reason":"repeated","labels":{"__name__":"up","n":"1"},"value":1.5}"#;
        assert_eq!(shown(line), (Some(r#"1970-01-01T00:00:01.000Z covered/repeated g a up{n="1"} 1.5"#.to_owned()), true));
        let left_out = shown(br#"{"left_out":990,"missed":3}"#);
        assert_eq!(left_out, (Some("... 990 more that fit, left out (--rate); 3 not seen".to_owned()), false));
    }
}
