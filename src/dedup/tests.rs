//! Tests of the whole group: single rules by example, agreement with the model, and simulation.

mod by_example;
