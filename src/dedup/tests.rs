//! Tests of the whole group: single rules by example, agreement with the model, and simulation.

mod against_model;
mod by_example;
