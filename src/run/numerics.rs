//! Numerics classes: which machines give the same bytes.

/// Rises when the arithmetic of our kernels changes and with it the last bits of results.
const KERNELS: u32 = 1;

/// The class of results that this machine computes on `device`: device kind, instruction set, kernels.
///
/// The matrix kernels choose by instruction set, so the set that they would choose names the class.
#[must_use]
pub fn class(device: &str) -> String {
    format!("{device} {} {KERNELS}", instruction_set())
}

#[cfg(target_arch = "x86_64")]
fn instruction_set() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx512f") {
        "x86_64-avx512f"
    } else if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
    {
        "x86_64-avx2-fma"
    } else {
        "x86_64"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_set() -> &'static str {
    std::env::consts::ARCH
}
