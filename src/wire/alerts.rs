//! Alerts as Prometheus and everybody else posts them to Alertmanager's API: a JSON array of labels, annotations and times.
//!
//! Text becomes alerts in one walk: names and values go into one piece of memory an alert, as they will be kept, and times are read where they stand. What is no JSON or of another
//! shape spoils the request; an alert that is of that shape but wrong (no labels, an end before its start) spoils itself alone. Left out on purpose: other
//! shapes (`wire::hooks`), what two words of the same alert come to (the control shard's).

pub mod measure;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde::de::DeserializeSeed;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

use crate::clock;
use crate::model::alert::Alert;
use crate::model::labels::Labels;
use crate::model::labels::Packer;
use crate::model::labels::Piece;

/// Alerts in a request.
pub const MOST_ALERTS: usize = 20_000;
/// Labels of an alert, and as many annotations.
pub const MOST_LABELS: usize = 256;
/// Bytes of an alert's texts, as they are kept.
pub const MOST_BYTES: usize = 64 << 10;
/// Where Grafana says which of its organisations an alert is of. Rules of two may be alike in all labels, so every one but the first is made a label.
pub const ORG_ANNOTATION: &str = "__orgId__";
/// That label.
pub const ORG_LABEL: &str = "grafana_org";
/// The one that most people have alone.
const FIRST_ORG: &str = "1";
/// A time that means that there is none, as Go writes it.
const NO_TIME: i64 = -62_135_596_800_000;

/// What a request came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Alerts to keep, in order, each whole.
    pub good: Vec<Alert>,
    /// What was wrong with the others.
    pub wrong: Vec<String>,
    /// How many of all said that they hold.
    pub firing: u64,
    /// How many said that they are over.
    pub resolved: u64,
}

/// Why nothing of a request can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No JSON, or other things in it than there should be.
    Malformed(String),
    /// Something that must be there is not: its place, as `0.labels`; empty: there is no body.
    Lacks(String),
}

/// Reads a request. `now` is when it came, ms since 1970; an alert without an end holds for `resolve_timeout`, ms.
pub fn read(body: &[u8], now: i64, resolve_timeout: i64) -> Result<Batch, Unreadable> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Unreadable::Lacks(String::new()));
    }
    // All at once: serde would look at each text by itself.
    let text = std::str::from_utf8(body).map_err(|error| Unreadable::Malformed(format!("no UTF-8: {error}")))?;
    let mut batch = Batch::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let reading = Reading { batch: &mut batch, now, resolve_timeout };
    let lacking = reader.deserialize_option(reading).and_then(|lacking| reader.end().map(|()| lacking));
    match lacking {
        Ok(None) => Ok(batch),
        Ok(Some(place)) => Err(Unreadable::Lacks(place)),
        Err(error) => Err(Unreadable::Malformed(error.to_string())),
    }
}

/// Walks the array; comes to the first place where something is missing.
struct Reading<'b> {
    batch: &'b mut Batch,
    now: i64,
    resolve_timeout: i64,
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Option<String>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of alerts")
    }

    fn visit_none<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Option<String>, D::Error> {
        reader.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<String>, A::Error> {
        let (mut number, mut lacking, mut packer) = (0_usize, None, Packer::default());
        while let Some(posted) = items.next_element_seed(Posting(&mut packer))? {
            if number == MOST_ALERTS {
                return Err(de::Error::custom(format_args!("more than {MOST_ALERTS} alerts in one request; send fewer at once")));
            }
            match posted {
                Some(said) => self.batch.add(said, self.now, self.resolve_timeout),
                None => lacking = lacking.or_else(|| Some(format!("{number}.labels"))),
            }
            number += 1;
        }
        Ok(lacking)
    }
}

/// What a source says of an alert, before what it left out is filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Labels, some of them perhaps empty.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Where it was made.
    pub generator: Piece,
    /// Since when.
    pub starts: Option<i64>,
    /// Until when.
    pub ends: Option<i64>,
}

impl Batch {
    /// Fills in what was not said, as Alertmanager does, and takes the alert or says what is wrong with it.
    pub fn add(&mut self, said: Said, now: i64, resolve_timeout: i64) {
        let Said { mut labels, annotations, generator, starts, ends } = said;
        let starts = starts.or(ends).unwrap_or(now);
        let times_out = ends.is_none();
        let ends = ends.unwrap_or(now.saturating_add(resolve_timeout));
        *if ends > now { &mut self.firing } else { &mut self.resolved } += 1;
        labels = labels.said();
        if let Some(org) = annotations.get(ORG_ANNOTATION).filter(|org| *org != FIRST_ORG && !org.is_empty()) {
            labels = labels.or(ORG_LABEL, org);
        }
        let alert = Alert { labels, annotations, generator, starts, ends, times_out, updated: now };
        match fault(&alert) {
            None => self.good.push(alert),
            Some(why) => self.wrong.push(why),
        }
    }

    /// Takes out alerts with a name that is not of this sort, and says so in Alertmanager's words.
    pub fn only_names(&mut self, is_good: fn(&str) -> bool) {
        let wrong = &mut self.wrong;
        self.good.retain(|alert| {
            let bad = |labels: &Labels| labels.keys().find(|name| !is_good(name)).map(str::to_owned);
            let both = [("label set", &alert.labels), ("annotations", &alert.annotations)];
            let found = both.into_iter().find_map(|(what, labels)| Some((what, bad(labels)?)));
            wrong.extend(found.as_ref().map(|(what, name)| format!("invalid {what}: invalid name {name:?}")));
            found.is_none()
        });
    }
}

