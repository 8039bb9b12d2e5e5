//! Which samples pass: the one place that decides, for a group of replicas that all send the same, which copy of a sample goes out.
//!
//! Everything here is a plain value: entries and their times go in, what passed comes out. No clock, no randomness, no float
//! arithmetic, no IO, no threads; so every node that applies the same log decides the same, and a test can try any order of events.
//! The rules are those of `tests/model/slots.py`, which is their specification (a test holds us to it sample by sample); what the model
//! leaves out (histograms, exemplars, samples of no replica, forgetting, bounds, pinning) is described where it is done.
//!
//! Read `group` first (what an entry does), then `rules` (which sample passes), `rows` and `holes` (what is kept per series), `queues`
//! (what waits), `image` (the state as bytes). `detect` is another matter: volatile observations of the shard's leader, which only propose.
//!
//! Left out on purpose: labels and values (a series is a hash here), which entry holds a group (`shard`), and when to propose (`shard`, `node`).

pub mod bench;
pub mod detect;
pub mod group;
pub mod history;
mod holes;
pub mod image;
pub mod judged;
mod queues;
pub mod replicas;
mod rows;
mod rules;

#[cfg(test)]
mod tests;
