//! From a prepared text to its calls: without a syntax tree where the text is plain.

use super::calls::{CallValue, parse_calls};
use super::expr::Reject;
use super::plain;

/// Reads a prepared text as a list, tuple or set of calls. `one_line` says that the text has no line end.
pub(crate) fn decode(text: &str, one_line: bool) -> Result<Vec<CallValue<'_>>, Reject> {
    plain::decode(text, one_line).unwrap_or_else(|| parse_calls(text))
}
