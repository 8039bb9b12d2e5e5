//! Rows of one partition, gathered into messages.
//!
//! One buffer a partition, reused for ever; a row is encoded straight into it. A message ends before the row that would make it too
//! long, so only a message of a single row is ever longer than the bound.

/// A message that is ready, and the first and last rows that are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it goes.
    pub partition: i32,
    /// Rows in it.
    pub rows: u32,
    /// Its length.
    pub bytes: usize,
    /// Emission of its first row.
    pub first_emission: u64,
    /// Place of its first row.
    pub first_item: u32,
    /// Emission of its last row.
    pub last_emission: u64,
    /// Series of its first row: the key where a message is a row.
    pub series: u64,
}

/// Which row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId {
    /// Its emission.
    pub emission: u64,
    /// Its place in body order.
    pub item: u32,
    /// Its series.
    pub series: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    rows: u32,
    first: Option<RowId>,
    last_emission: u64,
}

/// All partitions' buffers.
#[derive(Debug)]
pub struct Packer {
    buffers: Vec<Buffer>,
    rows_max: u32,
    bytes_max: usize,
    /// End every row with a line feed (format `rows`).
    lines: bool,
}

impl Packer {
    /// For so many partitions.
    pub fn new(partitions: usize, rows_max: usize, bytes_max: usize, lines: bool) -> Packer {
        let buffers = (0..partitions).map(|_| Buffer::default()).collect();
        Packer { buffers, rows_max: u32::try_from(rows_max).unwrap_or(u32::MAX).max(1), bytes_max, lines }
    }

    /// How many partitions.
    pub fn partitions(&self) -> usize {
        self.buffers.len()
    }

    /// Adds a row: `encode` appends it, or says that it has none. `send` takes each message that is full. Whether there was a row.
    pub fn push<E>(
        &mut self,
        id: RowId,
        encode: impl FnOnce(&mut Vec<u8>) -> bool,
        mut send: impl FnMut(Note, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let place = (id.series % self.buffers.len() as u64) as usize;
        let lines = self.lines;
        let (rows_max, bytes_max) = (self.rows_max, self.bytes_max);
        let buffer = &mut self.buffers[place];
        let start = buffer.bytes.len();
        if !encode(&mut buffer.bytes) {
            buffer.bytes.truncate(start);
            return Ok(false);
        }
        if lines {
            buffer.bytes.push(b'\n');
        }
        if start > 0 && buffer.bytes.len() > bytes_max {
            send(buffer.note(place, start), &buffer.bytes[..start])?;
            buffer.bytes.copy_within(start.., 0);
            buffer.bytes.truncate(buffer.bytes.len() - start);
            buffer.rows = 0;
            buffer.first = None;
        }
        buffer.rows += 1;
        buffer.first.get_or_insert(id);
        buffer.last_emission = id.emission;
        if buffer.rows >= rows_max || buffer.bytes.len() >= bytes_max {
            send(buffer.note(place, buffer.bytes.len()), &buffer.bytes)?;
            buffer.clear();
        }
        Ok(true)
    }

    /// Sends whatever is begun.
    pub fn flush<E>(&mut self, mut send: impl FnMut(Note, &[u8]) -> Result<(), E>) -> Result<(), E> {
        for (place, buffer) in self.buffers.iter_mut().enumerate() {
            if !buffer.bytes.is_empty() {
                send(buffer.note(place, buffer.bytes.len()), &buffer.bytes)?;
                buffer.clear();
            }
        }
        Ok(())
    }
}

impl Buffer {
    fn note(&self, place: usize, bytes: usize) -> Note {
        let first = self.first.unwrap_or(RowId { emission: self.last_emission, item: 0, series: 0 });
        Note {
            partition: place as i32,
            rows: self.rows,
            bytes,
            first_emission: first.emission,
            first_item: first.item,
            last_emission: self.last_emission,
            series: first.series,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Packs rows "n" of the given lengths, all of one series, and gives the messages back.
    fn packed(lengths: &[usize], rows_max: usize, bytes_max: usize) -> Vec<(Note, String)> {
        let mut packer = Packer::new(1, rows_max, bytes_max, true);
        let mut sent: Vec<(Note, String)> = Vec::new();
        let mut send = |note: Note, bytes: &[u8]| {
            sent.push((note, String::from_utf8(bytes.to_vec()).unwrap()));
            Ok::<(), Infallible>(())
        };
        for (at, length) in lengths.iter().enumerate() {
            let id = RowId { emission: 1 + at as u64, item: at as u32, series: 9 };
            let encode = |out: &mut Vec<u8>| {
                out.extend(std::iter::repeat_n(b'0' + at as u8, *length));
                *length > 0
            };
            packer.push(id, encode, &mut send).unwrap();
        }
        packer.flush(&mut send).unwrap();
        sent
    }

    #[test]
    fn a_message_ends_before_the_row_that_is_too_much() {
        let sent = packed(&[3, 3, 3, 20, 3], 100, 10);
        let texts: Vec<&str> = sent.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["000\n111\n", "222\n", "33333333333333333333\n", "444\n"]);
        assert_eq!((sent[0].0.rows, sent[0].0.first_emission, sent[0].0.last_emission), (2, 1, 2));
        assert_eq!((sent[2].0.rows, sent[2].0.first_item, sent[2].0.bytes), (1, 3, 21));
    }

    #[test]
    fn rows_are_counted_and_what_has_no_row_is_not_there() {
        let sent = packed(&[1, 0, 1, 1], 2, 1000);
        let texts: Vec<&str> = sent.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0\n2\n", "3\n"]);
    }
}
