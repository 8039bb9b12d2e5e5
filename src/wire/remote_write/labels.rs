//! The part of a walk that both protocols share: labels into order, faults, points into body order, the visit.
//!
//! Consecutive series of a request share most of their labels (Prometheus sends a scrape metric by metric: job, instance, cluster and the
//! like stay the same, place by place). So each place remembers the last label seen there: an equal one is not parsed, checked, hashed or
//! compared with its neighbour again. That is worth half of the walk's time on real requests.

use super::DecodeError;
use super::Label;
use super::Limits;
use super::Metadata;
use super::Point;
use super::Series;
use super::SeriesFault;
use super::Totals;
use crate::model::Kind;
use crate::wire::histogram::Histogram;
use crate::wire::proto::Malformed;

/// Scratch above this many bytes a list is given back after the request: one hostile request must not fatten every walker for good.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// A symbol of a 2.0 request.
#[derive(Clone, Copy)]
pub(super) struct Symbol<'b> {
    pub(super) text: &'b str,
    /// Its part of a series' hash.
    pub(super) hash: u64,
    /// Not UTF-8: `text` is empty and whoever refers to it is faulty.
    pub(super) bad: bool,
}

/// What one place among the labels held last.
struct Place<'b, K> {
    /// The label as it stands on the wire: 1.0 the message, 2.0 the two references.
    key: K,
    label: Label<'b>,
    /// Its name is greater than that of the place before, as they stand.
    rising: bool,
    /// `rising` holds for what the place before holds now.
    fresh: bool,
}

/// The labels of one series, and the places' memory of the series before.
pub(super) struct Labels<'b, K> {
    places: Vec<Place<'b, K>>,
    list: Vec<Label<'b>>,
    /// Labels of this series on the wire so far.
    used: usize,
    sorted: bool,
    /// The place before holds what it held for the last series.
    same: bool,
}

impl<K> Default for Labels<'_, K> {
    fn default() -> Self {
        Labels { places: Vec::new(), list: Vec::new(), used: 0, sorted: true, same: true }
    }
}

impl<'b, K: PartialEq + Copy> Labels<'b, K> {
    fn begin(&mut self) {
        if let Some(next) = self.places.get_mut(self.used) {
            next.fresh = false;
        }
        self.list.clear();
        self.used = 0;
        self.sorted = true;
        self.same = true;
    }

    /// Takes the next label on the wire; `read` is called only if it is not the one that stood in this place last.
    #[inline(always)]
    fn take(
        &mut self,
        key: K,
        read: impl FnOnce() -> Result<Result<Label<'b>, SeriesFault>, Malformed>,
    ) -> Result<Option<SeriesFault>, Malformed> {
        if let Some(place) = self.places.get_mut(self.used)
            && place.key == key
        {
            if self.same && place.fresh {
                self.sorted &= place.rising;
                self.used += 1;
                if !place.label.value.is_empty() {
                    self.list.push(place.label);
                }
                return Ok(None);
            }
            let label = place.label;
            self.put(key, label);
            self.same = true;
            return Ok(None);
        }
        match read()? {
            Ok(label) => {
                self.put(key, label);
                self.same = false;
                Ok(None)
            }
            Err(fault) => Ok(Some(fault)),
        }
    }

    fn put(&mut self, key: K, label: Label<'b>) {
        let before = self.used.checked_sub(1).and_then(|place| self.places.get(place));
        let rising = before.is_none_or(|before| before.label.name < label.name);
        let place = Place { key, label, rising, fresh: true };
        match self.places.get_mut(self.used) {
            Some(held) => *held = place,
            None => self.places.push(place),
        }
        self.sorted &= rising;
        self.used += 1;
        if !label.value.is_empty() {
            self.list.push(label);
        }
    }

    /// Sorts if need be, and says what is wrong with the labels together.
    fn finish(&mut self) -> Option<SeriesFault> {
        let mut twice = false;
        if !self.sorted {
            self.list.sort_unstable_by(|a, b| a.name.cmp(b.name));
            twice = self.list.windows(2).any(|pair| matches!(pair, [a, b] if a.name == b.name));
        }
        if twice {
            return Some(SeriesFault::DuplicateLabel);
        }
        let named = self.list.iter().any(|label| label.name == "__name__");
        if named { None } else { Some(SeriesFault::NoName) }
    }

