//! Which bytes of an answer are thought, name of a tool, or argument.

use std::ops::Range;

use starling_reward::CallFormat;

/// What a token of an answer is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    /// The thought, its tags included.
    Think,
    /// The name of a tool that is called.
    Name,
    /// The arguments of a call, braces or parentheses included.
    Argument,
    /// Anything else: tags, keys, words of a reply, the end token.
    Other,
}

impl Span {
    pub(super) const ALL: [Self; 4] = [Self::Think, Self::Name, Self::Argument, Self::Other];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Think => "think",
            Self::Name => "name",
            Self::Argument => "argument",
            Self::Other => "other",
        }
    }
}

/// The spans of a turn that are not [`Span::Other`], in its order. An answer that cannot be read has those that were
/// found before it went wrong.
fn found(turn: &str, calls: CallFormat) -> Vec<(Range<usize>, Span)> {
    let mut spans = Vec::new();
    let mut at = 0;
    if let Some(end) = turn.rfind("</think>") {
        let start = turn.find("<think>").filter(|start| *start < end);
        at = end + "</think>".len();
        spans.push((start.unwrap_or(0)..at, Span::Think));
    } else if let Some(start) = turn.find("<think>") {
        spans.push((start..turn.len(), Span::Think));
        return spans;
    }
    match calls {
        CallFormat::Hermes => {
            while let Some(start) = turn[at..].find("<tool_call>").map(|n| at + n) {
                let end = turn[start..].find("</tool_call>");
                let end = end.map_or(turn.len(), |n| start + n);
                objects(turn, start..end, &mut spans);
                at = end;
            }
        }
        CallFormat::Json => objects(turn, at..turn.len(), &mut spans),
        CallFormat::Pythonic => calls_of_python(turn, at, &mut spans),
    }
    spans
}

/// Names and arguments of the JSON objects in a part of the turn.
fn objects(turn: &str, part: Range<usize>, spans: &mut Vec<(Range<usize>, Span)>) {
    let mut at = part.start;
    while at < part.end {
        let rest = &turn[at..part.end];
        let keys = ["\"name\":", "\"arguments\":"];
        let found = keys
            .into_iter()
            .filter_map(|key| Some((at + rest.find(key)? + key.len(), key)));
        let Some((after, key)) = found.min() else {
            return;
        };
        let start = after + blanks(&turn[after..part.end]);
        let end = start + value(&turn[start..part.end]);
        match key {
            // Without its quotes; the last one may be missing.
            "\"name\":" if turn[start..end].starts_with('"') => {
                let closed = end >= start + 2 && turn[start..end].ends_with('"');
                spans.push((start + 1..end - usize::from(closed), Span::Name));
            }
            "\"arguments\":" => spans.push((start..end, Span::Argument)),
            _ => {}
        }
        at = end.max(after);
    }
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// The length of the JSON value at the beginning of a text, or of the text where it does not end.
fn value(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => {
                quoted = false;
                if depth == 0 {
                    return at + 1;
                }
            }
            (true, _) => {}
            (false, b'"') => quoted = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']' | b',') if depth == 0 => return at,
            (false, b'}' | b']') => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Names and arguments of `[f(a=1), g(b='x')]`.
fn calls_of_python(turn: &str, from: usize, spans: &mut Vec<(Range<usize>, Span)>) {
    let Some(open) = turn[from..].find('[') else {
        return;
    };
    let bytes = turn.as_bytes();
    let mut at = from + open + 1;
    while let Some(parenthesis) = turn[at..].find('(').map(|n| at + n) {
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
        let length = bytes[at..parenthesis]
            .iter()
            .rev()
            .take_while(|b| is_name(b))
            .count();
        spans.push((parenthesis - length..parenthesis, Span::Name));
        let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
        let mut end = bytes.len();
        for (offset, byte) in bytes[parenthesis..].iter().enumerate() {
            match (quote, byte) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), b'\\') => escaped = true,
                (Some(open), byte) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'\'' | b'"') => quote = Some(byte),
                (None, b'(' | b'[' | b'{') => depth += 1,
                (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && quote.is_none() {
                end = parenthesis + offset + 1;
                break;
            }
        }
        spans.push((parenthesis..end, Span::Argument));
        at = end;
    }
}

