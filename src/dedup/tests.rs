//! Tests of the whole group: single rules by example, agreement with the model, simulation, churn.

mod against_model;
mod by_example;
mod churn;
mod counting;
mod simulation;
