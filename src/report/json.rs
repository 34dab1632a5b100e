//! Events as JSON lines.

use std::io::Write;

use crate::report::{Reporter, RunEvent};

/// Writes each event as one line of JSON.
pub struct JsonLines<W: Write> {
    out: W,
    /// Lines not yet written.
    pending: Vec<u8>,
}

/// So many bytes are written without waiting for the engine to pause.
const MOST_PENDING: usize = 1 << 16;

impl<W: Write> JsonLines<W> {
    /// Writes to `out`.
    #[must_use]
    pub fn new(out: W) -> Self {
        Self {
            out,
            pending: Vec::new(),
        }
    }
}

impl<W: Write> Reporter for JsonLines<W> {
    fn report(&mut self, event: &RunEvent) {
        let before = self.pending.len();
        match serde_json::to_writer(&mut self.pending, event) {
            Ok(()) => self.pending.push(b'\n'),
            Err(_) => self.pending.truncate(before),
        }
        if self.pending.len() >= MOST_PENDING {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            // Whoever stopped listening does not stop the run.
            drop(
                self.out
                    .write_all(&self.pending)
                    .and_then(|()| self.out.flush()),
            );
            self.pending.clear();
        }
    }
}

impl<W: Write> Drop for JsonLines<W> {
    fn drop(&mut self) {
        self.flush();
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
        drop(reporter);
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
