//! `groups:` how a series finds the group and the replica it came from, and what is special about single groups.

use std::time::Duration;

use crate::config::limits;
use crate::config::limits::Special;
use crate::config::read::Node;
use crate::config::read::Section;
use crate::config::remote_write;
use crate::config::remote_write::ClientTls;
use crate::config::values;

/// How series find their group and replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Tried in this order; the first pair of which a series carries the replica label or the group label decides.
    pub labels: Vec<LabelPair>,
    /// What happens to series that carry none of them.
    pub unidentified: Unidentified,
    /// After so many switches within an hour a group's leader stays, and an alarm is raised.
    pub switches_per_hour: u32,
    /// How the Prometheus of a group are probed.
    pub probe: Watched,
    /// What is special about single groups, by their name.
    pub overrides: Vec<Override>,
    /// Whose samples are whose.
    pub tenant: Tenant,
}

/// Where a request's tenant comes from, beside its URL and its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// A header that senders set, in small letters. None is believed unless it is named here: whoever sends one splits groups.
    pub header: Option<String>,
    /// Requests without a tenant are answered 400.
    pub required: bool,
}

/// How the Prometheus of a group are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Between two looks at one.
    pub interval: Duration,
    /// What a look may take.
    pub timeout: Duration,
    /// Where no URL is written: the port of the sender's own address that is looked at.
    pub senders: Option<u16>,
}

impl Default for Watched {
    fn default() -> Watched {
        Watched { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), senders: None }
    }
}

/// Where a replica's Prometheus is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The replica.
    pub name: String,
    /// Up to `/-/ready`, without it.
    pub url: String,
    /// Whom sluice trusts, with TLS.
    pub tls: ClientTls,
}

/// Two labels: one names the group, one the replica in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPair {
    /// Names the group, as `cluster`.
    pub group: String,
    /// Names the replica, as `__replica__`; taken off before any sink.
    pub replica: String,
    /// Whether a `-shard-N-` in the replica's name belongs to the group's (Prometheus Operator with `shards` above 1).
    pub operator_shards: bool,
}

/// What happens to series without any of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// They pass, without deduplication, and are counted.
    Forward,
    /// They are answered 400.
    Refuse,
}

/// What is special about one group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Override {
    /// The group's name, in full.
    pub name: String,
    /// See [`Groups::switches_per_hour`].
    pub switches_per_hour: Option<u32>,
    /// The replica that leads; an operator may unpin it until the file is read again.
    pub pinned: Option<String>,
    /// See [`crate::config::limits::Limits::future`].
    pub future: Option<Duration>,
    /// See [`crate::config::limits::Limits::labels_per_series`].
    pub labels_per_series: Option<usize>,
    /// Where its Prometheus are.
    pub replicas: Vec<Replica>,
    /// What it may do, where that differs from [`crate::config::limits::Limits::per_group`].
    pub limits: Special,
}

impl Default for Groups {
    fn default() -> Groups {
        let pair =
            |group: &str, replica: &str, operator_shards| LabelPair { group: group.into(), replica: replica.into(), operator_shards };
        Groups {
            labels: vec![pair("prometheus", "prometheus_replica", true), pair("cluster", "__replica__", false)],
            unidentified: Unidentified::Forward,
            switches_per_hour: 6,
            probe: Watched::default(),
            overrides: Vec::new(),
            tenant: Tenant::default(),
        }
    }
}

impl Groups {
    /// What is special about the group of this name.
    pub fn of(&self, group: &str) -> Option<&Override> {
        self.overrides.iter().find(|special| special.name == group)
    }
}

