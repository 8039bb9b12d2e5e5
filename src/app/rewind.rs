//! A sink goes back in time: its position in a shard becomes that of an earlier emission, under a new epoch, and what was delivered since is delivered
//! once more. How far back it can go is what the log keeps (`log.keep`, and whatever another sink has not taken yet).

use crate::api::deps::Refusal;
use crate::api::deps::Rewound;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::ReadError;
use crate::shard::command::Command;
use crate::shard::command::NewEpoch;

/// Goes back in one shard.
pub async fn shard(node: &Handle, shard: ShardId, sink: &str, to: i64) -> Result<Rewound, Refusal> {
    let later = |text: String| Refusal::Later(format!("shard {}: {text}", shard.0));
    let rewound = Rewound { shard: shard.0, ..Rewound::default() };
    let cursor = node.cursors(shard).iter().find(|cursor| cursor.sink == sink).cloned();
    let Some(cursor) = cursor else { return Err(later("it does not know the sink yet".to_owned())) };
    let oldest = node.progress(shard).borrow().oldest_emission;
    let reader = node.clone();
    let find = move || {
        // The last emission from before that time; `oldest - 1` is the one before all that are kept.
        let (mut low, mut high) = (oldest.saturating_sub(1), cursor.emission);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let before = reader.emissions(shard, middle - 1, 1)?.first().is_none_or(|emission| emission.at < to);
            if before { low = middle } else { high = middle - 1 }
        }
        if low >= cursor.emission {
            return Ok(None);
        }
        let (first, last) = (reader.emissions(shard, low, 1)?, reader.emissions(shard, cursor.emission - 1, 1)?);
        let both = first.first().zip(last.first());
        Ok::<_, ReadError>(both.map(|(first, last)| (low, first.at, last.samples_after().saturating_sub(first.samples_before))))
    };
    let found = tokio::task::spawn_blocking(find).await.map_err(|_| later("reading was given up".to_owned()))?;
    let Some((emission, from, samples)) = found.map_err(|error| later(error.to_string()))? else { return Ok(rewound) };
    let epoch = NewEpoch { sink: sink.to_owned(), epoch: cursor.epoch, emission, samples: 0 };
    node.propose(shard, Command::Epoch(epoch)).await.map_err(|error| later(error.to_string()))?;
    // The first one that is kept may be younger than what was asked for, because nothing older was ever emitted, or because it is gone.
    let short = emission + 1 == oldest && emission > 0 && from > to;
    Ok(Rewound { samples, from: Some(from), short, ..rewound })
}
