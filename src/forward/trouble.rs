//! What can be wrong with a sink, said so that somebody can act: a closed list, each with a text and a remedy. Here stands what is Kafka's and what
//! any sink may meet; what is a store's stands in `remote_write::trouble`, what is a
//! directory's in `file::trouble`.
//!
//! A trouble is state, not an event: it stands in `status` from its first moment to its last, and is logged when it comes, when it
//! changes and when it goes, never per retry.

use std::fmt;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::forward::file::trouble::FileTrouble;
use crate::forward::remote_write::trouble::StoreTrouble;

/// What is wrong, or worth knowing, about one sink in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what the fields are stands in the text of each, in `Display` below")]
pub enum Trouble {
    /// No broker answers.
    Unreachable { brokers: String, detail: String },
    /// A broker answers and does not let us in.
    NotLetIn { detail: String },
    /// The topic does not exist and is not to be made.
    TopicMissing { topic: String },
    /// The topic does not exist and making it failed.
    TopicNotMade { topic: String, detail: String },
    /// The topic may not be written, or not be described.
    TopicDenied { topic: String },
    /// The position may not be kept under this group.
    GroupDenied { group: String },
    /// This transactional id may not be used.
    TransactionDenied { id: String },
    /// Idempotent writes or creating topics are not allowed.
    ClusterDenied,
    /// The brokers are too old for transactions.
    NoTransactions { detail: String },
    /// Fewer replicas in sync than the topic demands.
    NotEnoughReplicas { topic: String },
    /// The broker takes smaller messages than we sent; ours became smaller.
    MessagesTooLarge { topic: String, now: usize },
    /// Single rows were too large and became dead letters.
    RowsTooLarge { topic: String, rows: u64 },
    /// The number of partitions changed.
    PartitionsChanged { topic: String, from: usize, to: usize },
    /// Another producer took over this sink's transactional id.
    Fenced { id: String },
    /// Kafka had no position, so the log's cursor counted.
    PositionMissing { group: String, cursor: u64 },
    /// Kafka's position is older than what the log keeps.
    PositionTooOld { position: u64, oldest: u64 },
    /// Kafka's position is ahead of all that this shard has emitted.
    PositionAhead { position: u64, last: u64 },
    /// The position under our group's name was written by another cluster.
    PositionForeign { group: String, owner: String },
    /// It is not known whether the last transaction was committed; the position will be read again.
    CommitUnclear { detail: String },
    /// Kafka takes longer than it should.
    Slow { seconds: u64 },
    /// The worker's thread stands still: a call does not return.
    Still { seconds: u64 },
    /// Another thread took the place of one that stood still.
    Relieved { seconds: u64 },
    /// The shard's log does not give what it should.
    Log { detail: String },
    /// librdkafka refuses the settings.
    Settings { detail: String },
    /// The producer is beyond repair and is made anew.
    Broken { code: String, detail: String },
    /// The registry does not give the schema's number.
    Registry { url: String, detail: String, remedy: String },
    /// Rows went to the fallback topic, since the one of the template is not to be had.
    TopicsOutside { topic: String, fallback: String, why: String },
    /// Files of TLS or SASL have changed, and no client can be made with them.
    NewFiles { detail: String },
    /// Something with a remote-write store.
    Store(StoreTrouble),
    /// Something with a directory of files.
    File(FileTrouble),
}

