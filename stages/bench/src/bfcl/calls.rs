//! Decoded calls, and the tool-call blocks of a text that they are read from.

use std::borrow::Cow;

use starling_text::json::{Map, Part, Value, parse_parts};

use super::loads::loads;

const OPEN: &str = "<tool_call>\n";
const CLOSE: &str = "\n</tool_call>";

/// Up to this many arguments, repeated names are looked for one by one.
const FEW: usize = 32;

/// Arguments of a call, in order; no name occurs twice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arguments<'a>(Vec<(Cow<'a, str>, Value)>);

impl<'a> Arguments<'a> {
    /// The argument of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As an object.
    pub fn into_map(self) -> Map {
        let owned = |(name, value): (Cow<'_, str>, Value)| (name.into_owned(), value);
        self.0.into_iter().map(owned).collect()
    }

    /// Of a repeated name keeps the last value, at the first one's place.
    fn settled(given: Vec<(Cow<'a, str>, Value)>) -> Self {
        let repeats = |(at, (name, _)): (usize, &(Cow<'_, str>, Value))| {
            given[..at].iter().any(|(earlier, _)| earlier == name)
        };
        match given.len() > FEW || given.iter().enumerate().any(repeats) {
            true => {
                let owned = |(name, value): (Cow<'_, str>, Value)| (name.into_owned(), value);
                given.into_iter().map(owned).collect::<Map>().into()
            }
            false => Self(given),
        }
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Value)> for Arguments<'a> {
    fn from_iter<T: IntoIterator<Item = (Cow<'a, str>, Value)>>(given: T) -> Self {
        Self::settled(given.into_iter().collect())
    }
}

impl From<Map> for Arguments<'_> {
    fn from(map: Map) -> Self {
        let entries = map.into_iter();
        Self(
            entries
                .map(|(name, value)| (Cow::Owned(name), value))
                .collect(),
        )
    }
}

impl From<&Map> for Arguments<'_> {
    fn from(map: &Map) -> Self {
        map.clone().into()
    }
}

/// A decoded call. The name is `None` when the model gave something that is no string.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedCall<'a> {
    /// Name of the function.
    pub name: Option<Cow<'a, str>>,
    /// Arguments in the model's order.
    pub arguments: Arguments<'a>,
}

/// What stands in a tool-call block that is JSON.
#[derive(Debug)]
pub(super) enum Block<'a> {
    /// An object, reduced to what makes a call.
    Object {
        name: Option<Value>,
        arguments: Option<Given<'a>>,
    },
    /// Anything else.
    Other,
}

/// What stands under `arguments`.
#[derive(Debug)]
pub(super) enum Given<'a> {
    Object(Arguments<'a>),
    Other(Value),
}

impl From<Value> for Block<'_> {
    fn from(value: Value) -> Self {
        let Value::Dict(mut call) = value else {
            return Self::Other;
        };
        Self::Object {
            name: call.swap_remove("name"),
            arguments: call.swap_remove("arguments").map(|given| match given {
                Value::Dict(map) => Given::Object(map.into()),
                other => Given::Other(other),
            }),
        }
    }
}

/// The tool-call blocks of a text, left to right; what is no JSON is left out.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    texts(text, |inside| match direct(inside) {
        Some((block, end)) => Found::Read(block, end),
        None => Found::Unread(|captured| loads(captured).map(Block::from)),
    })
}

/// The values of the tool-call blocks.
pub(super) fn values(text: &str) -> impl Iterator<Item = Value> {
    texts(text, |_| Found::Unread(loads))
}

enum Found<T> {
    /// A block whose closing tag ends at this offset.
    Read(T, usize),
    /// The closing tag is to be looked for, and what stands before it to be read.
    Unread(fn(&str) -> Option<T>),
}

fn texts<'a, T>(text: &'a str, read: impl Fn(&'a str) -> Found<T>) -> impl Iterator<Item = T> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let inside = behind_tag(rest)?;
            match read(inside) {
                Found::Read(block, end) => {
                    rest = &inside[end..];
                    return Some(block);
                }
                Found::Unread(read) => {
                    // Where nothing closes this tag, nothing closes a later one.
                    let Some(length) = memchr::memmem::find(inside.as_bytes(), CLOSE.as_bytes())
                    else {
                        rest = "";
                        return None;
                    };
                    rest = &inside[length + CLOSE.len()..];
                    if let Some(block) = read(&inside[..length]) {
                        return Some(block);
                    }
                }
            }
        }
    })
}

