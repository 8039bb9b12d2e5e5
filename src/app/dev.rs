//! `sluice dev`: a node to look at, through the same code as `sluice run`, with a Kafka and a pair of senders in the same process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::Fault;
use crate::app::Signals;
use crate::app::running::Plan;
use crate::app::running::Running;
use crate::app::runtime;
use crate::app::senders::Senders;
use crate::app::service::Service;
use crate::app::until_the_end;
use crate::config::Config;
use crate::forward::mock::MockKafka;

/// Partitions of the in-process topic.
const PARTITIONS: i32 = 4;
/// The sink's name in everything that is printed.
const SINK: &str = "platform";

/// As the command line said.
#[derive(Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// With synthetic senders.
    pub synthetic: bool,
    /// A real Kafka, host:port.
    pub kafka: Option<String>,
    /// The topic.
    pub topic: String,
    /// Where to keep data; `None`: a directory that is removed at the end.
    pub data_dir: Option<PathBuf>,
    /// Between two scrapes of a synthetic sender.
    pub interval: Duration,
}

/// Runs it until a signal.
pub fn run(options: Options) -> Result<(), Fault> {
    let scratch = Scratch::new(&options)?;
    let mock = match &options.kafka {
        Some(_) => None,
        None => Some(MockKafka::start(&options.topic, PARTITIONS).map_err(|error| Fault::Start(format!("the in-process Kafka: {error}")))?),
    };
    let broker = options.kafka.clone().or_else(|| mock.as_ref().map(MockKafka::address)).unwrap_or_default();
    let config = config(&options, &scratch.path, &broker, mock.is_some())?;
    crate::telemetry::logs::set_up(&config.logging);
    let senders = options.synthetic.then(|| Arc::new(Senders::new(options.interval)));
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let signals = Signals::new()?;
        // It waits for nobody: a signal is answered when it has begun.
        let (_tell, quit) = watch::channel(false);
        let running = Running::start(Plan { config, file: None, dev: senders, quit, service: Arc::default() }).await?;
        print!("{}", text(&options, running.address(), &broker));
        until_the_end(running, signals, &Service::default(), false).await
    });
    drop(mock);
    ended
}

fn config(options: &Options, data_dir: &std::path::Path, broker: &str, mock: bool) -> Result<Config, Fault> {
    // The mock has the topic; a real Kafka gets one made if it is missing, as somebody who tries sluice expects.
    let create_topic = if mock { "" } else { ", create_topic: { partitions: 4, replication: 1 }" };
    let quoted = |text: &str| serde_json::Value::from(text).to_string(); // JSON's strings are YAML's
    let (broker, topic) = (quoted(broker), quoted(&options.topic));
    let settings =
        format!("sinks:\n  - {{ name: {SINK}, from: oldest, kafka: {{ brokers: [{broker}], topic: {topic}{create_topic} }} }}\n");
    let own = Config::for_dev(options.listen, data_dir.to_owned());
    own.with_settings(&settings).map_err(|problems| Fault::Config(problems.iter().map(ToString::to_string).collect()))
}

/// What to try, with the addresses filled in.
fn text(options: &Options, address: SocketAddr, broker: &str) -> String {
    let topic = &options.topic;
    let ask = if address.port() == 9201 { String::new() } else { format!(" --server http://{address}") };
    let mut out = format!(
        "sluice dev is running; Ctrl-C ends it.\n\n  \
         the page          http://{address}/\n  \
         Kafka             {broker} (topic {topic})\n  \
         remote write to   http://{address}/api/v1/write\n\n\
         Things to try, in another terminal:\n  \
         sluice tap --at {SINK} -n 3{ask}\n      what the sink delivers, row by row\n  \
         kcat -b {broker} -t {topic} -C -o beginning -q -c 1 | head -n 3 | jq -c '{{ts,name,v}}'\n      the same, read from Kafka\n  \
         sluice group list{ask}\n      who leads, who stands by\n"
    );
    if options.synthetic {
        out.push_str(&format!(
            "  curl -X POST http://{address}/api/v1/dev/senders -d '{{\"name\":\"prometheus-shop-0\",\"running\":false}}'\n      stop the sender that leads at first (true starts it again)\n  \
             sluice group history demo/shop{ask}\n      the switch that follows: reason, evidence, gap, what was filled\n"
        ));
    }
    out
}

/// The data directory, removed at the end unless it was named.
struct Scratch {
    path: PathBuf,
    remove: bool,
}

impl Scratch {
    fn new(options: &Options) -> Result<Scratch, Fault> {
        if let Some(path) = &options.data_dir {
            return Ok(Scratch { path: path.clone(), remove: false });
        }
        let path = std::env::temp_dir().join(format!("sluice-dev-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|error| Fault::Start(format!("{}: {error}; --data-dir names another place", path.display())))?;
        Ok(Scratch { path, remove: true })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("sluice: {} could not be removed: {error}", self.path.display());
        }
    }
}
