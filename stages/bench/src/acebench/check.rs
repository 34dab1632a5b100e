//! The checker of Normal entries.

use std::cell::RefCell;

use super::calls::CallValue;
use super::decode::decode;
use super::expr::{Kind, Value, equal, write_str};
use super::normalise::normalise_into;
use super::plain::same;
use super::prepare::prepare;
use super::reference::{Expected, Normal, Reference, ReferenceCall, ReferenceValue, Schema, Slot};
use super::{Category, ErrorKind, Profile};

/// Why a call does not fit; [`ErrorKind::Crash`] ends the whole check.
type Checked = Result<(), ErrorKind>;

/// Checks one output against an entry.
pub(super) fn check_normal(
    profile: Profile,
    category: Category,
    normal: &Normal,
    output: &str,
) -> Checked {
    let prepared = prepare(profile, category, output).ok_or(ErrorKind::WrongOutputFormat)?;
    let calls = decode(&prepared.text, prepared.one_line);
    let calls = calls.map_err(|_| ErrorKind::WrongOutputFormat)?;
    check_calls(normal, &calls)
}

/// A function's name, and its arguments as text.
type ShownCall = (String, Vec<(String, String)>);

/// The calls that are read from an output, each with its arguments as Python prints them; `None` when it is no list
/// of calls.
pub(super) fn shown_calls(
    profile: Profile,
    category: Category,
    output: &str,
) -> Option<Vec<ShownCall>> {
    let prepared = prepare(profile, category, output)?;
    let calls = decode(&prepared.text, prepared.one_line).ok()?;
    let argument = |(name, value): &(Option<std::borrow::Cow<'_, str>>, Value<'_>)| {
        let mut printed = String::new();
        if super::expr::write_repr(&mut printed, value).is_err() {
            printed.push('…');
        }
        (name.as_deref().unwrap_or("**").to_owned(), printed)
    };
    let call = |call: &CallValue<'_>| {
        (
            call.name.to_string(),
            call.arguments.iter().map(argument).collect(),
        )
    };
    Some(calls.iter().map(call).collect())
}

