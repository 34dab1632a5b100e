//! `[vars]`: named values that stages mention as `"${name}"`.
//!
//! A string that is nothing but `${name}` becomes the variable's value, whatever its type; within a longer
//! string a variable stands for its text. `$${` is the text `${`. A variable may mention others.
//! Invariant: whatever a file says, a [`Scope`] ends in a bounded time with bounded memory.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Span};
use crate::suggest::nearest;

/// How many variables may mention each other in a row.
const DEEPEST: usize = 100;
/// Bytes that all variables of a pipeline may come to; more is a mistake in any pipeline.
const LARGEST: usize = 4 << 20;

/// A part of a string.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'s> {
    Text(&'s str),
    Variable(&'s str),
    /// A `${` without its `}`, or with a name that is none.
    Wrong(&'s str),
}

/// The parts of a string, in order.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        if at > 0 {
            pieces.push(Piece::Text(&rest[..at]));
        }
        let inner = &rest[at + 2..];
        let end = inner.find('}').unwrap_or(inner.len());
        let name = &inner[..end];
        if end < inner.len() && is_name(name) {
            pieces.push(Piece::Variable(name));
        } else {
            let end = (at + 3 + end).min(rest.len());
            pieces.push(Piece::Wrong(&rest[at..end]));
        }
        rest = inner.get(end + 1..).unwrap_or("");
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// What a variable may be called.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The variables that a value mentions.
pub(super) fn mentioned(value: &DeValue<'_>, into: &mut BTreeSet<String>) {
    match value {
        DeValue::String(text) if text.contains("${") => {
            for piece in pieces(text) {
                if let Piece::Variable(name) = piece {
                    into.insert(name.to_owned());
                }
            }
        }
        DeValue::Array(list) => list.iter().for_each(|v| mentioned(v.get_ref(), into)),
        DeValue::Table(table) => table.values().for_each(|v| mentioned(v.get_ref(), into)),
        _ => {}
    }
}

/// Reports names that a variable cannot have.
pub(super) fn check_names(definitions: &DeTable<'_>, mistakes: &mut Vec<Mistake>) {
    for (name, _) in definitions {
        if !is_name(name.get_ref()) {
            mistakes.push(Mistake::Variable {
                message: format!("`{}` cannot be the name of a variable", name.get_ref()),
                help: Some("use 1 to 64 letters, digits, `-` and `_`, a letter first".to_owned()),
                span: name.span(),
            });
        }
    }
}

/// Where the value of a variable that replaced a whole string is written, by the place of the string.
pub(super) type Origins = BTreeMap<usize, Origin>;

/// A variable that stands in a place.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Its name.
    pub(super) name: String,
    /// Where its value is written.
    pub(super) span: Span,
}

/// The variables at one point of the matrix, their values found as they are asked for.
pub(super) struct Scope<'d, 't> {
    definitions: BTreeMap<&'d str, &'d Spanned<DeValue<'t>>>,
    /// None for one that is wrong, which was said.
    values: BTreeMap<&'d str, Option<Spanned<DeValue<'t>>>>,
    open: Vec<&'d str>,
    bytes: usize,
}

impl<'d, 't> Scope<'d, 't> {
    /// The variables of `base`, with those of `over` in their place.
    pub(super) fn new(
        base: &'d DeTable<'t>,
        over: impl IntoIterator<Item = &'d DeTable<'t>>,
    ) -> Self {
        let mut definitions = BTreeMap::new();
        for table in std::iter::once(base).chain(over) {
            definitions.extend(table.iter().map(|(k, v)| (k.get_ref().as_ref(), v)));
        }
        Self {
            definitions,
            values: BTreeMap::new(),
            open: Vec::new(),
            bytes: 0,
        }
    }

    /// Looks at every variable, for those that nobody mentions can be wrong too.
    pub(super) fn check(&mut self, mistakes: &mut Vec<Mistake>) {
        let names: Vec<&'d str> = self.definitions.keys().copied().collect();
        for name in names {
            self.value(name, mistakes);
        }
    }

    /// Puts values in place of all mentions in a table; `place` is named in messages.
    pub(super) fn substitute(
        &mut self,
        place: &str,
        table: &mut DeTable<'t>,
        origins: &mut Origins,
        mistakes: &mut Vec<Mistake>,
    ) {
        for (_, value) in table.iter_mut() {
            self.substitute_value(place, value, Some(origins), mistakes);
        }
    }

