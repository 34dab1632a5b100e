//! Messages in the form of chat interfaces, taken as they are; what is a matter of writing is made one way.

use std::borrow::Cow;

use starling_text::json::{self, Value};

use crate::rows;

/// What is counted as changed where a content came in parts.
pub(super) const JOINED: &str = "the text parts of a content were joined";

/// A conversation as it is, and whether contents in it were joined.
///
/// # Errors
/// What keeps the row from being a conversation.
pub(super) fn conversation(raw: &Value) -> Result<(Cow<'_, Value>, bool), &'static str> {
    if raw.as_dict().is_none() {
        return Err("the row is not a JSON object");
    }
    let mut row = opened(raw);
    let messages = rows::list(&row, "messages");
    if messages.is_empty() {
        return Err("there are no messages");
    }
    if messages.iter().any(|m| rows::text(m, "role").is_none()) {
        return Err("a message has no role");
    }
    let content = |m| rows::field(m, "content");
    let odd = |m| !matches!(content(m), None | Some(Value::Null | Value::Str(_)));
    let joined = messages.iter().any(odd);
    if joined {
        let messages = messages.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
        if let Value::Dict(map) = row.to_mut() {
            map.insert("messages".to_owned(), messages.into());
        }
    }
    match rows::field(&row, "tools") {
        None | Some(Value::Null | Value::List(_)) => Ok((row, joined)),
        Some(_) => Err("`tools` is not a list"),
    }
}

/// The row with its lists as lists: tables such as Parquet hold them as columns of JSON text.
fn opened(row: &Value) -> Cow<'_, Value> {
    let mut opened = Cow::Borrowed(row);
    for name in ["messages", "tools"] {
        let list = rows::text(row, name).map(json::parse);
        if let Some(Ok(list @ Value::List(_))) = list
            && let Value::Dict(map) = opened.to_mut()
        {
            map.insert(name.to_owned(), list);
        }
    }
    opened
}

/// The message with its content as one text, as chat templates that know of parts print it: nothing between them.
fn whole(message: &Value) -> Result<Value, &'static str> {
    let parts = match rows::field(message, "content") {
        None | Some(Value::Null | Value::Str(_)) => return Ok(message.clone()),
        Some(Value::List(parts)) => parts,
        Some(_) => return Err("a content is neither text, nor parts, nor null"),
    };
    let text = parts.iter().map(text_of).collect::<Result<String, _>>()?;
    let mut message = message.clone();
    if let Value::Dict(map) = &mut message {
        map.insert("content".to_owned(), text.into());
    }
    Ok(message)
}

/// The text of a part.
fn text_of(part: &Value) -> Result<&str, &'static str> {
    match (rows::text(part, "type"), rows::text(part, "text")) {
        (Some("text"), Some(text)) => Ok(text),
        (Some("text"), None) => Err("a text part of a content has no text"),
        (kind, _) => Err(no_text(kind.unwrap_or_default())),
    }
}

/// Why a part cannot be joined; the kinds are listed, so that rows cannot make ever new reasons.
fn no_text(kind: &str) -> &'static str {
    match kind {
        "image_url" => "a content has a part `image_url`, which is no text",
        "image" => "a content has a part `image`, which is no text",
        "input_audio" => "a content has a part `input_audio`, which is no text",
        "audio" => "a content has a part `audio`, which is no text",
        "video" => "a content has a part `video`, which is no text",
        "video_url" => "a content has a part `video_url`, which is no text",
        "file" => "a content has a part `file`, which is no text",
        "refusal" => "a content has a part `refusal`, which is no text",
        "thinking" => "a content has a part `thinking`, which is no text",
        "tool_use" => "a content has a part `tool_use`, which is no text",
        "tool_result" => "a content has a part `tool_result`, which is no text",
        _ => "a content has a part that is no text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(row: &str) -> Result<(String, bool), &'static str> {
        let row = json::parse(row).expect(row);
        conversation(&row).map(|(row, joined)| (json::dumps(&row), joined))
    }

    fn with(content: &str) -> String {
        format!(
            r#"{{"id": 1, "messages": [{{"role": "user", "content": {content}, "name": "u"}}]}}"#
        )
    }

    #[test]
    fn text_parts_are_joined_where_they_stand() {
        let parts = r#"[{"type": "text", "text": "a "}, {"text": "b", "type": "text"}]"#;
        assert_eq!(read(&with(parts)), Ok((with("\"a b\""), true)));
        assert_eq!(read(&with("[]")), Ok((with("\"\""), true)));
        assert_eq!(read(&with("\"a b\"")), Ok((with("\"a b\""), false)));
        assert_eq!(read(&with("null")), Ok((with("null"), false)));
        let text = format!(
            r#"{{"id": 1, "messages": {}}}"#,
            json::dumps(&Value::Str(format!(
                r#"[{{"role": "user", "content": {parts}, "name": "u"}}]"#
            ),))
        );
        assert_eq!(
            read(&text),
            Ok((with("\"a b\""), true)),
            "lists as JSON text"
        );
    }

    #[test]
    fn what_is_no_text_is_named() {
        for (content, said) in [
            (
                r#"[{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "b"}}]"#,
                "`image_url`",
            ),
            (r#"[{"type": "refusal", "refusal": "no"}]"#, "`refusal`"),
            (r#"[{"type": "text"}]"#, "has no text"),
            (r#"["a"]"#, "a part that is no text"),
            (r#"[{"type": "never heard of"}]"#, "a part that is no text"),
            ("7", "neither text, nor parts"),
        ] {
            let why = read(&with(content)).expect_err(content);
            assert!(why.contains(said), "{content}: {why}");
        }
    }
}
