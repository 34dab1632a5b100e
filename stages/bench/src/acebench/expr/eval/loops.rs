//! Comprehensions: the loops that bind names.

use super::super::value::set::build_set;
use super::super::value::{Value, build_dict, truthy};
use super::super::{Comprehension, Expr, Loop, Reject, Shape};
use super::scope::bind;
use super::{Evaluated, Evaluator, STEP};

impl<'a> Evaluator<'_, 'a> {
    pub(in super::super) fn comprehension(
        &mut self,
        comprehension: &Comprehension<'a>,
    ) -> Evaluated<'a> {
        let (first, rest) = comprehension.loops.split_first().ok_or(Reject)?;
        if first.is_async {
            return Err(Reject);
        }
        // The first iterable belongs to the outside.
        let outermost = self.value(&first.iterable)?;
        let outermost = self.iterated(outermost)?;
        if comprehension.shape == Shape::Generator {
            let is_async = rest.iter().any(|each| each.is_async);
            return Ok(Value::Opaque(match is_async {
                true => "<async_generator object <genexpr> at 0x7f0000000000>",
                false => "<generator object <genexpr> at 0x7f0000000000>",
            }));
        }
        self.scope.loops.push(Vec::new());
        let mut built = Vec::new();
        self.walk(comprehension, (first, rest), outermost, &mut built)?;
        self.scope.loops.pop();
        match comprehension.shape {
            Shape::Dict => build_dict(built.into_iter()).map(Value::Dict).ok_or(Reject),
            Shape::Set => build_set(built.into_iter().map(|(item, _)| item)),
            _ => Ok(Value::List(
                built.into_iter().map(|(item, _)| item).collect(),
            )),
        }
    }

    fn walk(
        &mut self,
        comprehension: &Comprehension<'a>,
        (each, inner): (&Loop<'a>, &[Loop<'a>]),
        items: Vec<Value<'a>>,
        built: &mut Vec<(Value<'a>, Value<'a>)>,
    ) -> Result<(), Reject> {
        'items: for item in items {
            self.budget.spend(STEP)?;
            self.bind(&each.target, item)?;
            for condition in &each.conditions {
                if !truthy(&self.value(condition)?) {
                    continue 'items;
                }
            }
            if let Some((next, rest)) = inner.split_first() {
                let items = self.value(&next.iterable)?;
                let items = self.iterated(items)?;
                self.walk(comprehension, (next, rest), items, built)?;
                continue;
            }
            let element = self.value(&comprehension.element)?;
            let value = comprehension.value.as_ref();
            let value = value.map_or(Ok(Value::None), |value| self.value(value))?;
            built.push((element, value));
        }
        Ok(())
    }

    /// Assigns to a loop's target: a name, or targets for the items of a value.
    fn bind(&mut self, target: &Expr<'a>, value: Value<'a>) -> Result<(), Reject> {
        let targets = match target {
            Expr::Name(name) => {
                let names = self.scope.loops.last_mut().ok_or(Reject)?;
                bind(names, name.clone(), value);
                return Ok(());
            }
            Expr::Tuple(targets) | Expr::List(targets) => targets,
            _ => return Err(Reject),
        };
        let mut items = self.iterated(value)?;
        let Some(star) = targets.iter().position(|t| matches!(t, Expr::Starred(_))) else {
            if items.len() != targets.len() {
                return Err(Reject);
            }
            let mut pairs = targets.iter().zip(items);
            return pairs.try_for_each(|(target, item)| self.bind(target, item));
        };
        let after = targets.len() - star - 1;
        let middle = items.len().checked_sub(star + after).ok_or(Reject)?;
        let tail = items.split_off(star + middle);
        let rest = Value::List(items.split_off(star));
        for (target, item) in targets.iter().zip(items) {
            self.bind(target, item)?;
        }
        if let Expr::Starred(inner) = &targets[star] {
            self.bind(inner, rest)?;
        }
        let mut pairs = targets[star + 1..].iter().zip(tail);
        pairs.try_for_each(|(target, item)| self.bind(target, item))
    }
}
