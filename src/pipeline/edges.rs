//! Follows each edge to the output that it reads, and sees that every stage has what it needs.

use indexmap::IndexMap;
use starling_contract::{Input, Kind, Need, Output};

use super::draft::{Draft, Edge};
use super::mistake::list;
use super::{Mistake, PipelineInput};
use crate::suggest::nearest;

/// The inputs of each draft, stages numbered as in `drafts`; a wrong edge is reported and left out.
///
/// An edge to an unknown output of a known stage stays, because it can still close a circle.
pub(super) fn follow(drafts: &[Draft<'_>], mistakes: &mut Vec<Mistake>) -> Vec<Vec<PipelineInput>> {
    let names: IndexMap<&str, usize> = drafts
        .iter()
        .enumerate()
        .map(|(n, d)| (d.name.as_str(), n))
        .collect();
    drafts
        .iter()
        .map(|draft| {
            missing(draft, drafts, mistakes);
            let mut inputs: Vec<PipelineInput> = draft
                .edges
                .iter()
                .filter_map(|edge| one(draft, edge, drafts, &names, mistakes))
                .collect();
            if let Some(kind) = draft.kind {
                let ports = kind.ports().inputs;
                inputs.sort_by_key(|i| ports.iter().position(|p| p.name == i.port));
            }
            inputs
        })
        .collect()
}

fn one(
    draft: &Draft<'_>,
    edge: &Edge,
    drafts: &[Draft<'_>],
    names: &IndexMap<&str, usize>,
    mistakes: &mut Vec<Mistake>,
) -> Option<PipelineInput> {
    let unknown = |label, help| Mistake::UnknownInput {
        stage: draft.name.clone(),
        reference: edge.reference.clone(),
        label,
        help,
        span: edge.span.clone(),
    };
    // The values in the name of a stage may hold dots, an output cannot.
    let parts = match edge.reference.split_once('@') {
        Some(_) => edge.reference.rsplit_once('.'),
        None => edge.reference.split_once('.'),
    };
    let Some((stage, output)) = parts else {
        let port = &edge.port;
        let help = match names.get(edge.reference.as_str()) {
            Some(&n) => outputs_of(&drafts[n]),
            None => nearest_output(&edge.reference, drafts),
        };
        mistakes.push(Mistake::InputShape {
            stage: draft.name.clone(),
            port: port.clone(),
            message: "must name a stage and its output".to_owned(),
            help: help.unwrap_or_else(|| format!("write `inputs.{port} = \"stage.output\"`")),
            span: edge.span.clone(),
        });
        return None;
    };
    let Some(&number) = names.get(stage) else {
        let help = nearest_output(&edge.reference, drafts).or_else(|| {
            let near = nearest(stage, names.keys().copied())?;
            Some(format!("did you mean the stage `{near}`?"))
        });
        mistakes.push(unknown("no such output", help));
        return None;
    };
    let input = PipelineInput {
        port: edge.port.clone(),
        name: edge.name.clone(),
        stage: number,
        output: output.to_owned(),
        span: edge.span.clone(),
    };
    let Some(writer) = drafts[number].kind else {
        return Some(input);
    };
    let mut outputs = written(&drafts[number], writer);
    let Some(found) = outputs.find(|o| o.name == output) else {
        let outputs = written(&drafts[number], writer);
        let help = nearest(output, outputs.map(|o| o.name))
            .map(|near| format!("did you mean `{stage}.{near}`?"))
            .or_else(|| outputs_of(&drafts[number]));
        mistakes.push(unknown("no such output", help));
        return Some(input);
    };
    if let Some(port) = port_of(draft, &edge.port)
        && !port.artifact.takes(found.artifact)
    {
        mistakes.push(Mistake::WrongArtifact {
            stage: draft.name.clone(),
            port: edge.port.clone(),
            wanted: port.artifact.name(),
            reference: edge.reference.clone(),
            found: found.artifact.name(),
            help: fitting(port, draft, drafts).map(|f| format!("these would fit: {f}")),
            span: edge.span.clone(),
        });
    }
    Some(input)
}

/// The outputs that a stage writes with its parameters; all of its kind while those are wrong.
fn written<'d>(
    draft: &'d Draft<'_>,
    kind: &dyn Kind,
) -> impl Iterator<Item = &'static Output> + 'd {
    let written = |o: &&Output| {
        let names = draft.writes.as_ref();
        names.is_none_or(|names| names.contains(&o.name))
    };
    kind.ports().outputs.iter().filter(written)
}

/// Reports the inputs that the kind needs and the file does not give.
fn missing(draft: &Draft<'_>, drafts: &[Draft<'_>], mistakes: &mut Vec<Mistake>) {
    let Some(kind) = draft.kind else { return };
    for port in kind.ports().inputs {
        let given = draft.edges.iter().any(|e| e.port == port.name);
        let tried = mistakes.iter().any(|m| is_about(m, &draft.name, port.name));
        if given || tried || matches!(port.need, Need::Optional | Need::AnyNumber) {
            continue;
        }
        let name = if port.need.is_named() { ".NAME" } else { "" };
        let form = format!("add `inputs.{}{name} = \"stage.output\"`", port.name);
        mistakes.push(Mistake::MissingInput {
            stage: draft.name.clone(),
            port: port.name.to_owned(),
            artifact: port.artifact.name(),
            help: match fitting(port, draft, drafts) {
                Some(fitting) => format!("{form}; these would fit: {fitting}"),
                None => format!("{form}; no stage writes one yet"),
            },
            span: draft.span.clone(),
        });
    }
}

