//! The command `starling`.
fn main() {}
