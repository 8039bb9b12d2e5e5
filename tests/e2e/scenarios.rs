//! The scenarios, a module a subject.

mod captures;
mod cluster;
mod crash;
mod disk;
mod failover;
mod harness;
mod letters;
mod manual;
mod rights;
mod senders;
