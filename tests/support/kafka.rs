//! A real Kafka broker (KRaft, one node, jars from Maven Central) and a reader that sees only what was committed.

use super::peers::kafka_libs;
use super::process::{Process, Scratch, eventually, free_port};
use super::tls::Authority;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A broker on a loopback port of its own.
pub struct Kafka {
    scratch: Scratch,
    port: u16,
    /// Of the listener at which users say who they are.
    guarded: Option<u16>,
    /// Of the listeners with TLS: for clients with a certificate, and for those that say who they are.
    secure: Option<(u16, u16)>,
    process: Mutex<Option<Process>>,
}

impl Kafka {
    /// The broker that scenarios share, each with topics of its own; it stays until the test binary ends.
    pub fn shared() -> Arc<Kafka> {
        static SHARED: Mutex<Option<Arc<Kafka>>> = Mutex::new(None);
        // A start that failed in another test poisons the lock: try again, so that every test shows the reason.
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.get_or_insert_with(|| Arc::new(Kafka::start("shared-kafka"))).clone()
    }

    /// A broker of one's own, to be stopped at will.
    pub fn start(name: &str) -> Kafka {
        Kafka::begin(name, None, None)
    }

    /// One with two listeners with TLS and certificates of this authority, at which the only user's first password is `first`. It makes no topics by
    /// being asked after them.
    pub fn secured(name: &str, authority: &Authority) -> Kafka {
        Kafka::begin(name, None, Some(authority))
    }

    /// One that asks users (name and password) for their rights, at a second listener. At the first one nobody says who they are, and may do all.
    pub fn guarded(name: &str, users: &[(&str, &str)]) -> Kafka {
        Kafka::begin(name, Some(users), None)
    }

    fn begin(name: &str, users: Option<&[(&str, &str)]>, authority: Option<&Authority>) -> Kafka {
        let scratch = Scratch::new(name);
        let (port, controller) = (free_port(), free_port());
        let guarded = users.map(|_| free_port());
        let secure = authority.map(|_| (free_port(), free_port()));
        let second = guarded.map_or(String::new(), |port| format!(",SASL_PLAINTEXT://127.0.0.1:{port}"))
            + &secure.map_or(String::new(), |(own, said)| format!(",SSL://127.0.0.1:{own},SASL_SSL://127.0.0.1:{said}"));
        let data = scratch.join("kraft");
        let mut properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port}{second},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}{second}\n\
             controller.listener.names=CONTROLLER\nlistener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n\
             inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\nnum.partitions=4\n\
             num.network.threads=2\nnum.io.threads=4\ngroup.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        if let Some(users) = users {
            let users: String = users.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
            properties.push_str(&format!(
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n\
                 sasl.enabled.mechanisms=PLAIN\nlistener.name.sasl_plaintext.plain.sasl.jaas.config=\
                 org.apache.kafka.common.security.plain.PlainLoginModule required{users};\n"
            ));
        }
        if let Some(authority) = authority {
            properties.push_str(&with_tls(&scratch, authority));
        }
        std::fs::write(scratch.join("server.properties"), properties).expect("broker configuration");
        let logging = "rootLogger.level=warn\nrootLogger.appenderRef.stderr.ref=STDERR\nappender.stderr.type=Console\nappender.stderr.name=STDERR\n\
                       appender.stderr.target=SYSTEM_ERR\nappender.stderr.layout.type=PatternLayout\nappender.stderr.layout.pattern=%d %p %c{1} %m%n\n";
        std::fs::write(scratch.join("log4j2.properties"), logging).expect("broker configuration");
        let kafka = Kafka { scratch, port, guarded, secure, process: Mutex::new(None) };
        // Any 16 bytes in base64url name a cluster.
        let mut format = vec!["kafka.tools.StorageTool", "format", "-t", "c2x1aWNlLXRlc3Qta2Fma2E", "-c", "server.properties"];
        if authority.is_some() {
            format.extend(["--add-scram", "SCRAM-SHA-512=[name=sluice,password=first]"]);
        }
        let status = kafka.java("format", &["-Xmx128m"], &format).wait_end(Duration::from_secs(60));
        assert!(
            status.success(),
            "formatting the broker's directory failed: {}",
            super::process::tail(&kafka.scratch.join("kafka.log"), 2000)
        );
        kafka.up();
        kafka
    }

    fn java(&self, name: &str, options: &[&str], main: &[&str]) -> Process {
        let mut args: Vec<String> = options.iter().map(|one| (*one).to_owned()).collect();
        args.push(format!("-Dlog4j2.configurationFile={}", self.scratch.join("log4j2.properties").display()));
        args.extend(["-cp".to_owned(), kafka_libs().join("*").display().to_string()]);
        args.extend(main.iter().map(|one| (*one).to_owned()));
        Process::start(name, "java", &args, self.scratch.path(), &self.scratch.join("kafka.log"))
    }

    /// Starts the broker (again) and waits until it answers.
    pub fn up(&self) {
        let main = ["kafka.Kafka", "server.properties"];
        let process = self.java("kafka", &["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"], &main);
        *self.process.lock().unwrap() = Some(process);
        eventually(Duration::from_secs(180), "the broker to answer", || self.probe());
    }

    /// Kills the broker. What it acknowledged is in the page cache and stays.
    pub fn down(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.kill();
        }
    }

    fn probe(&self) -> Result<(), String> {
        let consumer: BaseConsumer = self.client().create().map_err(|error| error.to_string())?;
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(2)).map_err(|error| error.to_string())?;
        if metadata.brokers().is_empty() { Err("no broker in the metadata".to_owned()) } else { Ok(()) }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("log_level", "0");
        config
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The listener for users with a name.
    pub fn guarded_address(&self) -> String {
        format!("127.0.0.1:{}", self.guarded.expect("started as guarded"))
    }

    /// The listener for clients with a certificate, and the one for users with a password or a token; both with TLS.
    pub fn secure_addresses(&self) -> (String, String) {
        let (own, said) = self.secure.expect("started as secured");
        (format!("127.0.0.1:{own}"), format!("127.0.0.1:{said}"))
    }

    /// Gives the user another password.
    pub fn change_password(&self, password: &str) {
        let (server, config) = (self.address(), format!("SCRAM-SHA-512=[password={password}]"));
        let main =
            ["kafka.admin.ConfigCommand", "--bootstrap-server", &server, "--alter", "--entity-type", "users", "--entity-name", "sluice"];
        let main: Vec<&str> = main.into_iter().chain(["--add-config", &config]).collect();
        let status = self.java("password", &["-Xmx128m"], &main).wait_end(Duration::from_secs(60));
        assert!(status.success(), "the password was not changed: {}", super::process::tail(&self.scratch.join("kafka.log"), 2000));
    }

    pub fn delete_topic(&self, topic: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let admin: AdminClient<_> = self.client().create().expect("admin client");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for one in runtime.block_on(admin.delete_topics(&[topic], &options)).expect("delete topic") {
            one.unwrap_or_else(|(name, code)| panic!("delete {name}: {code}"));
        }
    }

    /// Gives the topic more partitions, so many altogether.
    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let admin: AdminClient<_> = self.client().create().expect("admin client");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let wanted = [NewPartitions::new(topic, partitions)];
        for one in runtime.block_on(admin.create_partitions(&wanted, &options)).expect("add partitions") {
            one.unwrap_or_else(|(name, code)| panic!("add partitions to {name}: {code}"));
        }
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let admin: AdminClient<_> = self.client().create().expect("admin client");
        let wanted = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
        let made = runtime.block_on(admin.create_topics(&wanted, &AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))));
        for one in made.expect("create topic") {
            match one {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => panic!("create topic {name}: {code}"),
            }
        }
    }

    /// Sets the most that the topic takes at once, bytes.
    pub fn bound_messages(&self, topic: &str, bytes: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let admin: AdminClient<_> = self.client().create().expect("admin client");
        let bytes = bytes.to_string();
        let wanted = [AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes)];
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(30)));
        for one in runtime.block_on(admin.alter_configs(&wanted, &options)).expect("alter topic") {
            one.unwrap_or_else(|(what, code)| panic!("alter {what:?}: {code}"));
        }
    }

    /// A reader of the topic from its first message, `read_committed`.
    pub fn reader(&self, topic: &str) -> Reader {
        let mut config = self.client();
        config.set("group.id", "sluice-test-reader").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "100").set("reconnect.backoff.max.ms", "250");
        let consumer: BaseConsumer = config.create().expect("consumer");
        let metadata = eventually(Duration::from_secs(30), "the topic's partitions", || {
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).map_err(|error| error.to_string())?;
            let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            if partitions == 0 { Err("none".to_owned()) } else { Ok(partitions) }
        });
        let next = (0..metadata).map(|partition| (i32::try_from(partition).expect("few"), 0)).collect();
        Reader { consumer, topic: topic.to_owned(), next: RefCell::new(next) }
    }
}

