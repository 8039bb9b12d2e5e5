//! A real Druid (jars from Maven Central): ZooKeeper, coordinator with overlord, broker, historical and indexer, all from one class path, on loopback.
//!
//! Together they take some 1.6 GiB; heaps are bounded one by one.

use super::http::{Client, Http};
use super::peers::druid_libs;
use super::process::{Process, Scratch, eventually, free_port};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::time::Duration;

/// What Druid needs of Java 17; without the openings it ingests, and fails where it groups and publishes.
const OPENINGS: [&str; 8] = [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
];
const FLAGS: [&str; 6] = [
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Duser.timezone=UTC",
    "-Dfile.encoding=UTF-8",
    "-Djava.util.logging.manager=org.apache.logging.log4j.jul.LogManager",
];
/// Role, heap and direct memory in MiB.
const ROLES: [(&str, u32, u32); 4] = [("coordinator", 256, 64), ("broker", 256, 128), ("historical", 256, 128), ("indexer", 512, 192)];

/// It, running.
pub struct Druid {
    coordinator: SocketAddr,
    broker: SocketAddr,
    others: Vec<SocketAddr>,
    /// ZooKeeper first.
    _processes: Vec<Process>,
    _scratch: Scratch,
}

impl Druid {
    /// Starts all processes and does not wait: they wait for each other.
    pub fn launch(name: &str) -> Druid {
        let scratch = Scratch::new(name);
        let (zookeeper, derby) = (free_port(), free_port());
        let ports = ROLES.map(|_| free_port());
        let zoo = format!(
            "tickTime=2000\ndataDir={}\nclientPort={zookeeper}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n",
            scratch.sub("zk").display()
        );
        std::fs::write(scratch.join("zoo.cfg"), zoo).expect("configuration");
        std::fs::write(scratch.sub("conf/_common").join("common.runtime.properties"), common(&scratch, zookeeper, derby))
            .expect("configuration");
        let jars = druid_libs().join("*").display().to_string();
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let mut zk = line(&[
            "-Xms32m",
            "-Xmx64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.admin.enableServer=false",
            "-cp",
            &jars,
        ]);
        zk.extend(line(&["org.apache.zookeeper.server.ZooKeeperServerMain", "zoo.cfg"]));
        let mut processes = vec![Process::start("zookeeper", "java", &zk, scratch.path(), &scratch.join("zookeeper.log"))];
        for ((role, heap, direct), port) in ROLES.into_iter().zip(ports) {
            let properties = format!("druid.service=druid/{role}\ndruid.plaintextPort={port}\n{}", of_role(&scratch, role));
            std::fs::write(scratch.sub(&format!("conf/{role}")).join("runtime.properties"), properties).expect("configuration");
            let path = format!("{}:{}:{jars}", scratch.join("conf/_common").display(), scratch.join(&format!("conf/{role}")).display());
            // Beside tests that keep time: these four compute for a while.
            let mut java = line(&["-n", "5", "java"]);
            java.extend(line(&OPENINGS));
            java.extend(line(&FLAGS));
            java.extend([format!("-Xmx{heap}m"), format!("-XX:MaxDirectMemorySize={direct}m"), "-cp".to_owned(), path]);
            java.extend(line(&["org.apache.druid.cli.Main", "server", role]));
            let log = scratch.join(&format!("{role}.log"));
            processes.push(Process::start(&format!("druid {role}"), "nice", &java, scratch.path(), &log));
        }
        let address = |number: usize| SocketAddr::from(([127, 0, 0, 1], ports[number]));
        Druid {
            coordinator: address(0),
            broker: address(1),
            others: vec![address(2), address(3)],
            _processes: processes,
            _scratch: scratch,
        }
    }

    /// Waits until it takes work.
    #[track_caller]
    pub fn wait_ready(&self) {
        for address in [self.coordinator, self.broker].iter().chain(&self.others) {
            eventually(Duration::from_secs(600), "Druid to be well", || {
                let answer = Client::new(*address).call("GET", "/status/health").map_err(|error| error.to_string())?;
                if answer.text().trim() == "true" { Ok(()) } else { Err(answer.text()) }
            });
        }
        eventually(Duration::from_secs(300), "the indexer to be known", || {
            let answer = Client::new(self.coordinator).call("GET", "/druid/indexer/v1/workers").map_err(|error| error.to_string())?;
            if answer.text().contains("\"worker\"") { Ok(()) } else { Err(answer.text()) }
        });
    }

