//! How a Prometheus is, by what it says of itself (`/-/ready`, the replay of its log, its own metrics) or does not say: a look, and what to make of
//! one look after the other.
//!
//! `Watch` is pure: looks go in, doubts come out. Facts it rests on: `/-/ready` is 503 while the log is replayed and from the signal to stop until the
//! end, and 200 between; since 3.0 a header tells the two apart; before, the listener is gone soon after the signal. The port is open during a replay.
//! Left out on purpose: when and from where is looked (`watcher`), and what a doubt leads to (`dedup::detect`).

use std::time::Duration;

use crate::clock;
use crate::dedup::detect::Hint;
use crate::serve::ask;
use crate::serve::ask::Place;
use crate::serve::ask::Silence;
use crate::telemetry::exposition;

/// Bytes of an answer about itself.
const ANSWER: usize = 64 << 10;
/// Bytes of its metrics: a large one has some 2 MB of its own.
const METRICS: usize = 16 << 20;
/// A death is told so often in quick succession.
const REPEATED: u32 = 10;
/// Looks without an answer, one after the other, that make it sick.
const SILENT: u32 = 2;

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It answers that it is ready.
    Ready,
    /// It answers that it is not.
    NotReady {
        /// By its own words: `true` it stops, `false` it starts; versions before 3.0 do not say.
        stopping: Option<bool>,
        /// How far it has replayed its log: segments of segments.
        replay: Option<(u64, u64)>,
    },
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Silent,
    /// Something that no Prometheus answers, or no way to it.
    Strange(String),
}

/// What it says of its remote write, and who it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Its version.
    pub version: String,
    /// How far behind its remote write is, seconds; the worst of its queues.
    pub behind: Option<f64>,
    /// Shards at work and wanted, of all queues.
    pub shards: Option<(f64, f64)>,
    /// Samples that wait in its queues.
    pub pending: Option<f64>,
    /// Failed writes to its own log.
    pub failed_writes: f64,
}

/// Looks once, within the time whatever happens.
pub async fn look(place: &Place, within: Duration) -> Sight {
    let begun = clock::now();
    let answer = match ask::get(place, "/-/ready", (within, ANSWER)).await {
        Ok(answer) => answer,
        Err(Silence::Refused) => return Sight::Refused,
        Err(Silence::Timeout) => return Sight::Silent,
        Err(Silence::Broken(why)) => return Sight::Strange(why),
    };
    match answer.status {
        200 => Sight::Ready,
        503 => {
            let rest = within.saturating_sub(clock::now().saturating_duration_since(begun));
            let replay = ask::get(place, "/api/v1/status/walreplay", (rest, ANSWER)).await.ok();
            let stopping = answer.headers.get("x-prometheus-stopping").map(|value| value.as_bytes() == b"true");
            Sight::NotReady { stopping, replay: replay.and_then(|answer| replayed(&answer.body)) }
        }
        other => Sight::Strange(format!("/-/ready answers {other}")),
    }
}

fn replayed(body: &[u8]) -> Option<(u64, u64)> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let number = |key: &str| answer["data"][key].as_u64();
    let (least, most, current) = (number("min")?, number("max")?, number("current")?);
    (most > 0).then(|| (current.saturating_sub(least), most.saturating_sub(least)))
}

/// Reads its own metrics.
pub async fn figures(place: &Place, within: Duration) -> Option<Figures> {
    let answer = ask::get(place, "/metrics", (within, METRICS)).await.ok().filter(|answer| answer.status == 200)?;
    Some(read_figures(std::str::from_utf8(&answer.body).ok()?))
}

