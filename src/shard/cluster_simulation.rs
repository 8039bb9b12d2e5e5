//! Whole clusters in simulation, data path included: three or five nodes with a control shard and data shards, driven by the code that production
//! drives (`Member`, `Replica`, `Data`, `Control`, `dedup`, digests), over a network that loses and cuts, disks that forget and fill up, clocks that
//! differ, processes that crash at the bad moments and stand still, pairs of senders that insist, and a model of Kafka with transactions.
//!
//! Read `shape` (what a seed stands for), `world` (a run), `process` and `worker` (the simulated shell), `ledger` (what must hold at every moment) and
//! `verdict` (what must hold in the end). `bugs` are planted to see them found. One seed is one history: `SEED=n` plays it and tells it, `SEEDS=n`
//! plays so many, `FROM=n` begins elsewhere (`scripts/simulate`).
//!
//! Members that were away for too long take snapshots (`snapshots`), nodes lose their disks, or find that they have lost their end, come and go (`seats`),
//! are drained or stand aside because of their clocks (`keeper`); sinks go and come again, are over their budgets (`settings`), and bury what Kafka refuses
//! (`sink`).
//!
//! The shell is written after `node`'s and `forward`'s, whose own threads are not run here.

mod bugs;
mod disk;
mod faults;
mod kafka;
mod keeper;
mod ledger;
mod network;
mod process;
mod seats;
mod sender;
mod settings;
mod shape;
mod sink;
mod snapshots;
mod stage;
mod tests;
mod verdict;
mod worker;
mod world;
