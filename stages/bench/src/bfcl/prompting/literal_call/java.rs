//! The first method invocation of a Java source.

use tree_sitter::Node;

use super::source::Source;
use super::{Given, children};
use crate::bfcl::calls::DecodedCall;
use crate::bfcl::output::Undecodable;

/// Calls inside each other at which Python gives up, less those that are under way before.
const MAX_DEPTH: usize = 985;

pub(super) fn call(
    root: Node<'_>,
    text: &str,
) -> Result<Option<DecodedCall<'static>>, Undecodable> {
    let source = Source::new(text);
    let Some(invocation) = first_invocation(root)? else {
        return Ok(None);
    };
    let name = invocation.child_by_field_name("name").ok_or(Undecodable)?;
    let object = invocation.child_by_field_name("object");
    let name = match object {
        Some(object) => format!("{}.{}", source.of(object), source.of(name)),
        None => source.of(name).to_owned(),
    };
    let Some(arguments) = invocation.child_by_field_name("arguments") else {
        return Ok(None);
    };
    let mut given = Given::default();
    for argument in children(arguments) {
        match argument.kind() {
            "assignment_expression" => {
                let mut parts = children(argument);
                let name = parts.next().ok_or(Undecodable)?;
                let value = parts.nth(1).ok_or(Undecodable)?;
                let value = unquoted(value, &source)?;
                given.named(source.of(name).to_owned(), value);
            }
            "identifier" | "class_literal" => given.nameless(source.of(argument).to_owned()),
            _ => {}
        }
    }
    given.call(name).map(Some)
}

/// The first in the order of the text.
fn first_invocation(root: Node<'_>) -> Result<Option<Node<'_>>, Undecodable> {
    let mut cursor = root.walk();
    loop {
        if cursor.node().kind() == "method_invocation" {
            return Ok(Some(cursor.node()));
        }
        if cursor.goto_first_child() {
            if cursor.depth() as usize >= MAX_DEPTH {
                return Err(Undecodable);
            }
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return Ok(None);
            }
        }
    }
}

/// The text of an argument's value; a string or a character loses its quotes.
fn unquoted(node: Node<'_>, source: &Source<'_>) -> Result<String, Undecodable> {
    if matches!(node.kind(), "string_literal" | "character_literal") {
        let mut inside = source.of(node).chars();
        inside.next();
        inside.next_back();
        return Ok(inside.as_str().to_owned());
    }
    let mut out = String::new();
    write(&mut out, node, source, 0)?;
    Ok(out)
}

/// Writes a value: tokens without what stands between them, a constructor without its body.
fn write(
    out: &mut String,
    node: Node<'_>,
    source: &Source<'_>,
    depth: usize,
) -> Result<(), Undecodable> {
    if depth >= MAX_DEPTH {
        return Err(Undecodable);
    }
    match node.kind() {
        "string_literal" | "character_literal" | "identifier" | "class_literal"
        | "type_identifier" | "method_invocation" => out.push_str(source.of(node)),
        "array_creation_expression" => {
            out.push_str("new ");
            write_field(out, node, "type", source, depth)?;
            out.push_str("[]");
            write_field(out, node, "value", source, depth)?;
        }
        "object_creation_expression" => {
            out.push_str("new ");
            write_field(out, node, "type", source, depth)?;
            out.push('(');
            if let Some(arguments) = node.child_by_field_name("arguments") {
                let arguments =
                    children(arguments).filter(|child| !matches!(child.kind(), "," | "(" | ")"));
                for (index, argument) in arguments.enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    write(out, argument, source, depth + 1)?;
                }
            }
            out.push(')');
        }
        _ if node.child_count() > 0 => {
            for child in children(node) {
                // The package goes through a generator here, which counts as a call.
                write(out, child, source, depth + 2)?;
            }
        }
        _ => out.push_str(source.of(node)),
    }
    Ok(())
}

fn write_field(
    out: &mut String,
    node: Node<'_>,
    name: &str,
    source: &Source<'_>,
    depth: usize,
) -> Result<(), Undecodable> {
    let field = node.child_by_field_name(name).ok_or(Undecodable)?;
    write(out, field, source, depth + 1)
}
