//! One call in the syntax of Java or JavaScript, its arguments as source texts.

use std::borrow::Cow;

use super::NAMELESS;
use crate::bfcl::calls::{Arguments, DecodedCall};
use crate::bfcl::category::Language;
use crate::bfcl::output::Undecodable;
use starling_text::json::Value;

/// Constructors inside each other beyond which a value is refused.
const MAX_DEPTH: usize = 100;

/// Arguments beyond which a call is refused.
const MAX_ARGUMENTS: usize = 1000;

/// Reads a call; none when there is nothing at all.
pub(super) fn read(
    text: &str,
    language: Language,
) -> Result<Option<DecodedCall<'static>>, Undecodable> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let open = text.find('(').ok_or(Undecodable)?;
    let name = text[..open].trim_end();
    let is_name = |part: &str| {
        let is_part = |c: char| c == '_' || c == '$' || c.is_alphanumeric();
        part.chars().all(is_part)
            && !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    if !name.split('.').all(is_name) {
        return Err(Undecodable);
    }
    let close = closing(text, open)?;
    let rest = text[close + 1..].trim();
    match (rest, language) {
        ("" | ";", _) => {}
        // A sequence of calls is an expression of JavaScript that is no call.
        (rest, Language::JavaScript) if rest.starts_with(',') => return Ok(None),
        _ => return Err(Undecodable),
    }
    let mut arguments: Vec<(Cow<'static, str>, Value)> = Vec::new();
    for argument in split(&text[open + 1..close], language)? {
        let (name, value) = match assignment(argument) {
            Some((name, value)) if is_name(name) => (name, self::value(value, language)?),
            // A name alone is an argument without a name; other values without one are passed over.
            _ if is_name(argument) => (NAMELESS, argument.to_owned()),
            _ => continue,
        };
        if arguments.len() >= MAX_ARGUMENTS || arguments.iter().any(|(known, _)| known == name) {
            return Err(Undecodable);
        }
        arguments.push((Cow::Owned(name.to_owned()), Value::Str(value)));
    }
    Ok(Some(DecodedCall {
        name: Some(Cow::Owned(name.to_owned())),
        arguments: arguments.into_iter().collect::<Arguments<'_>>(),
    }))
}

/// `name = value`, but no comparison.
fn assignment(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    (!value.starts_with('=')).then(|| (name.trim(), value.trim()))
}

/// Where a quoted text that begins at `at` ends.
fn string_end(text: &str, at: usize) -> Result<usize, Undecodable> {
    let bytes = text.as_bytes();
    let mut end = at + 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'\\' => end += 2,
            b'\n' if bytes[at] != b'`' => return Err(Undecodable),
            byte if *byte == bytes[at] => return Ok(end + 1),
            _ => end += 1,
        }
    }
    Err(Undecodable)
}

/// The bracket that closes the one at `open`.
fn closing(text: &str, open: usize) -> Result<usize, Undecodable> {
    let bytes = text.as_bytes();
    let (mut at, mut open_brackets) = (open, Vec::new());
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' | b'`' => {
                at = string_end(text, at)?;
                continue;
            }
            b'(' | b'[' | b'{' => open_brackets.push(*byte),
            b')' | b']' | b'}' => {
                let expected = match open_brackets.pop() {
                    Some(b'(') => b')',
                    Some(b'[') => b']',
                    _ => b'}',
                };
                if *byte != expected {
                    return Err(Undecodable);
                }
                if open_brackets.is_empty() {
                    return Ok(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(Undecodable)
}

/// Cuts at commas outside of quotes and brackets, those of Java's type arguments included.
fn split(text: &str, language: Language) -> Result<Vec<&str>, Undecodable> {
    let bytes = text.as_bytes();
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' | b'`' => {
                at = string_end(text, at)?;
                continue;
            }
            // A comment takes the rest of the line away, and with it the closing bracket.
            b'/' if bytes.get(at + 1) == Some(&b'/') => return Err(Undecodable),
            b'(' | b'[' | b'{' => at = closing(text, at)?,
            b'<' if language == Language::Java => at = type_arguments_end(text, at).unwrap_or(at),
            b',' => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    } else if !parts.is_empty() && language == Language::Java {
        return Err(Undecodable);
    }
    match parts.iter().any(|part| part.is_empty()) {
        true => Err(Undecodable),
        false => Ok(parts),
    }
}