/// Lines of the broker's configuration for its listeners with TLS.
fn with_tls(scratch: &Scratch, authority: &Authority) -> String {
    authority.renew();
    // Key and certificate in one file of its own: the authority will write others.
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("a PEM file");
    let own = scratch.join("broker.pem");
    std::fs::write(&own, read(authority.key()) + &read(authority.certificate())).expect("broker.pem");
    let login = "org.apache.kafka.common.security";
    format!(
        "auto.create.topics.enable=false\nssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
         listener.name.ssl.ssl.client.auth=required\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_plain=\"first\";\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
         listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"b\";\n",
        own.display(),
        authority.trusted().display()
    )
}

/// A message as Kafka holds it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub payload: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

/// Reads on from where it stopped.
pub struct Reader {
    consumer: BaseConsumer,
    topic: String,
    /// Partition -> the offset to read next.
    next: RefCell<BTreeMap<i32, i64>>,
}

impl Reader {
    /// All that is committed and not yet read, in order per partition.
    ///
    /// librdkafka says "end of partition" once for each assignment that gets there; so each drain assigns anew and reads up to all ends.
    pub fn drain(&self) -> Vec<Record> {
        let mut next = self.next.borrow_mut();
        let mut all = TopicPartitionList::new();
        for (partition, offset) in next.iter() {
            all.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).expect("partition");
        }
        self.consumer.assign(&all).expect("assign");
        let mut records = Vec::new();
        let mut ends = HashSet::new();
        let start = Instant::now();
        while ends.len() < next.len() {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "reading {} did not come to an end: {} records, ends {ends:?}",
                self.topic,
                records.len()
            );
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    next.insert(message.partition(), message.offset() + 1);
                    records.push(record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ends.insert(partition)),
                // A broker that is down: the ends come with its return.
                Some(Err(_)) | None => {}
            }
        }
        records
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message.headers().map(|all| all.iter().map(|one| (one.key.to_owned(), text(one.value))).collect()).unwrap_or_default();
    Record { partition: message.partition(), offset: message.offset(), payload: message.payload().unwrap_or_default().to_vec(), headers }
}
