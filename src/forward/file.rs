//! The file sink: one worker thread for each shard of each sink ([`crate::forward::worker`]), which writes rows, one a line, into files on this node's disk.
//!
//! Rows go out in frames: a frame is written and synced, then the place says so (`place`), then the log's position moves. So after a kill the node itself goes on exactly
//! where its files end, and no row is in them twice. Another node that takes over the shard knows the log's position only: what was on the disk here and not in it
//! yet, a second's rows at most, is in the files of both.
//!
//! Deliberately absent: a queue of rows (the shard's log is it), dead letters (a disk refuses no row for what it is), and files that are written on after a start.

pub mod place;
pub mod settings;
pub mod shelf;
#[cfg(test)]
mod tests;
pub mod trouble;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::config::file::Compression;
use crate::failpoint;
use crate::forward::book::Book;
use crate::forward::book::Tally;
use crate::forward::file::place::Place;
use crate::forward::file::place::Places;
use crate::forward::file::settings::FileSettings;
use crate::forward::file::shelf::Shelf;
use crate::forward::file::shelf::Volume;
use crate::forward::file::trouble::FileTrouble;
use crate::forward::rows::RowEncoder;
use crate::forward::source::Cursor;
use crate::forward::tap::ROWS_A_COMMIT;
use crate::forward::trouble::Trouble;
use crate::forward::worker::Deliver;
use crate::forward::worker::Duty;
use crate::forward::worker::End;
use crate::forward::worker::body_gone;
use crate::forward::worker::log_end;
use crate::forward::worker::since;
use crate::shard::emission::Emission;
use crate::wire::pack;

/// A frame is closed at the emission in which it grows beyond this: two syncs of the disk for some 16,000 rows of 490 bytes.
const FRAME: usize = 8 << 20;
/// Old files are looked after so often, and whenever a file is finished.
const TIDY: Duration = Duration::from_secs(60);

/// One shard of one sink.
pub(crate) struct Worker {
    settings: Arc<FileSettings>,
    shelf: Shelf,
    sink: String,
    /// The cluster's unique id.
    cluster: String,
    duty: Duty,
    rows: RowEncoder,
    tidied: Option<Instant>,
}

/// Who writes: what stands in names of files, and in the place.
pub(crate) struct Author {
    /// The cluster's unique id.
    pub cluster: String,
    /// This node's number.
    pub node: u64,
    /// The sink's name.
    pub sink: String,
    /// The shard.
    pub shard: u16,
}

/// What is open, as long as a session lasts.
struct Desk {
    places: Places,
    volume: Option<Volume>,
    frame: Frame,
}

/// Rows that are not on the disk yet.
#[derive(Default)]
struct Frame {
    raw: Vec<u8>,
    /// The last emission that was looked at.
    upto: u64,
    tally: Tally,
    tapped: Vec<Arc<[u8]>>,
    untapped: u64,
    since: Option<Instant>,
}

impl Deliver for Worker {
    fn duty(&mut self) -> &mut Duty {
        &mut self.duty
    }

    fn session(&mut self, cursor: Cursor) -> End {
        self.duty.connecting();
        self.duty.report.change(|view| view.epoch = cursor.epoch);
        let (places, found) = match self.shelf.take_up() {
            Ok((places, found, note)) => {
                self.note(note);
                (places, found)
            }
            Err(trouble) => return End::Trouble(Trouble::File(trouble)),
        };
        self.tidy();
        let own = found.filter(|place| place.cluster == self.cluster && place.epoch == cursor.epoch).map_or(0, |place| place.emission);
        let position = self.duty.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission).max(own);
        let mut book = Book::new(&cursor);
        if let Err(error) = book.inherit(position, self.duty.source.as_ref()) {
            return log_end(error);
        }
        let mut desk = Desk { places, volume: None, frame: Frame { upto: position, ..Frame::default() } };
        let mut end = loop {
            if let Err(end) = self.turn(&mut desk, &mut book) {
                break end;
            }
        };
        if let Err(trouble) = self.leave(&mut desk, &mut book, &end)
            && !matches!(end, End::Stopped)
        {
            end = trouble;
        }
        self.duty.settle_last(&mut book, &self.sink);
        end
    }
}

impl Worker {
    /// Not running yet.
    pub fn new(settings: Arc<FileSettings>, author: Author, duty: Duty) -> Worker {
        let Author { cluster, node, sink, shard } = author;
        let shelf = Shelf::new(Arc::clone(&settings), &sink, shard, node);
        let rows = RowEncoder::new(settings.columns.clone()).with_buckets(settings.buckets);
        // What a process before this one did not finish is ended even where another node leads by now. What is wrong is told by the first session.
        if let Err(trouble) = shelf.take_up() {
            tracing::debug!(%sink, shard, %trouble, "the files were not looked at");
        }
        Worker { settings, shelf, sink, cluster, duty, rows, tidied: None }
    }

    /// The end of a session. After a trouble nobody knows what the last file holds: the next session ends it where the place says.
    fn leave(&mut self, desk: &mut Desk, book: &mut Book, end: &End) -> Result<(), End> {
        match end {
            End::Trouble(_) => return Ok(()),
            // What is begun is written while this node still may.
            End::Stopped | End::Paused => self.commit(desk, book)?,
            End::Elsewhere | End::NewEpoch | End::Again => {}
        }
        self.finish(desk)
    }