fn read_figures(text: &str) -> Figures {
    let mut figures = Figures::default();
    let (mut newest, mut newest_of_queues, mut sent): (Option<f64>, Option<f64>, f64) = (None, None, f64::INFINITY);
    let (mut shards, mut wanted) = (None, None);
    exposition::read(text, &mut |name, labels, value| {
        let grow = |sum: &mut Option<f64>| *sum = Some(sum.unwrap_or(0.0) + value);
        match name {
            "prometheus_build_info" => {
                figures.version = labels.iter().find(|(name, _)| name == "version").map(|(_, value)| value.clone()).unwrap_or_default()
            }
            "prometheus_remote_storage_highest_timestamp_in_seconds" => newest = Some(value),
            "prometheus_remote_storage_queue_highest_timestamp_seconds" => {
                newest_of_queues = Some(value.max(newest_of_queues.unwrap_or(0.0)))
            }
            "prometheus_remote_storage_queue_highest_sent_timestamp_seconds" => sent = sent.min(value),
            "prometheus_remote_storage_shards" => grow(&mut shards),
            "prometheus_remote_storage_shards_desired" => grow(&mut wanted),
            "prometheus_remote_storage_samples_pending" => grow(&mut figures.pending),
            "prometheus_tsdb_wal_writes_failed_total" => figures.failed_writes += value,
            _ => {}
        }
    });
    figures.shards = shards.map(|shards| (shards, wanted.unwrap_or(0.0)));
    // Nothing sent yet says nothing about how far behind it is.
    figures.behind = newest_of_queues.or(newest).filter(|_| sent.is_finite() && sent > 0.0).map(|newest: f64| (newest - sent).max(0.0));
    figures
}

/// How it is, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It is ready.
    Up,
    /// It is not, since it has only begun.
    Starting,
    /// It is not, since it ends.
    Stopping,
    /// Nobody listens.
    Down,
    /// It does not answer.
    Silent,
    /// No Prometheus seems to be there.
    Strange,
}

impl State {
    /// For people and labels.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Starting => "starting",
            State::Stopping => "stopping",
            State::Down => "down",
            State::Silent => "silent",
            State::Strange => "strange",
        }
    }
}

/// What one node makes of its looks at one Prometheus.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// How it is.
    pub state: State,
    /// Probing has worked before: only then does its failure mean something.
    pub worked: bool,
    was_ready: bool,
    refused: u32,
    silent: u32,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// For whoever leads the group's shard.
    pub hint: Option<Hint>,
    /// It is to be looked at again at once.
    pub again: bool,
}

impl Watch {
    /// A look. `enough` refusals one after the other are one that counts.
    pub fn note(&mut self, sight: &Sight, enough: u32) -> Doubt {
        let (refused, silent) = (self.refused, self.silent);
        (self.refused, self.silent) = (0, 0);
        match sight {
            Sight::Ready => {
                (self.state, self.worked, self.was_ready) = (State::Up, true, true);
                Doubt::default()
            }
            Sight::NotReady { stopping, replay } => {
                self.worked = true;
                // Ready once, it is not ready again before its end, unless another process has taken its place.
                let ends = stopping.unwrap_or(self.was_ready && replay.is_none());
                self.was_ready = ends;
                self.state = if ends { State::Stopping } else { State::Starting };
                Doubt { hint: Some(if ends { Hint::Stopping } else { Hint::Sick }), again: false }
            }
            Sight::Refused => {
                self.refused = refused.saturating_add(1);
                self.was_ready = false;
                let certain = self.refused >= enough;
                if certain {
                    self.state = State::Down;
                }
                // What it had sent may still be on its way to the shard, and take the hint away: for a moment it is said again and again.
                let again = self.worked && self.refused < enough + REPEATED;
                Doubt { hint: (self.worked && certain).then_some(Hint::Refused), again }
            }
            Sight::Silent => {
                self.silent = silent.saturating_add(1);
                if self.silent >= SILENT {
                    self.state = State::Silent;
                }
                Doubt { hint: (self.worked && self.silent >= SILENT).then_some(Hint::Sick), again: false }
            }
            Sight::Strange(_) => {
                self.state = State::Strange;
                Doubt::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::remote_write::ClientTls;

    /// Answers every connection with these bytes; then it says nothing more, and does not close.
    async fn stand_in(answer: &'static str) -> Place {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
                open.push(stream);
            }
        });
        Place::new(&url, &ClientTls::default()).unwrap()
    }

