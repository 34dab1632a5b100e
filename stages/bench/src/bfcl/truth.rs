//! What the accepted calls of a dialogue come to.

use super::execute::World;

/// The accepted calls, executed: responses and state after every turn.
#[derive(Debug)]
pub(super) struct Truth {
    /// `None` when the scenario cannot be loaded.
    pub(super) turns: Option<Vec<TruthTurn>>,
    pub(super) initial: Option<World>,
}

/// What a turn leaves.
#[derive(Debug)]
pub(super) struct TruthTurn {
    pub(super) responses: Vec<String>,
    pub(super) state: World,
}
