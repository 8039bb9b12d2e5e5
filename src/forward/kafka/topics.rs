//! The topics of a session: which there are, how many partitions each has, the schema's number for each; and for a row, which one it goes to.
//!
//! A sink's own topic must be there, or its rows wait. Topics of a template come and go with labels that senders choose, so none of them may hold up the
//! others: rows for one that is not to be had go to the sink's own topic, are counted, and it is looked for again after a while.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::clock;
use crate::forward::kafka::client::Context;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Maker;
use crate::forward::kafka::client::Signals;
use crate::forward::kafka::registry;
use crate::forward::route::Taken;
use crate::forward::trouble;
use crate::forward::trouble::Trouble;
use crate::forward::view::Report;
use crate::wire::remote_write::Label;

/// One question to the brokers. Short, so that a stop is never held up for long.
pub const ASK: Duration = Duration::from_secs(4);
/// Names that lead to the sink's own topic; beyond this they are forgotten and found out anew.
const KNOWN_MAX: usize = 10_000;
/// More than a client has to tell between two questions.
pub const EVENTS: usize = 64;
/// The sink's own topic.
pub const OWN: usize = 0;

/// Why a topic cannot be written to.
#[derive(Clone, Debug)]
pub enum Unready {
    /// It is about to be there.
    Soon,
    /// Something is wrong with this topic.
    Topic(Trouble),
    /// Something is wrong with everything.
    All(Trouble),
}

/// Numbers of schemas by subject: they never change.
pub type Schemas = BTreeMap<String, u32>;

/// A topic that can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: usize,
    /// The schema's number, with a registry.
    pub schema: Option<u32>,
}

/// All of a session.
pub struct Topics {
    maker: Arc<Maker>,
    taken: Arc<Taken>,
    report: Arc<Report>,
    open: Vec<Topic>,
    /// What names lead to.
    known: HashMap<String, usize>,
    schemas: Schemas,
    name: String,
    last: usize,
    /// Rows since the last [`Topics::take_aside`] that went to the sink's own topic though the template names another.
    aside: u64,
}

impl Topics {
    /// With the sink's own topic.
    pub fn new(maker: &Arc<Maker>, (taken, report): (&Arc<Taken>, &Arc<Report>), own: Topic, schemas: Schemas) -> Topics {
        let known = HashMap::from([(own.name.clone(), OWN)]);
        let (taken, report) = (Arc::clone(taken), Arc::clone(report));
        Topics { maker: Arc::clone(maker), taken, report, open: vec![own], known, schemas, name: String::new(), last: OWN, aside: 0 }
    }

    /// The topic of that number.
    pub fn at(&self, number: usize) -> &Topic {
        &self.open[number]
    }

    /// All that are open.
    pub fn all(&self) -> &[Topic] {
        &self.open
    }

