//! librdkafka as a sink uses it: how clients are configured, and what they report.
//!
//! Callbacks run inside `poll`, on the worker's own thread, except for statistics and errors of a client that is being made or dropped;
//! they only write down what happened. Nothing is decided here.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::Statistics;
use rdkafka::client::OAuthToken;
use rdkafka::config::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::producer::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::forward::kafka::access;
use crate::forward::kafka::access::Tokens;
use crate::forward::settings::BATCH_BYTES;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::forward::trouble::Names;
use crate::forward::trouble::Trouble;
use crate::forward::view::ClientStats;

/// Bytes of a refused message that are kept: as much as a dead letter holds.
const PAYLOAD_MAX: usize = 64 * 1024;

/// A message that Kafka refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number among the messages of this producer.
    pub id: usize,
    /// Why.
    pub code: Code,
    /// Its beginning.
    pub payload: Vec<u8>,
}

impl Refusal {
    /// Not refused by Kafka: librdkafka let it go because another one was.
    pub fn is_purged(&self) -> bool {
        matches!(self.code, Code::PurgeQueue | Code::PurgeInflight)
    }
}

/// What a client's callbacks wrote down.
#[derive(Debug, Default)]
pub struct Signals {
    /// Guards plain values, as the others do; nobody calls out while holding one.
    refusals: Mutex<Vec<Refusal>>,
    taken: Mutex<Vec<usize>>,
    error: Mutex<Option<(Code, String)>>,
    stats: Mutex<ClientStats>,
    keep_taken: bool,
}

impl Signals {
    /// The first refusal, if there was one.
    pub fn refusal(&self) -> Option<Refusal> {
        lock(&self.refusals).first().cloned()
    }

    /// The first refusal, which is then forgotten.
    pub fn take_refusal(&self) -> Option<Refusal> {
        let mut refusals = lock(&self.refusals);
        let first = refusals.first().cloned();
        refusals.clear();
        first
    }

    /// Numbers of messages taken since the last call, into `taken`.
    pub fn drain_taken(&self, taken: &mut Vec<usize>) {
        taken.clear();
        std::mem::swap(taken, &mut lock(&self.taken));
    }

    /// The last error that a connection reported.
    pub fn error(&self) -> Option<(Code, String)> {
        lock(&self.error).clone()
    }

    /// Forgets that error: something worked since.
    pub fn clear_error(&self) {
        *lock(&self.error) = None;
    }