    #[tokio::test]
    async fn the_second_question_of_a_look_has_what_the_first_left_of_its_time() {
        let within = Duration::from_secs(1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Place::new(&format!("http://{}", listener.local_addr().unwrap()), &ClientTls::default()).unwrap();
        // Is not ready, which it says after half of the time; whatever else it is asked it does not answer.
        tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncReadExt::read(&mut first, &mut [0; 4096]).await;
            tokio::time::sleep(within / 2).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut first, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
            let second = listener.accept().await;
            std::future::pending::<()>().await;
            drop((first, second));
        });
        // Both clocks are the runtime's: on a busy machine the look's still ends first.
        let sight = tokio::select! {
            biased;
            sight = look(&place, within) => Some(sight),
            () = tokio::time::sleep(within * 5 / 4) => None,
        };
        assert_eq!(sight, Some(Sight::NotReady { stopping: None, replay: None }));
    }

    #[test]
    fn whatever_a_prometheus_says_of_itself_is_read_to_its_end() {
        let replay = br#"{"status":"success","data":{"min":3,"max":13,"current":7}}"#;
        assert_eq!(replayed(replay), Some((4, 10)));
        let metrics = "prometheus_build_info{version=\"3.5.0\"} 1\nprometheus_remote_storage_highest_timestamp_in_seconds 1.79e9\n\
                       prometheus_remote_storage_queue_highest_sent_timestamp_seconds{remote_name=\"a\"} 1.78e9\n\
                       prometheus_remote_storage_samples_pending 7\n";
        for seed in crate::mutate::seeds(2_000) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut damaged = replay.to_vec();
            crate::mutate::damage(&mut random, &mut damaged);
            // Whatever it is: what was replayed and what is to be are numbers, and never less than nothing.
            let _ = replayed(&damaged);
            let figures = read_figures(&crate::mutate::damage_text(&mut random, metrics));
            assert!(figures.behind.is_none_or(|behind| behind >= 0.0), "seed {seed}: {figures:?}");
        }
    }

    #[tokio::test]
    async fn every_look_is_over_in_time_and_says_what_it_met() {
        let within = Duration::from_millis(300);
        let full = |answer| async move { look(&stand_in(answer).await, within).await };
        assert_eq!(full("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").await, Sight::Ready);
        let replay =
            "HTTP/1.1 503 X\r\nX-Prometheus-Stopping: false\r\nContent-Length: 39\r\n\r\n{\"data\":{\"min\":1,\"max\":11,\"current\":4}}";
        assert_eq!(full(replay).await, Sight::NotReady { stopping: Some(false), replay: Some((3, 10)) });
        let stopping = "HTTP/1.1 503 X\r\nX-Prometheus-Stopping: true\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(full(stopping).await, Sight::NotReady { stopping: Some(true), replay: None });
        assert_eq!(full("").await, Sight::Silent, "it says nothing");
        assert_eq!(full("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nha").await, Sight::Silent, "it stops in the middle");
        assert_eq!(full("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n").await, Sight::Strange("/-/ready answers 404".into()));
        assert!(matches!(full("SSH-2.0-x\r\n").await, Sight::Strange(_)));
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gone = Place::new(&format!("http://{nobody}"), &ClientTls::default()).unwrap();
        assert_eq!(look(&gone, within).await, Sight::Refused);
    }

    #[test]
    fn what_never_worked_is_no_evidence() {
        let mut watch = Watch::default();
        for sight in [Sight::Refused, Sight::Refused, Sight::Refused, Sight::Silent, Sight::Silent, Sight::Strange(String::new())] {
            assert_eq!(watch.note(&sight, 2), Doubt::default(), "{sight:?}");
        }
    }

    #[test]
    fn refusals_count_when_they_are_enough_and_go_on_counting() {
        let mut watch = Watch::default();
        watch.note(&Sight::Ready, 3);
        assert_eq!(watch.note(&Sight::Refused, 3), Doubt { hint: None, again: true });
        assert_eq!((watch.note(&Sight::Refused, 3).again, watch.state), (true, State::Up));
        for number in 3..30 {
            assert_eq!(watch.note(&Sight::Refused, 3), Doubt { hint: Some(Hint::Refused), again: number < 3 + REPEATED });
        }
        assert_eq!(watch.state, State::Down);
        assert_eq!((watch.note(&Sight::Ready, 3), watch.state), (Doubt::default(), State::Up));
        assert!(watch.note(&Sight::Refused, 3).hint.is_none(), "it counts anew");
    }

    #[test]
    fn an_end_and_a_beginning_are_told_apart() {
        let not_ready = |stopping, replay| Sight::NotReady { stopping, replay };
        let hint = |watch: &mut Watch, sight| watch.note(&sight, 2).hint;
        let mut watch = Watch::default();
        assert_eq!(hint(&mut watch, not_ready(None, Some((3, 10)))), Some(Hint::Sick));
        assert_eq!(hint(&mut watch, not_ready(None, None)), Some(Hint::Sick), "it was never ready");
        watch.note(&Sight::Ready, 2);
        assert_eq!(hint(&mut watch, not_ready(Some(true), None)), Some(Hint::Stopping));
        watch.note(&Sight::Ready, 2);
        assert_eq!((hint(&mut watch, not_ready(None, None)), watch.state), (Some(Hint::Stopping), State::Stopping), "an old one");
        watch.note(&Sight::Ready, 2);
        watch.note(&Sight::Refused, 2);
        assert_eq!((hint(&mut watch, not_ready(None, None)), watch.state), (Some(Hint::Sick), State::Starting), "another process");
        watch.note(&Sight::Ready, 2);
        assert_eq!(hint(&mut watch, not_ready(Some(false), None)), Some(Hint::Sick), "it has begun anew in between");
    }

    #[test]
    fn one_slow_answer_is_no_sickness() {
        let mut watch = Watch::default();
        watch.note(&Sight::Ready, 2);
        assert_eq!((watch.note(&Sight::Silent, 2), watch.state), (Doubt::default(), State::Up));
        assert_eq!((watch.note(&Sight::Silent, 2).hint, watch.state), (Some(Hint::Sick), State::Silent));
    }

    #[test]
    fn figures_are_read_from_its_own_metrics() {
        let text = "# HELP x\nprometheus_build_info{branch=\"x\",version=\"2.42.0\"} 1\n\
            prometheus_remote_storage_highest_timestamp_in_seconds 1000.5\n\
            prometheus_remote_storage_queue_highest_sent_timestamp_seconds{remote_name=\"a\",url=\"http://x/\\\"\"} 990.5\n\
            prometheus_remote_storage_queue_highest_sent_timestamp_seconds{remote_name=\"b\"} 1000\n\
            prometheus_remote_storage_shards{remote_name=\"a\"} 1\nprometheus_remote_storage_shards{remote_name=\"b\"} 2\n\
            prometheus_remote_storage_shards_desired{remote_name=\"a\"} 4.5\nprometheus_remote_storage_samples_pending{remote_name=\"a\"} 7\n\
            prometheus_tsdb_wal_writes_failed_total 2\n";
        let figures = read_figures(text);
        let expected =
            Figures { version: "2.42.0".into(), behind: Some(10.0), shards: Some((3.0, 4.5)), pending: Some(7.0), failed_writes: 2.0 };
        assert_eq!(figures, expected);
        assert_eq!(read_figures("").behind, None);
    }

    #[test]
    fn a_replay_is_read_and_none_is_none() {
        assert_eq!(replayed(br#"{"status":"success","data":{"min":10,"max":30,"current":15}}"#), Some((5, 20)));
        assert_eq!(replayed(br#"{"status":"success","data":{"min":0,"max":0,"current":0}}"#), None);
        assert_eq!(replayed(b"<html>"), None);
    }
}
