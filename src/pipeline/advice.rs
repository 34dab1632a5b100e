//! What is told with a mistake: its stable name, the places that it points to, and what to do about it.

use super::mistake::list;
use super::{Mistake, Span};

fn did_you_mean(near: Option<&String>) -> Option<String> {
    near.map(|near| format!("did you mean `{near}`?"))
}

impl Mistake {
    /// A stable name of this sort of mistake.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "pipeline::syntax",
            Self::UnknownKey { .. } => "pipeline::unknown_key",
            Self::BadSetting { .. } => "pipeline::bad_setting",
            Self::NoStages { .. } => "pipeline::no_stages",
            Self::BadStageName { .. } => "pipeline::bad_stage_name",
            Self::MissingKind { .. } => "pipeline::missing_kind",
            Self::UnknownKind { .. } => "pipeline::unknown_kind",
            Self::Parameter { .. } => "pipeline::parameter",
            Self::UnknownPort { .. } => "pipeline::unknown_port",
            Self::InputShape { .. } => "pipeline::input_shape",
            Self::UnknownInput { .. } => "pipeline::unknown_input",
            Self::MissingInput { .. } => "pipeline::missing_input",
            Self::WrongArtifact { .. } => "pipeline::wrong_artifact",
            Self::Cycle { .. } => "pipeline::cycle",
            Self::SetUnknownStage { .. } => "pipeline::set_unknown_stage",
            Self::SetSyntax { .. } => "pipeline::set_syntax",
            Self::UnknownVariable { .. } => "pipeline::unknown_variable",
            Self::UnusedVariable { .. } => "pipeline::unused_variable",
            Self::VariableCycle { .. } => "pipeline::variable_cycle",
            Self::Variable { .. } => "pipeline::variable",
            Self::Files { .. } => "pipeline::files",
            Self::Clash { .. } => "pipeline::clash",
            Self::Profile { .. } => "pipeline::profile",
            Self::Matrix { .. } => "pipeline::matrix",
            Self::Selection { .. } => "pipeline::selection",
            Self::Like { .. } => "pipeline::like",
            Self::MissingFile { .. } => "pipeline::missing_file",
            Self::UnreadableFile { .. } => "pipeline::unreadable_file",
            Self::WrongDigest { .. } => "pipeline::wrong_digest",
        }
    }

    /// Where it is; the first place of several.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Syntax { span, .. }
            | Self::UnknownKey { span, .. }
            | Self::BadSetting { span, .. }
            | Self::NoStages { span }
            | Self::BadStageName { span, .. }
            | Self::MissingKind { span, .. }
            | Self::UnknownKind { span, .. }
            | Self::Parameter { span, .. }
            | Self::UnknownPort { span, .. }
            | Self::InputShape { span, .. }
            | Self::UnknownInput { span, .. }
            | Self::MissingInput { span, .. }
            | Self::WrongArtifact { span, .. }
            | Self::SetUnknownStage { span, .. }
            | Self::SetSyntax { span, .. }
            | Self::UnknownVariable { span, .. }
            | Self::UnusedVariable { span, .. }
            | Self::Variable { span, .. }
            | Self::Files { span, .. }
            | Self::Clash { span, .. }
            | Self::Profile { span, .. }
            | Self::Matrix { span, .. }
            | Self::Selection { span, .. }
            | Self::Like { span, .. }
            | Self::MissingFile { span, .. }
            | Self::UnreadableFile { span, .. }
            | Self::WrongDigest { span, .. } => span.clone(),
            Self::Cycle { spans, .. } | Self::VariableCycle { spans, .. } => {
                spans.first().cloned().unwrap_or_default()
            }
        }
    }

    /// The places to underline, each with a word or none.
    #[must_use]
    pub fn labels(&self) -> Vec<(Span, Option<String>)> {
        let label = match self {
            Self::UnknownKind { .. } => Some("no such kind".to_owned()),
            Self::UnknownPort { .. } => Some("no such input".to_owned()),
            Self::UnknownInput { label, .. } => Some((*label).to_owned()),
            Self::SetUnknownStage { .. } => Some("no such stage".to_owned()),
            Self::WrongArtifact { found, .. } => Some(format!("`{found}`")),
            Self::UnknownVariable { .. } => Some("no such variable".to_owned()),
            Self::UnusedVariable { .. } => Some("of no effect".to_owned()),
            Self::MissingFile { .. } => Some("not there".to_owned()),
            Self::WrongDigest { found, .. } => Some(format!("found {}", &found[..12])),
            Self::Cycle { stages, spans } => {
                let before = stages.iter().cycle().skip(stages.len() - 1);
                let words = stages.iter().zip(before).map(|(stage, read)| {
                    if stage == read {
                        format!("`{stage}` reads itself")
                    } else {
                        format!("`{stage}` reads `{read}`")
                    }
                });
                return spans.iter().cloned().zip(words.map(Some)).collect();
            }
            Self::VariableCycle { names, spans } => {
                let next = names.iter().cycle().skip(1);
                let words = names
                    .iter()
                    .zip(next)
                    .map(|(a, b)| format!("`{a}` mentions `{b}`"));
                return spans.iter().cloned().zip(words.map(Some)).collect();
            }
            _ => None,
        };
        vec![(self.span(), label)]
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownKey { name, known, .. } => {
                crate::suggest::nearest(name, known.iter().copied())
                    .map(|near| format!("did you mean `{near}`?"))
                    .or_else(|| Some(format!("known here: {}", list(known.iter().copied()))))
            }
            Self::NoStages { .. } => Some(
                "a stage begins with `[stage.NAME]`; `starling stages` lists the kinds".to_owned(),
            ),
            Self::BadStageName { name, .. } if name == "vars" => {
                Some("`vars` stands for the variables in `--set`, arms and axes".to_owned())
            }
            Self::BadStageName { .. } => {
                Some("use 1 to 64 letters, digits, `-` and `_`, a letter first".to_owned())
            }
            Self::MissingKind { .. } => {
                Some("add `kind = \"…\"`; `starling stages` lists the kinds".to_owned())
            }
            Self::UnknownKind { near, .. } => did_you_mean(near.as_ref())
                .or_else(|| Some("`starling stages` lists the kinds".to_owned())),
            Self::UnknownVariable { near, place, .. } if place == "`--set`" => {
                did_you_mean(near.as_ref()).or_else(|| Some("begin it in `[vars]`".to_owned()))
            }
            Self::UnknownVariable { near, name, .. } => did_you_mean(near.as_ref()).or_else(|| {
                Some(format!(
                    "give it a value in `[vars]`; `$${{{name}}}` is the text `${{{name}}}`"
                ))
            }),
            Self::UnusedVariable { name, .. } => Some(format!(
                "mention it as \"${{{name}}}\" where it belongs, or remove it"
            )),
            Self::VariableCycle { .. } => Some("one of them needs a value of its own".to_owned()),
            Self::Clash { first, .. } => Some(format!(
                "the first is at {first}; rename one, or use `extends` to change what another file has"
            )),
            Self::Parameter { help, .. }
            | Self::Variable { help, .. }
            | Self::Files { help, .. }
            | Self::Profile { help, .. }
            | Self::Matrix { help, .. }
            | Self::Selection { help, .. }
            | Self::Like { help, .. }
            | Self::UnknownInput { help, .. }
            | Self::WrongArtifact { help, .. } => help.clone(),
            Self::UnknownPort {
                near, known, kind, ..
            } => did_you_mean(near.as_ref()).or_else(|| {
                Some(if known.is_empty() {
                    format!("kind `{kind}` has no inputs")
                } else {
                    format!("its inputs: {}", list(known.iter().map(String::as_str)))
                })
            }),
            Self::InputShape { help, .. } | Self::MissingInput { help, .. } => Some(help.clone()),
            Self::SetUnknownStage { near, .. } => did_you_mean(near.as_ref()),
            Self::SetSyntax { .. } => {
                Some("for example `--set distill.lr=1e-4`, the value as in TOML".to_owned())
            }
            Self::Cycle { .. } => Some("one of these inputs must come from elsewhere".to_owned()),
            Self::MissingFile { fetch, .. } => Some(match fetch {
                Some(fetch) => format!("to get it: {fetch}"),
                None => "paths are relative to the pipeline's folder".to_owned(),
            }),
            Self::WrongDigest { found, .. } => Some(format!(
                "fetch the file again, or pin what is there: \"{found}\""
            )),
            Self::Syntax { .. } | Self::BadSetting { .. } | Self::UnreadableFile { .. } => None,
        }
    }

    /// Whether the mistake is within one stage, whatever the rest of the file says.
    pub(crate) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Syntax { .. }
                | Self::UnknownKey { .. }
                | Self::BadSetting { .. }
                | Self::BadStageName { .. }
                | Self::UnknownKind { .. }
                | Self::Parameter { .. }
                | Self::UnknownPort { .. }
                | Self::InputShape { .. }
                | Self::SetSyntax { .. }
                | Self::MissingFile { .. }
        )
    }
}
