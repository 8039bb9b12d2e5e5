//! A batch for the writer while it is being filled, and what its operations weigh.

use crate::shard::member::Op;
use crate::store::Family;
use crate::store::Store;
use crate::store::batch::Batch;
use crate::store::mark::Promise;

/// A batch being filled, and what is to be said when it is written.
pub(super) struct Packed<'s> {
    pub batch: Batch<'s>,
    pub bytes: usize,
    pub log: Option<(u64, Promise)>,
    pub promise: bool,
    pub free: Option<Vec<(Family, u64)>>,
    pub emissions: u64,
}

impl<'s> Packed<'s> {
    pub fn new(store: &'s Store, bytes: usize) -> Packed<'s> {
        Packed { batch: Batch::new(store, bytes + 256), bytes: 0, log: None, promise: false, free: None, emissions: 0 }
    }
}

pub(super) fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Log(write) => write.entries.iter().map(|entry| entry.data.len() + 64).sum::<usize>() + 128,
        Op::Image(image) => image.sealed.len() + 256,
        Op::Dead(_, letter, _) => letter.payload.len() + 256,
        Op::Closed(closed) => closed.iter().map(|one| one.episode.bytes() as usize + 64).sum::<usize>() + 128,
        Op::Resent(numbers) => numbers.len() * 48 + 128,
        Op::Stage(_, _, value) => value.len() + 64,
        Op::Install(install) => install.image.len() + install.entries.iter().map(|(_, _, value)| value.len() + 64).sum::<usize>() + 512,
        Op::Emission(_) | Op::Copy(_) | Op::Members(..) | Op::Free(_) | Op::Staged(_) | Op::Unstage(_) => 128,
    }
}