    fn substitute_value(
        &mut self,
        place: &str,
        value: &mut Spanned<DeValue<'t>>,
        mut origins: Option<&mut Origins>,
        mistakes: &mut Vec<Mistake>,
    ) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains("${") => {
                let text = text.to_string();
                let new = self.string(place, &text, &span, mistakes);
                let Some((new, origin)) = new else { return };
                // A list or a table has places within, so it keeps its own; else mistakes are shown where
                // the variable is mentioned, for there the stage is.
                let whole = matches!(new, DeValue::Array(_) | DeValue::Table(_));
                let at = match (&origin, whole) {
                    (Some(origin), true) => origin.span.clone(),
                    _ => span.clone(),
                };
                if let (Some(origins), Some(origin)) = (&mut origins, origin) {
                    origins.insert(at.start, origin);
                }
                *value = Spanned::new(at, new);
            }
            DeValue::Array(list) => {
                for item in list.iter_mut() {
                    self.substitute_value(place, item, origins.as_deref_mut(), mistakes);
                }
            }
            DeValue::Table(table) => {
                for (_, item) in table.iter_mut() {
                    self.substitute_value(place, item, origins.as_deref_mut(), mistakes);
                }
            }
            _ => {}
        }
    }

    /// The value that a string with mentions becomes; none when a mention is wrong, which was said.
    fn string(
        &mut self,
        place: &str,
        text: &str,
        span: &Span,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<(DeValue<'t>, Option<Origin>)> {
        let parts = pieces(text);
        if let [Piece::Variable(name)] = parts[..] {
            let value = self.mention(place, name, span, mistakes)?;
            let origin = Origin {
                name: name.to_owned(),
                span: value.span(),
            };
            return Some((value.into_inner(), Some(origin)));
        }
        let mut whole = String::new();
        let mut wrong = false;
        for piece in parts {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Variable(name) => {
                    match self.mention(place, name, span, mistakes) {
                        Some(value) => match scalar(value.get_ref()) {
                            Some(text) => whole.push_str(&text),
                            None => {
                                wrong = true;
                                mistakes.push(Mistake::Variable {
                                message: format!(
                                    "{place}: `${{{name}}}` is {} and cannot stand within a string",
                                    super::settings::article(value.get_ref().type_str())
                                ),
                                help: Some(format!("write \"${{{name}}}\" alone, for the value as it is")),
                                span: span.clone(),
                            });
                            }
                        },
                        None => wrong = true,
                    }
                }
                Piece::Wrong(part) => {
                    wrong = true;
                    mistakes.push(Mistake::Variable {
                        message: format!("{place}: `{part}` mentions no variable"),
                        help: Some("write `${name}`, or `$${` for the text `${`".to_owned()),
                        span: span.clone(),
                    });
                }
            }
            self.spend(whole.len(), span, mistakes)?;
        }
        (!wrong).then(|| (DeValue::String(whole.into()), None))
    }

    /// The value of a variable that is mentioned at `span`.
    fn mention(
        &mut self,
        place: &str,
        name: &str,
        span: &Span,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Spanned<DeValue<'t>>> {
        let Some((&known, _)) = self.definitions.get_key_value(name) else {
            mistakes.push(Mistake::UnknownVariable {
                place: place.to_owned(),
                name: name.to_owned(),
                near: nearest(name, self.definitions.keys().copied()).map(str::to_owned),
                span: span.clone(),
            });
            return None;
        };
        let value = self.value(known, mistakes)?;
        let mut size = 0;
        weigh(value.get_ref(), &mut size);
        self.spend(size, span, mistakes)?;
        Some(value)
    }

    fn value(
        &mut self,
        name: &'d str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Spanned<DeValue<'t>>> {
        if let Some(value) = self.values.get(name) {
            return value.clone();
        }
        let definition = *self.definitions.get(name)?;
        if let Some(start) = self.open.iter().position(|&n| n == name) {
            let names = self.open[start..].to_vec();
            mistakes.push(self.cycle(&names));
            return None;
        }
        if self.open.len() == DEEPEST {
            mistakes.push(Mistake::Variable {
                message: format!("more than {DEEPEST} variables mention each other in a row"),
                help: None,
                span: definition.span(),
            });
            return None;
        }
        self.open.push(name);
        let before = mistakes.len();
        let mut value = definition.clone();
        let place = format!("variable `{name}`");
        self.substitute_value(&place, &mut value, None, mistakes);
        self.open.pop();
        // A value stays where it is written, also one that is another variable's.
        let value = Spanned::new(definition.span(), value.into_inner());
        let value = (mistakes.len() == before).then_some(value);
        self.values.insert(name, value.clone());
        value
    }

    /// Variables that mention each other in a circle, the first in order of names first.
    fn cycle(&self, names: &[&'d str]) -> Mistake {
        let first = (0..names.len()).min_by_key(|&n| names[n]).unwrap_or(0);
        let mut names = names.to_vec();
        names.rotate_left(first);
        Mistake::VariableCycle {
            spans: names.iter().map(|n| self.definitions[n].span()).collect(),
            names: names.into_iter().map(str::to_owned).collect(),
        }
    }

    fn spend(&mut self, bytes: usize, span: &Span, mistakes: &mut Vec<Mistake>) -> Option<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= LARGEST {
            return Some(());
        }
        mistakes.push(Mistake::Variable {
            message: format!("the variables come to more than {} MB", LARGEST >> 20),
            help: None,
            span: span.clone(),
        });
        None
    }
}

