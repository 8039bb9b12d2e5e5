//! The labels of a row as JSON, kept from one row to the next.
//!
//! Rows of one body are neighbours in a scrape, so most labels of a row are those of the row before, place by place. Their text is not
//! looked at again, escaped again or even read again: a label is known by its part of the series' hash and its lengths, and what is known
//! is copied with its neighbours in one piece. Two different labels of the same place that agree in 64 bits of a hash by a secret seed and
//! in both lengths would be taken for one; the identity of series rests on the same hash.
//!
//! It holds one row's text, not one a series: see `rows`.

use crate::forward::format::COLUMNS_MAX;
use crate::forward::format::Columns;
use crate::forward::text::push_text;
use crate::wire::remote_write::Label;

/// Memory above this goes back after the row: a monstrous one must not be remembered for ever.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Where in a row a label stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It is the row's `name`.
    Name,
    /// At the top, as the column of this place.
    Column(u8),
    /// In `labels`.
    Rest,
}

/// What is remembered of the label in one place.
#[derive(Clone, Copy, Debug)]
struct Known {
    part: u64,
    lengths: (usize, usize),
    role: Role,
    /// Where its text ends in `rest`; it begins where the one before ends.
    end: usize,
}

impl Known {
    fn new(label: &Label<'_>, role: Role, end: usize) -> Known {
        Known { part: label.part(), lengths: (label.name.len(), label.value.len()), role, end }
    }

    #[inline(always)]
    fn is(&self, label: &Label<'_>) -> bool {
        self.part == label.part() && self.lengths == (label.name.len(), label.value.len())
    }
}

/// The text of one row's labels, in its three places.
#[derive(Clone, Debug)]
pub struct LabelText {
    columns: Columns,
    /// By place among the labels.
    known: Vec<Known>,
    name: Vec<u8>,
    top: Vec<u8>,
    /// Every label ends with a comma.
    rest: Vec<u8>,
    /// What `rest` held behind the first label that changed.
    before: Vec<u8>,
}

impl LabelText {
    /// Of no row yet.
    pub fn new(columns: Columns) -> LabelText {
        LabelText { columns, known: Vec::new(), name: Vec::new(), top: Vec::new(), rest: Vec::new(), before: Vec::new() }
    }

    /// The metric's name, escaped.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The columns, in their order, each with a comma before it.
    pub fn top(&self) -> &[u8] {
        &self.top
    }

    /// What stands within `labels`.
    pub fn rest(&self) -> &[u8] {
        self.rest.split_last().map_or(&[], |(_, text)| text)
    }

    /// Becomes the text of these labels.
    #[inline]
    pub fn follow(&mut self, labels: &[Label<'_>]) {
        let same = self.known.iter().zip(labels).take_while(|(known, label)| known.is(label)).count();
        if same < labels.len().max(self.known.len()) {
            self.change(same, labels);
        }
    }

    /// What has changed from this place on.
    fn change(&mut self, first: usize, labels: &[Label<'_>]) {
        let mut top_changed = self.known.iter().skip(labels.len()).any(|gone| gone.role != Role::Rest);
        // As long as only the name and the columns change, what stands in `labels` stays.
        let mut within = None;
        for (place, label) in labels.iter().enumerate().skip(first) {
            let Some(known) = self.known.get(place).copied() else {
                within = Some(place);
                break;
            };
            if known.is(label) {
                continue;
            }
            if known.role == Role::Rest || self.role(label.name) != known.role {
                within = Some(place);
                break;
            }
            self.known[place] = Known::new(label, known.role, known.end);
            top_changed = true;
        }
        if within.is_some() || labels.len() < self.known.len() {
            top_changed |= self.rewrite(within.unwrap_or(labels.len()), labels);
        }
        if top_changed {
            self.change_top(labels);
        }
    }

    /// Writes `rest` anew from this place on, copying what has not changed from the text before, run by run. Whether the top changed.
    fn rewrite(&mut self, first: usize, labels: &[Label<'_>]) -> bool {
        let start = first.checked_sub(1).map_or(0, |place| self.known[place].end);
        self.before.clear();
        self.before.extend_from_slice(&self.rest[start..]);
        self.rest.truncate(start);
        self.known.truncate(labels.len());
        let mut top_changed = false;
        // Ends in the text before: of what has been copied, and of the labels that have been seen.
        let (mut copied, mut seen) = (start, start);
        for (place, label) in labels.iter().enumerate().skip(first) {
            let was = self.known.get(place).copied();
            if let Some(known) = was.filter(|known| known.is(label)) {
                seen = known.end;
                self.known[place].end = self.rest.len() + (seen - copied);
                continue;
            }
            self.rest.extend_from_slice(&self.before[copied - start..seen - start]);
            if let Some(gone) = was {
                top_changed |= gone.role != Role::Rest;
                seen = gone.end;
            }
            copied = seen;
            let role = self.role(label.name);
            top_changed |= role != Role::Rest;
            if role == Role::Rest {
                push_pair(&mut self.rest, label, b"", b"\",");
            }
            let known = Known::new(label, role, self.rest.len());
            match self.known.get_mut(place) {
                Some(old) => *old = known,
                None => self.known.push(known),
            }
        }
        self.rest.extend_from_slice(&self.before[copied - start..seen - start]);
        top_changed
    }

    #[inline(always)]
    fn role(&self, name: &str) -> Role {
        match self.columns.place(name) {
            Some(place) => Role::Column(place as u8),
            None if name == "__name__" => Role::Name,
            None => Role::Rest,
        }
    }

    /// The name and the columns: some of them changed.
    fn change_top(&mut self, labels: &[Label<'_>]) {
        self.name.clear();
        self.top.clear();
        let (mut places, mut there) = ([0; COLUMNS_MAX], 0_u32);
        for (place, known) in self.known.iter().enumerate() {
            match known.role {
                Role::Rest => {}
                Role::Name => push_text(&mut self.name, labels[place].value),
                Role::Column(column) => {
                    places[usize::from(column)] = place;
                    there |= 1 << column;
                }
            }
        }
        while there != 0 {
            push_pair(&mut self.top, &labels[places[there.trailing_zeros() as usize]], b",", b"\"");
            there &= there - 1;
        }
    }

    /// Gives back what a monstrous row took.
    pub fn shrink(&mut self) {
        if self.rest.capacity() + self.before.capacity() + self.top.capacity() + self.name.capacity() > KEPT_BYTES_MAX {
            *self = LabelText::new(self.columns.clone());
        }
    }
}

#[inline(always)]
fn push_pair(out: &mut Vec<u8>, label: &Label<'_>, open: &[u8], close: &[u8]) {
    out.reserve(label.name.len() + label.value.len() + 8);
    out.extend_from_slice(open);
    out.push(b'"');
    push_text(out, label.name);
    out.extend_from_slice(b"\":\"");
    push_text(out, label.value);
    out.extend_from_slice(close);
}
