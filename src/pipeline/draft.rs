//! One `[stage.NAME]`: its common settings, its parameters, and its edges as written.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_contract::{Kind, Need, Problem};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::matrix::expand::Made;
use super::vars::Origins;
use super::{Device, Keep, Mistake, Sources, Span, settings};
use crate::Registry;
use crate::suggest::nearest;

/// A stage before its edges are followed.
pub(super) struct Draft<'r> {
    pub(super) name: String,
    /// Its name as written, and what the matrix added to it.
    pub(super) base: String,
    pub(super) point: String,
    pub(super) span: Span,
    /// None when it is missing or unknown, which was said.
    pub(super) kind: Option<&'r dyn Kind>,
    /// None when they are wrong, which was said.
    pub(super) params: Option<serde_json::Value>,
    pub(super) edges: Vec<Edge>,
    pub(super) threads: Option<usize>,
    pub(super) memory: Option<u64>,
    /// None where it is not said.
    pub(super) device: Option<Device>,
    pub(super) time_limit: Option<Duration>,
    pub(super) shards: Option<usize>,
    pub(super) keep: Keep,
    /// Where each parameter is written; one that is a variable, where that is mentioned.
    pub(super) param_spans: BTreeMap<String, Span>,
    pub(super) externals: Vec<String>,
    /// The outputs that it writes; none when the parameters are wrong.
    pub(super) writes: Option<Vec<&'static str>>,
    /// Where the values of variables are written.
    pub(super) origins: Origins,
}

/// An input as written.
pub(super) struct Edge {
    pub(super) port: String,
    pub(super) name: Option<String>,
    /// `stage.output`, or what stands in its place.
    pub(super) reference: String,
    pub(super) span: Span,
}

/// Reads the table of a stage.
pub(super) fn read<'r>(
    made: Made<'_>,
    registry: &'r Registry,
    sources: &Sources,
    mistakes: &mut Vec<Mistake>,
) -> Option<Draft<'r>> {
    let span = made.value.span();
    let mut table = match made.value.into_inner() {
        DeValue::Table(table) => table,
        other => {
            mistakes.push(Mistake::BadSetting {
                place: "`[stage]`".to_owned(),
                name: format!("`{}`", made.name),
                expected: "a table".to_owned(),
                found: settings::article(other.type_str()),
                span,
            });
            return None;
        }
    };
    let mut draft = Draft {
        name: made.name,
        base: made.base.into_inner(),
        point: made.point,
        span,
        kind: None,
        params: None,
        edges: Vec::new(),
        threads: None,
        memory: None,
        device: None,
        time_limit: None,
        shards: None,
        keep: Keep::All,
        param_spans: BTreeMap::new(),
        externals: Vec::new(),
        writes: None,
        origins: made.origins,
    };
    draft.kind = kind(&draft, table.remove("kind"), registry, mistakes);
    if let Some(inputs) = table.remove("inputs") {
        draft.edges = edges(&draft, inputs, mistakes);
    }
    let mut common = settings::Reader::new(format!("stage `{}`", draft.name), mistakes);
    draft.threads = common.threads(table.remove("threads"));
    draft.memory = common.memory(table.remove("memory"));
    draft.device = common.device(table.remove("device"));
    draft.time_limit = common.duration("time-limit", table.remove("time-limit"));
    draft.shards = common.shards(table.remove("shards"));
    draft.keep = common.keep(table.remove("keep")).unwrap_or_default();
    spans(&mut String::new(), &table, &mut draft.param_spans);
    params(&mut draft, table, sources, mistakes);
    Some(draft)
}

/// What a stage may be called: it appears in references, messages and file names.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name != "vars"
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn kind<'r>(
    draft: &Draft<'_>,
    value: Option<Spanned<DeValue<'_>>>,
    registry: &'r Registry,
    mistakes: &mut Vec<Mistake>,
) -> Option<&'r dyn Kind> {
    let stage = draft.name.clone();
    let Some(value) = value else {
        let span = draft.span.clone();
        mistakes.push(Mistake::MissingKind { stage, span });
        return None;
    };
    let span = value.span();
    let Some(name) = value.get_ref().as_str() else {
        mistakes.push(Mistake::BadSetting {
            place: format!("stage `{stage}`"),
            name: "`kind`".to_owned(),
            expected: "a string".to_owned(),
            found: settings::article(value.get_ref().type_str()),
            span,
        });
        return None;
    };
    let kind = registry.get(name);
    if kind.is_none() {
        mistakes.push(Mistake::UnknownKind {
            stage,
            kind: name.to_owned(),
            near: nearest(name, registry.names()).map(str::to_owned),
            span,
        });
    }
    kind
}

/// The edges of `inputs`, checked against the kind's ports where the kind is known.
fn edges(
    draft: &Draft<'_>,
    inputs: Spanned<DeValue<'_>>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Edge> {
    let span = inputs.span();
    let DeValue::Table(table) = inputs.into_inner() else {
        mistakes.push(Mistake::BadSetting {
            place: format!("stage `{}`", draft.name),
            name: "`inputs`".to_owned(),
            expected: "a table, as in `inputs.PORT = \"stage.output\"`".to_owned(),
            found: "a single value".to_owned(),
            span,
        });
        return Vec::new();
    };
    let mut edges = Vec::new();
    for (port, value) in &table {
        let port_name: &str = port.get_ref();
        let mut need = None;
        if let Some(kind) = draft.kind {
            let known = kind.ports().inputs;
            need = known.iter().find(|i| i.name == port_name).map(|i| i.need);
            if need.is_none() {
                mistakes.push(Mistake::UnknownPort {
                    stage: draft.name.clone(),
                    kind: kind.name().to_owned(),
                    port: port_name.to_owned(),
                    near: nearest(port_name, known.iter().map(|i| i.name)).map(str::to_owned),
                    known: known.iter().map(|i| i.name.to_owned()).collect(),
                    span: port.span(),
                });
            }
        }
        edges.extend(port_edges(draft, port, value, need, mistakes));
    }
    edges
}

