//! Label: says of every answer what kind it is and how far into the conversation it comes.
//!
//! | port     | way | artifact | holds                                                         |
//! |----------|-----|----------|---------------------------------------------------------------|
//! | `rows`   | in  | rows     | conversations                                                 |
//! | `rows`   | out | rows     | the same, each with `labels`: position, tags, turns, calls    |
//! | `report` | out | report   | frequencies of tags, their combinations, turns and calls      |
//!
//! Tags are `response`, `single`, `parallel` and `multi-step` (calls right after a tool's result). No row is
//! left out; one without messages gets no labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{ArtifactType, Input, Output, Ports, Stage, StageContext, StageError};
use starling_reward::prepare::{Label, LabelReport, label_messages};
use starling_text::json::{self, Value};

use crate::flow::flow_rows;
use crate::rows::{self, Chunk, RowReader, RowWriter};

/// The kind `label`.
pub(crate) struct LabelKind;

/// What to count.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// Count answers that end their conversation only; all answers are labelled in either case.
    only_last: bool,
}

impl Stage for LabelKind {
    const KIND: &'static str = "label";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "says of every answer what kind it is and how far in it comes";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows};
        const {
            Ports {
                inputs: &[Input::required("rows", Rows, "conversations")],
                outputs: &[
                    Output::new("rows", Rows, "the same, each with `labels`"),
                    Output::new("report", Report, "frequencies of tags, turns and calls"),
                ],
            }
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let reader = RowReader::open(context.input("rows")?)?;
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let mut report = LabelReport::new(p.only_last);
        let work = |_, chunk: Chunk| {
            let (mut text, mut all) = (String::new(), Vec::new());
            for row in chunk.values() {
                let (_, row) = row?;
                let (messages, labels, line) = labelled(row);
                text.push_str(&line);
                text.push('\n');
                all.push((messages, labels));
            }
            Ok((text, all))
        };
        flow_rows(context, reader, work, |(text, all): (String, Vec<_>)| {
            for (messages, labels) in &all {
                report.add(*messages, labels);
            }
            writer.lines(&text, all.len())
        })?;
        let _ = writer.finish()?;
        let text = json::dumps_with(
            &report.finish(),
            &json::Dumps {
                indent: Some(2),
                ensure_ascii: false,
                ..json::Dumps::default()
            },
        );
        let path = context.output("report");
        std::fs::write(&path, text + "\n").map_err(StageError::io("write", &path))
    }
}

fn labelled(mut row: Value) -> (usize, Vec<Label>, String) {
    let messages = rows::list(&row, "messages");
    let (count, labels) = (messages.len(), label_messages(messages));
    if let Value::Dict(map) = &mut row {
        let values: Vec<Value> = labels.iter().map(Label::to_value).collect();
        map.insert("labels".to_owned(), values.into());
    }
    let text = json::dumps(&row);
    (count, labels, text)
}
