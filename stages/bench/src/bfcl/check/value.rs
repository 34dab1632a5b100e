//! Type and value checks of one argument.

use starling_text::json::{Map, Value};
use starling_text::python;

use super::compile::{Alternative, Entry, Parameter, Type, contains, is_empty};
use super::standard::standardise;
use crate::bfcl::verdict::ErrorKind;

/// Checks the type, then the value.
pub(super) fn check(parameter: &Parameter, value: &Value) -> Result<(), ErrorKind> {
    let alternatives = &parameter.alternatives;
    if !check_type(parameter, value)? {
        match (parameter.expected, parameter.element) {
            (Type::Dict, _) => return check_dict(value, alternatives),
            (Type::List, Some(Type::Dict)) => return check_list_of_dicts(value, alternatives),
            (Type::Str, _) => return check_string(value, alternatives),
            (Type::List, _) => return check_list(value, alternatives),
            _ => {}
        }
    }
    match contains(alternatives.iter().map(|a| &a.value), value) {
        true => Ok(()),
        false => Err(ErrorKind::ValueOthers),
    }
}

/// Whether the value stands for a variable: the answer's type is not the declared one, so that strings are compared
/// as they are.
fn check_type(parameter: &Parameter, value: &Value) -> Result<bool, ErrorKind> {
    let found = Type::of(value);
    let variable = parameter
        .first
        .is_some_and(|first| first != parameter.expected);
    let mut error = ErrorKind::TypeSimple;
    if found == parameter.expected {
        let Some(element) = parameter.element else {
            return Ok(variable);
        };
        let items = value.as_list().unwrap_or_default();
        let passes = |alternative: &Alternative| match &alternative.value {
            Value::List(_) => items
                .iter()
                .all(|item| element_passes(item, alternative, element)),
            _ => true,
        };
        if parameter.alternatives.iter().any(passes) {
            return Ok(variable);
        }
        error = ErrorKind::TypeNested;
    }
    if parameter.first != Some(found) {
        return Err(ErrorKind::TypeSimple);
    }
    match error {
        ErrorKind::TypeNested => Err(error),
        _ => Ok(true),
    }
}

/// An element has the declared type, or the type of the first accepted element.
fn element_passes(item: &Value, alternative: &Alternative, element: Type) -> bool {
    let found = Type::of(item);
    found == element || alternative.element == Some(found)
}

fn check_string(value: &Value, alternatives: &[Alternative]) -> Result<(), ErrorKind> {
    let text = value.as_str().unwrap_or_default();
    let mut accepted = alternatives.iter().filter_map(|a| a.standard.as_str());
    match accepted.any(|accepted| standard_eq(text, accepted)) {
        true => Ok(()),
        false => Err(ErrorKind::ValueString),
    }
}

fn check_list(value: &Value, alternatives: &[Alternative]) -> Result<(), ErrorKind> {
    let items = value.as_list().unwrap_or_default();
    let element_eq = |item: &Value, accepted: &Value| match (item, accepted) {
        (Value::Str(text), Value::Str(accepted)) => standard_eq(text, accepted),
        _ => python::eq(item, accepted),
    };
    let passes = |alternative: &Alternative| match &alternative.standard {
        Value::List(accepted) => {
            accepted.len() == items.len()
                && items
                    .iter()
                    .zip(accepted)
                    .all(|(item, accepted)| element_eq(item, accepted))
        }
        // A string is walked like the list of its characters, so `""` accepts the empty list.
        Value::Str(_) => {
            let text = alternative.value.as_str().unwrap_or_default();
            let mut chars = text.chars();
            items.iter().all(|item| {
                let accepted = chars
                    .next()
                    .map(|c| standardise(c.encode_utf8(&mut [0; 4])).into_owned());
                matches!((item, accepted), (Value::Str(item), Some(accepted))
                    if standard_eq(item, &accepted))
            }) && chars.next().is_none()
        }
        _ => false,
    };
    match alternatives.iter().any(passes) {
        true => Ok(()),
        false => Err(ErrorKind::ValueList),
    }
}

fn check_dict(value: &Value, alternatives: &[Alternative]) -> Result<(), ErrorKind> {
    let Some(map) = value.as_dict() else {
        return Err(ErrorKind::CheckerRaised);
    };
    let mut error = ErrorKind::DictUnclear;
    for alternative in alternatives.iter().filter(|a| !is_empty(&a.value)) {
        let Some(entries) = &alternative.entries else {
            return Err(ErrorKind::CheckerRaised);
        };
        match check_entries(map, entries) {
            Ok(()) => return Ok(()),
            Err(kind) => error = kind,
        }
    }
    Err(error)
}

fn check_entries(map: &Map, entries: &[Entry]) -> Result<(), ErrorKind> {
    let mut result = Ok(());
    for (key, value) in map {
        let Some(entry) = entries.iter().find(|entry| entry.key == *key) else {
            result = Err(ErrorKind::ValueDictKey);
            break;
        };
        let mut accepted = entry.accepted.iter();
        let found = match value {
            Value::Str(text) => accepted.any(|a| a.as_str().is_some_and(|a| standard_eq(text, a))),
            value => contains(accepted, value),
        };
        if !found {
            result = Err(ErrorKind::ValueDictValue);
            break;
        }
    }
    // A missing key speaks louder than a wrong value.
    match entries
        .iter()
        .any(|entry| !entry.optional && !map.contains_key(&entry.key))
    {
        true => Err(ErrorKind::ValueDictKey),
        false => result,
    }
}

fn check_list_of_dicts(value: &Value, alternatives: &[Alternative]) -> Result<(), ErrorKind> {
    let items = value.as_list().unwrap_or_default();
    let mut error = ErrorKind::ListDictUnclear;
    for alternative in alternatives {
        let empty = Vec::new();
        let (length, objects) = match (&alternative.value, &alternative.objects) {
            (Value::Str(text), _) => (text.chars().count(), &empty),
            (_, Some(objects)) => (objects.len(), objects),
            _ => return Err(ErrorKind::CheckerRaised),
        };
        if items.len() != length {
            error = ErrorKind::ValueListDictCount;
            continue;
        }
        let mut result = Ok(());
        for (index, item) in items.iter().enumerate() {
            let (Some(map), Some(Some(entries))) = (item.as_dict(), objects.get(index)) else {
                return Err(ErrorKind::CheckerRaised);
            };
            result = check_entries(map, entries);
            if result.is_err() {
                break;
            }
        }
        match result {
            Ok(()) => return Ok(()),
            Err(kind) => error = kind,
        }
    }
    Err(error)
}

/// Whether `text`, standardised, is `accepted`, which already is.
fn standard_eq(text: &str, accepted: &str) -> bool {
    if !text.is_ascii() {
        return standardise(text) == accepted;
    }
    let mut accepted = accepted.bytes();
    for byte in text.bytes() {
        if matches!(byte, b' ' | b',' | b'.' | b'/' | b'-' | b'_' | b'*' | b'^') {
            continue;
        }
        let byte = if byte == b'\'' {
            b'"'
        } else {
            byte.to_ascii_lowercase()
        };
        if accepted.next() != Some(byte) {
            return false;
        }
    }
    accepted.next().is_none()
}
