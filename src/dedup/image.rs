//! A group's whole state as bytes: equal state gives equal bytes on every node, whatever its history.
//!
//! Rows stand in slot order with free slots among them and the free list after them, since slots and their reuse are state; a row's holes
//! stand with it, so the numbers of nodes are not. Numbers are LEB128 varints, signed ones zigzag, times as differences to the row before:
//! about 20 bytes a series. Reading trusts nothing: a damaged image is an error, never a panic, and claims no memory that its length
//! does not pay for. There is no checksum here: the shard has one over all its groups.
//!
//! Version 2 is written where the group knows values (a sink asks how far counters rise): what was forwarded before stands with each row, and bits of
//! values behind each queue. So a group of which nobody asks has the image that it always had.

use super::group::Group;
use super::history::Splice;
use super::history::SwitchRecord;
use super::holes::HOLES;
use super::queues::Queue;
use super::queues::Waiting;
use super::replicas::REPLICAS;
use super::replicas::Replica;
use super::rows::NEVER;
use super::rows::NOBODY;
use super::rows::Row;
use super::rules::EXPONENT;
use crate::model::Before;
use crate::model::NO_VALUE;

/// Raised when the layout below changes.
const VERSION: u64 = 1;
/// With values.
const VALUED: u64 = 2;

/// Why an image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It ends too early.
    Cut,
    /// It has a version that this program does not know.
    Version(u64),
    /// Something in it cannot be; this names it.
    Damaged(&'static str),
}

impl std::fmt::Display for ImageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImageError::Cut => f.write_str("the image of a group ends too early"),
            ImageError::Version(version) => {
                write!(f, "the image of a group has version {version}; this program reads {VERSION} and {VALUED}")
            }
            ImageError::Damaged(what) => write!(f, "the image of a group is damaged: {what}"),
        }
    }
}

impl std::error::Error for ImageError {}

type Read<T> = Result<T, ImageError>;

impl Group {
    /// Appends the state.
    pub fn write_image(&self, into: &mut Vec<u8>) {
        let mut out = Writer { bytes: into };
        let valued = self.rows.knows_values() || self.queues.list.iter().any(Queue::is_valued);
        out.number(if valued { VALUED } else { VERSION });
        out.text(&self.name);
        out.bytes.extend([self.leader, u8::from(self.pinned)]);
        for time in [self.now, self.newest, self.floor] {
            out.signed(time);
        }
        out.number(u64::from(self.interval));
        for counter in self.totals.clone().counters() {
            out.number(*counter);
        }
        for (replica, splice) in self.replicas.all.iter().zip(&self.splices) {
            out.replica(replica.as_ref(), splice);
        }
        out.number(self.history.number);
        out.number(self.history.records.len() as u64);
        for record in &self.history.records {
            out.record(record);
        }
        self.write_rows(valued, &mut out);
        out.number(self.queues.list.len() as u64);
        for queue in &self.queues.list {
            out.queue(queue);
            if valued {
                out.values(queue);
            }
        }
    }

    /// The group whose image this is, all of it.
    pub fn read_image(bytes: &[u8]) -> Result<Group, ImageError> {
        let mut from = Reader { bytes };
        let valued = match from.number()? {
            VERSION => false,
            VALUED => true,
            other => return Err(ImageError::Version(other)),
        };
        let mut group = Group::new(from.text()?);
        group.leader = from.byte()?;
        group.pinned = from.flag()?;
        group.now = from.time()?;
        group.newest = from.time()?;
        group.floor = from.time()?;
        group.interval = from.small()?;
        for counter in group.totals.counters() {
            *counter = from.number()?;
        }
        for number in 0..REPLICAS {
            (group.replicas.all[number], group.splices[number]) = from.replica()?;
        }
        group.history.number = from.number()?;
        for _ in 0..from.length(8)? {
            let record = from.record()?;
            group.history.records.push_back(record);
        }
        group.read_rows(valued, &mut from)?;
        for _ in 0..from.length(3)? {
            let queue = from.queue(valued)?;
            group.queues.list.push(queue);
        }
        if !from.bytes.is_empty() {
            return Err(ImageError::Damaged("bytes after its end"));
        }
        group.check()?;
        Ok(group)
    }