/// The place of the `>` that closes type arguments.
fn type_arguments_end(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, byte) in text.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' => {
                depth -= 1;
                if depth == 0 {
                    return Some(open + offset);
                }
            }
            b' ' | b',' | b'.' | b'?' | b'[' | b']' | b'&' | b'_' | b'$' => {}
            byte if byte.is_ascii_alphanumeric() => {}
            _ => return None,
        }
    }
    None
}

/// Words that another word may follow within a value.
const JOINING: [&str; 13] = [
    "new",
    "instanceof",
    "typeof",
    "void",
    "delete",
    "await",
    "async",
    "in",
    "of",
    "final",
    "function",
    "class",
    "extends",
];

/// Whether nothing outside of quotes and brackets shows that two things stand side by side.
fn is_one_value(text: &str) -> Result<bool, Undecodable> {
    let is_word = |c: char| c == '_' || c == '$' || c.is_alphanumeric();
    let mut at = 0;
    // The word that ended last, if only white space has followed.
    let mut before: Option<&str> = None;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' | '\'' | '`' => {
                at = string_end(text, at)?;
                before = None;
            }
            '(' | '[' | '{' => {
                at = closing(text, at)? + 1;
                let number = text[at..].strip_prefix('.');
                if number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                    return Ok(false);
                }
                before = None;
            }
            c if is_word(c) => {
                let rest = &text[at..];
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = &rest[..end];
                if before
                    .is_some_and(|before| !JOINING.contains(&before) && !JOINING.contains(&word))
                {
                    return Ok(false);
                }
                before = Some(word);
                at += end;
            }
            c => {
                at += c.len_utf8();
                if !c.is_whitespace() {
                    before = None;
                }
            }
        }
    }
    Ok(true)
}

/// The text of a value as the package hands it on.
fn value(text: &str, language: Language) -> Result<String, Undecodable> {
    if text.is_empty() || !is_one_value(text)? {
        return Err(Undecodable);
    }
    let quoted = |quotes: &[char]| {
        let quote = text.chars().next().filter(|c| quotes.contains(c));
        quote.is_some_and(|quote| text.len() > 1 && text.ends_with(quote))
    };
    if language == Language::JavaScript {
        return Ok(match quoted(&['"', '\'']) {
            true => text[1..text.len() - 1].to_owned(),
            false => text.to_owned(),
        });
    }
    if quoted(&['"', '\'']) && string_end(text, 0)? == text.len() {
        return Ok(text[1..text.len() - 1].to_owned());
    }
    java(text, 0)
}

/// A value of Java: constructors without what follows them, and no white space but inside of texts and calls.
fn java(text: &str, depth: usize) -> Result<String, Undecodable> {
    let text = text.trim();
    if depth > MAX_DEPTH {
        return Err(Undecodable);
    }
    if let Some(created) = text
        .strip_prefix("new")
        .filter(|rest| rest.starts_with(char::is_whitespace))
    {
        return constructor(created.trim_start(), depth);
    }
    // Braces are a value behind `new T[]` or inside of other braces only.
    if text.starts_with('{') && depth > 0 && closing(text, 0)? == text.len() - 1 {
        return braces(text, depth);
    }
    if text.starts_with(['{', '[']) {
        return Err(Undecodable);
    }
    let is_call = text.ends_with(')')
        && text.find('(').is_some_and(|open| {
            let head = text[..open].chars();
            open > 0
                && head
                    .clone()
                    .all(|c| matches!(c, '_' | '$' | '.') || c.is_alphanumeric())
                && closing(text, open) == Ok(text.len() - 1)
        });
    match is_call {
        true => Ok(text.to_owned()),
        false => without_space(text),
    }
}

