//! The look of one line: a right-aligned verb, the stage, six digits of its key, the figure.

use std::fmt::Write as _;

use crate::report::event::{Failure, Summary};

/// Whether lines carry colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Colour,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Active,
    Quiet,
    Bad,
}

impl Palette {
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "1;32",
            Tone::Active => "1;36",
            Tone::Quiet => "2",
            Tone::Bad => "1;31",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// `verb` is padded before it is painted, so that columns agree with and without colour.
    pub(crate) fn verb(self, tone: Tone, verb: &str) -> String {
        self.paint(tone, &format!("{verb:>12}"))
    }
}

/// The first six digits of a key.
pub(crate) fn short(key: &str) -> &str {
    key.get(..6).unwrap_or(key)
}

/// Verb, stage (padded to `width`), short key, figure.
pub(crate) fn action(
    palette: Palette,
    tone: Tone,
    verb: &str,
    (stage, width): (&str, usize),
    key: &str,
    figure: &str,
) -> String {
    // Put together by hand, for a run that has nothing to do writes ten thousand of these.
    let mut line = palette.verb(tone, verb);
    line.reserve(width + key.len().min(6) + figure.len() + 6);
    let mut column = |text: &str, width: usize| {
        line.push_str("  ");
        line.push_str(text);
        let missing = width.saturating_sub(text.chars().count());
        line.extend(std::iter::repeat_n(' ', missing));
    };
    column(stage, width);
    column(short(key), 6);
    if !figure.is_empty() {
        column(figure, 0);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Seconds as a person reads them: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "? s".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round().min(1e15);
    let (minutes, rest) = ((whole / 60.0).floor(), whole % 60.0);
    if minutes < 1.0 {
        format!("{rest:.0} s")
    } else if minutes < 60.0 {
        format!("{minutes:.0} min {rest:02.0} s")
    } else {
        format!(
            "{:.0} h {:02.0} min",
            (minutes / 60.0).floor(),
            minutes % 60.0
        )
    }
}

/// Bytes as a person reads them: `812 B`, `1.3 MB`; a kilobyte is 1,000 bytes.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The paragraph about a failed stage.
pub(crate) fn failure(palette: Palette, f: &Failure) -> String {
    let mut text = palette.paint(Tone::Bad, "error");
    let _ = match &f.reached {
        Some(reached) => write!(
            text,
            ": stage `{}` stopped at {reached}: {}",
            f.stage, f.message
        ),
        None => write!(text, ": stage `{}`: {}", f.stage, f.message),
    };
    let _ = write!(text, "\n  at   {}", f.place);
    if !f.key.is_empty() {
        let _ = write!(text, ", action {}", short(&f.key));
    }
    if let Some(snapshot) = f.snapshot {
        let _ = write!(
            text,
            "\n  kept the snapshot at {snapshot}; the same command resumes from it"
        );
    }
    if let Some(hint) = &f.hint {
        let _ = write!(text, "\n  try  {hint}");
    }
    if let Some(log) = &f.log {
        let _ = write!(text, "\n  log  {}", log.display());
    }
    if let Some(rerun) = &f.rerun {
        let _ = write!(text, "\n  run  {rerun}");
    }
    text
}

/// The lines at the end: failures again, then time per stage, then the total.
pub(crate) fn summary(palette: Palette, s: &Summary) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let width = s
        .ran
        .iter()
        .map(|t| t.stage.chars().count())
        .max()
        .unwrap_or(0);
    let mut ran: Vec<_> = s.ran.iter().collect();
    ran.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    lines.extend(ran.iter().map(|t| {
        format!(
            "{}  {:width$}  {}",
            palette.verb(Tone::Quiet, "Took"),
            t.stage,
            duration(t.seconds)
        )
    }));
    for f in &s.failures {
        lines.push(failure(palette, f));
    }
    let mut counts = vec![
        format!("{} ran", s.ran.len()),
        format!("{} cached", s.cached),
    ];
    for (n, what) in [
        (s.failures.len(), "failed"),
        (s.blocked, "blocked"),
        (s.stopped, "stopped"),
    ] {
        if n > 0 {
            counts.push(format!("{n} {what}"));
        }
    }
    let (tone, verb) = if !s.failures.is_empty() {
        (Tone::Bad, "Failed")
    } else if s.stopped > 0 {
        (Tone::Bad, "Stopped")
    } else {
        (Tone::Good, "Finished")
    };
    lines.push(format!(
        "{}  {} in {}",
        palette.verb(tone, verb),
        counts.join(", "),
        duration(s.seconds)
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::event::{Cause, StageTime};

    #[test]
    fn durations_read_well() {
        let cases = [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.6, "1 min 00 s"),
            (185.0, "3 min 05 s"),
            (7620.0, "2 h 07 min"),
            (f64::NAN, "? s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_read_well() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (2_500_000_000, "2.5 GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn colour_does_not_move_columns() {
        let plain = action(
            Palette::Plain,
            Tone::Good,
            "Cached",
            ("a", 3),
            "4be07a99",
            "",
        );
        assert_eq!(plain, "      Cached  a    4be07a");
        let coloured = action(
            Palette::Colour,
            Tone::Good,
            "Cached",
            ("a", 3),
            "4be07a99",
            "",
        );
        assert_eq!(
            coloured.replace("\x1b[1;32m", "").replace("\x1b[0m", ""),
            plain
        );
    }

    #[test]
    fn a_failure_says_where_what_and_how_to_go_on() {
        let f = Failure {
            stage: "distill".into(),
            key: "71d0e9aa".into(),
            attempt: 2,
            cause: Cause::Stage,
            message: "loss is not finite".into(),
            hint: Some("lower `lr`".into()),
            place: "pipelines/distill.toml:4:1".into(),
            reached: Some("update 812 of 4000".into()),
            snapshot: Some(800),
            log: Some("s/log".into()),
            rerun: Some("starling run-stage".into()),
        };
        insta::assert_snapshot!(failure(Palette::Plain, &f), @r"
        error: stage `distill` stopped at update 812 of 4000: loss is not finite
          at   pipelines/distill.toml:4:1, action 71d0e9
          kept the snapshot at 800; the same command resumes from it
          try  lower `lr`
          log  s/log
          run  starling run-stage
        ");
    }

    #[test]
    fn the_summary_lists_the_slowest_first() {
        let s = Summary {
            cached: 3,
            ran: vec![
                StageTime {
                    stage: "a".into(),
                    seconds: 1.0,
                },
                StageTime {
                    stage: "long".into(),
                    seconds: 70.0,
                },
            ],
            failures: vec![],
            blocked: 0,
            stopped: 0,
            seconds: 72.0,
        };
        insta::assert_snapshot!(summary(Palette::Plain, &s).join("\n"), @r"
                Took  long  1 min 10 s
                Took  a     1.0 s
            Finished  2 ran, 3 cached in 1 min 12 s
        ");
    }
}