    /// librdkafka's figures.
    pub fn stats(&self) -> ClientStats {
        *lock(&self.stats)
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where librdkafka's callbacks arrive.
#[derive(Clone, Debug)]
pub struct Context {
    signals: Arc<Signals>,
    tokens: Option<Arc<Tokens>>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("the sink's settings name no source of tokens")?;
        Ok(tokens.token()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error too and becomes a trouble; librdkafka repeats itself too often for a quiet log.
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn stats(&self, statistics: Statistics) {
        *lock(&self.signals.stats) = summary(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let mut kept = lock(&self.signals.error);
        // "All brokers are down" follows the reason why and says less than it; so does a connection that is closed on who was not let in.
        let follows = match &kept.as_ref() {
            None => false,
            Some((Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL, _)) => {
                matches!(code, Code::AllBrokersDown | Code::BrokerTransportFailure)
            }
            Some(_) => code == Code::AllBrokersDown,
        };
        if !follows {
            *kept = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        match result {
            Ok(_) => {
                if self.signals.keep_taken {
                    lock(&self.signals.taken).push(id);
                }
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let payload = message.payload().unwrap_or_default();
                let payload = payload[..payload.len().min(PAYLOAD_MAX)].to_vec();
                let mut refusals = lock(&self.signals.refusals);
                // The first one that Kafka refused says it all: the others are purged because of it, and may be reported before it.
                let new = Refusal { id, code, payload };
                match refusals.first_mut() {
                    None => refusals.push(new),
                    Some(first) if first.is_purged() && !new.is_purged() => *first = new,
                    Some(_) => {}
                }
            }
        }
    }
}

fn summary(from: &Statistics) -> ClientStats {
    let mut stats = ClientStats {
        queue_messages: from.msg_cnt,
        queue_bytes: from.msg_size,
        sent_bytes: from.tx_bytes.unsigned_abs(),
        requests: from.tx.unsigned_abs(),
        ..ClientStats::default()
    };
    for broker in from.brokers.values().filter(|broker| broker.nodeid >= 0) {
        stats.brokers += 1;
        stats.brokers_up += u64::from(broker.state == "UP");
        stats.errors += broker.txerrs;
        stats.retries += broker.txretries;
        stats.timeouts += broker.req_timeouts;
        stats.disconnects += broker.disconnects.unwrap_or_default().unsigned_abs();
        let p99 = |window: &Option<rdkafka::statistics::Window>| window.as_ref().map_or(0, |window| window.p99.unsigned_abs());
        stats.rtt_p99_micros = stats.rtt_p99_micros.max(p99(&broker.rtt));
        stats.wait_p99_micros = stats.wait_p99_micros.max(p99(&broker.outbuf_latency));
        stats.throttle_p99_ms = stats.throttle_p99_ms.max(p99(&broker.throttle));
    }
    stats.batch_bytes = from.topics.values().map(|topic| topic.batchsize.avg.unsigned_abs()).max().unwrap_or_default();
    stats
}

/// Who a worker is, towards Kafka.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The sink's name.
    pub sink: String,
    /// The shard's number.
    pub shard: u16,
    /// What no other cluster has, whatever its name: goes with every position, so that foreign ones are known.
    pub seal: String,
}

impl Identity {
    /// `sluice-<cluster>-<sink>-<shard>`: transactional id and client id.
    pub fn id(&self) -> String {
        format!("sluice-{}-{}-{}", self.cluster, self.sink, self.shard)
    }

    /// The consumer group under which the position of this epoch is kept.
    pub fn group(&self, epoch: u64) -> String {
        format!("{}-e{epoch}", self.id())
    }

    /// For troubles' texts.
    pub fn names(&self, settings: &KafkaSettings, epoch: u64) -> Names {
        Names { brokers: settings.brokers.clone(), topic: settings.topic.clone(), group: self.group(epoch), id: self.id() }
    }
}

/// A producer and what it reports.
pub struct Link {
    /// The producer.
    pub producer: BaseProducer<Context>,
    /// Its reports.
    pub signals: Arc<Signals>,
}

/// Makes clients.
pub struct Maker {
    /// What the sink is told to do.
    pub settings: Arc<KafkaSettings>,
    /// Who asks.
    pub identity: Identity,
    /// For what is done by futures; `None`: nothing is.
    pub runtime: Option<tokio::runtime::Handle>,
    tokens: Option<Arc<Tokens>>,
}

impl Maker {
    /// For these settings.
    pub fn new(settings: Arc<KafkaSettings>, identity: Identity, runtime: Option<tokio::runtime::Handle>) -> Maker {
        let tokens = Tokens::of(&settings, runtime.as_ref()).map(Arc::new);
        Maker { settings, identity, runtime, tokens }
    }

    fn base(&self) -> Result<ClientConfig, Trouble> {
        let mut config = ClientConfig::new();
        config.set("client.id", self.identity.id());
        for (name, value) in self.settings.properties.iter() {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.settings.brokers);
        access::apply(&self.settings, &mut config)?;
        config.set_log_level(RDKafkaLogLevel::Warning);
        Ok(config)
    }

    fn context(&self, keep_taken: bool) -> Context {
        Context { signals: Arc::new(Signals { keep_taken, ..Signals::default() }), tokens: self.tokens.clone() }
    }

    /// The producer. `batch_bytes`: the most that a broker has been seen to take at once.
    pub fn producer(&self, batch_bytes: usize) -> Result<Link, Trouble> {
        let settings = &self.settings;
        let mut config = self.base()?;
        settings.tune(&mut config, &self.identity.id());
        if batch_bytes < BATCH_BYTES {
            config.set("batch.size", batch_bytes.to_string());
        }
        let context = self.context(settings.delivery == Delivery::AtLeastOnce);
        let signals = Arc::clone(&context.signals);
        let producer: BaseProducer<Context> = config.create_with_context(context).map_err(|error| unmade(&error))?;
        // Where tokens are wanted, the first is asked for here; the calls that follow wait for an answer of the brokers.
        producer.poll(Duration::ZERO);
        Ok(Link { producer, signals })
    }

    /// A consumer that reads no rows: it asks after topics and the position. Unlike a producer it does not make topics by asking.
    pub fn asker(&self, epoch: u64) -> Result<(BaseConsumer<Context>, Arc<Signals>), Trouble> {
        let mut config = ClientConfig::new();
        config.set("client.id", self.identity.id());
        // Only what it takes to get in: a consumer warns of a producer's properties.
        let connection = ["security.", "sasl.", "ssl.", "socket.", "broker.", "enable.ssl", "client.", "reconnect.", "debug"];
        for (name, value) in self.settings.properties.iter().filter(|(name, _)| connection.iter().any(|prefix| name.starts_with(prefix))) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.settings.brokers).set("group.id", self.identity.group(epoch));
        access::apply(&self.settings, &mut config)?;
        config.set("enable.auto.commit", "false").set("allow.auto.create.topics", "false");
        config.set_log_level(RDKafkaLogLevel::Warning);
        let context = self.context(false);
        let signals = Arc::clone(&context.signals);
        let asker: BaseConsumer<Context> = config.create_with_context(context).map_err(|error| unmade(&error))?;
        let _ = asker.poll(Duration::ZERO);
        Ok((asker, signals))
    }

    /// A client for making topics. It takes no tokens: nobody asks it for its events.
    pub fn admin(&self) -> Result<rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext>, Trouble> {
        self.base()?.create().map_err(|error| unmade(&error))
    }
}

fn unmade(error: &KafkaError) -> Trouble {
    Trouble::Settings { detail: error.to_string() }
}