    /// The numbers of schemas that were asked for.
    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// The topic for these labels and this tenant; it may have to be asked for, once.
    #[inline]
    pub fn of(&mut self, (labels, tenant): (&[Label<'_>], &str)) -> Result<usize, Unready> {
        let Some(routes) = &self.maker.settings.routes else { return Ok(OWN) };
        let mut name = std::mem::take(&mut self.name);
        let found = if !routes.template.fill((labels, tenant), &mut name) {
            self.outside(routes.template.text(), "a label of the template is missing, or there can be no such topic");
            name.clear();
            Ok(OWN)
        } else if self.open[self.last].name == name {
            Ok(self.last)
        } else {
            match self.known.get(&name) {
                Some(number) => Ok(*number),
                None => self.learn(&name),
            }
        };
        self.last = found?;
        if self.last == OWN && name != self.open[OWN].name {
            self.aside += 1;
        }
        self.name = name;
        Ok(self.last)
    }

    /// How many rows went aside since this was asked last.
    pub fn take_aside(&mut self) -> u64 {
        std::mem::take(&mut self.aside)
    }

    /// Finds out about a name that has not been met yet.
    fn learn(&mut self, name: &str) -> Result<usize, Unready> {
        let Some(routes) = &self.maker.settings.routes else { return Ok(OWN) };
        let why = if !routes.allows(name) {
            "topics.allow does not name it".to_owned()
        } else if !self.taken.admit(name, routes.max) {
            format!("there are {} topics already (topics.max)", routes.max)
        } else {
            let opened = self
                .maker
                .asker(0)
                .map_err(Unready::All)
                .and_then(|(asker, asked)| open(&self.maker, (&asker, &asked), name, &mut self.schemas));
            match opened {
                Ok(topic) => {
                    self.open.push(topic);
                    self.known.insert(name.to_owned(), self.open.len() - 1);
                    return Ok(self.open.len() - 1);
                }
                Err(Unready::Topic(trouble)) => trouble.to_string(),
                Err(other) => return Err(other),
            }
        };
        if self.known.len() >= KNOWN_MAX {
            self.forget();
        }
        self.known.insert(name.to_owned(), OWN);
        self.outside(name, &why);
        Ok(OWN)
    }

    fn outside(&self, topic: &str, why: &str) {
        let fallback = self.open[OWN].name.clone();
        self.report.note(&Trouble::TopicsOutside { topic: topic.to_owned(), fallback, why: why.to_owned() }, clock::wall_ms());
    }

    /// What was not to be had is looked for again when a row wants it.
    pub fn forget(&mut self) {
        let own = self.open[OWN].name.clone();
        self.known.retain(|name, number| *number != OWN || *name == own);
    }

    /// The first topic whose partitions are not as many as they were; brokers that do not answer have nothing to say.
    pub fn changed(&self, link: &Link) -> Option<(String, usize, usize)> {
        self.open.iter().find_map(|topic| {
            let metadata = link.producer.client().fetch_metadata(Some(&topic.name), Duration::from_secs(2)).ok()?;
            let now = metadata.topics().first()?.partitions().len();
            (now > 0 && now != topic.partitions).then(|| (topic.name.clone(), topic.partitions, now))
        })
    }
}

/// Finds a topic, or makes it where that is asked for, and the schema's number for it.
pub fn open(
    maker: &Maker,
    (asker, asked): (&BaseConsumer<Context>, &Signals),
    name: &str,
    schemas: &mut Schemas,
) -> Result<Topic, Unready> {
    let partitions = partitions(maker, (asker, asked), name)?;
    let schema = match (&maker.settings.registry, &maker.runtime) {
        (Some(registry), Some(runtime)) => {
            let subject = registry::subject(registry, name);
            match schemas.get(&subject) {
                Some(number) => Some(*number),
                None => {
                    let number = registry::schema(registry, &subject, runtime).map_err(Unready::All)?;
                    schemas.insert(subject, number);
                    Some(number)
                }
            }
        }
        _ => None,
    };
    Ok(Topic { name: name.to_owned(), partitions, schema })
}

/// How many partitions a topic has; makes it where that is asked for.
fn partitions(maker: &Maker, (asker, asked): (&BaseConsumer<Context>, &Signals), name: &str) -> Result<usize, Unready> {
    let names = trouble::Names { topic: name.to_owned(), ..maker.identity.names(&maker.settings, 0) };
    let meaning = |error: &KafkaError| {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        trouble::of_error(code, &error.to_string(), asked.error().as_ref(), &names)
    };
    let mut made = false;
    loop {
        let metadata = asker.fetch_metadata(Some(name), ASK);
        hear(asker);
        let metadata = metadata.map_err(|error| Unready::All(meaning(&error)))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let error = topic.and_then(|topic| topic.error()).map(Code::from);
        match (topic.map(|topic| topic.partitions().len()), error) {
            (Some(count), None) if count > 0 => return Ok(count),
            (_, None | Some(Code::UnknownTopic | Code::UnknownTopicOrPartition)) => match maker.settings.create_topic {
                Some(_) if !made => {
                    create(maker, name)?;
                    made = true;
                }
                // Just made: its leaders are being chosen.
                Some(_) => return Err(Unready::Soon),
                None => return Err(Unready::Topic(Trouble::TopicMissing { topic: name.to_owned() })),
            },
            (_, Some(Code::LeaderNotAvailable)) => return Err(Unready::Soon),
            (_, Some(code)) => return Err(Unready::Topic(meaning(&KafkaError::MetadataFetch(code)))),
        }
    }
}

/// Errors of the connection wait in the client's queue, behind its log.
pub fn hear(asker: &BaseConsumer<Context>) {
    for _ in 0..EVENTS {
        let _ = asker.poll(Duration::ZERO);
    }
}

/// A broker that refuses to make a topic says something about the topic, one that does not answer about itself.
fn create(maker: &Maker, name: &str) -> Result<(), Unready> {
    let (Some(wanted), Some(runtime)) = (maker.settings.create_topic, &maker.runtime) else { return Ok(()) };
    let failed = |detail: String| Trouble::TopicNotMade { topic: name.to_owned(), detail };
    let admin = maker.admin().map_err(Unready::All)?;
    let topic = NewTopic::new(name, wanted.partitions, TopicReplication::Fixed(wanted.replication));
    let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
    let results = runtime.block_on(admin.create_topics([&topic], &options)).map_err(|error| {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let silent = matches!(code, Code::OperationTimedOut | Code::RequestTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown);
        let trouble = failed(error.to_string());
        if silent { Unready::All(trouble) } else { Unready::Topic(trouble) }
    })?;
    for result in results {
        match result {
            // Another shard's worker was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, Code::RequestTimedOut | Code::OperationTimedOut | Code::NotController)) => return Err(Unready::Soon),
            Err((_, code)) => return Err(Unready::Topic(failed(code.to_string()))),
        }
    }
    tracing::info!(sink = %maker.identity.sink, topic = %name, partitions = wanted.partitions, "created the topic");
    Ok(())
}