/// What follows the next opening tag.
fn behind_tag(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        if let Some(inside) = rest.strip_prefix(OPEN) {
            return Some(inside);
        }
        let skipped = usize::from(rest.starts_with('<'));
        let next = memchr::memchr(b'<', rest.as_bytes().get(skipped..)?)?;
        rest = &rest[skipped + next..];
    }
}

/// Reads JSON up to the closing tag without looking for the tag first: in JSON the tag cannot occur, for a string
/// holds no line break. Answers the offset behind the tag; `None` where anything is out of the ordinary.
fn direct<'a>(inside: &'a str) -> Option<(Block<'a>, usize)> {
    let mut name = None;
    let mut other = None;
    let mut given: Option<Vec<(Cow<'a, str>, Value)>> = None;
    let each = |part: Part<'a>| match part {
        Part::Member(key, value) if key == "name" => name = Some(value),
        Part::Member(key, value) if key == "arguments" => {
            given = None;
            other = Some(value);
        }
        Part::Member(..) => {}
        Part::Opened => given = Some(Vec::new()),
        Part::Inner(key, value) => {
            if let Some(given) = &mut given {
                given.push((key, value));
            }
        }
    };
    let (is_object, end) = parse_parts(inside, "arguments", each).ok()?;
    let behind = inside[end..].trim_start_matches([' ', '\t', '\n', '\r']);
    let tag = inside.len() - behind.len();
    let closes = inside[end..tag].ends_with('\n') && behind.starts_with(&CLOSE[1..]);
    closes.then_some(())?;
    let block = match is_object {
        true => Block::Object {
            name,
            arguments: match given {
                Some(given) => Some(Given::Object(Arguments::settled(given))),
                None => other.map(Given::Other),
            },
        },
        false => Block::Other,
    };
    Some((block, tag + CLOSE.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_directly_is_reading_what_the_tags_hold() {
        let call = r#"{"name": "f", "arguments": {"a": 1, "b": "</tool_call>", "a": 2}}"#;
        for text in [
            format!("<tool_call>\n{call}\n</tool_call>"),
            format!("x <tool_call>\n  {call} \r\n\n</tool_call>y<tool_call>\n7\n</tool_call>"),
            format!("<tool_call>\n{call} \n </tool_call>\n</tool_call>"),
            format!("<tool_call>\n{call}</tool_call>\n</tool_call>"),
            format!("<tool_call>{call}\n</tool_call>"),
            format!("<<tool_call>\n<tool_call>\n{call}\n</tool_call>"),
            "<tool_call>\n\n</tool_call>".to_owned(),
            "<tool_call>\n</tool_call>".to_owned(),
            "<tool_call>\n{\"arguments\": [], \"name\": null}\n</tool_call>".to_owned(),
            "<tool_call>\n{\"arguments\": {}, \"arguments\": 3}\n</tool_call>".to_owned(),
            "<tool_call>\n{\"arguments\": 3, \"arguments\": {}}\n</tool_call>".to_owned(),
            "<tool_call>\n{\"a\": \"\\ud800\", \"name\": \"g\"}\n</tool_call>".to_owned(),
            "<".to_owned(),
            String::new(),
        ] {
            let found: Vec<String> = blocks(&text).map(|block| format!("{block:?}")).collect();
            let through_tags = values(&text).map(|value| format!("{:?}", Block::from(value)));
            assert_eq!(found, through_tags.collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn many_arguments_are_settled_too() {
        let many = |n: usize| {
            let entries: Vec<String> = (0..n).map(|i| format!("\"k{}\": {i}", i % 50)).collect();
            format!(
                "<tool_call>\n{{\"arguments\": {{{}}}}}\n</tool_call>",
                entries.join(",")
            )
        };
        for n in [31, 32, 33, 60, 5000] {
            let text = many(n);
            let Some(Block::Object {
                arguments: Some(Given::Object(found)),
                ..
            }) = blocks(&text).next()
            else {
                panic!("a call");
            };
            assert_eq!(found.len(), n.min(50));
            assert_eq!(
                found.get("k3"),
                Some(&Value::Int(((n - 4) / 50 * 50 + 3) as i64))
            );
        }
    }
}
