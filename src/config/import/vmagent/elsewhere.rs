//! vmagent's flags that say nothing to sluice: why, and what to do. By beginnings, since whole families mean one thing. The longest beginning that fits counts.

use crate::config::import::draft::Draft;
use crate::config::import::flags::Flag;

const SCRAPES: &str = "sluice does not scrape";
const KEEP_SCRAPING: &str =
    "let Prometheus scrape, in pairs, and write here; or keep vmagent for it, with this sluice as its -remoteWrite.url";
const PROTOCOLS: &str = "sluice takes Prometheus' remote write alone";
const KEEP_PROTOCOLS: &str = "keep a vmagent for it, with this sluice as its -remoteWrite.url";
const AGGREGATES: &str = "sluice aggregates nothing: every sample passes";
const KEEP_AGGREGATES: &str = "aggregate behind it (a vmagent between the sink and the store), or by recording rules";
const OWN: &str = "sluice bounds and tunes this by itself";
const HIDES: &str = "sluice shows no secret, and knows no such key";

/// Beginning, why there is nothing like it, what to do.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("promscrape.", SCRAPES, KEEP_SCRAPING),
    ("influx", PROTOCOLS, KEEP_PROTOCOLS),
    ("graphite", PROTOCOLS, KEEP_PROTOCOLS),
    ("opentsdb", PROTOCOLS, KEEP_PROTOCOLS),
    ("datadog.", PROTOCOLS, KEEP_PROTOCOLS),
    ("newrelic.", PROTOCOLS, KEEP_PROTOCOLS),
    ("opentelemetry.", PROTOCOLS, KEEP_PROTOCOLS),
    ("zabbixconnector.", PROTOCOLS, KEEP_PROTOCOLS),
    ("csv", PROTOCOLS, KEEP_PROTOCOLS),
    ("statsd", PROTOCOLS, KEEP_PROTOCOLS),
    ("import.", PROTOCOLS, KEEP_PROTOCOLS),
    ("kafka.consumer.", "sluice reads no Kafka", KEEP_PROTOCOLS),
    ("gcp.pubsub.", "sluice knows no Pub/Sub", KEEP_PROTOCOLS),
    ("streamAggr.", AGGREGATES, KEEP_AGGREGATES),
    ("remoteWrite.streamAggr.", AGGREGATES, KEEP_AGGREGATES),
    ("streamAggr.keepInput", "belongs to an aggregation, of which there is none", ""),
    ("streamAggr.dropInput", "belongs to an aggregation, of which there is none", ""),
    (
        "remoteWrite.streamAggr.dedupInterval",
        "no interval decides: of each scrape one copy passes",
        "groups.labels says which series are copies",
    ),
    (
        "dedup.minScrapeInterval",
        "is a flag of VictoriaMetrics' storage",
        "there write -dedup.minScrapeInterval=1ms: a store then drops what was sent twice, and nothing else (docs/sinks.md)",
    ),
    (
        "remoteWrite.shardByURL",
        "series are not spread over stores: every sink gets all of them",
        "let one sink write to vminsert, or part the series by match or hashmod rules, a sink each; as it stands each store gets everything",
    ),
    ("remoteWrite.aws.", "requests are not signed for AWS", "a proxy that signs (aws-sigv4-proxy) before the store"),
    ("remoteWrite.oauth2.", "stores are not asked for by OAuth2", "bearer_token_file, renewed by somebody else"),
    ("remoteWrite.proxyURL", "sinks use no proxy", "let the nodes reach the store"),
    ("remoteWrite.rateLimit", "a store is not sent less than comes", "budget bounds what may wait; connections what is under way"),
    ("maxIngestionRate", "rates are bounded for each group, not for all together", "limits.per_group.samples_per_second"),
    ("remoteWrite.maxHourlySeries", "series are bounded for each group, as long as they live", "limits.per_group.series"),
    (
        "remoteWrite.maxDailySeries",
        "series are bounded for each group, as long as they live",
        "limits.per_group.series, .new_series_per_second",
    ),
    ("remoteWrite.maxBlockSize", "requests are bounded by samples", "remote_write.samples_per_request"),
    ("remoteWrite.significantFigures", "values pass as they are", "VictoriaMetrics' storage rounds by -precisionBits"),
    ("remoteWrite.roundDigits", "values pass as they are", "round by recording rules"),
    ("remoteWrite.disableOnDiskQueue", "whatever is answered is on disk, always", ""),
    (
        "remoteWrite.dropSamplesOnOverload",
        "a sink that is behind costs the oldest, or refuses, as its budget says",
        "budget.policy: drop_oldest or refuse",
    ),
    (
        "remoteWrite.tmpDataPath",
        "vmagent's queue cannot be read by sluice",
        "let vmagent empty it before it is stopped; data_dir of sluice is another directory",
    ),
    ("remoteWrite.keepDanglingQueues", "a sink that is taken out asks before anything undelivered goes", ""),
    ("remoteWrite.queues", "a sink has connections for each shard", "remote_write.connections, 2 by default"),
    ("remoteWrite.inmemoryQueues", "fresh samples first after an outage", "remote_write.catch_up: fresh_first"),
    ("remoteWrite.retryM", "it is tried again for as long as the budget lasts; a Retry-After is kept to", ""),
    ("remoteWrite.flushInterval", OWN, ""),
    ("remoteWrite.vmProtoCompressLevel", OWN, ""),
    ("remoteWrite.showURL", HIDES, ""),
    ("remoteWrite.disableMetadata", "metadata is counted and not passed on", ""),
    ("enableMetadata", "metadata is counted and not passed on", ""),
    (
        "enableMultitenantHandlers",
        "tenants are read from the URL anyway, and a sink must say what becomes of them",
        "write {{__tenant__}} into the URL of the sink, or pass_tenant (docs/tenants.md)",
    ),
    ("enableMultitenancyViaHeaders", "a header names a tenant only if it is named", "groups.tenant.header (docs/tenants.md)"),
    ("httpAuth.", "senders show tokens of sluice's own", "`sluice token create NAME`; any user, the token as the password"),
    ("httpListenAddr.", "the protocol of proxies is not spoken", "let the balancer speak HTTP (docs/cluster.md)"),
    ("http.", OWN, "limits: (docs/configuration.md)"),
    ("tls", "TLS 1.2 and 1.3, with the ciphers of both", ""),
    ("mtls", "senders show tokens, not certificates", "`sluice token create NAME`"),
    ("usePromCompatibleNaming", "names pass as they are", "relabel_configs of the sink"),
    ("sortLabels", "labels are sorted always", ""),
    ("insert.", OWN, "limits.in_flight_bytes, limits.connections"),
    ("maxConcurrentInserts", OWN, "limits.in_flight_bytes"),
    ("memory.", OWN, "limits.in_flight_bytes; the unit's MemoryMax"),
    ("blockcache.", OWN, ""),
    ("cacheExpireDuration", OWN, ""),
    ("internStringMaxLen", OWN, ""),
    ("internStringDisableCache", OWN, ""),
    ("internStringCacheExpireDuration", OWN, ""),
    ("fs.", OWN, ""),
    ("filestream.", OWN, ""),
    ("pushmetrics.", "sluice's own metrics go through its sinks (own_metrics), or are scraped from /metrics", ""),
    ("metrics.", "sluice has its own metrics", "docs/metrics.md"),
    ("metricsAuthKey", HIDES, "metrics_without_token, or a token for whoever scrapes"),
    ("pprofAuthKey", HIDES, ""),
    ("flagsAuthKey", HIDES, ""),
    ("configAuthKey", HIDES, ""),
    ("reloadAuthKey", HIDES, "POST /-/reload wants a token"),
    ("logger", "there is no such switch of the log", "logging.level, logging.format"),
    ("license", "there is none to show", ""),
    ("eula", "there is none to show", ""),
    ("envflag.", "vmagent reads flags from its environment, too", "write those that are set there as flags, and import again"),
    ("secret.flags", HIDES, ""),
    ("dryRun", "`sluice check FILE`", ""),
    ("version", "`sluice --version`", ""),
];

/// Names that sound like a secret: their values are not shown.
const SECRETS: [&str; 5] = ["password", "authkey", "token", "secret", "key"];

/// Says it of a flag.
pub fn tell(flag: &Flag, draft: &mut Draft) {
    let lower = flag.name.to_ascii_lowercase();
    let said = if SECRETS.iter().any(|word| lower.contains(word)) { flag.unshown() } else { flag.said() };
    let fits = FAMILIES.iter().filter(|(begin, ..)| flag.name.starts_with(begin)).max_by_key(|(begin, ..)| begin.len());
    match fits {
        Some((_, why, remedy)) => draft.missing(&said, *why, remedy),
        None => draft.missing(
            &said,
            "is no flag of vmagent that is known here",
            "if it is about passing samples on, look for it in docs/configuration.md",
        ),
    }
}