/// Reads `groups:`.
pub fn read(section: &Section<'_>) -> Groups {
    let default = Groups::default();
    let mut labels = match section.get("labels") {
        Some(node) => node.list().iter().filter_map(label_pair).collect(),
        None => default.labels.clone(),
    };
    if let Some(node) = section.get("extra_labels") {
        labels.extend(node.list().iter().filter_map(label_pair));
    }
    if let (true, Some(node)) = (labels.is_empty(), section.get("labels")) {
        node.complain("must name at least one pair of labels", "leave it out for prometheus/prometheus_replica and cluster/__replica__");
    }
    let choices = values::one_of(&[("forward", Unidentified::Forward), ("refuse", Unidentified::Refuse)]);
    let unidentified = section.or("unidentified", default.unidentified, choices);
    let switches_per_hour = section.or("switches_per_hour", u64::from(default.switches_per_hour), values::number(1..=3600));
    let probe = section.below("probe").map(|section| read_watched(&section)).unwrap_or_default();
    let overrides = section.get("overrides").map(|node| read_overrides(&node)).unwrap_or_default();
    let tenant = section.below("tenant").map(|section| read_tenant(&section)).unwrap_or_default();
    section.finish();
    Groups { labels, unidentified, switches_per_hour: narrow(switches_per_hour), probe, overrides, tenant }
}

fn read_watched(section: &Section<'_>) -> Watched {
    let default = Watched::default();
    let span = |from| values::duration_in(Duration::from_millis(from)..=Duration::from_secs(60));
    let interval = section.or("interval", default.interval, span(250));
    let timeout = section.or("timeout", default.timeout, span(50));
    let senders = section.opt("senders", values::number(1..=65_535)).and_then(|port| u16::try_from(port).ok());
    section.finish();
    Watched { interval, timeout, senders }
}

fn read_replicas(node: &Node<'_>) -> Vec<Replica> {
    let mut replicas: Vec<Replica> = Vec::new();
    for item in node.list() {
        let section = item.section();
        let name = section.must("name", "write the replica's name as `sluice group show` shows it", values::text);
        let url = section.must("url", "write where its Prometheus is: url: http://prometheus-a.example:9090", values::url);
        let tls = section.below("tls").map(|section| remote_write::tls(&section)).unwrap_or_default();
        section.finish();
        let (Some(name), Some(url)) = (name, url) else { continue };
        if replicas.iter().any(|known| known.name == name) {
            item.complain(format!("the replica `{name}` stands here a second time"), "keep one of the two");
        }
        replicas.push(Replica { name, url: url.trim_end_matches('/').to_owned(), tls });
    }
    replicas
}

fn read_tenant(section: &Section<'_>) -> Tenant {
    let header = section.get("header").and_then(|node| {
        let name = node.value(values::text)?;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !plain {
            node.complain("is no name of a header", "letters, digits and hyphens: X-Scope-OrgID, as senders to Mimir have it");
        }
        plain.then(|| name.to_ascii_lowercase())
    });
    let required = section.or("required", false, values::switch);
    section.finish();
    Tenant { header, required }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn label_pair(node: &Node<'_>) -> Option<LabelPair> {
    let section = node.section();
    let remedy = "a pair reads: { group: cluster, replica: __replica__ }";
    let group = section.must("group", remedy, values::label);
    let replica = section.must("replica", remedy, values::label);
    let operator_shards = section.or("operator_shards", false, values::switch);
    section.finish();
    let (group, replica) = (group?, replica?);
    if group == replica {
        node.complain("group and replica must be two labels", remedy);
        return None;
    }
    Some(LabelPair { group, replica, operator_shards })
}

fn read_overrides(node: &Node<'_>) -> Vec<Override> {
    let mut overrides: Vec<Override> = Vec::new();
    for item in node.list() {
        let section = item.section();
        let name = section.must("name", "write the group's name as `sluice group list` shows it", values::text);
        let switches_per_hour = section.opt("switches_per_hour", values::number(1..=3600)).map(narrow);
        let pinned = section.opt("pinned", values::text);
        let future = section.opt("future", values::duration_in(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400)));
        let labels_per_series =
            section.opt("labels_per_series", values::number(1..=65_536)).and_then(|number| usize::try_from(number).ok());
        let replicas = section.get("replicas").map(|node| read_replicas(&node)).unwrap_or_default();
        let limits = section.below("limits").map(|section| limits::read_special(&section)).unwrap_or_default();
        section.finish();
        let Some(name) = name else { continue };
        if overrides.iter().any(|known| known.name == name) {
            item.complain(format!("the group `{name}` stands here a second time"), "keep one of the two");
        }
        overrides.push(Override { name, switches_per_hour, pinned, future, labels_per_series, replicas, limits });
    }
    overrides
}