impl Trouble {
    /// A short fixed word for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Trouble::Unreachable { .. } => "unreachable",
            Trouble::NotLetIn { .. } => "not_let_in",
            Trouble::TopicMissing { .. } => "topic_missing",
            Trouble::TopicNotMade { .. } => "topic_not_made",
            Trouble::TopicDenied { .. } => "topic_denied",
            Trouble::GroupDenied { .. } => "group_denied",
            Trouble::TransactionDenied { .. } => "transaction_denied",
            Trouble::ClusterDenied => "cluster_denied",
            Trouble::NoTransactions { .. } => "no_transactions",
            Trouble::NotEnoughReplicas { .. } => "not_enough_replicas",
            Trouble::MessagesTooLarge { .. } => "messages_too_large",
            Trouble::RowsTooLarge { .. } => "rows_too_large",
            Trouble::PartitionsChanged { .. } => "partitions_changed",
            Trouble::Fenced { .. } => "fenced",
            Trouble::PositionMissing { .. } => "position_missing",
            Trouble::PositionTooOld { .. } => "position_too_old",
            Trouble::PositionAhead { .. } => "position_ahead",
            Trouble::PositionForeign { .. } => "position_foreign",
            Trouble::CommitUnclear { .. } => "commit_unclear",
            Trouble::Slow { .. } => "slow",
            Trouble::Still { .. } => "still",
            Trouble::Relieved { .. } => "relieved",
            Trouble::Log { .. } => "log",
            Trouble::Settings { .. } => "settings",
            Trouble::Broken { .. } => "broken",
            Trouble::Registry { .. } => "registry",
            Trouble::TopicsOutside { .. } => "topics_outside",
            Trouble::NewFiles { .. } => "new_files",
            Trouble::Store(trouble) => trouble.code(),
            Trouble::File(trouble) => trouble.code(),
        }
    }

    /// What somebody can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Trouble::Unreachable { .. } => "check that the brokers run and that this machine reaches host and port; sluice keeps trying, nothing is lost within the sink's budget".into(),
            Trouble::NotLetIn { .. } => "check security.protocol, the user, its password and the certificates under `properties`".into(),
            Trouble::TopicMissing { topic } => format!("create it (kafka-topics.sh --create --topic {topic} --partitions 12), or let sluice do it: create_topic: {{ partitions: 12, replication: 3 }}"),
            Trouble::TopicNotMade { topic, .. } => format!("create topic {topic} by hand, or mend create_topic (no more copies than brokers; needs CREATE on the topic or the cluster)"),
            Trouble::TopicDenied { topic } => format!("grant WRITE and READ on topic {topic} (docs/kafka.md)"),
            Trouble::GroupDenied { group } => format!("grant READ on group {group}, best by the prefix `sluice-` (docs/kafka.md), or use delivery: at_least_once"),
            Trouble::TransactionDenied { id } => format!("grant WRITE on transactional id {id}, best by the prefix `sluice-` (docs/kafka.md), or use delivery: at_least_once"),
            Trouble::ClusterDenied => "grant IDEMPOTENT_WRITE on the cluster (brokers before 3.0), and CREATE for create_topic".into(),
            Trouble::NoTransactions { .. } => "use brokers of 0.11 or later, or delivery: at_least_once".into(),
            Trouble::NotEnoughReplicas { topic } => format!("bring the brokers that hold copies of {topic} back, or lower its min.insync.replicas"),
            Trouble::MessagesTooLarge { topic, .. } => format!("nothing has to be done; raising max.message.bytes of topic {topic} to 1048588 saves CPU, then restart the sink"),
            Trouble::RowsTooLarge { topic, .. } => format!("look at them (dead letters), shorten the labels at their source, or raise max.message.bytes of topic {topic} and replay them"),
            Trouble::PartitionsChanged { .. } => "nothing has to be done; a series' rows before and after lie in different partitions, so readers that need their order should catch up first".into(),
            Trouble::Fenced { id } => format!("make sure that no other sluice cluster of the same name writes here, and that nothing else uses transactional id {id}; sluice tries again every minute while it leads the shard"),
            Trouble::PositionMissing { .. } => "nothing has to be done; the last rows before the stop may be in the topic twice. Keep offsets.retention.minutes above the longest outage (default 7 days)".into(),
            Trouble::PositionTooOld { .. } => "nothing can be done: what lay between was let go; raise the sink's budget. It was counted as dropped".into(),
            Trouble::PositionAhead { .. } => "was the data directory restored from a backup, or does another cluster use the same name? Rewind or recover the sink: it then takes a new epoch".into(),
            Trouble::PositionForeign { .. } => "give this cluster a name of its own (`name:` in its file, and a restart): what waits stays, and goes on under that name. No two clusters may share their name and a sink's".into(),
            Trouble::CommitUnclear { .. } => "nothing has to be done; if it recurs, look at the brokers' load and at the state of __transaction_state".into(),
            Trouble::Slow { .. } => "look at the brokers' load, disks and network; sluice keeps waiting and goes on by itself".into(),
            Trouble::Still { .. } => "restart this node (`systemctl restart sluice`): it goes on at its position, in a cluster another node does meanwhile; please report it, with `sluice debug bundle`".into(),
            Trouble::Relieved { .. } => "nothing has to be done: it goes on at its position; if it comes again while the brokers run, please report it, with `sluice debug bundle`".into(),
            Trouble::Log { .. } => "look at the node's own log and disk; the sink tries again".into(),
            Trouble::Settings { .. } => "mend the sink's `properties`; `sluice check FILE` says more".into(),
            Trouble::Broken { .. } => "nothing has to be done: a new producer takes over; if it recurs, report it with this text".into(),
            Trouble::Registry { remedy, .. } => remedy.clone(),
            Trouble::TopicsOutside { topic, .. } => format!("if {topic} is to be written to: create it, grant WRITE on it, let topics.allow and topics.max have room for it; sluice looks again every minute"),
            Trouble::NewFiles { .. } => "mend the files of tls and sasl; until then the client made with the former ones goes on".into(),
            Trouble::Store(trouble) => trouble.remedy(),
            Trouble::File(trouble) => trouble.remedy().to_owned(),
        }
    }

    /// Whether rows do not flow because of it. The others are things worth knowing.
    pub fn stops_rows(&self) -> bool {
        if let Trouble::Store(trouble) = self {
            return trouble.stops_samples();
        }
        if let Trouble::File(trouble) = self {
            return trouble.stops_rows();
        }
        !matches!(
            self,
            Trouble::MessagesTooLarge { .. }
                | Trouble::RowsTooLarge { .. }
                | Trouble::PartitionsChanged { .. }
                | Trouble::TopicsOutside { .. }
                | Trouble::NewFiles { .. }
                | Trouble::PositionMissing { .. }
                | Trouble::PositionTooOld { .. }
                | Trouble::Relieved { .. }
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable { brokers, detail } => write!(out, "no broker of {brokers} answers: {detail}"),
            Trouble::NotLetIn { detail } => write!(out, "the broker does not let sluice in: {detail}"),
            Trouble::TopicMissing { topic } => write!(out, "topic {topic} does not exist"),
            Trouble::TopicNotMade { topic, detail } => write!(out, "topic {topic} does not exist and could not be created: {detail}"),
            Trouble::TopicDenied { topic } => write!(out, "topic {topic} may not be used"),
            Trouble::GroupDenied { group } => write!(out, "the position may not be kept under group {group}"),
            Trouble::TransactionDenied { id } => write!(out, "transactional id {id} may not be used"),
            Trouble::ClusterDenied => write!(out, "the cluster allows no idempotent writes"),
            Trouble::NoTransactions { detail } => write!(out, "the brokers know no transactions: {detail}"),
            Trouble::NotEnoughReplicas { topic } => write!(out, "topic {topic} has fewer replicas in sync than it demands"),
            Trouble::MessagesTooLarge { topic, now } => {
                write!(out, "the broker refused messages to {topic} as too large; they are now at most {now} bytes")
            }
            Trouble::RowsTooLarge { topic, rows } => write!(out, "{rows} rows were too large for topic {topic} and became dead letters"),
            Trouble::PartitionsChanged { topic, from, to } => write!(out, "topic {topic} has {to} partitions instead of {from}"),
            Trouble::Fenced { id } => write!(out, "another producer took over transactional id {id}"),
            Trouble::PositionMissing { group, cursor } => {
                write!(out, "Kafka knew no position for {group}; went on after emission {cursor}, where the log's cursor stood")
            }
            Trouble::PositionTooOld { position, oldest } => {
                write!(out, "Kafka's position {position} is older than the oldest emission kept ({oldest}); went on there")
            }
            Trouble::PositionAhead { position, last } => {
                write!(out, "Kafka's position {position} is ahead of this shard's last emission {last}")
            }
            Trouble::PositionForeign { group, owner } => {
                write!(out, "the position of group {group} was written by another cluster ({owner})")
            }
            Trouble::CommitUnclear { detail } => write!(out, "it is not known whether the last transaction was committed: {detail}"),
            Trouble::Slow { seconds } => write!(out, "Kafka has not taken anything for {seconds} s"),
            Trouble::Still { seconds } => write!(out, "its thread has stood still for {seconds} s: a call does not return"),
            Trouble::Relieved { seconds } => {
                write!(out, "its thread stood still for {seconds} s (a call did not return), and another one took its place")
            }
            Trouble::Log { detail } => write!(out, "the shard's log: {detail}"),
            Trouble::Settings { detail } => write!(out, "librdkafka refuses the settings: {detail}"),
            Trouble::Broken { code, detail } => write!(out, "the producer broke: {code}: {detail}"),
            Trouble::Registry { url, detail, .. } => write!(out, "the schema registry {url} gives no number for the schema: {detail}"),
            Trouble::TopicsOutside { topic, fallback, why } => write!(out, "rows for topic {topic} went to {fallback}: {why}"),
            Trouble::NewFiles { detail } => write!(out, "the new files of TLS or SASL cannot be used: {detail}"),
            Trouble::Store(trouble) => trouble.fmt(out),
            Trouble::File(trouble) => trouble.fmt(out),
        }
    }
}

