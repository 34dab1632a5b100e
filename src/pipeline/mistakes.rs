//! All mistakes of a pipeline at once: in order of their places, each said once.

use std::fmt;

use super::{Mistake, Sources, Span};

/// Every mistake of a pipeline, in the order of their places, with the texts they are in.
#[derive(Debug, Clone)]
pub struct Mistakes {
    /// The texts.
    pub sources: Sources,
    /// The mistakes; at least one.
    pub list: Vec<Mistake>,
}

impl Mistakes {
    /// Puts mistakes in order.
    #[must_use]
    pub fn new(sources: Sources, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|m| (m.span().start, m.span().end));
        // What a wrong selection seems to read is no news.
        let selections: Vec<Span> = (list.iter())
            .filter(|m| matches!(m, Mistake::Selection { .. }))
            .map(Mistake::span)
            .collect();
        list.retain(|m| {
            !matches!(m, Mistake::UnknownInput { .. }) || !selections.contains(&m.span())
        });
        let mut kept: Vec<Mistake> = Vec::with_capacity(list.len());
        for mistake in list {
            let span = mistake.span();
            let here = kept.iter().rev().take_while(|m| m.span() == span);
            if !here.into_iter().any(|m| mistake.repeats(m)) {
                kept.push(mistake);
            }
        }
        Self {
            sources,
            list: kept,
        }
    }

    /// How they are shown; see the private module `render`.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        super::render::mistakes(self, color)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {mistake}", self.sources.place(&mistake.span()))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Mistake {
    /// The stage that it is in, with its point.
    fn stage(&self) -> Option<&str> {
        match self {
            Self::BadSetting { place, .. } | Self::UnknownVariable { place, .. } => {
                place.strip_prefix("stage `")?.strip_suffix('`')
            }
            Self::MissingKind { stage, .. }
            | Self::UnknownKind { stage, .. }
            | Self::Parameter { stage, .. }
            | Self::UnknownPort { stage, .. }
            | Self::InputShape { stage, .. }
            | Self::UnknownInput { stage, .. }
            | Self::MissingInput { stage, .. }
            | Self::WrongArtifact { stage, .. }
            | Self::Selection { stage, .. }
            | Self::Like { stage, .. }
            | Self::MissingFile { stage, .. }
            | Self::UnreadableFile { stage, .. }
            | Self::WrongDigest { stage, .. } => Some(stage),
            _ => None,
        }
    }

    /// Whether it is the same mistake as another, in a stage that another point made of the same text.
    fn repeats(&self, other: &Self) -> bool {
        let base = |m: &Self| {
            m.stage()
                .map(|s| s.split('@').next().unwrap_or(s).to_owned())
        };
        self == other
            || (self.code() == other.code()
                && self.span() == other.span()
                && base(self).is_some()
                && base(self) == base(other)
                && self.stage() != other.stage())
    }
}
