//! The first call that is a statement of a JavaScript source.

use tree_sitter::Node;

use super::{Given, children};
use crate::bfcl::calls::DecodedCall;
use crate::bfcl::output::Undecodable;

pub(super) fn call(
    root: Node<'_>,
    text: &str,
) -> Result<Option<DecodedCall<'static>>, Undecodable> {
    let statements = children(root).filter(|node| node.kind() == "expression_statement");
    let call = statements
        .flat_map(children)
        .find(|node| node.kind() == "call_expression");
    let Some(call) = call else {
        return Ok(None);
    };
    let source = |node: Node<'_>| text.get(node.byte_range()).unwrap_or_default().to_owned();
    let mut parts = children(call);
    let name = parts.next().ok_or(Undecodable)?;
    // Usually the arguments; behind a `?.`, the arguments go unread.
    let arguments = parts.next().ok_or(Undecodable)?;
    let mut given = Given::default();
    for argument in children(arguments) {
        match argument.kind() {
            "assignment_expression" => {
                let mut parts = children(argument);
                let name = parts.next().ok_or(Undecodable)?;
                let value = parts.nth(1).ok_or(Undecodable)?;
                given.named(source(name), unquoted(source(value)));
            }
            "identifier" | "true" => given.nameless(source(argument)),
            _ => {}
        }
    }
    given.call(source(name)).map(Some)
}

/// A text that begins and ends with the same quote, without its ends; a single quote is both.
fn unquoted(value: String) -> String {
    let is_quoted = ['"', '\'']
        .iter()
        .any(|quote| value.starts_with(*quote) && value.ends_with(*quote));
    match is_quoted {
        true => value
            .get(1..value.len().max(2) - 1)
            .unwrap_or_default()
            .to_owned(),
        false => value,
    }
}
