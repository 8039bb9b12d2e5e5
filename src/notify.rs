//! Tells receivers: a group's message written as its receiver wants it, sent, and the answer judged.
//!
//! `Receivers` is what one `alertmanager.yml` says; whoever keeps the groups calls [`Receivers::send`] with a message and one integration of its receiver,
//! and repeats as the outcome says. Left out on purpose: when a group is told, what was told before, and trying again (`app`).

pub mod data;
pub mod doubts;
mod filters;
mod hooks;
pub mod http;
mod judge;
mod mail;
mod page;
mod pagerduty;
pub mod preview;
mod rate;
mod robots;
pub mod say;
mod slack;
mod smtp;
mod teams;
pub mod template;
mod wechat;

use std::sync::Arc;
use std::time::Duration;

use crate::alert::message::Message;
use crate::clock;
use crate::config::receivers::Integration;
use crate::config::receivers::Kind;
use crate::config::receivers::Secret;
use crate::config::routing::Routing;
use crate::notify::page::Page;
use crate::notify::rate::Rates;
use crate::secret::sign;

/// Feishu counts messages of a second, too: 5.
const FEISHU_SPACING: Duration = Duration::from_millis(250);

/// Alerts that a text for people is made of; of a storm's others it says how many there are.
const FOR_PEOPLE: usize = 500;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Taken,
    /// It may have it later.
    Again {
        /// Not before this, where the receiver or a limit of its rate says so.
        after: Option<Duration>,
        /// For people; holds no secret.
        why: String,
    },
    /// It will not take this message, however often it is sent.
    Never {
        /// For people; holds no secret.
        why: String,
    },
}

/// Whom alerts can be told to.
pub struct Receivers {
    /// In the file's order.
    all: Vec<(String, Vec<Integration>)>,
    external: String,
    rates: Arc<Rates>,
}

impl Receivers {
    /// Of a file. `external` is the URL by which people reach this sluice; `before` is what was there before a reload: how much was sent lately is kept.
    pub fn new(file: &Routing, external: &str, before: Option<&Receivers>) -> Receivers {
        let all = file.receivers.iter().map(|receiver| (receiver.name.clone(), receiver.integrations.clone())).collect();
        let rates = before.map(|before| Arc::clone(&before.rates)).unwrap_or_default();
        Receivers { all, external: external.to_owned(), rates }
    }

    fn one(&self, receiver: &str, integration: usize) -> Option<&Integration> {
        self.all.iter().find(|(name, _)| name == receiver)?.1.get(integration)
    }

    /// How many integrations a receiver has; each is sent to, and repeated, by itself. A receiver that is not known has none.
    pub fn integrations(&self, receiver: &str) -> usize {
        self.all.iter().find(|(name, _)| name == receiver).map_or(0, |(_, integrations)| integrations.len())
    }

