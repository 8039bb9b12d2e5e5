//! Kafka as a sink sees it: transactions of producers that fence each other, rows and positions that become visible together.
//!
//! Modelled after the broker's rules for a transactional id: `init` raises the producer's epoch, which aborts what was open and refuses all
//! that an older producer still sends; an end that is asked for again is answered as before; a transaction that stays open for longer
//! than its timeout is aborted, and its producer fenced. Requests and answers may be lost on their way, so an outcome may be unknown.
//!
//! Now and then a row is one that the brokers never take (too large for the topic, say): its transaction is over then.
//!
//! Left out: partitions (the order of a shard's rows is all that is looked at), missing rights, brokers that lose what they took.

use std::collections::BTreeMap;

use crate::model::Before;
use crate::model::Kind;
use crate::model::ShardId;

/// `transaction.timeout.ms` of our producers.
const TRANSACTION_TIMEOUT: i64 = 15_000;

/// A row: what a sink makes of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The emission, and the item in its entry.
    pub emission: u64,
    pub item: u32,
    pub series: u64,
    pub time: i64,
    pub kind: Kind,
    pub late: bool,
    /// The replica that scraped it, as its body says.
    pub replica: String,
    /// What was forwarded of its series before.
    pub before: Option<Before>,
}

/// What a producer asks, all of them for the transactional id of its sink and shard.
#[derive(Clone, Debug)]
pub enum Request {
    /// A new producer.
    Init { fence: bool },
    /// The position committed for this group.
    Position { group: String },
    /// Rows for the open transaction, of this epoch of the sink. Asking again is no harm: messages carry sequence numbers.
    Rows { epoch: u64, transaction: u64, life: u64, rows: Vec<Row> },
    /// The position for the open transaction.
    Offset { epoch: u64, transaction: u64, group: String, position: u64 },
    /// Commits the open transaction.
    Commit { epoch: u64, transaction: u64 },
}

/// What Kafka answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The new producer's epoch.
    Producer(u64),
    Position(Option<u64>),
    Taken,
    Committed,
    Fenced,
    /// This emission's item is taken from nobody.
    Refused(u64, u32),
}

struct Open {
    transaction: u64,
    since: i64,
    rows: Option<Vec<Row>>,
    life: u64,
    offset: Option<(String, u64)>,
}

/// What Kafka holds of one transactional id.
#[derive(Default)]
struct Id {
    epoch: u64,
    open: Option<Open>,
    /// The transaction committed last.
    committed: Option<(u64, u64)>,
    positions: BTreeMap<String, u64>,
}

impl Id {
    /// The producer's transaction, which begins with the first request that names it; or the answer, if there is nothing to do.
    fn open(&mut self, epoch: u64, transaction: u64, now: i64) -> Result<&mut Open, Reply> {
        if epoch != self.epoch {
            return Err(Reply::Fenced);
        }
        // Sent again, and this is the one that was slower.
        if self.committed.is_some_and(|(of, last)| of == epoch && transaction <= last) {
            return Err(Reply::Taken);
        }
        if self.open.as_ref().is_none_or(|open| open.transaction != transaction) {
            self.open = Some(Open { transaction, since: now, rows: None, life: 0, offset: None });
        }
        self.open.as_mut().ok_or(Reply::Fenced)
    }
}

/// One cluster of brokers for each sink.
#[derive(Default)]
pub struct Kafka {
    ids: BTreeMap<(usize, ShardId), Id>,
    /// Sinks whose brokers are away until then.
    pub away: BTreeMap<usize, i64>,
}

impl Kafka {
    /// Answers; and gives back the rows that became visible to `read_committed` readers, and of which epoch of the sink they are.
    pub fn ask(&mut self, (sink, shard): (usize, ShardId), request: Request, now: i64) -> (Reply, u64, Vec<Row>) {
        let id = self.ids.entry((sink, shard)).or_default();
        if id.open.as_ref().is_some_and(|open| now - open.since > TRANSACTION_TIMEOUT) {
            id.open = None;
            id.epoch += 1;
        }
        let (mut life, mut visible) = (0, Vec::new());
        let reply = match request {
            Request::Init { fence } => {
                if fence || id.epoch == 0 {
                    id.open = None;
                    id.epoch += 1;
                }
                Reply::Producer(id.epoch)
            }
            Request::Position { group } => Reply::Position(id.positions.get(&group).copied()),
            Request::Rows { epoch, transaction, life, rows } => match id.open(epoch, transaction, now) {
                Ok(_) if rows.iter().any(refuses) => {
                    id.open = None;
                    rows.iter().find(|row| refuses(row)).map_or(Reply::Fenced, |row| Reply::Refused(row.emission, row.item))
                }
                Ok(open) => {
                    open.life = life;
                    open.rows.get_or_insert(rows);
                    Reply::Taken
                }
                Err(answer) => answer,
            },
            Request::Offset { epoch, transaction, group, position } => match id.open(epoch, transaction, now) {
                Ok(open) => {
                    open.offset = Some((group, position));
                    Reply::Taken
                }
                Err(answer) => answer,
            },
            Request::Commit { epoch, transaction } if id.committed == Some((epoch, transaction)) => Reply::Committed,
            Request::Commit { epoch, transaction } => match id.open(epoch, transaction, now) {
                Ok(open) => {
                    (life, visible) = (open.life, open.rows.take().unwrap_or_default());
                    let offset = open.offset.take();
                    id.positions.extend(offset);
                    (id.open, id.committed) = (None, Some((epoch, transaction)));
                    Reply::Committed
                }
                Err(answer) => answer,
            },
        };
        (reply, life, visible)
    }

    /// The position that Kafka has.
    pub fn position(&self, sink: usize, shard: ShardId, group: &str) -> Option<u64> {
        self.ids.get(&(sink, shard)).and_then(|id| id.positions.get(group)).copied()
    }
}

/// Whether no broker takes this row.
pub fn refuses(row: &Row) -> bool {
    (row.series ^ row.time as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57 == 0
}

/// The name of the group under which a sink's position of this epoch is committed.
pub fn group(sink: &str, shard: ShardId, epoch: u64) -> String {
    format!("{sink}-{}-{epoch}", shard.0)
}