    fn recycle<'to, L>(self) -> Labels<'to, L> {
        Labels { places: recycle(self.places), list: recycle(self.list), ..Labels::default() }
    }
}

/// Memory that a walker keeps between requests. Between two requests all of it is empty, so that nothing of one can show up in another.
#[derive(Default)]
pub(super) struct Scratch<'b> {
    /// By message (1.0).
    pub(super) messages: Labels<'b, &'b [u8]>,
    /// By references (2.0).
    pub(super) pairs: Labels<'b, (u32, u32)>,
    pub(super) symbols: Vec<Symbol<'b>>,
    pub(super) references: Vec<u32>,
    points: Vec<Point<'b>>,
    histograms: Vec<Point<'b>>,
    exemplars: Vec<Point<'b>>,
}

impl Scratch<'_> {
    /// The same memory, empty, for a body of another lifetime.
    pub(super) fn recycle<'to>(self) -> Scratch<'to> {
        Scratch {
            messages: self.messages.recycle(),
            pairs: self.pairs.recycle(),
            symbols: recycle(self.symbols),
            references: recycle(self.references),
            points: recycle(self.points),
            histograms: recycle(self.histograms),
            exemplars: recycle(self.exemplars),
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        fn of<T>(list: &Vec<T>) -> usize {
            list.capacity() * size_of::<T>()
        }
        let labels = of(&self.messages.places) + of(&self.messages.list) + of(&self.pairs.places) + of(&self.pairs.list);
        labels + of(&self.symbols) + of(&self.references) + of(&self.points) + of(&self.histograms) + of(&self.exemplars)
    }
}

/// An empty vector of another element type of the same size, in the same memory (the standard library collects in place; if some day it
/// does not, this costs an allocation a request and nothing else).
fn recycle<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    if list.capacity().saturating_mul(size_of::<A>()) > KEPT_BYTES_MAX {
        return Vec::new();
    }
    list.into_iter().filter_map(|_| None).collect()
}

/// One walk over one request.
pub(super) struct Pass<'p, 'b> {
    pub(super) seed: u64,
    pub(super) limits: &'p Limits,
    pub(super) strip: &'p [String],
    pub(super) scratch: &'p mut Scratch<'b>,
    pub(super) histogram: &'p mut Histogram,
    pub(super) totals: Totals,
    pub(super) visit: &'p mut dyn FnMut(Series<'_, 'b>),
}

/// What is known of a series when its message has been read.
#[derive(Default)]
pub(super) struct Found<'b> {
    pub(super) raw: &'b [u8],
    pub(super) fault: Option<SeriesFault>,
    pub(super) metadata: Option<Metadata<'b>>,
    /// `created_timestamp` of 2.0 up to rc.3.
    pub(super) created: i64,
}

impl<'b> Found<'b> {
    /// The first fault is the one that is told.
    pub(super) fn blame(&mut self, fault: Option<SeriesFault>) {
        if self.fault.is_none() {
            self.fault = fault;
        }
    }
}

