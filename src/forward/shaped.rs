//! A shard as a sink wants it: [`Source`] with the sink's [`Shape`] in front of every row and point. Sinks that take everything as it came read the
//! shard itself.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::forward::rows::Row;
use crate::forward::shape::Shape;
use crate::forward::shape::Shaper;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::source::Standing;
use crate::forward::source::Step;
use crate::shard::emission::Emission;
use crate::wire::body::Picked;

/// One shard, shaped.
pub struct Shaped {
    inner: Arc<dyn Source>,
    /// Held while an emission is walked, by the worker, the only caller.
    shaper: Mutex<Shaper>,
}

impl Shaped {
    /// The shard with this shape; itself where the shape changes nothing. `seed`: of its series' hashes.
    pub fn over(inner: Arc<dyn Source>, shape: &Arc<Shape>, seed: u64) -> Arc<dyn Source> {
        if shape.is_plain() {
            return inner;
        }
        Arc::new(Shaped { inner, shaper: Mutex::new(Shaper::new(Arc::clone(shape), seed)) })
    }

    fn shaper(&self) -> MutexGuard<'_, Shaper> {
        self.shaper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Shaped {
    fn standing(&self) -> Standing {
        self.inner.standing()
    }

    fn wait(&self, seen: &Standing, at_most: Duration) {
        self.inner.wait(seen, at_most);
    }

    fn cursor(&self) -> Result<Option<Cursor>, SourceError> {
        self.inner.cursor()
    }

    fn emissions(&self, after: u64, samples: usize) -> Result<Vec<Arc<Emission>>, SourceError> {
        self.inner.emissions(after, samples)
    }

    fn rows(&self, emission: &Emission, visit: &mut dyn FnMut(&Row<'_>)) -> Result<Option<u64>, SourceError> {
        let (mut shaper, mut left_out) = (self.shaper(), 0);
        let drops_late = shaper.drops_late();
        let there = self.inner.rows(emission, &mut |row| {
            let before = row.before.filter(|_| shaper.counts(row.labels, row.tenant));
            let out = !(row.late && drops_late)
                && shaper.shape((row.labels, row.series, row.tenant), &mut |labels, series, tenant| {
                    visit(&Row { labels, series, tenant, before, ..*row });
                });
            left_out += u64::from(!out);
        })?;
        Ok(there.map(|before| before + left_out))
    }

    fn points(&self, emission: &Emission, visit: &mut dyn FnMut(&Picked<'_, '_>)) -> Result<Option<u64>, SourceError> {
        let (mut shaper, mut left_out) = (self.shaper(), 0);
        let drops_late = shaper.drops_late();
        let there = self.inner.points(emission, &mut |picked| {
            let out = !(picked.late && drops_late)
                && shaper.shape((picked.labels, picked.series, picked.tenant), &mut |labels, series, tenant| {
                    let Picked { point, late, item, from, .. } = *picked;
                    visit(&Picked { labels, series, point, late, item, before: None, tenant, from });
                });
            left_out += u64::from(!out);
        })?;
        Ok(there.map(|before| before + left_out))
    }

    fn step(&self, step: Step) -> Result<(), SourceError> {
        self.inner.step(step)
    }

    fn bury(&self, dead: Dead) -> Result<(), SourceError> {
        self.inner.bury(dead)
    }

    fn bury_all(&self, dead: Vec<Dead>) -> Result<(), SourceError> {
        self.inner.bury_all(dead)
    }
}
