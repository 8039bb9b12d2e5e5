//! A body as sinks use it, and the division of one that mixes groups or replicas.
//!
//! A body stays what the sender sent until a row or a request is made of it: sinks walk it again and take exactly the picked points, with
//! the replica labels gone. Nothing between ingest and a sink copies labels.

use super::proto::Reader;
use super::proto::put_bytes;
use super::remote_write::DecodeError;
use super::remote_write::Label;
use super::remote_write::Limits;
use super::remote_write::Point;
use super::remote_write::Protocol;
use super::remote_write::Series;
use super::remote_write::Walker;
use crate::model::Before;
use crate::model::Pick;

/// An unpacked request, and the names of labels that no sink may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which message `raw` is.
    pub protocol: Protocol,
    /// The unpacked request.
    pub raw: Vec<u8>,
    /// The replica labels.
    pub strip: Vec<String>,
    /// Whose samples these are; empty: nobody's.
    pub tenant: String,
}

/// One picked point.
pub struct Picked<'p, 'b> {
    /// Without the stripped ones, sorted.
    pub labels: &'p [Label<'b>],
    /// The sample, histogram or exemplar.
    pub point: &'p Point<'b>,
    /// Older than what had been forwarded of its series.
    pub late: bool,
    /// Hash of `labels`, by the walker's seed: the same as in the digest if the seed is the same.
    pub series: u64,
    /// Its number in body order.
    pub item: u32,
    /// What was forwarded of its series before, where that was written down for it.
    pub before: Option<Before>,
    /// Whose it is; empty: nobody's.
    pub tenant: &'p str,
    /// Its series, with metadata and what exemplars refer to.
    pub from: &'p Series<'p, 'b>,
}

impl Body {
    /// Visits the picked points; `picks` ascend by item.
    ///
    /// Picks of faulty series, or beyond the end, are not visited: the number visited is returned so that the caller can tell. A body that
    /// has been walked once at the door cannot fail here.
    pub fn pick(&self, walker: &mut Walker, picks: &[Pick], visit: &mut dyn FnMut(Picked<'_, '_>)) -> Result<usize, DecodeError> {
        self.pick_with(walker, picks, &[], visit)
    }

    /// The same, and shows with a point what was forwarded of its series before. `befores` ascend by place among the picks.
    pub fn pick_with(
        &self,
        walker: &mut Walker,
        picks: &[Pick],
        befores: &[(u32, Before)],
        visit: &mut dyn FnMut(Picked<'_, '_>),
    ) -> Result<usize, DecodeError> {
        let (mut left, mut befores, mut visited) = (picks, befores, 0);
        walker.walk_stripped((self.protocol, &self.raw), &Limits::none(), &self.strip, &mut |series| {
            let end = series.first_item as usize + series.points.len();
            if left.first().is_none_or(|pick| pick.item as usize >= end) {
                return;
            }
            let hash = series.hash(&[]);
            while let Some((pick, rest)) = left.split_first() {
                if pick.item as usize >= end {
                    break;
                }
                let before = befores.split_first().filter(|(first, _)| first.0 as usize == picks.len() - left.len());
                let before = before.map(|(first, rest)| {
                    befores = rest;
                    first.1
                });
                left = rest;
                let number = pick.item.checked_sub(series.first_item);
                if let Some(point) = number.and_then(|number| series.points.get(number as usize))
                    && series.fault.is_none()
                {
                    visited += 1;
                    let (late, item) = (pick.late, pick.item);
                    visit(Picked { labels: series.labels, point, late, series: hash, item, before, tenant: &self.tenant, from: &series });
                }
            }
        })?;
        Ok(visited)
    }
}

/// Appends to `out` the request that holds only the series for which `keep` says yes, by number ([`Series::number`]), as they are on the
/// wire. 2.0 keeps its whole symbol table, so that references stay what they are. Metadata of 1.0 and unknown fields stay behind.
pub fn subset(protocol: Protocol, raw: &[u8], keep: &mut dyn FnMut(u32) -> bool, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    const V1_SERIES: u32 = 0x0a;
    const V2_SYMBOL: u32 = 0x22;
    const V2_SERIES: u32 = 0x2a;
    let mut request = Reader::new(raw);
    let mut number = 0;
    while let Some(key) = request.key()? {
        match (protocol, key) {
            (Protocol::V1, V1_SERIES) | (Protocol::V2, V2_SERIES) => {
                let message = request.message()?;
                if keep(number) {
                    put_bytes(out, key >> 3, message.rest());
                }
                number += 1;
            }
            (Protocol::V2, V2_SYMBOL) => put_bytes(out, key >> 3, request.message()?.rest()),
            (_, other) => request.skip(other, &[])?,
        }
    }
    Ok(())
}
