//! Rows of one partition, gathered into messages.
//!
//! One buffer a partition of a topic, reused; a row is encoded straight into it. A message ends before the row that would make it too
//! long, so only a message of a single row is ever longer than the bound. Where many partitions are begun at once, all are sent early:
//! what is begun is bounded as a whole.

/// A message that is ready, and the first and last rows that are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its topic (and tenant, where those are kept apart), by the number that [`Packer::add_topic`] gave.
    pub topic: usize,
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
}

/// Which row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId {
    /// Its emission.
    pub emission: u64,
    /// Its place in body order.
    pub item: u32,
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
    /// By topic and partition.
    topics: Vec<Vec<Buffer>>,
    buffers: usize,
    rows_max: u32,
    bytes_max: usize,
    /// End every row with a line feed (format `rows`).
    lines: bool,
    /// Bytes of all messages that are begun.
    begun: usize,
}

/// Bytes of all messages that may be begun at once.
const BEGUN_MAX: usize = 16 << 20;
/// So many buffers keep their memory from one message to the next: with a quarter of a megabyte each, as much as may be begun.
const KEPT_MAX: usize = 64;

impl Packer {
    /// Without topics.
    pub fn new(rows_max: usize, bytes_max: usize, lines: bool) -> Packer {
        let rows_max = u32::try_from(rows_max).unwrap_or(u32::MAX).max(1);
        Packer { topics: Vec::new(), buffers: 0, rows_max, bytes_max, lines, begun: 0 }
    }

    /// One topic more, of so many partitions; its number.
    pub fn add_topic(&mut self, partitions: usize) -> usize {
        self.topics.push((0..partitions).map(|_| Buffer::default()).collect());
        self.buffers += partitions;
        self.topics.len() - 1
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: usize) -> usize {
        self.topics[topic].len()
    }

    /// The most rows in a message.
    pub fn rows_max(&self) -> u32 {
        self.rows_max
    }

    /// Adds a row to its topic and partition: `encode` appends it, or says that it has none. `send` takes each message that is full. Whether there
    /// was a row.
    pub fn push<E>(
        &mut self,
        (topic, partition): (usize, usize),
        id: RowId,
        encode: impl FnOnce(&mut Vec<u8>) -> bool,
        mut send: impl FnMut(Note, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (rows_max, bytes_max, keep) = (self.rows_max, self.bytes_max, self.buffers <= KEPT_MAX);
        let buffer = &mut self.topics[topic][partition];
        let start = buffer.bytes.len();
        if !encode(&mut buffer.bytes) {
            buffer.bytes.truncate(start);
            return Ok(false);
        }
        if self.lines {
            buffer.bytes.push(b'\n');
        }
        self.begun += buffer.bytes.len() - start;
        if start > 0 && buffer.bytes.len() > bytes_max {
            send(buffer.note((topic, partition), start), &buffer.bytes[..start])?;
            buffer.bytes.copy_within(start.., 0);
            buffer.bytes.truncate(buffer.bytes.len() - start);
            buffer.rows = 0;
            buffer.first = None;
            self.begun -= start;
        }
        buffer.rows += 1;
        buffer.first.get_or_insert(id);
        buffer.last_emission = id.emission;
        if buffer.rows >= rows_max || buffer.bytes.len() >= bytes_max {
            send(buffer.note((topic, partition), buffer.bytes.len()), &buffer.bytes)?;
            self.begun -= buffer.bytes.len();
            buffer.clear(keep);
        } else if self.begun > BEGUN_MAX {
            self.flush(send)?;
        }
        Ok(true)
    }

    /// Sends whatever is begun.
    pub fn flush<E>(&mut self, mut send: impl FnMut(Note, &[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.begun == 0 {
            return Ok(());
        }
        let keep = self.buffers <= KEPT_MAX;
        for (topic, buffers) in self.topics.iter_mut().enumerate() {
            for (partition, buffer) in buffers.iter_mut().enumerate() {
                if !buffer.bytes.is_empty() {
                    send(buffer.note((topic, partition), buffer.bytes.len()), &buffer.bytes)?;
                    buffer.clear(keep);
                }
            }
        }
        self.begun = 0;
        Ok(())
    }
}

impl Buffer {
    fn note(&self, (topic, partition): (usize, usize), bytes: usize) -> Note {
        let first = self.first.unwrap_or(RowId { emission: self.last_emission, item: 0 });
        Note {
            topic,
            partition: partition as i32,
            rows: self.rows,
            bytes,
            first_emission: first.emission,
            first_item: first.item,
            last_emission: self.last_emission,
        }
    }

    fn clear(&mut self, keep: bool) {
        if keep {
            self.bytes.clear();
        } else {
            self.bytes = Vec::new();
        }
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
        let mut packer = Packer::new(rows_max, bytes_max, true);
        let topic = packer.add_topic(1);
        let mut sent: Vec<(Note, String)> = Vec::new();
        let mut send = |note: Note, bytes: &[u8]| {
            sent.push((note, String::from_utf8(bytes.to_vec()).unwrap()));
            Ok::<(), Infallible>(())
        };
        for (at, length) in lengths.iter().enumerate() {
            let id = RowId { emission: 1 + at as u64, item: at as u32 };
            let encode = |out: &mut Vec<u8>| {
                out.extend(std::iter::repeat_n(b'0' + at as u8, *length));
                *length > 0
            };
            packer.push((topic, 0), id, encode, &mut send).unwrap();
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

    #[test]
    fn what_is_begun_is_bounded_over_all_topics_and_partitions() {
        let mut packer = Packer::new(1_000, 1 << 20, false);
        let topics: Vec<usize> = (0..20).map(|_| packer.add_topic(10)).collect();
        let (mut sent, mut bytes) = (0, 0);
        for number in 0..2_000_u64 {
            let at = (topics[number as usize % 20], number as usize / 20 % 10);
            let encode = |out: &mut Vec<u8>| {
                out.resize(out.len() + 100_000, b'x');
                true
            };
            let mut send = |note: Note, message: &[u8]| {
                assert_eq!(note.bytes, message.len());
                (sent, bytes) = (sent + 1, bytes + message.len());
                Ok::<(), Infallible>(())
            };
            packer.push(at, RowId { emission: number, item: 0 }, encode, &mut send).unwrap();
            let held: usize = packer.topics.iter().flatten().map(|buffer| buffer.bytes.capacity()).sum();
            assert!(held < 2 * BEGUN_MAX + (1 << 20), "{held}");
        }
        packer
            .flush(|_, message| {
                bytes += message.len();
                Ok::<(), Infallible>(())
            })
            .unwrap();
        assert_eq!((bytes, sent > 1_000), (200_000_000, true));
    }
}
