//! For some minutes only: what `wire` and `dedup` will bring.

/// Packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Snappy.
    Snappy,
    /// Zstd.
    Zstd,
}
/// Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// 1.0
    V1,
    /// 2.0
    V2,
}
/// Body.
pub struct Body {
    /// Protocol.
    pub protocol: Protocol,
    /// Unpacked.
    pub raw: Vec<u8>,
    /// Labels never shown.
    pub strip: Vec<String>,
}