/// The text of a value that may stand within a string.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(n) => Some(n.to_string()),
        DeValue::Float(n) => Some(n.as_str().to_owned()),
        DeValue::Boolean(b) => Some(b.to_string()),
        DeValue::Datetime(d) => Some(d.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// About how many bytes a value takes.
fn weigh(value: &DeValue<'_>, bytes: &mut usize) {
    *bytes += 8;
    match value {
        DeValue::String(text) => *bytes += text.len(),
        DeValue::Array(list) => list.iter().for_each(|v| weigh(v.get_ref(), bytes)),
        DeValue::Table(table) => table.values().for_each(|v| weigh(v.get_ref(), bytes)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_fall_into_pieces() {
        use Piece::{Text, Variable, Wrong};
        assert_eq!(pieces("plain $ {x}"), [Text("plain $ {x}")]);
        assert_eq!(pieces("${a}"), [Variable("a")]);
        assert_eq!(
            pieces("x/${a-b}.${c_1}"),
            [Text("x/"), Variable("a-b"), Text("."), Variable("c_1")]
        );
        assert_eq!(pieces("$${a}"), [Text(""), Text("${"), Text("a}")]);
        assert_eq!(pieces("${a b}"), [Wrong("${a b}")]);
        assert_eq!(pieces("${a"), [Wrong("${a")]);
        assert_eq!(pieces("${}"), [Wrong("${}")]);
        assert_eq!(pieces("${ä}!"), [Wrong("${ä}"), Text("!")]);
    }

    fn resolved(vars: &str, stage: &str) -> Result<String, Vec<String>> {
        let vars = DeTable::parse(vars).expect("TOML").into_inner();
        let mut stage = DeTable::parse(stage).expect("TOML").into_inner();
        let mut mistakes = Vec::new();
        let mut scope = Scope::new(&vars, []);
        scope.check(&mut mistakes);
        scope.substitute("stage `s`", &mut stage, &mut Origins::new(), &mut mistakes);
        let mut text = String::new();
        super::super::tables::table_text(&stage, &mut text);
        if mistakes.is_empty() {
            Ok(text)
        } else {
            Err(mistakes.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn values_keep_their_types() {
        let vars = "n = 3\nf = 1e-3\nt = 'a'\nl = [1, '${t}']\nb = true\npath = 'x/${t}-${n}'";
        let stage = "a = '${n}'\nb = '${f}'\nc = '${path}.${b}'\nd = '${l}'\ne = ['$${n}', '${t}']";
        assert_eq!(
            resolved(vars, stage).expect("right"),
            r#"{"a":3,"b":f1e-3,"c":"x/a-3.true","d":[1,"a",],"e":["${n}","a",],}"#
        );
    }

    #[test]
    fn wrong_mentions_are_told() {
        let told = |vars, stage| resolved(vars, stage).expect_err("wrong");
        assert_eq!(
            told("a = '${b}'\nb = '${c}x'\nc = '${a}'", ""),
            ["variables mention each other in a circle: `a` → `b` → `c` → `a`"]
        );
        assert_eq!(
            told("seed = 1", "x = '${sead}'"),
            ["stage `s` mentions the variable `sead`, which does not exist"]
        );
        assert_eq!(
            told("l = [1]", "x = 'a${l}'"),
            ["stage `s`: `${l}` is an array and cannot stand within a string"]
        );
    }

    #[test]
    fn growth_ends() {
        let mut laughs = String::from("v0 = 'ha'\n");
        let mut row = String::from("v0 = 1\n");
        for n in 1..40 {
            let v = format!("${{v{}}}", n - 1);
            laughs.push_str(&format!("v{n} = ['{v}', '{v}', '{v}{v}']\n"));
        }
        for n in 1..5000 {
            row.push_str(&format!("v{n} = '${{v{}}}'\n", n - 1));
        }
        // Lists cannot stand within a string, which is another mistake; the point is that it ends.
        assert!(resolved(&laughs, "x = '${v39}'").is_err());
        let mut doubles = String::from("v0 = 'ha'\n");
        for n in 1..64 {
            let v = format!("${{v{}}}", n - 1);
            doubles.push_str(&format!("v{n} = ['{v}', '{v}']\n"));
        }
        assert!(resolved(&doubles, "x = '${v63}'").is_err());
        // In order of names `v1` is first: a row is followed from each end, never deeper than allowed.
        assert!(resolved(&row, "x = '${v4999}'").is_err());
    }
}
