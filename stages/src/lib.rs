//! The stage kinds of starling: one folder a kind, one line a kind in [`kinds`].
//!
//! A kind never imports another kind; what two of them share is a module of this crate (row files,
//! seeded randomness, statistics, the cost of an artifact) or a formula of `starling-lm`,
//! `starling-reward` or `starling-bench`.

mod asker;
mod chat;
mod cost;
mod dropped;
mod endpoint;
#[cfg(test)]
mod equivalence;
mod evaluation;
mod examine;
mod flow;
mod how;
mod masks;
mod model;
mod prompts;
mod random;
mod rollouts;
pub mod rows;
mod samples;
mod sift;
mod statistics;
#[cfg(test)]
mod testing;
mod training;

mod acebench;
mod bfcl;
mod command;
mod compare;
mod decontaminate;
mod device;
mod diagnose;

mod distill;
mod dpo;
mod evaluate;
mod export;
mod export_rows;
mod fetch;
mod filter;
mod format;
mod label;
mod merge;
mod model_init;
mod model_prune;
mod proportion;
mod rl;
mod rollout;
mod sft;
mod source;
mod split;
mod table;
mod teacher_topk;
mod tokenizer;
mod tokenizer_train;
mod trainset;
mod world;

use starling_contract::{Kind, erase};

/// Every kind, in the order in which `starling stages` lists them.
#[must_use]
pub fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        erase::<source::Source>(),
        erase::<fetch::Fetch>(),
        erase::<world::World>(),
        erase::<tokenizer::TokenizerKind>(),
        erase::<tokenizer_train::TokenizerTrain>(),
        erase::<model_init::ModelInit>(),
        erase::<model_prune::ModelPrune>(),
        erase::<format::Format>(),
        erase::<filter::Filter>(),
        erase::<label::LabelKind>(),
        erase::<proportion::Proportion>(),
        erase::<merge::Merge>(),
        erase::<decontaminate::Decontaminate>(),
        erase::<split::Split>(),
        erase::<trainset::Trainset>(),
        erase::<export_rows::ExportRows>(),
        erase::<rollout::RolloutKind>(),
        erase::<teacher_topk::TeacherTopK>(),
        erase::<sft::Sft>(),
        erase::<distill::Distill>(),
        erase::<dpo::Dpo>(),
        erase::<rl::Rl>(),
        erase::<evaluate::Evaluate>(),
        erase::<diagnose::Diagnose>(),
        erase::<bfcl::BfclKind>(),
        erase::<acebench::AcebenchKind>(),
        erase::<table::Table>(),
        erase::<compare::Compare>(),
        erase::<export::Export>(),
        erase::<command::CommandKind>(),
    ]
}
