//! `sluice bench`: measuring tools that an operator can run too.

pub mod load;
mod template;
