//! Events as JSON lines.

use std::io::Write;

use crate::report::{Reporter, RunEvent};

/// Writes each event as one line of JSON.
pub struct JsonLines<W: Write> {
    out: W,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`.
    #[must_use]
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> Reporter for JsonLines<W> {
    fn report(&mut self, event: &RunEvent) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            drop(self.out.write_all(&line).and_then(|()| self.out.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_contract::Event;

    use super::*;

    #[test]
    fn a_line_an_event_that_reads_back() {
        let events = [
            RunEvent::Cached {
                stage: "a".into(),
                key: "00".into(),
            },
            RunEvent::Stage {
                stage: "b".into(),
                what: Event::Snapshot { progress: 3 },
            },
        ];
        let mut out = Vec::new();
        let mut reporter = JsonLines::new(&mut out);
        for e in &events {
            reporter.report(e);
        }
        let text = String::from_utf8(out).unwrap();
        let read: Vec<RunEvent> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(read, events);
        assert!(
            text.starts_with(r#"{"event":"cached","stage":"a""#),
            "{text}"
        );
    }
}
