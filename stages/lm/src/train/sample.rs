//! From prompt and target tokens to a training sequence and the mask of its loss.

use crate::error::LmError;

/// Which of the target's tokens have a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskKind {
    /// All.
    #[default]
    All,
    /// Up to and including the last end of thinking.
    Think,
    /// After it.
    Answer,
    /// [`Self::Think`] for even sample numbers, [`Self::Answer`] for odd.
    Alter,
}

/// Limits and tokens of the assembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// Tokens of the prompt that are kept, from its start.
    pub prompt_limit: usize,
    /// Tokens of the target that are kept, from its start.
    pub target_limit: usize,
    /// The token that ends a target; appended when it does not.
    pub end: u32,
    /// The token that ends thinking.
    pub think_end: u32,
    /// Which of the target's tokens have a loss.
    pub mask: MaskKind,
}

/// A sequence and which of its tokens are to be predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// Prompt, then target.
    pub ids: Vec<u32>,
    /// For each token from the second on: whether it has a loss. One shorter than `ids`.
    pub mask: Vec<bool>,
}

impl Assembled {
    /// Indexes into `ids` of the tokens that have a loss, as [`super::LossTarget`] wants them.
    pub fn positions(&self) -> Vec<u32> {
        let counted = self.mask.iter().enumerate().filter(|(_, counts)| **counts);
        counted.map(|(at, _)| at as u32 + 1).collect()
    }
}

/// Assembles the sample with this 0-based number of its batch.
///
/// # Errors
/// [`LmError::Config`] when the mask needs an end of thinking and the target, after its cut, has none.
pub fn assemble(
    assembly: &Assembly,
    prompt: &[u32],
    target: &[u32],
    number: usize,
) -> Result<Assembled, LmError> {
    let prompt = &prompt[..prompt.len().min(assembly.prompt_limit)];
    let mut target = target[..target.len().min(assembly.target_limit)].to_vec();
    if target.last() != Some(&assembly.end) {
        target.push(assembly.end);
    }
    let split = || {
        let last = target.iter().rposition(|&id| id == assembly.think_end);
        last.map(|at| at + 1)
            .ok_or_else(|| LmError::Config("the target has no end of thinking".into()))
    };
    let counted = match (assembly.mask, number.is_multiple_of(2)) {
        (MaskKind::All, _) => 0..target.len(),
        (MaskKind::Think, _) | (MaskKind::Alter, true) => 0..split()?,
        (MaskKind::Answer, _) | (MaskKind::Alter, false) => split()?..target.len(),
    };
    let mask = std::iter::repeat_n(false, prompt.len())
        .chain((0..target.len()).map(|at| counted.contains(&at)));
    let len = (prompt.len() + target.len()).min(assembly.prompt_limit + assembly.target_limit);
    let mask = mask.take(len).skip(1).collect();
    let ids = prompt.iter().chain(&target).take(len).copied().collect();
    Ok(Assembled { ids, mask })
}