    /// Reads a topic by a supervisor as it is shipped, sooner than is usual.
    #[track_caller]
    pub fn supervise(&self, shipped: &str, brokers: &str, topic: &str) {
        let mut spec: Json = serde_json::from_str(shipped).expect("a shipped supervisor is JSON");
        let io = &mut spec["spec"]["ioConfig"];
        io["topic"] = json!(topic);
        io["consumerProperties"]["bootstrap.servers"] = json!(brokers);
        (io["startDelay"], io["period"]) = (json!("PT1S"), json!("PT5S"));
        let answer = post(self.coordinator, "/druid/indexer/v1/supervisor", &spec).expect("the overlord");
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }

    /// Rows of a query, as objects.
    pub fn sql(&self, query: &str) -> Result<Vec<Json>, String> {
        let answer = post(self.broker, "/druid/v2/sql", &json!({ "query": query })).map_err(|error| error.to_string())?;
        if answer.status() != 200 {
            return Err(answer.text());
        }
        answer.json().as_array().cloned().ok_or_else(|| answer.text())
    }
}

fn post(to: SocketAddr, path: &str, body: &Json) -> std::io::Result<Http> {
    let headers = [("Host", "druid"), ("Content-Type", "application/json")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Client::new(to).send(&Http { first: format!("POST {path} HTTP/1.1"), headers, body: body.to_string().into_bytes() })
}

fn common(scratch: &Scratch, zookeeper: u16, derby: u16) -> String {
    let dir = scratch.path().display();
    format!(
        "druid.extensions.loadList=[]\ndruid.extensions.searchCurrentClassloader=true\ndruid.extensions.directory={dir}/extensions\n\
         druid.host=127.0.0.1\ndruid.bindOnHost=true\ndruid.enableTlsPort=false\n\
         druid.zk.service.host=127.0.0.1:{zookeeper}\ndruid.zk.paths.base=/druid\n\
         druid.metadata.storage.type=derby\ndruid.metadata.storage.connector.connectURI=jdbc:derby://127.0.0.1:{derby}/{dir}/metadata.db;create=true\n\
         druid.metadata.storage.connector.host=127.0.0.1\ndruid.metadata.storage.connector.port={derby}\n\
         druid.storage.type=local\ndruid.storage.storageDirectory={dir}/segments\ndruid.indexer.logs.type=file\ndruid.indexer.logs.directory={dir}/indexing-logs\n\
         druid.selectors.indexing.serviceName=druid/overlord\ndruid.selectors.coordinator.serviceName=druid/coordinator\n\
         druid.lookup.enableLookupSyncOnStartup=false\ndruid.emitter=noop\n\
         druid.server.http.numThreads=12\ndruid.server.http.gracefulShutdownTimeout=PT2S\n\
         druid.processing.buffer.sizeBytes=25MiB\ndruid.processing.numThreads=1\ndruid.processing.numMergeBuffers=2\ndruid.processing.tmpDir={dir}/processing\n"
    )
}

fn of_role(scratch: &Scratch, role: &str) -> String {
    let dir = scratch.path().display();
    match role {
        "coordinator" => "druid.coordinator.asOverlord.enabled=true\ndruid.coordinator.asOverlord.overlordService=druid/overlord\n\
             druid.coordinator.startDelay=PT2S\ndruid.coordinator.period=PT5S\ndruid.manager.segments.pollDuration=PT5S\n\
             druid.indexer.queue.startDelay=PT1S\ndruid.indexer.runner.type=httpRemote\ndruid.indexer.storage.type=metadata\n"
            .to_owned(),
        "indexer" => format!(
            "druid.worker.capacity=4\ndruid.worker.globalIngestionHeapLimitBytes=104857600\ndruid.indexer.task.baseTaskDir={dir}/task\n\
             druid.indexer.task.restoreTasksOnRestart=false\ndruid.segment.handoff.pollDuration=PT2S\n"
        ),
        "historical" => format!(
            "druid.segmentCache.locations=[{{\"path\":\"{dir}/segment-cache\",\"maxSize\":\"2g\"}}]\ndruid.server.maxSize=2g\n\
             druid.cache.sizeInBytes=10MiB\ndruid.historical.cache.useCache=false\ndruid.historical.cache.populateCache=false\n"
        ),
        _ => "druid.broker.http.numConnections=8\ndruid.sql.enable=true\ndruid.sql.planner.metadataRefreshPeriod=PT1S\n".to_owned(),
    }
}
