//! Which series, and as what: PromQL's selectors and Prometheus' `relabel_configs`, with their semantics to the letter, because people bring
//! configurations with them.
//!
//! Pure, and of no label type: labels come as pairs of text, or as a function that finds one. Left out on purpose: where labels come from
//! and go to (`forward`), and remembering what was decided of a series, which only a caller that knows its hash can do cheaply.

pub mod counters;
pub mod pattern;
pub mod rules;
pub mod selector;

#[cfg(test)]
mod tests;
