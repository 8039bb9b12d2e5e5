//! The harness, a module a peer or a tool.

pub mod acl;
pub mod blackbox;
pub mod check;
pub mod disk;
pub mod druid;
pub mod exporter;
pub mod faults;
pub mod gate;
pub mod http;
pub mod http2;
pub mod kafka;
pub mod load;
pub mod manager;
pub mod names;
pub mod packages;
pub mod pair;
pub mod peers;
pub mod process;
pub mod prometheus;
pub mod prompb;
pub mod proxy;
pub mod series;
pub mod sluice;
pub mod stores;
pub mod tls;
pub mod trio;