/// What each token of an answer is part of, given the bytes of each: the first span that it touches.
///
/// `before` is what the prompt has already written of the answer.
pub(super) fn of_tokens(before: &str, tokens: &[Vec<u8>], calls: CallFormat) -> Vec<Span> {
    let bytes: Vec<u8> = tokens.iter().flatten().copied().collect();
    // What is no text shifts no offset: every byte that is none counts as one.
    let text: String = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.into_bytes().iter().map(|b| ascii(*b)).collect(),
    };
    let spans = found(&format!("{before}{text}"), calls);
    let mut at = before.len();
    let span_of = |token: &Vec<u8>| {
        let (start, end) = (at, at + token.len());
        at = end;
        let touched = spans
            .iter()
            .find(|(range, _)| range.start < end && start < range.end);
        touched.map_or(Span::Other, |(_, span)| *span)
    };
    tokens.iter().map(span_of).collect()
}

fn ascii(byte: u8) -> char {
    if byte.is_ascii() { byte.into() } else { '?' }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spans with the text that stands in each, one token a character.
    fn marked(before: &str, text: &str, calls: CallFormat) -> Vec<(&'static str, String)> {
        let tokens: Vec<Vec<u8>> = text.chars().map(|c| c.to_string().into_bytes()).collect();
        let spans = of_tokens(before, &tokens, calls);
        let mut runs: Vec<(&str, String)> = Vec::new();
        for (span, letter) in spans.iter().zip(text.chars()) {
            match runs.last_mut() {
                Some((last, run)) if *last == span.name() => run.push(letter),
                _ => runs.push((span.name(), letter.to_string())),
            }
        }
        runs.retain(|(span, _)| *span != "other");
        runs
    }

    #[test]
    fn spans_of_every_format_are_read_off() {
        type Case = (
            &'static str,
            &'static str,
            CallFormat,
            Vec<(&'static str, &'static str)>,
        );
        let cases: Vec<Case> = vec![
            (
                "",
                "<think>é</think>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"\"}}\n</tool_call>x",
                CallFormat::Hermes,
                vec![
                    ("think", "<think>é</think>"),
                    ("name", "f"),
                    ("argument", "{\"a\": \"}\\\"\"}"),
                ],
            ),
            (
                "<think>",
                "b</think>c",
                CallFormat::Hermes,
                vec![("think", "b</think>")],
            ),
            (
                "",
                "<think>open",
                CallFormat::Hermes,
                vec![("think", "<think>open")],
            ),
            ("", "words: \"name\": \"f\"", CallFormat::Hermes, vec![]),
            (
                "",
                "<tool_call>{\"name\": \"ge",
                CallFormat::Hermes,
                vec![("name", "ge")],
            ),
            (
                "",
                "[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": [1]}]",
                CallFormat::Json,
                vec![
                    ("name", "f"),
                    ("argument", "{}"),
                    ("name", "g"),
                    ("argument", "[1]"),
                ],
            ),
            (
                "",
                "[f(a=')', b=(1)), g.h()]",
                CallFormat::Pythonic,
                vec![
                    ("name", "f"),
                    ("argument", "(a=')', b=(1))"),
                    ("name", "g.h"),
                    ("argument", "()"),
                ],
            ),
            (
                "",
                "[f(a='",
                CallFormat::Pythonic,
                vec![("name", "f"), ("argument", "(a='")],
            ),
        ];
        for (before, text, calls, want) in cases {
            let got = marked(before, text, calls);
            let got: Vec<(&str, &str)> = got
                .iter()
                .map(|(span, run)| (*span, run.as_str()))
                .collect();
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_keep_their_places() {
        let tokens = [
            vec![b'<'],
            b"think>".to_vec(),
            vec![0xff],
            b"</think>".to_vec(),
            vec![0xc3],
        ];
        let spans = of_tokens("", &tokens, CallFormat::Hermes);
        assert_eq!(
            spans,
            [
                Span::Think,
                Span::Think,
                Span::Think,
                Span::Think,
                Span::Other
            ]
        );
    }
}