/// Whether a mistake already says why a stage does not have an input.
fn is_about(mistake: &Mistake, reader: &str, input: &str) -> bool {
    match mistake {
        Mistake::InputShape { stage, port, .. } => stage == reader && port == input,
        Mistake::UnknownPort { stage, near, .. } => {
            stage == reader && near.as_deref() == Some(input)
        }
        Mistake::BadSetting { name, place, .. } => {
            name == "`inputs`" && *place == format!("stage `{reader}`")
        }
        _ => false,
    }
}

fn port_of(draft: &Draft<'_>, name: &str) -> Option<&'static Input> {
    draft.kind?.ports().inputs.iter().find(|i| i.name == name)
}

/// Every output of the pipeline with its reference, except those of a stage itself.
fn outputs<'d>(
    drafts: &'d [Draft<'_>],
) -> impl Iterator<Item = (&'d str, &'static Output, String)> {
    drafts.iter().flat_map(|d| {
        let outputs = d.kind.into_iter().flat_map(|k| written(d, k));
        outputs.map(|o| (d.name.as_str(), o, format!("{}.{}", d.name, o.name)))
    })
}

/// Up to five outputs that a port could take.
fn fitting(port: &Input, reader: &Draft<'_>, drafts: &[Draft<'_>]) -> Option<String> {
    let fitting: Vec<String> = outputs(drafts)
        .filter(|(stage, o, _)| port.artifact.takes(o.artifact) && *stage != reader.name)
        .map(|(_, _, reference)| reference)
        .take(5)
        .collect();
    (!fitting.is_empty()).then(|| list(fitting.iter().map(String::as_str)))
}

fn nearest_output(reference: &str, drafts: &[Draft<'_>]) -> Option<String> {
    let all: Vec<String> = outputs(drafts).map(|(_, _, reference)| reference).collect();
    let near = nearest(reference, all.iter().map(String::as_str))?;
    Some(format!("did you mean `{near}`?"))
}

fn outputs_of(draft: &Draft<'_>) -> Option<String> {
    let stage = &draft.name;
    let names: Vec<String> = written(draft, draft.kind?)
        .map(|o| format!("{stage}.{}", o.name))
        .collect();
    Some(format!(
        "`{stage}` writes {}",
        list(names.iter().map(String::as_str))
    ))
}
