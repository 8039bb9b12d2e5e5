//! Whether the processor has what the program was compiled for: said at the start, in words, where it would be killed by a signal in the middle of something otherwise.
//!
//! Left out on purpose: which processors these are; `scripts/package` decides it (docs/install.md).

/// What this program was compiled to use, each with its bit of ECX as CPUID gives it for leaf 1 (Intel's manual, volume 2A, table 3-10).
const WANTED: [(&str, bool, u32); 5] = [
    ("PCLMULQDQ", cfg!(target_feature = "pclmulqdq"), 1),
    ("SSSE3", cfg!(target_feature = "ssse3"), 9),
    ("SSE4.1", cfg!(target_feature = "sse4.1"), 19),
    ("SSE4.2", cfg!(target_feature = "sse4.2"), 20),
    ("POPCNT", cfg!(target_feature = "popcnt"), 23),
];

fn lacking(wanted: &[(&str, bool, u32)], has: u32) -> Result<(), String> {
    let lacks: Vec<&str> = wanted.iter().filter(|(_, used, bit)| *used && has >> bit & 1 == 0).map(|(name, ..)| *name).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this processor lacks {}, which the program was compiled for\n  of a virtual machine: let it have the host's processor (QEMU's default has less); else build it for this one: cargo build --release",
        lacks.join(", ")
    ))
}

/// An error in words if something is missing.
#[cfg(target_arch = "x86_64")]
pub fn suffices() -> Result<(), String> {
    lacking(&WANTED, std::arch::x86_64::__cpuid(1).ecx)
}

/// Others are compiled for all of their kind.
#[cfg(not(target_arch = "x86_64"))]
pub fn suffices() -> Result<(), String> {
    lacking(&WANTED, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_and_missing_is_named() {
        let wanted = [("A", true, 1), ("B", true, 9), ("C", false, 20)];
        assert_eq!(lacking(&wanted, 1 << 1 | 1 << 9), Ok(()));
        let said = lacking(&wanted, 1 << 20).unwrap_err();
        assert!(said.starts_with("this processor lacks A, B, which"), "{said}");
        assert_eq!(suffices(), Ok(()), "this very program runs");
    }
}
