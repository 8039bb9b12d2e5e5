//! The holes of a series: places where forwarded neighbours are more than one and a half intervals apart, and a late sample may pass.
//!
//! Nearly every series has one hole (what lies before its first sample), so the newest one stands in the row itself; older ones are a
//! chain of nodes beside the rows. Nodes have no lasting number: an image holds a series' holes with its row.

use super::rows::Chunks;
use super::rows::Row;

/// Holes that a series remembers.
pub(super) const HOLES: usize = 8;
/// No node.
pub(super) const NIL: u32 = u32::MAX;

/// A hole that is not its series' newest. 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    end: i64,
    len: u32,
    next: u32,
}

/// A series' holes in ascending order, out of the row while they are changed. Two more than are kept: a split and a new one.
pub(super) struct Unfolded {
    spans: [(i64, i64); HOLES + 2],
    len: usize,
}

impl Unfolded {
    pub fn spans(&self) -> &[(i64, i64)] {
        &self.spans[..self.len]
    }

    pub fn push(&mut self, start: i64, end: i64) {
        if self.len < self.spans.len() {
            self.spans[self.len] = (start, end);
            self.len += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        self.spans.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }

    /// A sample was forwarded at `time`: the hole around it falls into two.
    pub fn split(&mut self, time: i64) {
        if let Some(at) = self.spans().iter().position(|&(start, end)| start < time && time < end) {
            let (start, end) = self.spans[at];
            self.spans.copy_within(at..self.len, at + 1);
            self.len += 1;
            self.spans[at] = (start, time);
            self.spans[at + 1] = (time, end);
        }
    }

    /// Drops what is no hole (any more) by this interval.
    pub fn filter(&mut self, interval: i64) {
        let mut kept = 0;
        for at in 0..self.len {
            let (start, end) = self.spans[at];
            if (end - start) * 2 > interval * 3 {
                self.spans[kept] = (start, end);
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// Keeps at most `most`: the oldest short one goes first, for a long one is worth more; without a short one the oldest.
    pub fn limit(&mut self, most: usize, interval: i64) {
        while self.len > most {
            let short = self.spans().iter().position(|&(start, end)| end - start < 8 * interval);
            self.remove(short.unwrap_or(0));
        }
    }

    /// Drops those that end before `time`. Says how many.
    pub fn drop_before(&mut self, time: i64) -> usize {
        let old = self.spans().iter().take_while(|&&(_, end)| end < time).count();
        self.spans.copy_within(old..self.len, 0);
        self.len -= old;
        old
    }
}

/// The older holes of all series of a group.
#[derive(Debug, Default)]
pub(super) struct Holes {
    nodes: Chunks<Node>,
    free: Vec<u32>,
}

impl Holes {
    /// Nodes in use.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether a sample at `time` would lie in a hole, half an interval from both its edges at least.
    pub fn has_room(&self, row: &Row, time: i64, interval: i64) -> bool {
        let fits = |end: i64, len: u32| {
            let start = end - i64::from(len);
            start < time && time < end && (time - start) * 2 >= interval && (end - time) * 2 >= interval
        };
        // The newest hole ends last: nearly everything is later than all of them.
        if row.hole_len == 0 || time >= row.hole_end {
            return false;
        }
        fits(row.hole_end, row.hole_len) || self.older(row).any(|node| fits(node.end, node.len))
    }

    /// Whether each of the row's holes is one by this interval.
    #[inline]
    pub fn all_open(&self, row: &Row, interval: i64) -> bool {
        let open = |len: u32| i64::from(len) * 2 > interval * 3;
        row.hole_len == 0 || (open(row.hole_len) && (row.older == NIL || self.older(row).all(|node| open(node.len))))
    }

    fn older(&self, row: &Row) -> impl Iterator<Item = &Node> {
        let mut next = row.older;
        std::iter::from_fn(move || {
            if next == NIL {
                return None;
            }
            let node = self.nodes.get(next);
            next = node.next;
            Some(node)
        })
    }

    /// The row's holes, oldest first.
    pub fn unfold(&self, row: &Row) -> Unfolded {
        let mut all = Unfolded { spans: [(0, 0); HOLES + 2], len: 0 };
        if row.hole_len > 0 {
            all.push(row.hole_end - i64::from(row.hole_len), row.hole_end);
            for node in self.older(row) {
                all.push(node.end - i64::from(node.len), node.end);
            }
        }
        all.spans[..all.len].reverse();
        all
    }

    /// Writes them back. A hole is remembered for its last 49 days at most (32 bits of milliseconds).
    pub fn fold(&mut self, row: &mut Row, all: &Unfolded) {
        self.release(row);
        let length = |start: i64, end: i64| u32::try_from(end - start).unwrap_or(u32::MAX);
        let Some((&(start, end), older)) = all.spans().split_last() else { return };
        (row.hole_end, row.hole_len) = (end, length(start, end));
        for &(start, end) in older {
            row.older = self.take(Node { end, len: length(start, end), next: row.older });
        }
    }

    /// Gives the row's nodes back and leaves it without holes.
    pub fn release(&mut self, row: &mut Row) {
        while row.older != NIL {
            self.free.push(row.older);
            row.older = self.nodes.get(row.older).next;
        }
        (row.hole_end, row.hole_len) = (0, 0);
    }

    fn take(&mut self, node: Node) -> u32 {
        match self.free.pop() {
            Some(number) => {
                *self.nodes.get_mut(number) = node;
                number
            }
            None => self.nodes.push(node),
        }
    }
}
