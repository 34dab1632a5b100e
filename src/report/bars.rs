//! A bar for each running stage, lines above them for what is over.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use starling_contract::Event;

use crate::report::line::Palette;
use crate::report::plain::lines;
use crate::report::{Reporter, RunEvent};

/// Draws on the terminal's stderr.
pub struct Bars {
    all: MultiProgress,
    running: BTreeMap<String, ProgressBar>,
    palette: Palette,
    width: usize,
}

impl Bars {
    /// Draws on stderr; stage names are padded to `width` columns.
    #[must_use]
    pub fn new(palette: Palette, width: usize) -> Self {
        Self::with_target(ProgressDrawTarget::stderr(), palette, width)
    }

    fn with_target(target: ProgressDrawTarget, palette: Palette, width: usize) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            running: BTreeMap::new(),
            palette,
            width,
        }
    }

    fn start(&mut self, stage: &str) {
        // Several workers may share a stage.
        if self.running.contains_key(stage) {
            return;
        }
        let bar = self.all.add(ProgressBar::new(0));
        bar.set_style(waiting());
        bar.set_prefix(format!("{stage:w$}", w = self.width));
        bar.enable_steady_tick(Duration::from_millis(250));
        self.running.insert(stage.to_owned(), bar);
    }

    fn progress(&self, stage: &str, done: u64, total: u64, unit: &str, figure: &str) {
        let Some(bar) = self.running.get(stage) else {
            return;
        };
        if bar.length() != Some(total) {
            bar.set_style(counting());
            bar.set_length(total);
        }
        bar.set_position(done);
        bar.set_message(if figure.is_empty() {
            unit.to_owned()
        } else {
            format!("{unit}, {figure}")
        });
    }

    fn end(&mut self, stage: &str) {
        if let Some(bar) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }
}

fn waiting() -> ProgressStyle {
    ProgressStyle::with_template("     Running  {prefix}  {elapsed}")
        .expect("the template is well formed, pinned by `templates_are_well_formed`")
}

fn counting() -> ProgressStyle {
    ProgressStyle::with_template(
        "     Running  {prefix}  {wide_bar} {pos} of {len} {msg}, {elapsed}, {eta} left",
    )
    .expect("the template is well formed, pinned by `templates_are_well_formed`")
    .progress_chars("=> ")
}

impl Reporter for Bars {
    fn report(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Started { stage, .. } => return self.start(stage),
            RunEvent::Stage {
                stage,
                what:
                    Event::Progress {
                        done,
                        total,
                        unit,
                        figure,
                    },
            } => return self.progress(stage, *done, *total, unit, figure),
            RunEvent::Done { stage, .. }
            | RunEvent::Interrupted { stage, .. }
            | RunEvent::Retrying { stage, .. } => self.end(stage),
            RunEvent::Failed(f) => self.end(&f.stage),
            RunEvent::Ended(_) => {
                for (_, bar) in std::mem::take(&mut self.running) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        for line in lines(event, self.palette, self.width) {
            drop(self.all.println(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed() {
        drop((waiting(), counting()));
    }

    #[test]
    fn bars_come_and_go() {
        let mut bars = Bars::with_target(ProgressDrawTarget::hidden(), Palette::Plain, 3);
        bars.report(&RunEvent::Started {
            stage: "a".into(),
            key: "00".into(),
            attempt: 1,
            threads: 1,
            pid: 1,
            card: None,
        });
        bars.report(&RunEvent::Stage {
            stage: "a".into(),
            what: Event::Progress {
                done: 3,
                total: 9,
                unit: "rows".into(),
                figure: String::new(),
            },
        });
        assert_eq!(bars.running["a"].position(), 3);
        bars.report(&RunEvent::Done {
            stage: "a".into(),
            key: "00".into(),
            seconds: 1.0,
            figure: String::new(),
        });
        assert!(bars.running.is_empty());
    }
}