impl<'b> Pass<'_, 'b> {
    pub(super) fn begin(&mut self) -> Result<(), DecodeError> {
        if self.totals.series >= self.limits.series {
            return Err(DecodeError::TooMany { what: "series", limit: self.limits.series });
        }
        self.totals.series += 1;
        self.scratch.messages.begin();
        self.scratch.pairs.begin();
        self.scratch.points.clear();
        Ok(())
    }

    /// The next label of a 1.0 series, which `message` is.
    #[inline(always)]
    pub(super) fn label_message(
        &mut self,
        message: &'b [u8],
        read: impl FnOnce() -> Result<Option<(&'b str, &'b str)>, Malformed>,
    ) -> Result<Option<SeriesFault>, Malformed> {
        let (seed, limits) = (self.seed, self.limits);
        if self.scratch.messages.used >= limits.labels_per_series {
            // Read all the same: it may be malformed.
            return read().map(|_| Some(SeriesFault::TooManyLabels));
        }
        self.scratch.messages.take(message, || {
            Ok(match read()? {
                None => Err(SeriesFault::NotUtf8),
                Some((name, value)) => bounded(limits, name, value).map(|()| Label::new(seed, name, value)),
            })
        })
    }

    /// The next label of a 2.0 series.
    #[inline(always)]
    pub(super) fn label_pair(&mut self, pair: (u32, u32)) -> Option<SeriesFault> {
        let limits = self.limits;
        if self.scratch.pairs.used >= limits.labels_per_series {
            return Some(SeriesFault::TooManyLabels);
        }
        let symbols = &self.scratch.symbols;
        let read = || match (symbols.get(pair.0 as usize), symbols.get(pair.1 as usize)) {
            (Some(name), Some(value)) if name.bad || value.bad => Err(SeriesFault::NotUtf8),
            (Some(name), Some(value)) => bounded(limits, name.text, value.text).map(|()| Label {
                name: name.text,
                value: value.text,
                hash: super::hash::fold(name.hash, value.hash),
            }),
            _ => Err(SeriesFault::ReferenceRange),
        };
        // References are read before they are looked up, so that this cannot be malformed.
        self.scratch.pairs.take(pair, || Ok(read())).unwrap_or_default()
    }

    /// Room for one more point, or the refusal of the request.
    #[inline(always)]
    fn count_point(&mut self) -> Result<(), DecodeError> {
        if self.totals.points >= self.limits.points {
            return Err(DecodeError::TooMany { what: "points", limit: self.limits.points });
        }
        self.totals.points += 1;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn sample(&mut self, point: Point<'b>) -> Result<(), DecodeError> {
        self.count_point()?;
        self.totals.samples += 1;
        self.totals.stale += usize::from(point.kind == Kind::Stale);
        self.scratch.points.push(point);
        Ok(())
    }

    pub(super) fn histogram(&mut self, point: Point<'b>) -> Result<(), DecodeError> {
        self.count_point()?;
        self.totals.histograms += 1;
        self.totals.stale += usize::from(point.kind == Kind::Stale);
        self.scratch.histograms.push(point);
        Ok(())
    }

    pub(super) fn exemplar(&mut self, point: Point<'b>) -> Result<(), DecodeError> {
        self.count_point()?;
        self.totals.exemplars += 1;
        self.scratch.exemplars.push(point);
        Ok(())
    }

    /// The end of a series' message: order, faults, totals, and the visit.
    pub(super) fn finish(&mut self, mut found: Found<'b>) {
        let scratch = &mut *self.scratch;
        let of_messages = scratch.messages.used > 0;
        let (fault, sorted, used) = if of_messages {
            (scratch.messages.finish(), scratch.messages.sorted, scratch.messages.used)
        } else {
            (scratch.pairs.finish(), scratch.pairs.sorted, scratch.pairs.used)
        };
        found.blame(fault);
        let list = if of_messages { &mut scratch.messages.list } else { &mut scratch.pairs.list };
        self.totals.empty_values += used - list.len();
        self.totals.unsorted += usize::from(!sorted);
        self.totals.faulty += usize::from(found.fault.is_some());
        self.totals.metadata += usize::from(found.metadata.is_some());
        if !self.strip.is_empty() {
            list.retain(|label| !self.strip.iter().any(|name| name == label.name));
        }
        if !scratch.histograms.is_empty() {
            scratch.points.append(&mut scratch.histograms);
        }
        if !scratch.exemplars.is_empty() {
            scratch.points.append(&mut scratch.exemplars);
        }
        if found.created != 0 {
            scratch.points.iter_mut().filter(|point| point.start == 0).for_each(|point| point.start = found.created);
        }
        (self.visit)(Series {
            labels: list,
            points: &scratch.points,
            fault: found.fault,
            sorted,
            metadata: found.metadata,
            number: (self.totals.series - 1) as u32,
            first_item: (self.totals.points - scratch.points.len()) as u32,
            raw: found.raw,
            symbols: &scratch.symbols,
        });
    }
}

#[inline(always)]
fn bounded(limits: &Limits, name: &str, value: &str) -> Result<(), SeriesFault> {
    if name.is_empty() {
        Err(SeriesFault::EmptyLabelName)
    } else if name.len() > limits.label_name_bytes {
        Err(SeriesFault::LongName)
    } else if value.len() > limits.label_value_bytes {
        Err(SeriesFault::LongValue)
    } else {
        Ok(())
    }
}
