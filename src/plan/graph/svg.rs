//! A drawing that every browser shows.

use std::fmt::Write as _;

use super::layout::{self, Cell};
use super::{Look, edges, looks};
use crate::pipeline::Pipeline;
use crate::plan::Plan;

const HEIGHT: f64 = 40.0;
const ROW: f64 = 58.0;
const GAP: f64 = 64.0;
const MARGIN: f64 = 24.0;
/// Room for the legend.
const TOP: f64 = 64.0;
/// Width of a character of the names.
const CHARACTER: f64 = 7.4;

/// A drawing of a plan.
#[must_use]
pub fn svg(pipeline: &Pipeline, plan: &Plan) -> String {
    let looks = looks(plan);
    let edges = edges(pipeline);
    let pairs: Vec<(usize, usize)> = edges.iter().map(|e| (e.0, e.1)).collect();
    let cells = layout::place(pipeline.stages.len(), &pairs);
    let drawing = Drawing::new(pipeline, &cells);
    let mut text = String::new();
    let (width, height) = (drawing.width, drawing.height);
    let _written = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"ui-monospace, Menlo, Consolas, monospace\" \
         font-size=\"12\">"
    );
    let _written = writeln!(text, "<title>{}</title>", escaped(&pipeline.file));
    text.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
    legend(&looks, plan, &mut text);
    for (writer, reader, ports) in &edges {
        drawing.edge(*writer, *reader, ports, &mut text);
    }
    for (n, stage) in pipeline.stages.iter().enumerate() {
        let (x, y) = drawing.corner(n);
        let look = looks[n];
        let same = plan.stages[n]
            .same_as
            .map(|s| pipeline.stages[s].name.as_str());
        let note = match same {
            Some(first) => format!("{} · the same as {first}", stage.kind),
            None => format!("{} · {}", stage.kind, look.word()),
        };
        let key = plan.stages[n]
            .key
            .map(|k| format!(" {}", k.short()))
            .unwrap_or_default();
        let width = drawing.widths[cells[n].column];
        let _written = write!(
            text,
            "<g><title>{} ({}) {}{key}</title>{}",
            escaped(&stage.name),
            escaped(&stage.kind),
            look.word(),
            shape(look, x, y, width, HEIGHT)
        );
        let middle = x + width / 2.0;
        let _written = writeln!(
            text,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#111111\">{}</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" \
             fill=\"#444444\">{}</text></g>",
            y + 17.0,
            escaped(&stage.name),
            y + 31.0,
            escaped(&note)
        );
    }
    text.push_str("</svg>\n");
    text
}

/// The measures of a drawing.
struct Drawing<'a> {
    cells: &'a [Cell],
    /// Of each column.
    widths: Vec<f64>,
    lefts: Vec<f64>,
    /// How far each column is moved down, so that short ones stand in the middle.
    tops: Vec<f64>,
    width: f64,
    height: f64,
}

impl<'a> Drawing<'a> {
    fn new(pipeline: &Pipeline, cells: &'a [Cell]) -> Self {
        let columns = cells.iter().map(|c| c.column + 1).max().unwrap_or(0);
        let mut widths = vec![90.0_f64; columns];
        let mut rows = vec![0_usize; columns];
        for (stage, cell) in pipeline.stages.iter().zip(cells) {
            let name = stage.name.chars().count() as f64 * CHARACTER;
            let note = (stage.kind.chars().count() + 10) as f64 * CHARACTER * 10.0 / 12.0;
            widths[cell.column] = widths[cell.column].max(name.max(note) + 36.0);
            rows[cell.column] = rows[cell.column].max(cell.row + 1);
        }
        let mut lefts = Vec::with_capacity(columns);
        let mut x = MARGIN;
        for width in &widths {
            lefts.push(x);
            x += width + GAP;
        }
        let most = rows.iter().max().copied().unwrap_or(0) as f64 * ROW;
        let tops = rows.iter().map(|&r| (most - r as f64 * ROW) / 2.0);
        Self {
            cells,
            lefts,
            tops: tops.collect(),
            widths,
            width: (x - GAP + MARGIN).max(520.0),
            height: TOP + most + MARGIN,
        }
    }

    fn corner(&self, node: usize) -> (f64, f64) {
        let Cell { column, row } = self.cells[node];
        (
            self.lefts[column],
            TOP + self.tops[column] + row as f64 * ROW,
        )
    }

    fn edge(&self, writer: usize, reader: usize, ports: &[String], text: &mut String) {
        let (x1, y1) = self.corner(writer);
        let (x2, y2) = self.corner(reader);
        let (x1, y1) = (
            x1 + self.widths[self.cells[writer].column],
            y1 + HEIGHT / 2.0,
        );
        let y2 = y2 + HEIGHT / 2.0;
        let tip = x2 - 6.0;
        let bend = (tip - x1) / 2.0;
        let _written = writeln!(
            text,
            "<g><title>{}</title><path d=\"M{x1:.1},{y1:.1} C{:.1},{y1:.1} {:.1},{y2:.1} {tip:.1},{y2:.1}\" \
             fill=\"none\" stroke=\"#777777\"/><path d=\"M{x2:.1},{y2:.1} l-7,-4 l0,8 z\" \
             fill=\"#777777\"/></g>",
            escaped(&ports.join(", ")),
            x1 + bend,
            tip - bend
        );
    }
}

/// Which shape and colour means what, and how often it occurs.
fn legend(looks: &[Look], plan: &Plan, text: &mut String) {
    let mut x = MARGIN;
    for look in Look::ALL {
        let count = looks
            .iter()
            .zip(&plan.stages)
            .filter(|(l, s)| **l == look && s.same_as.is_none())
            .count();
        let label = format!("{count} {}", look.word());
        let _written = writeln!(
            text,
            "{}<text x=\"{:.1}\" y=\"34\" fill=\"#111111\">{label}</text>",
            shape(look, x, 20.0, 34.0, 20.0),
            x + 42.0
        );
        x += 42.0 + (label.len() as f64 + 2.0) * CHARACTER;
    }
}

/// A box with round ends, a box, a hexagon with a dashed border, a slanted box.
fn shape(look: Look, x: f64, y: f64, width: f64, height: f64) -> String {
    let (inside, border) = look.colours();
    let style = format!("fill=\"{inside}\" stroke=\"{border}\" stroke-width=\"1.5\"");
    let (right, bottom, middle) = (x + width, y + height, y + height / 2.0);
    match look {
        Look::Cached => format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{:.1}\" {style}/>",
            height / 2.0
        ),
        Look::Ready => format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}/>"
        ),
        Look::Blocked => format!(
            "<polygon points=\"{:.1},{y:.1} {:.1},{y:.1} {right:.1},{middle:.1} {:.1},{bottom:.1} \
             {:.1},{bottom:.1} {x:.1},{middle:.1}\" {style} stroke-dasharray=\"5 3\"/>",
            x + 10.0,
            right - 10.0,
            right - 10.0,
            x + 10.0
        ),
        Look::Missing => format!(
            "<polygon points=\"{:.1},{y:.1} {right:.1},{y:.1} {:.1},{bottom:.1} {x:.1},{bottom:.1}\" {style}/>",
            x + 10.0,
            right - 10.0
        ),
    }
}

/// Text in XML; characters that XML cannot hold become a mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if u32::from(c) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}