/// Valid if any reference accepts the calls; otherwise the error of the first one.
fn check_calls(normal: &Normal, calls: &[CallValue<'_>]) -> Checked {
    let mut first = Ok(());
    for reference in &normal.references {
        match check_reference(normal, reference, calls) {
            Err(ErrorKind::Crash) => return Err(ErrorKind::Crash),
            Ok(()) => return Ok(()),
            Err(error) => first = first.and(Err(error)),
        }
    }
    first
}

fn check_reference(normal: &Normal, reference: &Reference, calls: &[CallValue<'_>]) -> Checked {
    if calls.len() != reference.calls.len() {
        return Err(ErrorKind::WrongFunctionsNumber);
    }
    if !same_names(reference, calls) {
        return Err(ErrorKind::FunctionMismatch);
    }
    if let ([expected], [call]) = (&reference.calls[..], calls) {
        return check_call(normal, expected, call);
    }
    for expected in &reference.calls {
        let mut result = Err(ErrorKind::Unclear);
        for call in calls {
            result = if call.name == expected.name {
                check_call(normal, expected, call)
            } else {
                Err(ErrorKind::Unclear)
            };
            if matches!(result, Ok(()) | Err(ErrorKind::Crash)) {
                break;
            }
        }
        result?;
    }
    Ok(())
}

fn same_names(reference: &Reference, calls: &[CallValue<'_>]) -> bool {
    if let ([name], [call]) = (&reference.names[..], calls) {
        return *name == call.name;
    }
    let mut names: Vec<&str> = calls.iter().map(|call| &*call.name).collect();
    names.sort_unstable();
    names.iter().eq(&reference.names)
}

/// Checks a call that has the name of the reference's.
fn check_call(normal: &Normal, expected: &ReferenceCall, call: &CallValue<'_>) -> Checked {
    // Every reference of the data names a described function.
    let function = expected
        .function
        .and_then(|i| normal.functions.get(i))
        .ok_or(ErrorKind::Crash)?;
    match (call.arguments.is_empty(), function.no_parameters) {
        (true, true) => return Ok(()),
        (false, false) => {}
        _ => return Err(ErrorKind::WrongParam),
    }
    if expected.is_schema {
        return Ok(());
    }
    if expected.is_empty {
        return Err(ErrorKind::WrongParam);
    }
    if !expected.is_described {
        return Err(ErrorKind::WrongFunctionName);
    }
    let (mut required, mut checked) = (0, Ok(()));
    for (place, (name, value)) in call.arguments.iter().enumerate() {
        let slot = name.as_deref().and_then(|name| expected.slot(place, name));
        required += usize::from(slot.is_some_and(|slot| slot.required));
        if checked.is_ok() {
            checked = slot.map_or(Err(ErrorKind::AdditionArgs), |slot| {
                check_argument(slot, value)
            });
        }
    }
    // No name is given twice, so that all required ones are there when they are as many.
    if required < expected.required {
        return Err(ErrorKind::LackArgs);
    }
    checked
}

fn check_argument(slot: &Slot, value: &Value<'_>) -> Checked {
    let (Some(schema), Some(reference)) = (slot.schema, &slot.reference) else {
        return Err(ErrorKind::AdditionArgs);
    };
    match check_type(schema, value, &reference.value)? {
        Typed::Skip => Ok(()),
        Typed::Compare => check_value(schema, value, reference),
    }
}

/// The value has an acceptable type: is it to be compared?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typed {
    Compare,
    Skip,
}

fn check_type(
    schema: Schema,
    value: &Value<'_>,
    reference: &Value<'static>,
) -> Result<Typed, ErrorKind> {
    let truth;
    let value = match value {
        Value::Str(text) if text == "true" || text == "false" => {
            truth = Value::Bool(text == "true");
            &truth
        }
        value => value,
    };
    let kind = match (schema.expected, value.kind()) {
        (Expected::Float, Kind::Int) => Kind::Float,
        (Expected::Tuple, Kind::Tuple) => Kind::List,
        (_, kind) => kind,
    };
    let expected = schema.expected.kind();
    let empty_text = reference.as_str() == Some("");
    let typed = if !empty_text && Some(reference.kind()) != expected {
        Typed::Skip
    } else {
        Typed::Compare
    };
    if Some(kind) == expected {
        let container = matches!(kind, Kind::List | Kind::Dict);
        return match !container || check_items(schema, value, reference)? {
            true => Ok(typed),
            false => Err(ErrorKind::Type),
        };
    }
    if !empty_text && (kind == reference.kind() || equal(value, reference)) {
        return Ok(Typed::Skip);
    }
    Err(ErrorKind::Type)
}

/// Whether some element of the reference is no list, or is a list whose elements' types all of the
/// value's elements have. Never so for an empty reference.
fn check_items(
    schema: Schema,
    value: &Value<'_>,
    reference: &Value<'static>,
) -> Result<bool, ErrorKind> {
    let elements = match reference {
        Value::List(items) | Value::Tuple(items) => items,
        // The elements of a map are its keys, those of a text its characters; none is a list.
        Value::Dict(entries) => return Ok(!entries.is_empty()),
        Value::Str(text) => return Ok(!text.is_empty()),
        // The official program cannot walk over a number.
        _ => return Err(ErrorKind::Crash),
    };
    let item = Schema {
        expected: schema.items.unwrap_or(schema.expected.unstated_items()),
        items: None,
    };
    let mut keys: Vec<&Value<'_>> = Vec::new();
    let of_value: &mut dyn Iterator<Item = &Value<'_>> = match value {
        Value::List(items) | Value::Tuple(items) => &mut items.iter(),
        Value::Dict(entries) => &mut entries.iter().map(|(key, _)| key),
        _ => &mut std::iter::empty(),
    };
    for element in elements {
        if element.kind() != Kind::List {
            return Ok(true);
        }
        if keys.is_empty() {
            keys.extend(&mut *of_value);
        }
        let mut all = true;
        for part in &keys {
            match check_type(item, part, element) {
                Ok(_) => {}
                Err(ErrorKind::Crash) => return Err(ErrorKind::Crash),
                Err(_) => {
                    all = false;
                    break;
                }
            }
        }
        if all {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_value(schema: Schema, value: &Value<'_>, reference: &ReferenceValue) -> Checked {
    match schema.expected {
        Expected::Bool | Expected::Int | Expected::Float | Expected::Nothing => Ok(()),
        Expected::Text => match value {
            Value::Str(text) if contains_text(text, reference) => Ok(()),
            _ => Err(ErrorKind::ValueText),
        },
        Expected::Map => check_map(value, reference),
        Expected::List | Expected::Tuple | Expected::ListOf { .. } | Expected::Objects => {
            check_list(schema, value, reference)
        }
    }
}

fn check_list(schema: Schema, value: &Value<'_>, reference: &ReferenceValue) -> Checked {
    let (Value::List(items) | Value::Tuple(items)) = value else {
        return Err(ErrorKind::ValueList);
    };
    if schema.items.unwrap_or(schema.expected.unstated_items()) == Expected::Map {
        if items.len() != reference.items.len() {
            return Err(ErrorKind::ValueCount);
        }
        let pairs = items.iter().zip(&reference.items);
        return pairs
            .into_iter()
            .try_for_each(|(item, reference)| check_map(item, reference));
    }
    let same = |(item, reference): (&Value<'_>, &ReferenceValue)| match (item, &reference.value) {
        (Value::Str(text), Value::Str(_)) => {
            reference.is_text(text)
                || with_normalised(text, |text| text == reference.needle.as_bytes())
        }
        (Value::Str(_), _) | (_, Value::Str(_)) => false,
        (item, reference) => equal(item, reference),
    };
    if items.len() == reference.items.len() && items.iter().zip(&reference.items).all(same) {
        Ok(())
    } else {
        Err(ErrorKind::ValueList)
    }
}

fn check_map(value: &Value<'_>, reference: &ReferenceValue) -> Checked {
    let Value::Dict(entries) = value else {
        return Err(ErrorKind::Value);
    };
    if reference.value.kind() != Kind::Dict {
        return Err(ErrorKind::Crash);
    }
    if entries.len() != reference.entries.len() {
        return Err(ErrorKind::Value);
    }
    for (place, (key, value)) in entries.iter().enumerate() {
        let key = key.as_str().ok_or(ErrorKind::Value)?;
        let is_it = |(known, _): &&(String, ReferenceValue)| same(key, known);
        let known = reference.entries.get(place).filter(is_it);
        let known = known.or_else(|| reference.entries.iter().find(is_it));
        let (_, reference) = known.ok_or(ErrorKind::Value)?;
        if reference.value.kind() == Kind::Dict {
            check_map(value, reference)?;
        } else if !contains_printed(value, reference)? {
            return Err(ErrorKind::Value);
        }
    }
    Ok(())
}

/// Whether a value inside a map, put into text, holds the reference's text.
fn contains_printed(value: &Value<'_>, reference: &ReferenceValue) -> Result<bool, ErrorKind> {
    match value {
        Value::Str(text) if text == "true" => Ok("True".contains(&reference.needle)),
        Value::Str(text) if text == "false" => Ok("False".contains(&reference.needle)),
        Value::Str(text) => Ok(contains_text(text, reference)),
        value if prints_like(value, &reference.value) => Ok(true),
        value => with_printed(value, |text| holds(text, reference.needle.as_bytes()))
            .ok_or(ErrorKind::Crash),
    }
}

/// Whether two values are the same part by part, so that they print the same; long integers are left to printing.
fn prints_like(value: &Value<'_>, reference: &Value<'_>) -> bool {
    let all = |a: &[Value<'_>], b: &[Value<'_>]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| prints_like(a, b))
    };
    match (value, reference) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::List(a), Value::List(b)) => all(a, b),
        _ => false,
    }
}

