//! The stage kinds of starling: one folder a kind, one line a kind in [`kinds`].
//!
//! A kind never imports another kind; what two of them share is a module of this crate (row files,
//! seeded randomness, statistics, the cost of an artifact) or a formula of `starling-lm`,
//! `starling-reward` or `starling-bench`.

mod cost;
mod evaluation;
mod random;
mod rows;
mod statistics;
#[cfg(test)]
mod testing;

mod source;
mod split;
mod table;
mod world;

use starling_contract::{Kind, erase};

/// Every kind, in the order in which `starling stages` lists them.
#[must_use]
pub fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        erase::<source::Source>(),
        erase::<world::World>(),
        erase::<split::Split>(),
        erase::<table::Table>(),
    ]
}
