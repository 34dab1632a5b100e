//! Exit codes of the command; scripts rely on them, so a number never changes its meaning.

/// Everything that was asked for is done.
pub const DONE: u8 = 0;
/// A bug of starling.
pub const BUG: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The pipeline is wrong, or a file that it needs is not there; nothing ran.
pub const PIPELINE: u8 = 3;
/// A stage failed; others that do not depend on it were run.
pub const STAGE: u8 = 4;
/// The store cannot be used.
pub const CACHE: u8 = 5;
/// The device that was asked for is not there.
pub const DEVICE: u8 = 6;
/// A verification found a difference.
pub const DIFFERS: u8 = 7;
/// Stopped by Ctrl-C or SIGTERM; the same command continues.
pub const INTERRUPTED: u8 = 130;
