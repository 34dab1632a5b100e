//! What one rendering may cost.
//!
//! A template comes with a model, from strangers, and a few characters can ask for any amount of work: `tojson` of
//! its own result doubles the backslashes each time, `x ~ x` doubles a text, a list that holds a list twice doubles
//! with each step, loops nest. The template engine counts steps (its "fuel") and knows nothing of what a step makes.
//! So the results of operators that can grow (see [`guard`](super::guard)), what goes into filters and methods, and
//! what is printed are weighed here, and a rendering that asks for too much ends with an error that says so.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error as JinjaError, ErrorKind, State, filters};

use super::{Jinja, Node};
use crate::json::Value;

/// Steps of one rendering: a fifth of a second. A conversation of a thousand turns takes some hundred thousand.
pub(super) const STEPS: u64 = 4_000_000;
/// What one rendering may make, in bytes.
const LARGEST: usize = 64 << 20;
/// What looking at one item of a list counts.
const ITEM: usize = 16;
/// A filter that reads a text is so much cheaper than one that makes it.
const READ: usize = 8;
/// Lists inside each other.
const DEEPEST: usize = 64;
/// Digits of the widths that formats take.
const WIDTH_DIGITS: usize = 3;

/// The filter of what an operator or a literal makes.
pub(super) const MADE: &str = "_made";
/// The filter of what `set` keeps.
pub(super) const KEPT: &str = "_kept";
/// The filter of what an attribute of a namespace keeps.
pub(super) const HELD: &str = "_held";

/// What a rendering has left to make.
struct Left(usize);

pub(super) fn refuse(detail: impl Into<String>) -> JinjaError {
    JinjaError::new(ErrorKind::InvalidOperation, detail.into())
}

/// Takes `bytes` from what the rendering may still make.
pub(super) fn spend(state: &mut State<'_, '_>, bytes: usize) -> Result<(), JinjaError> {
    let left = state.get_or_insert_extension(Left(LARGEST));
    match left.0.checked_sub(bytes) {
        Some(rest) => {
            left.0 = rest;
            Ok(())
        }
        None => Err(too_much()),
    }
}

fn too_much() -> JinjaError {
    refuse("one rendering would make more than 64 MiB of texts and values")
}

/// Takes what a tree of JSON weighs.
pub(super) fn spend_tree(state: &mut State<'_, '_>, value: &Value) -> Result<(), JinjaError> {
    spend(state, tree_weight(value))
}

fn tree_weight(value: &Value) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.iter().map(|item| ITEM + tree_weight(item)).sum(),
        Value::Dict(map) => map
            .iter()
            .map(|(name, item)| ITEM + name.len() + tree_weight(item))
            .sum(),
        _ => ITEM,
    }
}

/// Looks through lists and objects that the template made: each item is paid for, no list may hold more than a
/// rendering may make, though it hold one text many times, and none may hold itself, as a namespace inside could
/// make it.
fn weigh(
    state: &mut State<'_, '_>,
    value: &Jinja,
    weight: &mut usize,
    depth: usize,
) -> Result<(), JinjaError> {
    *weight = weight.saturating_add(value.as_str().map_or(ITEM, str::len));
    if *weight > LARGEST {
        return Err(too_much());
    }
    if depth > DEEPEST {
        return Err(refuse("lists stand too deep inside each other"));
    }
    if is_namespace(value) && depth > 0 {
        return Err(refuse("a namespace may not stand inside another value"));
    }
    let is_list = matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
    );
    if !is_list || is_namespace(value) || value.downcast_object_ref::<Node>().is_some() {
        return Ok(());
    }
    spend(state, value.len().unwrap_or(1).saturating_mul(ITEM))?;
    let (known, is_map) = (value.len().is_some(), value.kind() == ValueKind::Map);
    for item in value.try_iter()? {
        if is_map {
            weigh(state, &value.get_item(&item)?, weight, depth + 1)?;
        }
        if !known {
            spend(state, ITEM)?;
        }
        weigh(state, &item, weight, depth + 1)?;
    }
    Ok(())
}

