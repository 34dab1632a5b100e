//! Texts and f-strings in printed source, quoted as `ast.unparse` of Python 3.11 quotes them.

use std::borrow::Cow;

use starling_text::python::is_printable;

use super::super::value::print::{push, write_escape, write_text};
use super::super::{Field, Piece, Reject};
use super::{Level, Writer};

/// Quotes in the order of preference.
const QUOTES: [&str; 4] = ["'", "\"", "\"\"\"", "'''"];

impl Writer {
    pub(in super::super) fn text(&mut self, text: &str) {
        if self.avoid_backslashes {
            self.quoted_plainly(text);
        } else {
            write_text(&mut self.out, text);
        }
    }

    /// A literal in the quotes that need the fewest backslashes.
    fn quoted_plainly(&mut self, text: &str) {
        let (text, quotes) = quote(text, &QUOTES, false);
        push(&mut self.out, format_args!("{0}{text}{0}", quotes[0]));
    }

    pub(in super::super) fn format(&mut self, pieces: &[Piece<'_>]) -> Result<(), Reject> {
        self.put("f");
        if self.avoid_backslashes {
            let inside = source(pieces)?;
            self.quoted_plainly(&inside);
            return Ok(());
        }
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let literal = matches!(piece, Piece::Text(_));
            parts.push((source(std::slice::from_ref(piece))?, literal));
        }
        let mut quotes = QUOTES.to_vec();
        let mut inside = String::new();
        for (part, literal) in &parts {
            let (text, possible) = quote(part, &quotes, *literal);
            inside.push_str(&text);
            if !possible.iter().any(|quote| quotes.contains(quote)) {
                // No quotes suit all parts: every part as its `repr` between single quotes.
                inside.clear();
                for (part, _) in &parts {
                    let mut printed = String::new();
                    write_text(&mut printed, &format!("\"{part}"));
                    inside.push_str(&printed[2..printed.len() - 1]);
                }
                quotes = vec!["'''"];
                break;
            }
            quotes = possible;
        }
        push(&mut self.out, format_args!("{0}{inside}{0}", quotes[0]));
        Ok(())
    }
}

/// What stands between the quotes, before they are chosen.
fn source(pieces: &[Piece<'_>]) -> Result<String, Reject> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Field(field) => field_source(&mut out, field)?,
        }
    }
    Ok(out)
}

fn field_source(out: &mut String, field: &Field<'_>) -> Result<(), Reject> {
    let mut inner = Writer {
        out: String::new(),
        avoid_backslashes: true,
    };
    inner.write(&field.value, Level::Test.next())?;
    if inner.out.contains('\\') {
        return Err(Reject);
    }
    // Two opening braces would be one of the text.
    out.push_str(if inner.out.starts_with('{') {
        "{ "
    } else {
        "{"
    });
    out.push_str(&inner.out);
    if let Some(conversion) = field.conversion {
        push(out, format_args!("!{conversion}"));
    }
    if let Some(spec) = &field.spec {
        out.push(':');
        out.push_str(&source(spec)?);
    }
    out.push('}');
    Ok(())
}

/// The text with few escapes and the quotes it may then stand in, of those given.
fn quote<'t>(
    text: &'t str,
    quotes: &[&'static str],
    escape_blanks: bool,
) -> (Cow<'t, str>, Vec<&'static str>) {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if !escape_blanks => escaped.push(c),
            '\\' => escaped.push_str("\\\\"),
            _ if is_printable(c) => escaped.push(c),
            _ => write_escape(&mut escaped, c),
        }
    }
    let lines = escaped.contains('\n');
    let mut possible: Vec<&'static str> = quotes
        .iter()
        .copied()
        .filter(|quote| (!lines || quote.len() == 3) && !escaped.contains(quote))
        .collect();
    if possible.is_empty() {
        let mut printed = String::new();
        write_text(&mut printed, text);
        let own = if printed.starts_with('"') { "\"" } else { "'" };
        let quote = quotes.iter().copied().find(|quote| quote.contains(own));
        let inside = printed[1..printed.len() - 1].to_owned();
        return (Cow::Owned(inside), vec![quote.unwrap_or(own)]);
    }
    if let Some(last) = escaped.chars().next_back() {
        possible.sort_by_key(|quote| quote.starts_with(last));
        if possible[0].starts_with(last) {
            escaped.insert(escaped.len() - 1, '\\');
        }
    }
    (Cow::Owned(escaped), possible)
}
