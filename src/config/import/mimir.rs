//! Mimir's configuration, or Cortex', as far as it is about taking samples: the HA tracker, the limits of the distributor, tenants and their overrides. The
//! rest of such a file is about storing and asking, and stays with Mimir.
//!
//! A limit there is a tenant's; here it is a group's, a pair of Prometheus. So limits become what each group may do, and those of single tenants are written as comments
//! for somebody who knows which groups a tenant has.

use std::time::Duration;

use crate::config;
use crate::config::import;
use crate::config::import::Input;
use crate::config::import::draft::Draft;
use crate::config::import::draft::Said;
use crate::config::import::draft::quoted;
use crate::config::read::Problem;
use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;
use crate::config::values;

/// More than any group has: what "no limit" becomes.
const NO_LIMIT: u64 = 1 << 40;
/// The longest `limits.future`.
const FUTURE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Sections about storing, asking and running Mimir itself.
const STAYS: [&str; 31] = [
    "activity_tracker",
    "alertmanager",
    "alertmanager_storage",
    "api",
    "blocks_storage",
    "common",
    "compactor",
    "continuous_test",
    "cost_attribution",
    "flusher",
    "frontend",
    "frontend_worker",
    "grpc_tls",
    "ingest_storage",
    "ingester",
    "ingester_client",
    "max_separate_metrics_groups_per_user",
    "memberlist",
    "overrides_exporter",
    "querier",
    "query_range",
    "query_scheduler",
    "ruler",
    "ruler_storage",
    "runtime_config",
    "server",
    "shutdown_delay",
    "store_gateway",
    "target",
    "tenant_federation",
    "usage_stats",
];

/// Beginnings of limits about storing and asking.
const STAYS_LIMITS: [&str; 27] = [
    "active_series",
    "alertmanager_",
    "align_queries",
    "blocked_",
    "cache_",
    "cardinality_",
    "compactor_",
    "cost_attribution",
    "enabled_promql",
    "ingest_storage_",
    "ingestion_partitions",
    "ingestion_tenant_shard",
    "label_names_and_values",
    "label_values_max",
    "max_cache_freshness",
    "max_chunks",
    "max_estimated",
    "max_fetched",
    "max_labels_query",
    "max_partial_query",
    "max_queriers",
    "max_query",
    "max_total_query",
    "query_",
    "results_cache",
    "ruler_",
    "store_gateway_",
];