/// The edges of one port: one, or one for each name where the port takes several.
fn port_edges(
    draft: &Draft<'_>,
    port: &Spanned<impl AsRef<str>>,
    value: &Spanned<DeValue<'_>>,
    need: Option<Need>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Edge> {
    let port_name = port.get_ref().as_ref();
    let edge = |name: Option<&str>, reference: &str, span: Span| Edge {
        port: port_name.to_owned(),
        name: name.map(str::to_owned),
        reference: reference.to_owned(),
        span,
    };
    let mut wrong = |message: &str, help: String, span: Span| {
        mistakes.push(Mistake::InputShape {
            stage: draft.name.clone(),
            port: port_name.to_owned(),
            message: message.to_owned(),
            help,
            span,
        });
    };
    let one = || format!("write `inputs.{port_name} = \"stage.output\"`");
    let many = || format!("write `inputs.{port_name}.NAME = \"stage.output\"`");
    match value.get_ref() {
        DeValue::String(reference) => {
            if need.is_some_and(Need::is_named) {
                wrong("takes several, each under a name", many(), value.span());
            }
            vec![edge(None, reference, value.span())]
        }
        DeValue::Table(names) => {
            if matches!(need, Some(Need::Required | Need::Optional)) {
                wrong("takes one output", one(), value.span());
                return Vec::new();
            }
            if names.is_empty() {
                wrong("has no outputs to take", many(), value.span());
            }
            let mut edges: Vec<Edge> = Vec::new();
            for (name, value) in names {
                match value.get_ref().as_str() {
                    Some(text) => edges.push(edge(Some(name.get_ref()), text, value.span())),
                    None => wrong("must name an output", many(), value.span()),
                }
            }
            edges.sort_by(|a, b| a.name.cmp(&b.name));
            edges
        }
        _ if need.is_some_and(Need::is_named) => {
            wrong("must name outputs", many(), value.span());
            Vec::new()
        }
        _ => {
            wrong("must name an output", one(), value.span());
            Vec::new()
        }
    }
}

/// Gives the rest of the table to the kind, and looks for the files that the parameters name.
fn params(
    draft: &mut Draft<'_>,
    table: DeTable<'_>,
    sources: &Sources,
    mistakes: &mut Vec<Mistake>,
) {
    let Some(kind) = draft.kind else { return };
    let parsed = kind.parse(Spanned::new(draft.span.clone(), table));
    for problem in parsed.problems {
        mistakes.push(parameter(draft, problem));
    }
    draft.params = parsed.params;
    if draft.params.is_none() {
        return;
    }
    draft.writes = Some(parsed.facts.writes);
    for external in parsed.facts.externals {
        draft.externals.push(external.param.to_owned());
        let span = draft.param_spans.get(external.param);
        let written = span.map_or_else(|| draft.span.clone(), |s| draft.origin(s));
        let path = sources.folder(&written).join(&external.path);
        if external.pinned.is_none() && !path.exists() {
            mistakes.push(Mistake::MissingFile {
                stage: draft.name.clone(),
                path: path.display().to_string(),
                fetch: external.fetch,
                span: span.unwrap_or(&draft.span).clone(),
            });
        }
    }
}

impl Draft<'_> {
    /// Where the value at a place is written: there, or where the variable is that stands there.
    pub(super) fn origin(&self, span: &Span) -> Span {
        let origin = self.origins.get(&span.start);
        origin.map_or_else(|| span.clone(), |o| o.span.clone())
    }
}

/// A kind's complaint in this file's words.
fn parameter(draft: &Draft<'_>, problem: Problem) -> Mistake {
    let span = problem.span.unwrap_or_else(|| draft.span.clone());
    let message = problem
        .message
        .replace("missing field", "missing parameter");
    let message = message.replace("unknown field", "unknown parameter");
    let help = problem.help.or_else(|| {
        // "unknown parameter `x`, expected `y` or `z`": the candidates are in the message.
        let rest = message.strip_prefix("unknown parameter `")?;
        let mut quoted = rest.split('`').step_by(2);
        let near = nearest(quoted.next()?, quoted)?;
        Some(format!("did you mean `{near}`?"))
    });
    let written = draft.param_spans.iter().find(|(_, s)| **s == span);
    let message = match written {
        Some((path, _)) if !message.contains(&format!("`{path}`")) => {
            format!("`{path}`: {message}")
        }
        _ => message,
    };
    let help = match draft.origins.get(&span.start) {
        Some(origin) if help.is_none() => Some(format!(
            "this is the value of the variable `{}`",
            origin.name
        )),
        _ => help,
    };
    Mistake::Parameter {
        stage: draft.name.clone(),
        message,
        help,
        span,
    }
}

/// Where each value of a table is written, by dotted path; an array's items are `path[0]` and so on.
fn spans(path: &mut String, table: &DeTable<'_>, into: &mut BTreeMap<String, Span>) {
    let length = path.len();
    for (key, value) in table {
        super::push_segment(path, key.get_ref());
        value_spans(path, value, into);
        path.truncate(length);
    }
}

fn value_spans(path: &mut String, value: &Spanned<DeValue<'_>>, into: &mut BTreeMap<String, Span>) {
    into.insert(path.clone(), value.span());
    match value.get_ref() {
        DeValue::Table(table) => spans(path, table, into),
        DeValue::Array(list) => {
            let length = path.len();
            for (n, item) in list.iter().enumerate() {
                path.push_str(&format!("[{n}]"));
                value_spans(path, item, into);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