/// The names that belong into a trouble's text.
#[derive(Clone, Debug)]
pub struct Names {
    /// Brokers as configured.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The group with the epoch.
    pub group: String,
    /// The transactional id.
    pub id: String,
}

/// The trouble that an error of librdkafka means. `global` is the last error that a connection reported: a timeout says nothing, that
/// one says why.
pub fn of_error(code: Code, detail: &str, global: Option<&(Code, String)>, names: &Names) -> Trouble {
    let code = match (code, global) {
        (
            Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown | Code::MessageTimedOut | Code::RequestTimedOut,
            Some((Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL, reason)),
        ) => {
            return Trouble::NotLetIn { detail: reason.clone() };
        }
        (code, _) => code,
    };
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            Trouble::NotLetIn { detail: detail.to_owned() }
        }
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::BrokerNotAvailable => {
            let detail = global.map_or(detail, |(_, reason)| reason.as_str());
            Trouble::Unreachable { brokers: names.brokers.clone(), detail: detail.to_owned() }
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId => {
            Trouble::TopicMissing { topic: names.topic.clone() }
        }
        Code::TopicAuthorizationFailed => Trouble::TopicDenied { topic: names.topic.clone() },
        Code::GroupAuthorizationFailed => Trouble::GroupDenied { group: names.group.clone() },
        Code::TransactionalIdAuthorizationFailed => Trouble::TransactionDenied { id: names.id.clone() },
        Code::ClusterAuthorizationFailed => Trouble::ClusterDenied,
        Code::UnsupportedFeature | Code::UnsupportedVersion => Trouble::NoTransactions { detail: detail.to_owned() },
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => Trouble::NotEnoughReplicas { topic: names.topic.clone() },
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::TransactionCoordinatorFenced => {
            Trouble::Fenced { id: names.id.clone() }
        }
        code => Trouble::Broken { code: format!("{code:?}"), detail: detail.to_owned() },
    }
}