    /// Some emissions, a frame, or a wait.
    fn turn(&mut self, desk: &mut Desk, book: &mut Book) -> Result<(), End> {
        self.duty.look_after(book, || None)?;
        let standing = self.duty.source.standing();
        let news = standing.last_emission > desk.frame.upto;
        if news {
            for emission in self.duty.read(desk.frame.upto)? {
                self.take(&emission, &mut desk.frame)?;
                if desk.frame.raw.len() >= FRAME {
                    break;
                }
            }
        }
        let age = desk.frame.since.map(since);
        if desk.frame.raw.len() >= FRAME || age.is_some_and(|age| age >= self.settings.sync) {
            self.commit(desk, book)?;
        }
        let old = desk
            .volume
            .as_ref()
            .is_some_and(|volume| volume.length >= self.settings.rotate_bytes || since(volume.since) >= self.settings.rotate_age);
        if old {
            self.finish(desk)?;
        } else if self.tidied.is_none_or(|at| since(at) >= TIDY) {
            self.tidy();
        }
        if !news {
            if age.is_none() {
                self.duty.well();
            }
            let rest = age.map_or(Duration::from_millis(500), |age| self.settings.sync.saturating_sub(age));
            self.duty.source.wait(&standing, rest.min(Duration::from_millis(500)));
        }
        Ok(())
    }

    fn take(&mut self, emission: &Emission, frame: &mut Frame) -> Result<(), End> {
        let tapped = self.duty.tap.wanted();
        let rows = &mut self.rows;
        let there = self.duty.source.rows(emission, &mut |row| {
            let begin = frame.raw.len();
            if !rows.encode(row, &mut frame.raw) {
                frame.tally.filtered += 1;
                return;
            }
            frame.tally.delivered += 1;
            if tapped && frame.tapped.len() < ROWS_A_COMMIT {
                frame.tapped.push(frame.raw[begin..].into());
            } else if tapped {
                frame.untapped += 1;
            }
            frame.raw.push(b'\n');
        });
        frame.tally.filtered += there.map_err(log_end)?.ok_or_else(|| body_gone(emission))?;
        frame.upto = emission.number;
        frame.since.get_or_insert_with(clock::now);
        Ok(())
    }

    /// What is in the frame is on the disk for good, and the position moves.
    fn commit(&mut self, desk: &mut Desk, book: &mut Book) -> Result<(), End> {
        if desk.frame.since.is_none() {
            return Ok(());
        }
        if !desk.frame.raw.is_empty() {
            self.put(desk, book)?;
        }
        let upto = desk.frame.upto;
        let mut frame = std::mem::replace(&mut desk.frame, Frame { upto, ..Frame::default() });
        book.advance(upto, &frame.tally);
        self.duty.seen = Some((book.epoch(), upto));
        self.duty.tap.miss(frame.untapped);
        self.duty.tap.publish(frame.tapped.into_iter());
        let bytes = frame.raw.len() as u64;
        self.duty.report.change(|view| {
            view.position = upto;
            view.sums.rows += frame.tally.delivered;
            view.sums.filtered += frame.tally.filtered;
            view.sums.bytes += bytes;
            view.sums.messages += 1;
            view.sums.commits += 1;
        });
        frame.raw.clear();
        desk.frame.raw = frame.raw;
        self.duty.well();
        Ok(())
    }

    fn put(&mut self, desk: &mut Desk, book: &Book) -> Result<(), End> {
        let Desk { places, volume, frame } = desk;
        let wrong = |trouble| End::Trouble(Trouble::File(trouble));
        let place = |emission: u64, name: &str, length: u64| Place {
            cluster: self.cluster.clone(),
            epoch: book.epoch(),
            emission,
            file: name.to_owned(),
            length,
        };
        let tell = |places: &mut Places, place: &Place| {
            let path = self.settings.directory.join(&place.file);
            places.write(place).map_err(|error| wrong(FileTrouble::of(&path, &error)))
        };
        if volume.is_none() {
            let name = self.shelf.name(book.position() + 1);
            // Before it is there: so nothing ever is that the place does not know.
            tell(places, &place(book.position(), &name, 0))?;
            *volume = Some(self.shelf.begin(name).map_err(wrong)?);
        }
        let Some(volume) = volume else { return Ok(()) };
        let packed;
        let detail = |error: std::io::Error| wrong(FileTrouble::Unwritable { path: volume.name.clone(), detail: error.to_string() });
        let bytes = match self.settings.compression {
            Compression::None => &frame.raw,
            Compression::Gzip => {
                packed = pack::pack_gzip(&frame.raw).map_err(detail)?;
                &packed
            }
            Compression::Zstd => {
                packed = pack::pack_zstd_kept(&frame.raw).map_err(detail)?;
                &packed
            }
        };
        self.shelf.add(volume, bytes).map_err(wrong)?;
        tell(places, &place(frame.upto, &volume.name, volume.length))?;
        failpoint::reach(failpoint::Place::FilePlaced);
        Ok(())
    }

    fn finish(&mut self, desk: &mut Desk) -> Result<(), End> {
        let Some(volume) = desk.volume.take().filter(|volume| volume.length > 0) else { return Ok(()) };
        self.shelf.finish(&volume).map_err(|trouble| End::Trouble(Trouble::File(trouble)))?;
        self.tidy();
        Ok(())
    }

    fn tidy(&mut self) {
        self.tidied = Some(clock::now());
        let note = self.shelf.tidy();
        self.note(note);
    }

    fn note(&self, note: Option<FileTrouble>) {
        if let Some(note) = note {
            self.duty.report.note(&Trouble::File(note), clock::wall_ms());
        }
    }
}
