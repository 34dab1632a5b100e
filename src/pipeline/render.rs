//! Mistakes as people see them: the place underlined in its line, what it means, what to do.

use std::fmt::Write as _;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use super::{Mistake, Mistakes, Source};

/// A text that is quoted in whole lines.
#[derive(Debug)]
struct Lines<'a>(&'a Source);

impl SourceCode for Lines<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text: &str = &self.0.text;
        let (start, end) = (span.offset(), span.offset() + span.len());
        let before = text.get(..start).ok_or(MietteError::OutOfBounds)?;
        let after = text.get(end..).ok_or(MietteError::OutOfBounds)?;
        let first = before.rfind('\n').map_or(0, |n| n + 1);
        let last = end + after.find('\n').unwrap_or(after.len());
        let data = &text[first..last];
        let contents = MietteSpanContents::new_named(
            self.0.name.clone(),
            data.as_bytes(),
            (first, data.len()).into(),
            before.matches('\n').count(),
            // The column of the span although the data start with their line: it is what is printed.
            text[first..start].chars().count(),
            data.matches('\n').count() + 1,
        );
        Ok(Box::new(contents))
    }
}

/// A mistake with the text that it is in.
#[derive(Debug)]
struct Shown<'a> {
    mistake: &'a Mistake,
    source: Lines<'a>,
    sources: &'a super::Sources,
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.mistake.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.mistake
            .help()
            .map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.mistake.labels().into_iter().enumerate();
        let here = labels.filter_map(|(n, (span, word))| {
            let (source, within) = self.sources.find(&span);
            // A label elsewhere (an edge that a `--set` wrote) has no line in this text.
            (source.base == self.source.0.base).then(|| {
                let within = visible(&source.text, within);
                if n == 0 {
                    LabeledSpan::new_primary_with_span(word, within)
                } else {
                    LabeledSpan::new_with_span(word, within)
                }
            })
        });
        Some(Box::new(here))
    }
}

/// A span with at least one character, for nothing cannot be underlined.
fn visible(text: &str, span: super::Span) -> super::Span {
    if !span.is_empty() {
        return span;
    }
    let next = text[span.start..].chars().next().filter(|c| *c != '\n');
    let last = text[..span.start]
        .chars()
        .next_back()
        .filter(|c| *c != '\n');
    match (next, last) {
        (Some(next), _) => span.start..span.start + next.len_utf8(),
        (None, Some(last)) => span.start - last.len_utf8()..span.start,
        (None, None) => span,
    }
}

/// All mistakes, then a line that counts them.
pub(super) fn mistakes(mistakes: &Mistakes, color: bool) -> String {
    let theme = if color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    // Lines are as long as they are: a message must read the same on every terminal.
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(usize::from(u16::MAX))
        .with_wrap_lines(false)
        .with_links(false)
        .with_context_lines(0);
    let mut text = String::new();
    for mistake in &mistakes.list {
        let (source, _) = mistakes.sources.find(&mistake.span());
        let shown = Shown {
            mistake,
            source: Lines(source),
            sources: &mistakes.sources,
        };
        text.push_str("Error: ");
        text.push_str(mistake.code());
        text.push('\n');
        let rendered = handler.render_report(&mut text, &shown);
        if rendered.is_err() {
            // The text could not be quoted; the message still says where and what.
            let place = mistakes.sources.place(&mistake.span());
            text.push_str(&format!("  × {mistake}\n  at {place}\n"));
        }
        text.push('\n');
    }
    let n = mistakes.list.len();
    let plural = if n == 1 { "" } else { "s" };
    let _written = writeln!(text, "error: {n} mistake{plural}; nothing was run");
    text
}