/// `needle in text`; on texts as short as these a search without preparation is the faster one.
fn holds(text: &[u8], needle: &[u8]) -> bool {
    /// Beyond this, what a search prepares pays.
    const SHORT: usize = 1 << 12;
    let (Some(&first), true) = (needle.first(), text.len() <= SHORT) else {
        return memchr::memmem::find(text, needle).is_some();
    };
    let Some(last) = text.len().checked_sub(needle.len()) else {
        return false;
    };
    let starts = memchr::memchr_iter(first, &text[..=last]);
    starts.into_iter().any(|at| text[at..].starts_with(needle))
}

fn contains_text(text: &str, reference: &ReferenceValue) -> bool {
    reference.is_text(text)
        || with_normalised(text, |text| holds(text, reference.needle.as_bytes()))
}

/// Memory of texts that are made for one comparison; beyond this it goes back after use.
const KEEP: usize = 1 << 16;

/// Uses the normalised text.
fn with_normalised<T>(text: &str, use_it: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        normalise_into(scratch, text);
        let result = use_it(scratch);
        scratch.shrink_to(KEEP);
        result
    })
}

/// Uses the value as Python prints it; `None` where it has no printed form.
fn with_printed<T>(value: &Value<'_>, use_it: impl FnOnce(&[u8]) -> T) -> Option<T> {
    thread_local! {
        static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let written = write_str(scratch, value);
        let result = written.ok().map(|()| use_it(scratch.as_bytes()));
        scratch.shrink_to(KEEP);
        result
    })
}