    fn write_rows(&self, valued: bool, out: &mut Writer<'_>) {
        let mut before = 0;
        out.number(self.rows.slab.len() as u64);
        for slot in 0..self.rows.slab.len() as u32 {
            let row = self.rows.slab.get(slot);
            if row.is_free() {
                out.bytes.push(0);
                continue;
            }
            out.bytes.push(1);
            out.bytes.extend(row.series.to_le_bytes());
            let (bits, seen) = row.bits();
            out.bytes.extend([bits, row.replica, row.source, row.fills]);
            out.signed(row.last.wrapping_sub(before));
            before = row.last;
            out.signed(i64::from(seen));
            out.number(u64::from(row.interval));
            out.number(u64::from(row.odd));
            let holes = self.rows.holes.unfold(row);
            out.number(holes.spans().len() as u64);
            for &(start, end) in holes.spans() {
                out.signed(row.last.wrapping_sub(end));
                out.number((end - start) as u64);
            }
            if row.has_ahead() {
                out.signed(self.rows.ahead(slot));
            }
            if let Some((time, whose)) = self.rows.exemplar(slot) {
                out.signed(time);
                out.bytes.push(whose);
            }
            if valued {
                out.before(self.rows.before(slot), row.last);
            }
        }
        out.number(self.rows.free().len() as u64);
        for &slot in self.rows.free() {
            out.number(u64::from(slot));
        }
    }

    fn read_rows(&mut self, valued: bool, from: &mut Reader<'_>) -> Read<()> {
        let mut before = 0_i64;
        let slots = from.length(1)?;
        // A row with a series takes 18 bytes at least.
        self.rows.expect(slots.min(from.bytes.len() as u64 / 18) as usize);
        for _ in 0..slots {
            if !from.flag()? {
                // A free slot.
                self.rows.restore(None).map_err(|_| ImageError::Damaged("a free slot"))?;
                continue;
            }
            let mut row = Row::new(u64::from_le_bytes(from.array()?));
            let [bits, replica, source, fills] = from.array()?;
            if [replica, source, fills].iter().any(|&whose| whose != NOBODY && usize::from(whose) >= REPLICAS) {
                return Err(ImageError::Damaged("a series' replica"));
            }
            (row.replica, row.source, row.fills) = (replica, source, fills);
            row.last = before.wrapping_add(from.signed()?);
            before = row.last;
            if row.last != NEVER && row.last.unsigned_abs() > 1 << 53 {
                return Err(ImageError::Damaged("a series' time"));
            }
            let seen = i32::try_from(from.signed()?).map_err(|_| ImageError::Damaged("a series' progress"))?;
            row.interval = from.small()?;
            row.odd = from.small()?;
            row.set_bits(bits, seen);
            let holes = from.holes(&row)?;
            let (has_ahead, has_exemplar) = (row.has_ahead(), row.has_exemplar());
            let last = row.last;
            let slot = self.rows.restore(Some(row)).map_err(|_| ImageError::Damaged("a series stands in it twice"))?;
            let mut all = self.rows.holes.unfold(self.rows.slab.get(slot));
            holes.iter().flatten().for_each(|&(start, end)| all.push(start, end));
            self.rows.holes.fold(self.rows.slab.get_mut(slot), &all);
            if has_ahead {
                self.rows.set_ahead(slot, from.time()?);
            }
            if has_exemplar {
                self.rows.set_exemplar(slot, from.time()?, from.byte()?);
            }
            if valued && let Some(before) = from.before(last)? {
                self.rows.follow(slot, before);
            }
        }
        let free = (0..from.length(1)?).map(|_| from.small()).collect::<Read<Vec<u32>>>()?;
        if self.rows.restore_free(free) { Ok(()) } else { Err(ImageError::Damaged("the free slots")) }
    }

