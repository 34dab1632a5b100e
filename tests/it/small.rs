//! A world, its rows and a teacher, at a size of seconds: what pipelines of several tests begin with.
//!
//! `scripts/peers/endpoint_rollout.py` reads the same files.

/// A world and its tokenizer.
pub(crate) const WORLD: &str = include_str!("small/world.toml");

/// A model that has learned nothing, for the stage `tokenizer`.
pub(crate) const MODEL: &str = include_str!("small/model.toml");

/// From the world to the stage `teacher`, whose table is open for more parameters.
pub(crate) const BEGINNING: &str = concat!(
    include_str!("small/world.toml"),
    "\n",
    include_str!("small/model.toml"),
    "\n",
    include_str!("small/teacher.toml")
);