    /// What an integration is, as Alertmanager calls it: `webhook`, `slack`. For metrics and for people.
    pub fn kind(&self, receiver: &str, integration: usize) -> &'static str {
        self.one(receiver, integration).map_or("", |one| one.kind.name())
    }

    /// Whether it wants to hear that alerts are over.
    pub fn send_resolved(&self, receiver: &str, integration: usize) -> bool {
        self.one(receiver, integration).is_some_and(|one| one.send_resolved)
    }

    /// Whether one message may be of several groups: what PagerDuty is told opens and closes the incident of one.
    pub fn takes_several(&self, receiver: &str, integration: usize) -> bool {
        self.one(receiver, integration).is_some_and(|one| !matches!(one.kind, Kind::PagerDuty(_)))
    }

    /// Whether it takes the message's id as a key and so tells nobody twice.
    pub fn takes_key(&self, receiver: &str, integration: usize) -> bool {
        self.one(receiver, integration).is_some_and(|one| matches!(one.kind, Kind::AlertCenter(_) | Kind::PagerDuty(_)))
    }

    /// Sends, once. Whatever happens, it is over within the integration's timeout.
    pub async fn send(&self, message: &Message, receiver: &str, integration: usize) -> Outcome {
        let Some(one) = self.one(receiver, integration) else {
            return Outcome::Never { why: format!("receiver {receiver:?} has no integration {integration} any more") };
        };
        if let Some(problem) = one.unserved.first() {
            return Outcome::Never { why: format!("line {}: {} {}", problem.line, problem.key, problem.rule) };
        }
        let limit = limit(&one.kind);
        if let Some((target, per_minute, spacing)) = &limit
            && let Err(wait) = self.rates.turn(target, *per_minute, *spacing, clock::now())
        {
            return Outcome::Again {
                after: Some(wait),
                why: "it is sent to as often as it takes, or said that it was too often".to_owned(),
            };
        }
        let outcome = self.carry_out(one, message).await;
        if let (Some((target, ..)), Outcome::Again { after: Some(wait), .. }) = (&limit, &outcome) {
            self.rates.later(target, *wait, clock::now());
        }
        outcome
    }

    async fn carry_out(&self, one: &Integration, message: &Message) -> Outcome {
        let most = match &one.kind {
            Kind::Webhook(hook) => hook.max_alerts,
            Kind::AlertCenter(center) => center.max_alerts,
            _ => FOR_PEOPLE,
        };
        let page = Page::new(message, &self.external, most);
        match &one.kind {
            Kind::Webhook(hook) => hooks::webhook(hook, &page).await,
            Kind::AlertCenter(center) => hooks::alert_center(center, &page, clock::wall_ms()).await,
            Kind::Slack(slack) => slack::send(slack, &page).await,
            Kind::PagerDuty(duty) => pagerduty::send(duty, &page).await,
            Kind::Mail(mail) => mail::send(mail, &page).await,
            Kind::Teams(teams) => teams::send(teams, &page).await,
            Kind::WeChat(chat) => wechat::send(chat, &page).await,
            Kind::WeCom(bot) => robots::wecom(bot, &page).await,
            Kind::DingTalk(bot) => robots::dingtalk(bot, &page, clock::wall_ms()).await,
            Kind::Feishu(bot) => robots::feishu(bot, &page, clock::wall_ms()).await,
            Kind::None(key) => Outcome::Never { why: format!("{key} is of a kind that sluice does not send to") },
        }
    }
}

/// Under which name a target's sendings are counted, how many a minute, and how far apart. Two receivers with one robot have one count.
fn limit(kind: &Kind) -> Option<(String, usize, Duration)> {
    let (secret, per_minute, spacing) = match kind {
        Kind::WeCom(bot) | Kind::DingTalk(bot) => (&bot.url, bot.per_minute, Duration::ZERO),
        Kind::Feishu(bot) => (&bot.url, bot.per_minute, FEISHU_SPACING),
        Kind::Slack(slack) => (slack.token.as_ref().unwrap_or(&slack.url), 0, slack::SPACING),
        Kind::Teams(teams) => (&teams.url, 0, teams::SPACING),
        Kind::AlertCenter(center) => (&center.url, center.per_minute, Duration::ZERO),
        Kind::PagerDuty(duty) => (&duty.key, 0, Duration::ZERO),
        Kind::Webhook(hook) => (&hook.url, 0, Duration::ZERO),
        Kind::WeChat(chat) => (&chat.secret, 0, Duration::ZERO),
        Kind::Mail(_) | Kind::None(_) => return None,
    };
    let text = match secret {
        Secret::Here(text) => text.clone(),
        Secret::File(path) => path.display().to_string(),
    };
    // A digest, so that no table holds the secret.
    let channel = match kind {
        Kind::Slack(slack) => slack.texts.iter().find(|(key, _)| *key == "channel").map(|(_, text)| text.text.as_str()).unwrap_or_default(),
        _ => "",
    };
    Some((sign::sha256_hex(format!("{}\n{text}\n{channel}", kind.name()).as_bytes()), per_minute as usize, spacing))
}

#[cfg(test)]
mod tests;
