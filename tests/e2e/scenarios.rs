//! The scenarios, a module a subject.

mod backup;
mod balancer;
mod captures;
mod clocks;
mod cluster;
mod crash;
mod disk;
mod door;
mod double_failure;
mod edges;
mod failover;
mod harness;
mod letters;
mod limits;
mod loaded;
mod manual;
mod partitions;
mod relabel;
mod restarts;
mod rights;
mod senders;
mod settings;
mod stores;
mod trio_disks;
