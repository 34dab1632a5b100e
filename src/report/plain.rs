//! Plain lines, for files and pipes.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use starling_contract::{Event, Level};

use crate::report::line::{self, Palette, Tone};
use crate::report::{Reporter, RunEvent};

/// How often a running stage may say how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Writes a line for each thing that happens.
pub struct Plain<W: Write> {
    out: W,
    palette: Palette,
    width: usize,
    last: BTreeMap<String, Instant>,
    /// Lines not yet written.
    pending: String,
}

/// So many bytes are written without waiting for the engine to pause.
const MOST_PENDING: usize = 1 << 16;

impl<W: Write> Plain<W> {
    /// Writes to `out`; stage names are padded to `width` columns.
    #[must_use]
    pub fn new(out: W, palette: Palette, width: usize) -> Self {
        Self {
            out,
            palette,
            width,
            last: BTreeMap::new(),
            pending: String::new(),
        }
    }

    fn say(&mut self, line: &str) {
        self.pending.push_str(line);
        self.pending.push('\n');
        if self.pending.len() >= MOST_PENDING {
            self.flush();
        }
    }
}

impl<W: Write> Reporter for Plain<W> {
    fn report(&mut self, event: &RunEvent) {
        if let RunEvent::Stage {
            stage,
            what: Event::Progress { .. },
        } = event
        {
            let now = Instant::now();
            let last = self.last.entry(stage.clone()).or_insert(now);
            if now.duration_since(*last) < PROGRESS_EVERY {
                return;
            }
            *last = now;
        }
        for line in lines(event, self.palette, self.width) {
            self.say(&line);
        }
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            // Whoever stopped listening does not stop the run.
            drop(
                self.out
                    .write_all(self.pending.as_bytes())
                    .and_then(|()| self.out.flush()),
            );
            self.pending.clear();
        }
    }
}

impl<W: Write> Drop for Plain<W> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The lines of an event; progress gives one, which callers thin out.
pub(crate) fn lines(event: &RunEvent, palette: Palette, width: usize) -> Vec<String> {
    let act = |tone, verb: &str, stage: &str, key: &str, figure: &str| {
        vec![line::action(
            palette,
            tone,
            verb,
            (stage, width),
            key,
            figure,
        )]
    };
    match event {
        RunEvent::Begun { .. } => vec![],
        RunEvent::Cached { stage, key } => act(Tone::Good, "Cached", stage, key, ""),
        RunEvent::Started {
            stage,
            key,
            attempt,
            card,
            ..
        } => {
            let attempt = (*attempt > 1).then(|| format!("attempt {attempt}"));
            let card = card.as_ref().map(|card| format!("card {card}"));
            let figure = attempt.into_iter().chain(card);
            let figure = figure.collect::<Vec<_>>().join(", ");
            act(Tone::Active, "Running", stage, key, &figure)
        }
        RunEvent::Stage { stage, what } => stage_line(stage, what, palette, width),
        RunEvent::Elsewhere { stage, key } => {
            act(Tone::Quiet, "Waiting", stage, key, "another run has it")
        }
        RunEvent::Done {
            stage,
            key,
            seconds,
            figure,
        } => {
            let mut text = line::duration(*seconds);
            if !figure.is_empty() {
                text = format!("{figure}, {text}");
            }
            act(Tone::Good, "Done", stage, key, &text)
        }
        RunEvent::Failed(f) => act(Tone::Bad, "Failed", &f.stage, &f.key, &f.message),
        RunEvent::Retrying {
            stage,
            key,
            seconds,
            message,
            ..
        } => {
            let text = format!("in {}: {message}", line::duration(*seconds));
            act(Tone::Quiet, "Retrying", stage, key, &text)
        }
        RunEvent::Blocked { stage, by } => {
            act(Tone::Quiet, "Blocked", stage, "", &format!("by {by}"))
        }
        RunEvent::Stopping { at_once: false } => vec![format!(
            "{}  running stages save their state; interrupt again to stop at once",
            palette.verb(Tone::Bad, "Stopping")
        )],
        RunEvent::Stopping { at_once: true } => {
            vec![format!("{}  at once", palette.verb(Tone::Bad, "Stopping"))]
        }
        RunEvent::Interrupted {
            stage,
            key,
            snapshot,
        } => {
            let kept = match snapshot {
                Some(at) => format!("kept the snapshot at {at}"),
                None => "no snapshot; it will start again".to_owned(),
            };
            act(Tone::Bad, "Stopped", stage, key, &kept)
        }
        RunEvent::Notice { text } => vec![format!("{}  {text}", palette.verb(Tone::Quiet, "Note"))],
        RunEvent::Ended(s) => line::summary(palette, s),
    }
}

fn stage_line(stage: &str, what: &Event, palette: Palette, width: usize) -> Vec<String> {
    let (tone, verb, text) = match what {
        Event::Progress {
            done,
            total,
            unit,
            figure,
        } => {
            let mut text = format!("{done} of {total} {unit}");
            if !figure.is_empty() {
                text = format!("{text}, {figure}");
            }
            (Tone::Quiet, "At", text)
        }
        Event::Message { level, text } => match level {
            Level::Info => (Tone::Quiet, "Info", text.clone()),
            Level::Warning => (Tone::Bad, "Warning", text.clone()),
        },
        Event::Snapshot { .. } | Event::Scalars { .. } => return vec![],
        Event::Resumed { progress } => (
            Tone::Active,
            "Resumed",
            format!("from the snapshot at {progress}"),
        ),
    };
    vec![line::action(palette, tone, verb, (stage, width), "", &text)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_thinned_out() {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, Palette::Plain, 4);
        for done in 0..1000 {
            plain.report(&RunEvent::Stage {
                stage: "a".into(),
                what: Event::Progress {
                    done,
                    total: 1000,
                    unit: "rows".into(),
                    figure: String::new(),
                },
            });
        }
        plain.report(&RunEvent::Stage {
            stage: "a".into(),
            what: Event::Resumed { progress: 4 },
        });
        drop(plain);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "     Resumed  a             from the snapshot at 4\n"
        );
    }
}
