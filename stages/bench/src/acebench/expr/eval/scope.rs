//! Names that an expression binds.

use std::borrow::Cow;

use super::super::value::Value;

pub(in super::super) type Names<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Where names are looked for. As in `eval` inside a function, comprehensions do not see what `:=` binds outside of
/// them, but everything sees what it binds inside one.
#[derive(Default)]
pub(in super::super) struct Scope<'a> {
    own: Names<'a>,
    global: Names<'a>,
    /// Of each comprehension under way, outermost first.
    pub(in super::super) loops: Vec<Names<'a>>,
}

impl<'a> Scope<'a> {
    pub(in super::super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let own = Some(&self.own).filter(|_| self.loops.is_empty());
        let scopes = self.loops.iter().rev().chain(own).chain([&self.global]);
        let found = scopes.flatten().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// What `:=` does.
    pub(in super::super) fn assign(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let names = match self.loops.is_empty() {
            true => &mut self.own,
            false => &mut self.global,
        };
        bind(names, name, value);
    }

    /// Whether what is evaluated now may be evaluated again.
    pub(in super::super) fn repeats(&self) -> bool {
        !self.loops.is_empty()
    }
}

pub(in super::super) fn bind<'a>(names: &mut Names<'a>, name: Cow<'a, str>, value: Value<'a>) {
    match names.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => names.push((name, value)),
    }
}