/// `new T(...)`, whose body is lost, or `new T[]{...}`.
fn constructor(text: &str, depth: usize) -> Result<String, Undecodable> {
    let end = text.find(['(', '[', '{']).ok_or(Undecodable)?;
    let named = without_space(&text[..end])?;
    let rest = &text[end..];
    if rest.starts_with('(') {
        let close = closing(rest, 0)?;
        let behind = rest[close + 1..].trim();
        let is_body = behind.starts_with('{') && closing(behind, 0)? == behind.len() - 1;
        if !behind.is_empty() && !is_body {
            return Ok(format!("new {text}"));
        }
        let arguments = split(&rest[1..close], Language::Java)?;
        let arguments: Result<Vec<String>, Undecodable> = arguments
            .into_iter()
            .map(|argument| java(argument, depth + 1))
            .collect();
        return Ok(format!("new {named}({})", arguments?.join(", ")));
    }
    let mut rest = rest;
    while let Some(inside) = rest.strip_prefix('[') {
        rest = inside
            .trim_start()
            .strip_prefix(']')
            .ok_or(Undecodable)?
            .trim_start();
    }
    if !rest.starts_with('{') || closing(rest, 0)? != rest.len() - 1 {
        return Err(Undecodable);
    }
    Ok(format!("new {named}[]{}", braces(rest, depth)?))
}

/// `{a, b}`
fn braces(text: &str, depth: usize) -> Result<String, Undecodable> {
    let inside = &text[1..text.len() - 1];
    let comma = inside.trim_end().ends_with(',');
    let inside = inside.trim_end().trim_end_matches(',');
    let items = split(inside, Language::Java)?;
    let items: Result<Vec<String>, Undecodable> = items
        .into_iter()
        .map(|item| java(item, depth + 1))
        .collect();
    let comma = if comma { "," } else { "" };
    Ok(format!("{{{}{comma}}}", items?.join(",")))
}

/// The text without white space outside of quotes.
fn without_space(text: &str) -> Result<String, Undecodable> {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let end = match c {
            '"' | '\'' => string_end(text, at)?,
            c => at + c.len_utf8(),
        };
        if !c.is_whitespace() {
            out.push_str(&text[at..end]);
        }
        at = end;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str, language: Language) -> Option<Vec<(String, String)>> {
        let call = read(text, language).ok()??;
        let argument = |(name, value): (&str, &Value)| {
            (name.to_owned(), value.as_str().expect("a text").to_owned())
        };
        Some(call.arguments.iter().map(argument).collect())
    }

    #[test]
    fn arguments_are_what_the_package_reads() {
        for (language, text, expected) in [
            (
                Language::Java,
                "a.b.f(x=1, y=\"s, t\", z='c')",
                vec![("x", "1"), ("y", "s, t"), ("z", "c")],
            ),
            (
                Language::Java,
                "f(l = new ArrayList<>(Arrays.asList(\"a\", \"b\")), m = new HashMap<String, Integer>() {{ put(\"a\", 1); }})",
                vec![
                    ("l", "new ArrayList<>(Arrays.asList(\"a\", \"b\"))"),
                    ("m", "new HashMap<String,Integer>()"),
                ],
            ),
            (
                Language::Java,
                "f(a=new int[] {1, 2}, b=-5, c=true, d=x)",
                vec![
                    ("a", "new int[]{1,2}"),
                    ("b", "-5"),
                    ("c", "true"),
                    ("d", "x"),
                ],
            ),
            (
                Language::JavaScript,
                "f(a={k: 1, l: [2]}, b='x', c=[1, 2], d=5n)",
                vec![
                    ("a", "{k: 1, l: [2]}"),
                    ("b", "x"),
                    ("c", "[1, 2]"),
                    ("d", "5n"),
                ],
            ),
            (Language::JavaScript, "f()", vec![]),
        ] {
            let expected: Vec<(String, String)> = expected
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(arguments(text, language), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        for text in [
            "f(",
            "f)",
            "f(a=1",
            "f(a=\"x)",
            "(a=1)",
            "1f()",
            "f(a=1, a=2)",
            "I cannot.",
            "f(a=1) g",
            "f(a=[)]",
        ] {
            assert!(read(text, Language::Java).is_err(), "{text}");
            assert!(read(text, Language::JavaScript).is_err(), "{text}");
        }
        assert!(matches!(read(" ", Language::Java), Ok(None)));
        assert!(matches!(
            read("f(a=1), g(b=2)", Language::JavaScript),
            Ok(None)
        ));
        assert!(read("f(a=1), g(b=2)", Language::Java).is_err());
        let deep = format!("f(a={}1{})", "new A(".repeat(10_000), ")".repeat(10_000));
        assert!(read(&deep, Language::Java).is_err());
    }
}