/// What is wrong with an alert, in Alertmanager's words where it has some.
fn fault(alert: &Alert) -> Option<String> {
    if alert.starts > alert.ends {
        return Some("start time must be before end time".to_owned());
    }
    if alert.labels.is_empty() {
        return Some("at least one label pair required".to_owned());
    }
    for (what, labels) in [("label set", &alert.labels), ("annotations", &alert.annotations)] {
        if labels.keys().next().is_some_and(str::is_empty) {
            return Some(format!("invalid {what}: invalid name \"\""));
        }
        if labels.more_than(MOST_LABELS) {
            return Some(format!("invalid {what}: more than {MOST_LABELS} of them"));
        }
    }
    let all = alert.labels.packed().len() + alert.annotations.packed().len() + alert.generator.len();
    (all > MOST_BYTES).then(|| format!("an alert of {all} bytes, and {MOST_BYTES} may be"))
}

/// One of the array; none if it lacks its labels, which must be there. Its texts are put into one piece of memory.
struct Posting<'p>(&'p mut Packer);

impl<'de> DeserializeSeed<'de> for Posting<'_> {
    type Value = Option<Said>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<Said>, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Posting<'_> {
    type Value = Option<Said>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an alert")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Option<Said>, A::Error> {
        let Posting(packer) = self;
        packer.clear();
        let (mut labels, mut annotations, mut generator, mut starts, mut ends) = (None, None, None, None, None);
        while let Some(key) = pairs.next_key::<Key>()? {
            match key {
                Key::Labels => labels = pairs.next_value_seed(Listed(packer))?,
                Key::Annotations => annotations = pairs.next_value_seed(Listed(packer))?,
                Key::Generator => generator = pairs.next_value_seed(Plain(packer))?,
                Key::Starts => starts = pairs.next_value::<Time>()?.0,
                Key::Ends => ends = pairs.next_value::<Time>()?.0,
                Key::Other => drop(pairs.next_value::<de::IgnoredAny>()?),
            }
        }
        let text = packer.take();
        let list = |place: Option<_>| place.map_or_else(Labels::new, |place| Labels::of(&text, place));
        let generator = generator.map_or_else(Piece::default, |place| Piece::of(&text, place));
        Ok(labels.map(|labels| Said { labels: list(Some(labels)), annotations: list(annotations), generator, starts, ends }))
    }
}

/// As Go does, without regard to case.
enum Key {
    Labels,
    Annotations,
    Generator,
    Starts,
    Ends,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Key, D::Error> {
        struct OfKey;
        impl Visitor<'_> for OfKey {
            type Value = Key;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                let is = |name: &str| key.eq_ignore_ascii_case(name);
                Ok(match key.len() {
                    6 if is("labels") => Key::Labels,
                    6 if is("endsAt") => Key::Ends,
                    8 if is("startsAt") => Key::Starts,
                    11 if is("annotations") => Key::Annotations,
                    12 if is("generatorURL") => Key::Generator,
                    _ => Key::Other,
                })
            }
        }
        reader.deserialize_str(OfKey)
    }
}

/// Where something was put; none for null.
type Place = Option<(u32, u32)>;

/// Names and values.
struct Listed<'p>(&'p mut Packer);

impl<'de> DeserializeSeed<'de> for Listed<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Place, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Listed<'_> {
    type Value = Place;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("names and values, all of them text")
    }

    fn visit_none<E>(self) -> Result<Place, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Place, D::Error> {
        reader.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Place, A::Error> {
        while let Some(Short(name)) = pairs.next_key()? {
            let Short(value) = pairs.next_value()?;
            self.0.add(&name, &value);
        }
        Ok(Some(self.0.list()))
    }
}

/// A text by itself.
struct Plain<'p>(&'p mut Packer);

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Place, D::Error> {
        let text = Option::<Short<'de>>::deserialize(reader)?;
        Ok(text.map(|Short(text)| self.0.text(&text)))
    }
}

/// A text, where it stands if nothing in it is escaped.
#[derive(Deserialize)]
struct Short<'t>(#[serde(borrow)] Cow<'t, str>);

/// A time, or none: null, or the one by which Go says so.
struct Time(Option<i64>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Time, D::Error> {
        struct OfTime;
        impl<'de> Visitor<'de> for OfTime {
            type Value = Time;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a time as 2026-12-24T18:00:00Z")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                time(text).map(Time).map_err(E::custom)
            }

            fn visit_none<E>(self) -> Result<Time, E> {
                Ok(Time(None))
            }

            fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Time, D::Error> {
                reader.deserialize_str(self)
            }
        }
        reader.deserialize_option(OfTime)
    }
}

/// The time that a text says; none if it is empty or Go's word for none.
pub fn time(text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = clock::from_rfc3339(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("{shown:?} is no time; write it as 2026-12-24T18:00:00Z")
    })?;
    Ok((read != NO_TIME).then_some(read))
}

#[cfg(test)]
mod tests;