/// Reads one.
pub fn import(input: &Input, draft: &mut Draft) -> Result<(), Vec<Problem>> {
    let tree = tree::parse_foreign(import::text_of(input)?).map_err(config::broken)?;
    let sections = pairs(&tree);
    if !sections.iter().any(|(name, ..)| ["limits", "overrides", "distributor", "multitenancy_enabled"].contains(name)) {
        let rule = "holds none of limits, overrides, distributor, multitenancy_enabled";
        return Err(vec![import::wrong(tree.line, "(the file)", rule, "is it Mimir's configuration, or its runtime configuration?")]);
    }
    let mut problems = Vec::new();
    let mut tenants = true;
    for (name, line, value) in sections {
        let said = Said::new(line, name, &scalar(value));
        match name {
            "limits" => limits(value, draft, &mut problems),
            "overrides" => overrides(value, draft, &mut problems),
            "distributor" => distributor(value, draft),
            "multitenancy_enabled" => {
                tenants = scalar(value) != "false";
                let text = if tenants { "groups.tenant: senders name theirs in X-Scope-OrgID" } else { "no tenants" };
                draft.taken(&said, text);
            }
            "no_auth_tenant" => {
                let remedy = "the sink that writes to Mimir says it: remote_write: { headers: { X-Scope-OrgID: NAME } }";
                draft.different(&said, "samples without a tenant have none here", remedy);
            }
            _ if STAYS.contains(&name) => draft.missing(&Said::new(line, name, ""), "stays with Mimir: it is not about taking samples", ""),
            _ => unknown(&said, draft),
        }
    }
    if tenants {
        draft.tenant_header = Some("X-Scope-OrgID");
    }
    let remedy = "write a sink: remote_write: { url: https://mimir.example/api/v1/push, pass_tenant: true }; then switch accept_ha_samples off in Mimir";
    draft.missing(&Said::whole(), "where Mimir is stands in no file of its own", remedy);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Names, lines and values of a section.
fn pairs(tree: &Tree) -> Vec<(&str, usize, &Tree)> {
    let Value::Pairs(pairs) = &tree.value else { return Vec::new() };
    let named = pairs.iter().filter_map(|(key, value)| match &key.value {
        Value::Scalar(name) => Some((name.as_str(), key.line, value)),
        Value::Empty | Value::List(_) | Value::Pairs(_) => None,
    });
    named.collect()
}

fn scalar(tree: &Tree) -> String {
    match &tree.value {
        Value::Scalar(text) => text.clone(),
        Value::List(items) => format!("[{} items]", items.len()),
        Value::Pairs(pairs) => format!("{{{} keys}}", pairs.len()),
        Value::Empty => String::new(),
    }
}

fn unknown(said: &Said, draft: &mut Draft) {
    draft.missing(said, "is no key of Mimir that is known here", "if it is about taking samples, look for it in docs/configuration.md");
}

/// What a limit is here: a key and its value.
enum Ours {
    /// Of `limits:`, and of an override.
    Limit(&'static str, String),
    /// Of `limits.per_group:`, and of an override's `limits:`; and what is different.
    Group(&'static str, String, &'static str),
}

/// A limit that has a counterpart.
fn ours(name: &str, value: &str) -> Option<Result<Ours, String>> {
    let count =
        || value.parse::<f64>().ok().filter(|number| *number >= 0.0 && *number < NO_LIMIT as f64).map(|number| number.ceil() as u64);
    let count = |most: u64| count().map(|number| if number == 0 { most } else { number.min(most) });
    let limit = |key, most| count(most).map(|number| Ours::Limit(key, number.to_string())).ok_or("must be a number".to_owned());
    let group = |key, factor: u64, different| {
        count(NO_LIMIT)
            .map(|number| Ours::Group(key, (number * factor).min(NO_LIMIT).to_string(), different))
            .ok_or("must be a number".to_owned())
    };
    match name {
        "max_label_names_per_series" => Some(limit("labels_per_series", 65_536)),
        "max_label_name_length" => Some(limit("label_name_bytes", 1 << 20)),
        "max_label_value_length" => Some(limit("label_value_bytes", 1 << 24)),
        "creation_grace_period" => {
            // 0 is no limit there; a year is the most that is taken here.
            let span = values::duration(value).map_err(|(rule, _)| rule);
            let bounded = |span: Duration| if span.is_zero() { FUTURE_MAX } else { span.clamp(Duration::from_secs(1), FUTURE_MAX) };
            Some(span.map(|span| Ours::Limit("future", values::shown_duration(bounded(span)))))
        }
        "max_global_series_per_user" => Some(group("series", 1, "a tenant's there, a group's here; 0 is no limit")),
        "ingestion_rate" => {
            Some(group("samples_per_second", 2, "a tenant's there; here a group's, both replicas together, so twice as much"))
        }
        _ => None,
    }
}

fn limits(section: &Tree, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let pairs = pairs(section);
    labels(&pairs, draft);
    for (name, line, value) in pairs {
        let (value, key) = (scalar(value), format!("limits.{name}"));
        let said = Said::new(line, &key, &value);
        match ours(name, &value) {
            Some(Ok(Ours::Limit(ours, value))) => draft.limit(&said, ours, value),
            Some(Ok(Ours::Group(ours, value, different))) => {
                draft.different(&said, format!("limits.per_group.{ours}: {value}: {different}"), "");
                draft.per_group(ours, value);
            }
            Some(Err(rule)) => problems.push(Problem { line, key, value, rule, remedy: "as Mimir takes it".to_owned() }),
            None => other_limit(name, &said, draft),
        }
    }
}

/// The labels of the HA tracker, with its defaults.
fn labels(pairs: &[(&str, usize, &Tree)], draft: &mut Draft) {
    let get = |name: &str| pairs.iter().find(|(known, ..)| *known == name).map(|(_, _, value)| scalar(value));
    let named = ["accept_ha_samples", "ha_cluster_label", "ha_replica_label"].map(get);
    if named.iter().any(Option::is_some) {
        let [_, cluster, replica] = named;
        draft.pair(cluster.as_deref().unwrap_or("cluster"), replica.as_deref().unwrap_or("__replica__"));
    }
}

fn other_limit(name: &str, said: &Said, draft: &mut Draft) {
    match name {
        "ha_cluster_label" | "ha_replica_label" => draft.taken(said, "groups.labels"),
        "accept_ha_samples" if said.value == "false" => {
            let text = "sluice deduplicates whatever carries both labels";
            draft.different(said, text, "senders that are no pair must not carry both (or differ in the group's label)");
        }
        "accept_ha_samples" => draft.taken(said, "always: whatever carries both labels"),
        "ha_max_clusters" => match said.value.parse::<u64>() {
            Ok(0) => draft.limit(said, "groups", "100000".to_owned()),
            Ok(number) => {
                let number = number.min(100_000).to_string();
                draft.different(
                    said,
                    format!("limits.groups: {number}: of all tenants together"),
                    "raise it where there are several tenants",
                );
                draft.set_limit("groups", number);
            }
            Err(_) => draft.missing(said, "is no number", "write limits.groups"),
        },
        "ingestion_burst_size" | "ingestion_burst_factor" => {
            draft.missing(said, "ten seconds' worth of samples_per_second may come at once", "")
        }
        "request_rate" | "request_burst_size" => {
            draft.missing(
                said,
                "requests are not counted; samples and bytes under way are",
                "limits.per_group.samples_per_second, .in_flight_bytes",
            );
        }
        "drop_labels" | "metric_relabel_configs" => {
            draft.missing(
                said,
                "what goes out is said at a sink",
                "write relabel_configs at the sink (docs/sinks.md): a labeldrop for each label",
            );
        }
        "past_grace_period" | "out_of_order_time_window" => {
            draft.missing(
                said,
                "late samples are taken, however old, and marked as late",
                "late: drop at a sink keeps them away from a store",
            );
        }
        _ if STAYS_LIMITS.iter().any(|begin| name.starts_with(begin)) => {
            draft.missing(said, "stays with Mimir: it is not about taking samples", "")
        }
        "max_metadata_length" | "max_global_metadata_per_user" | "max_global_metadata_per_metric" | "enforce_metadata_metric_name" => {
            draft.missing(said, "metadata is counted and not kept: no sink gets any", "");
        }
        "max_global_series_per_metric" => {
            draft.missing(said, "there is no limit of a metric", "`sluice group cardinality` shows which metrics grow")
        }
        "max_global_exemplars_per_user"
        | "max_exemplars_per_series_per_request"
        | "ignore_ooo_exemplars"
        | "native_histograms_ingestion_enabled"
        | "ooo_native_histograms_ingestion_enabled"
        | "max_native_histogram_buckets"
        | "reduce_native_histogram_over_max_buckets"
        | "metric_relabeling_enabled"
        | "max_label_names_per_info_series"
        | "service_overload_status_code_on_rate_limit_enabled" => {
            draft.missing(said, "has no counterpart: such samples are passed on as they come; overload is always 503", "leave it in Mimir");
        }
        _ if name.starts_with("ha_tracker_") => tracker(name, said, draft),
        _ => unknown(said, draft),
    }
}

fn distributor(section: &Tree, draft: &mut Draft) {
    for (name, line, value) in pairs(section) {
        if name != "ha_tracker" {
            let said = Said::new(line, &format!("distributor.{name}"), &scalar(value));
            draft.missing(&said, "stays with Mimir: sluice bounds requests by limits of its own", "limits: (docs/configuration.md)");
            continue;
        }
        for (name, line, value) in pairs(value) {
            tracker(name, &Said::new(line, &format!("distributor.ha_tracker.{name}"), &scalar(value)), draft);
        }
    }
}

fn tracker(name: &str, said: &Said, draft: &mut Draft) {
    match name {
        "enable_ha_tracker" if said.value == "true" => draft.taken(said, "always: pairs are told by groups.labels"),
        "enable_ha_tracker" => {
            draft.different(said, "sluice deduplicates whatever carries both labels", "groups.labels says which labels these are")
        }
        "kvstore" => draft.missing(
            said,
            "who leads is in sluice's own replicated log",
            "the store of keys is needed no more, once Mimir's tracker is off",
        ),
        "ha_tracker_update_timeout"
        | "ha_tracker_update_timeout_jitter_max"
        | "ha_tracker_failover_timeout"
        | "ha_tracker_failover_sample_timeout"
        | "ha_tracker_sample_failover_timeout"
        | "failover_sample_timeout" => {
            let text = "no timeout decides: a hole is filled with the other replica's samples whoever leads, and when to switch is learned from each group's pattern";
            draft.missing(
                said,
                text,
                "groups.switches_per_hour bounds switching; groups.probe notices a death within a second (docs/verdicts.md)",
            );
        }
        "enable_elected_replica_metric" => draft.missing(said, "who leads is a metric anyway", "sluice_replica_leads (docs/metrics.md)"),
        _ => unknown(said, draft),
    }
}

/// Limits of single tenants: comments for whoever knows their groups.
fn overrides(section: &Tree, draft: &mut Draft, problems: &mut Vec<Problem>) {
    for (tenant, line, section) in pairs(section) {
        let tenant_pairs = pairs(section);
        labels(&tenant_pairs, draft);
        let (mut direct, mut per_group) = (Vec::new(), Vec::new());
        for (name, line, value) in tenant_pairs {
            let (value, key) = (scalar(value), format!("overrides.{tenant}.{name}"));
            let said = Said::new(line, &key, &value);
            match ours(name, &value) {
                Some(Ok(Ours::Limit(ours @ ("labels_per_series" | "future"), value))) => {
                    draft.different(
                        &said,
                        format!("written as a comment: {ours}: {value}"),
                        "take the # away below groups.overrides, a group each",
                    );
                    direct.push(format!("    {ours}: {value}"));
                }
                Some(Ok(Ours::Limit(ours, _))) => draft.missing(&said, format!("{ours} is the same for all"), &format!("limits.{ours}")),
                Some(Ok(Ours::Group(ours, value, different))) => {
                    let text = format!("written as a comment: {ours}: {value}: {different}");
                    draft.different(&said, text, "take the # away below groups.overrides, a group each");
                    per_group.push(format!("{ours}: {value}"));
                }
                Some(Err(rule)) => problems.push(Problem { line, key, value, rule, remedy: "as Mimir takes it".to_owned() }),
                None if name == "ha_max_clusters" => draft.missing(&said, "groups are counted over all tenants", "limits.groups"),
                None => other_limit(name, &said, draft),
            }
        }
        if !per_group.is_empty() {
            direct.push(format!("    limits: {{ {} }}", per_group.join(", ")));
        }
        if !direct.is_empty() {
            if draft.overrides.is_empty() {
                draft.overrides.push(
                    "overrides:   # tenants' own limits, from Mimir: one entry for each of a tenant's groups (`sluice group list`)"
                        .to_owned(),
                );
            }
            draft.overrides.push(format!("  - name: {}   # line {line}", quoted(&format!("{tenant}::GROUP"))));
            draft.overrides.append(&mut direct);
        }
    }
}
