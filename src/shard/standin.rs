//! For some minutes only: what `wire` brings.
pub use crate::wire::body::Body;
pub use crate::wire::pack::Packing;
pub use crate::wire::remote_write::Protocol;
