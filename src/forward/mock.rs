//! A Kafka in this process, for `sluice dev` and tests: librdkafka's mock cluster, with real TCP listeners that any client can read.
//!
//! It keeps the newest 5 MiB or 100,000 messages a partition in memory, takes every call of a transaction but keeps no position and does
//! not fence or abort, and knows no ACLs, quotas, TLS or disk. So it shows the data path; it proves nothing about exactly once.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A running mock cluster; it ends when this is dropped.
pub struct MockKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl MockKafka {
    /// One broker with one topic.
    pub fn start(topic: &str, partitions: i32) -> Result<MockKafka, KafkaError> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic(topic, partitions, 1)?;
        Ok(MockKafka { cluster })
    }

    /// host:port of the broker, for clients.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The cluster itself, to make it fail.
    pub fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.cluster
    }
}

impl std::fmt::Debug for MockKafka {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "MockKafka({})", self.address())
    }
}
