//! Mermaid text, which many pages and editors draw.

use std::fmt::Write as _;

use super::{Look, edges, looks};
use crate::pipeline::Pipeline;
use crate::plan::Plan;

/// A flow chart of a plan.
#[must_use]
pub fn mermaid(pipeline: &Pipeline, plan: &Plan) -> String {
    let looks = looks(plan);
    let mut text = String::from("flowchart LR\n");
    for (n, (stage, look)) in pipeline.stages.iter().zip(&looks).enumerate() {
        // Shapes: stadium, box, hexagon, flag.
        let (open, close) = match look {
            Look::Cached => ("([", "])"),
            Look::Ready => ("[", "]"),
            Look::Blocked => ("{{", "}}"),
            Look::Missing => (">", "]"),
        };
        let (name, kind) = (escaped(&stage.name), escaped(&stage.kind));
        let word = look.word();
        let _written = writeln!(
            text,
            "  s{n}{open}\"{name}<br/><small>{kind} · {word}</small>\"{close}:::{word}"
        );
    }
    for (writer, reader, ports) in edges(pipeline) {
        let ports = escaped(&ports.join(", "));
        let _written = writeln!(text, "  s{writer} -->|\"{ports}\"| s{reader}");
    }
    for look in Look::ALL.into_iter().filter(|l| looks.contains(l)) {
        let (inside, border) = look.colours();
        let dashes = match look {
            Look::Blocked => ",stroke-dasharray:5 3",
            _ => "",
        };
        let _written = writeln!(
            text,
            "  classDef {} fill:{inside},stroke:{border},color:#111{dashes}",
            look.word()
        );
    }
    text
}

/// Text within quotes: whatever means something to Mermaid becomes a character code.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || " -_.,@=+/:()".contains(c) {
            out.push(c);
        } else {
            let _written = write!(out, "#{};", u32::from(c));
        }
    }
    out
}
