//! A sink tried on purpose: reached without a sample (`sluice check --connect`), or sent one record of its own (`sluice sink test`).
//!
//! Both go the way of dead letters, by connections of their own, so that no worker is held up and no position moves. Left out on purpose: Kafka's rights
//! on transactional ids and groups, which cannot be tried without fencing the sink that runs; a sink that lacks them says so itself.

use std::path::Path;

use crate::forward::Target;
use crate::forward::format::Format;
use crate::forward::kafka;
use crate::forward::kafka::Identity;
use crate::forward::kafka::outlet::Encoder;
use crate::forward::remote_write;
use crate::forward::remote_write::letter;
use crate::forward::rows::Row;
use crate::forward::rows::Value;
use crate::wire::outgoing::Said;
use crate::wire::outgoing::put_series;
use crate::wire::pack::pack_snappy;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::series_hash;

/// Reaches what the sink writes to; says what is there. Blocking.
pub fn connect(target: &Target, identity: &Identity, runtime: &tokio::runtime::Handle) -> Result<String, String> {
    match target {
        Target::Kafka(settings) => kafka::replay::connect(settings, identity, runtime),
        Target::Store(settings) => remote_write::replay::connect(settings, runtime),
        Target::Files(settings) => writable(&settings.directory),
    }
}

/// Whether files can be made in a directory. One that is missing is not made, lest it be another user's afterwards: then it is tried where it would be.
pub fn writable(directory: &Path) -> Result<String, String> {
    let there = existing(directory);
    let trial = there.join(format!(".sluice-trial-{}", std::process::id()));
    let tried = std::fs::write(&trial, b"").and_then(|()| std::fs::remove_file(&trial));
    match tried {
        Ok(()) if there == directory => Ok(format!("{}: files can be written", directory.display())),
        Ok(()) => Ok(format!("{}: is not there, and can be made", directory.display())),
        Err(error) => Err(format!("{}: {error}; let the user that runs sluice write there", there.display())),
    }
}

/// The directory, or the nearest one above it that is there.
pub fn existing(directory: &Path) -> &Path {
    directory.ancestors().find(|above| above.is_dir()).unwrap_or(directory)
}

/// A sample of 1 as a letter of this sink; an error: it takes no letter.
pub fn letter(target: &Target, labels: &[(String, String)], time: i64) -> Result<Vec<u8>, String> {
    let known: Vec<Label<'_>> = labels.iter().map(|(name, value)| Label::new(0, name, value)).collect();
    let row = Row {
        labels: &known,
        time,
        value: Value::Float(1.0),
        late: false,
        series: series_hash(&known, &[]),
        item: 0,
        before: None,
        tenant: "",
    };
    let mut out = Vec::new();
    match target {
        Target::Kafka(settings) if settings.format == Format::Avro && settings.registry.is_some() => {
            return Err("the number of the schema is the registry's to give; `sluice check --connect` asks it".to_owned());
        }
        Target::Kafka(settings) => {
            Encoder::new(settings).encode(&row, None, &mut out);
            if settings.format == Format::RemoteWrite {
                let mut packed = Vec::new();
                pack_snappy(&out, &mut packed);
                out = packed;
            }
        }
        Target::Store(_) => {
            put_series(&known, time, Said::Bits(1f64.to_bits()), &mut Vec::new(), &mut out);
            out = letter::of(&out);
        }
        Target::Files(_) => return Err("files take no single record; `sluice check --connect` tries the directory".to_owned()),
    }
    Ok(out)
}

/// Labels of the series by which a sink is tried.
pub fn series(identity: &Identity, node: &str) -> Vec<(String, String)> {
    let labels = [("__name__", "sluice_sink_test"), ("cluster", &identity.cluster), ("node", node), ("sink", &identity.sink)];
    labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// As [`connect`] wants it, of a configuration that does not run.
pub fn identity(cluster: &str, sink: &str) -> Identity {
    Identity { cluster: cluster.to_owned(), sink: sink.to_owned(), shard: 0, seal: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_tried_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(writable(dir.path()).unwrap().ends_with("files can be written"));
        let below = dir.path().join("a/b");
        assert!(writable(&below).unwrap().ends_with("is not there, and can be made"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        assert!(writable(Path::new("/proc/nowhere")).unwrap_err().contains("let the user"));
    }
}
