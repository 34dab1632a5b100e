//! A bound on what expressions may build.

use super::super::Reject;

/// How much an output's expressions may still build, in bytes or elements. Without a bound, ten
/// characters could fill the memory.
#[derive(Debug, Clone)]
pub(crate) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(1 << 24)
    }
}

impl Budget {
    pub(in super::super) fn spend(&mut self, size: u64) -> Result<(), Reject> {
        self.0 = self.0.checked_sub(size).ok_or(Reject)?;
        Ok(())
    }
}