/// Whether the template can change the value after it was made.
fn is_namespace(value: &Jinja) -> bool {
    let object = value.as_object();
    object.is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// The filter [`MADE`].
fn made(state: &mut State<'_, '_>, value: Jinja) -> Result<Jinja, JinjaError> {
    match value.as_str() {
        Some(text) => spend(state, text.len())?,
        None => weigh(state, &value, &mut 0, 0)?,
    }
    Ok(value)
}

/// The filter [`KEPT`]: a view of a list (as a slice is) becomes a list, or views of views would grow deep.
fn kept(state: &mut State<'_, '_>, value: Jinja) -> Result<Jinja, JinjaError> {
    keep(state, value, 0)
}

/// The filter [`HELD`].
fn held(state: &mut State<'_, '_>, value: Jinja) -> Result<Jinja, JinjaError> {
    keep(state, value, 1)
}

fn keep(state: &mut State<'_, '_>, value: Jinja, depth: usize) -> Result<Jinja, JinjaError> {
    if value.as_str().is_some() {
        return Ok(value);
    }
    weigh(state, &value, &mut 0, depth)?;
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    value.try_iter()?.map(Ok).collect()
}

/// Pays for what goes into a filter or a method.
pub(super) fn read(state: &mut State<'_, '_>, values: &[Jinja]) -> Result<(), JinjaError> {
    for value in values {
        match (value.as_str(), value.len()) {
            (Some(text), _) => spend(state, text.len() / READ)?,
            (None, Some(length)) if length > 1 => spend(state, length.saturating_mul(ITEM))?,
            _ => {}
        }
    }
    Ok(())
}

/// `text.replace(from, to)`: what it makes is known before.
pub(super) fn replaced(
    state: &mut State<'_, '_>,
    text: &str,
    from: &str,
    to: &str,
) -> Result<(), JinjaError> {
    let times = match from {
        "" => text.len() + 1,
        from => text.matches(from).count(),
    };
    spend(state, times.saturating_mul(to.len()))
}

/// `separator.join(items)`: what it makes is known before.
pub(super) fn joined(
    state: &mut State<'_, '_>,
    separator: &str,
    items: &Jinja,
) -> Result<(), JinjaError> {
    let length = items.len().unwrap_or(0);
    spend(state, length.saturating_mul(separator.len()))?;
    let Ok(items) = items.try_iter() else {
        return Ok(());
    };
    for item in items {
        spend(state, item.as_str().map_or(ITEM, str::len))?;
    }
    Ok(())
}

/// Refuses a width such as those of `%99999d` and `{:>99999}`.
pub(super) fn formatted(format: &str) -> Result<(), JinjaError> {
    let mut numbers = format.split(|c: char| !c.is_ascii_digit());
    let wide = numbers.any(|digits| digits.trim_start_matches('0').len() > WIDTH_DIGITS);
    if wide || (format.contains('*') && format.contains('%')) {
        return Err(refuse("widths in a format may have three digits at most"));
    }
    Ok(())
}

/// What a filter makes beyond what goes into it.
fn grows(state: &mut State<'_, '_>, name: &str, args: &[Jinja]) -> Result<(), JinjaError> {
    let text = |at: usize| args.get(at).and_then(Jinja::as_str).unwrap_or_default();
    match name {
        "replace" => replaced(state, text(0), text(1), text(2)),
        "join" => {
            let longest = args.iter().skip(1).map(longest_text).max().unwrap_or(0);
            let length = args.first().and_then(Jinja::len).unwrap_or(0);
            spend(state, length.saturating_mul(longest))?;
            args.first()
                .map_or(Ok(()), |items| joined(state, "", items))
        }
        "format" => formatted(text(0)),
        "indent" => {
            let widest = args.iter().skip(1).map(largest_number).max().unwrap_or(4);
            let lines = text(0).matches('\n').count() + 1;
            spend(state, lines.saturating_mul(widest))
        }
        "batch" | "slice" => {
            let widest = args.iter().skip(1).map(largest_number).max().unwrap_or(0);
            spend(state, widest.saturating_mul(ITEM))
        }
        _ => Ok(()),
    }
}

/// The longest text in an argument; named arguments come as an object.
fn longest_text(argument: &Jinja) -> usize {
    inner(argument, |value| value.as_str().map_or(0, str::len))
}

fn largest_number(argument: &Jinja) -> usize {
    inner(argument, |value| value.as_usize().unwrap_or(0))
}

fn inner(argument: &Jinja, measure: impl Fn(&Jinja) -> usize) -> usize {
    if argument.kind() != ValueKind::Map {
        return measure(argument);
    }
    let names = argument.try_iter().into_iter().flatten();
    let values = names.filter_map(|name| argument.get_item(&name).ok());
    values.map(|value| measure(&value)).max().unwrap_or(0)
}

/// `range`, whose items are paid for.
fn range(
    state: &mut State<'_, '_>,
    start: isize,
    stop: Option<isize>,
    step: Option<isize>,
) -> Result<Jinja, JinjaError> {
    let (low, high) = stop.map_or((0, start), |stop| (start, stop));
    let items = high.abs_diff(low) / step.unwrap_or(1).unsigned_abs().max(1);
    spend(state, items.saturating_mul(ITEM))?;
    minijinja::functions::range(start, stop, step)
}

/// The built-in filters, each behind one that pays for what goes in.
macro_rules! paid {
    ($environment:ident: $($name:ident)*) => {$(
        $environment.add_filter(concat!("unpaid ", stringify!($name)), filters::$name);
        $environment.add_filter(
            stringify!($name),
            |state: &mut State<'_, '_>, args: Rest<Jinja>| -> Result<Jinja, JinjaError> {
                read(state, &args)?;
                grows(state, stringify!($name), &args)?;
                state.apply_filter(concat!("unpaid ", stringify!($name)), &args)
            },
        );
    )*};
}

/// Gives an environment its limits.
pub(super) fn limit(environment: &mut Environment<'_>) {
    environment.set_fuel(Some(STEPS));
    environment.add_filter(MADE, made);
    environment.add_filter(KEPT, kept);
    environment.add_filter(HELD, held);
    environment.add_function("range", range);
    paid!(environment:
        lower upper title capitalize replace dictsort items reverse trim join split lines min max sort list string
        batch slice sum indent select selectattr reject rejectattr map groupby unique chain zip pprint format
        escape);
}