    /// What no field can show alone.
    fn check(&self) -> Read<()> {
        if self.leader != NOBODY && self.replicas.get(self.leader).is_none() {
            return Err(ImageError::Damaged("its leader"));
        }
        let mut kinds = Vec::new();
        for queue in &self.queues.list {
            if self.replicas.get(queue.replica).is_none() || kinds.contains(&(queue.replica, queue.class)) {
                return Err(ImageError::Damaged("a queue's replica"));
            }
            kinds.push((queue.replica, queue.class));
            let slots = self.rows.slab.len();
            if queue.samples.iter().any(|sample| sample.slot as usize >= slots || self.rows.slab.get(sample.slot).is_free()) {
                return Err(ImageError::Damaged("a waiting sample's series"));
            }
        }
        if self.counts().balanced() { Ok(()) } else { Err(ImageError::Damaged("its counts")) }
    }
}

struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn signed(&mut self, value: i64) {
        self.number((value << 1 ^ value >> 63) as u64);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }

    fn replica(&mut self, replica: Option<&Replica>, splice: &Splice) {
        let Some(replica) = replica else { return self.bytes.push(0) };
        self.bytes.push(1);
        self.text(&replica.name);
        for time in [replica.lag, replica.last_seen, replica.newest, splice.since, splice.gap] {
            self.signed(time);
        }
        for count in [replica.received, replica.emitted, replica.filled, replica.covered, splice.spliced, splice.wide] {
            self.number(count);
        }
    }

    fn record(&mut self, record: &SwitchRecord) {
        self.number(record.number);
        self.signed(record.at);
        for text in [&record.from, &record.to, &record.reason, &record.evidence] {
            self.text(text);
        }
        self.signed(record.gap);
        for count in [record.spliced, record.wide, record.overlap, record.late, record.filled] {
            self.number(count);
        }
    }

    /// What was forwarded of a series whose newest time is `last`.
    fn before(&mut self, before: Option<Before>, last: i64) {
        self.bytes.push(u8::from(before.is_some()));
        if let Some(Before { time, bits }) = before {
            self.number((last - time) as u64);
            self.number(bits.swap_bytes());
        }
    }

    /// The values of what waits in a queue; `NO_VALUE` is written as 0, others with 1 before them.
    fn values(&mut self, queue: &Queue) {
        let valued = queue.is_valued();
        self.bytes.push(u8::from(valued));
        for bits in queue.values().filter(|_| valued) {
            self.bytes.push(u8::from(bits != NO_VALUE));
            if bits != NO_VALUE {
                self.number(bits.swap_bytes());
            }
        }
    }

    fn queue(&mut self, queue: &Queue) {
        self.bytes.extend([queue.replica, queue.class]);
        self.signed(queue.due);
        self.number(queue.runs.len() as u64);
        let mut samples = queue.samples.iter();
        let mut before = 0;
        for run in &queue.runs {
            self.signed(run.due);
            self.number(run.entry);
            self.number(u64::from(run.count));
            for sample in samples.by_ref().take(run.count as usize) {
                self.signed(sample.time - before);
                before = sample.time;
                self.number(u64::from(sample.slot));
                self.number(u64::from(sample.item()) << 1 | u64::from(sample.stale()));
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(ImageError::Cut)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(ImageError::Cut)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ImageError::Damaged("a flag")),
        }
    }

    fn number(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // One spelling each, or equal states could differ in bytes.
                let longest = shift == 63 && byte > 1 || shift > 0 && byte == 0;
                return if longest { Err(ImageError::Damaged("a number")) } else { Ok(value) };
            }
        }
        Err(ImageError::Damaged("a number"))
    }

    fn small(&mut self) -> Read<u32> {
        u32::try_from(self.number()?).map_err(|_| ImageError::Damaged("a number"))
    }

    fn signed(&mut self) -> Read<i64> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A time or distance as entries can bring it about, so that no sum of a few of them overflows.
    fn time(&mut self) -> Read<i64> {
        let time = self.signed()?;
        if time == NEVER || time.unsigned_abs() <= 1 << 55 { Ok(time) } else { Err(ImageError::Damaged("a time")) }
    }

    /// How many follow of what takes `least` bytes each.
    fn length(&mut self, least: u64) -> Read<u64> {
        let count = self.number()?;
        if count > self.bytes.len() as u64 / least { Err(ImageError::Cut) } else { Ok(count) }
    }

    fn text(&mut self) -> Read<&'a str> {
        let length = self.length(1)?;
        std::str::from_utf8(self.take(length as usize)?).map_err(|_| ImageError::Damaged("a name"))
    }

    fn replica(&mut self) -> Read<(Option<Replica>, Splice)> {
        if !self.flag()? {
            return Ok((None, Splice::default()));
        }
        let name = self.text()?.to_owned();
        let (lag, last_seen, newest) = (self.time()?, self.time()?, self.time()?);
        let mut splice = Splice { since: self.time()?, gap: self.time()?, ..Splice::default() };
        let (received, emitted, filled, covered) = (self.number()?, self.number()?, self.number()?, self.number()?);
        (splice.spliced, splice.wide) = (self.number()?, self.number()?);
        Ok((Some(Replica { name, lag, last_seen, received, emitted, filled, covered, newest }), splice))
    }

    fn record(&mut self) -> Read<SwitchRecord> {
        let (number, at) = (self.number()?, self.time()?);
        let mut text = || self.text().map(str::to_owned);
        let (from, to, reason, evidence) = (text()?, text()?, text()?, text()?);
        let gap = self.time()?;
        let (spliced, wide, overlap) = (self.number()?, self.number()?, self.number()?);
        let (late, filled) = (self.number()?, self.number()?);
        Ok(SwitchRecord { number, at, from, to, reason, evidence, gap, spliced, wide, overlap, late, filled })
    }

    /// A row's holes: ascending, apart, none after its last sample.
    fn holes(&mut self, row: &Row) -> Read<[Option<(i64, i64)>; HOLES]> {
        let mut holes = [None; HOLES];
        let mut before = i64::MIN;
        let count = self.number()? as usize;
        for place in holes.get_mut(..count).ok_or(ImageError::Damaged("a series' holes"))? {
            let end = row.last.checked_sub(self.signed()?).ok_or(ImageError::Damaged("a hole"))?;
            let length = i64::from(self.small()?);
            let start = end.checked_sub(length).filter(|&start| start >= before && length > 0 && end <= row.last);
            *place = Some((start.ok_or(ImageError::Damaged("a hole"))?, end));
            before = end;
        }
        Ok(holes)
    }

    fn before(&mut self, last: i64) -> Read<Option<Before>> {
        if !self.flag()? {
            return Ok(None);
        }
        let (back, bits) = (self.number()?, self.number()?.swap_bytes());
        let time = i64::try_from(back).ok().and_then(|back| last.checked_sub(back));
        let time = time.filter(|time| last != NEVER && time.unsigned_abs() <= 1 << 53 && bits & EXPONENT != EXPONENT);
        Ok(Some(Before { time: time.ok_or(ImageError::Damaged("a series' value"))?, bits }))
    }

    fn queue(&mut self, valued: bool) -> Read<Queue> {
        let [replica, class] = self.array()?;
        let due = self.time()?;
        let mut queue = Queue::new(replica, class);
        let (mut before, mut entry_before, mut time) = (i64::MIN, 0, 0_i64);
        for _ in 0..self.length(3)? {
            let (run_due, entry) = (self.time()?, self.number()?);
            if run_due < before || entry < entry_before || run_due < 0 || run_due > due {
                return Err(ImageError::Damaged("the order of a queue"));
            }
            (before, entry_before) = (run_due, entry);
            for _ in 0..self.length(3)? {
                let step = self.signed()?;
                let moved = time.checked_add(step).filter(|moved| moved.unsigned_abs() <= 1 << 53);
                time = moved.ok_or(ImageError::Damaged("a waiting sample's time"))?;
                let slot = self.small()?;
                let item = self.small()?;
                queue.push(run_due, entry, (Waiting::new(time, slot, item >> 1, item & 1 == 1), NO_VALUE));
            }
        }
        queue.due = due;
        if valued && self.flag()? {
            let values = (0..queue.samples.len()).map(|_| if self.flag()? { Ok(self.number()?.swap_bytes()) } else { Ok(NO_VALUE) });
            queue.set_values(values.collect::<Read<_>>()?);
        }
        Ok(queue)
    }
}
