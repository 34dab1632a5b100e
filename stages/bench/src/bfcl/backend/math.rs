//! Arithmetic, with Python's numbers.

use super::{Attribute, Default as D, Setting, logarithm, methods, square_root};
use crate::bfcl::py::{
    Class, Py, Raise, Reply, abs, add, compare, dict, divide, eq, is_number, less, multiply, power,
    round, subtract, sum, to_float,
};

const NAME: &str = "MathAPI";

/// Squared decimal digits that one instance computes beyond what is cheap: a handful of results of the greatest
/// precision. Without a bound, a text of a megabyte asks for hours of work.
const DIGIT_WORK: u64 = 4 * 20_000 * 20_000;

/// Results of fewer digits are cheap and not counted.
const CHEAP_DIGITS: i64 = 500;

#[derive(Debug, Clone)]
pub(crate) struct Math {
    metres_per_unit: Py,
    imperial_factor: Py,
    digit_work_left: u64,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

/// The result, or the error text that stands for an exception of this class.
fn or_error(result: Reply, class: Class, text: &'static str) -> Reply {
    match result {
        Ok(result) => Ok(dict! {"result" => result}),
        Err(raise) if raise.class == class => error(text),
        Err(raise) => Err(raise),
    }
}

const BOTH: &str = "Both inputs must be numbers";
const ALL: &str = "All elements in the list must be numbers";

impl Math {
    methods! {
        logarithm = logarithm(value, base, precision);
        mean = mean(numbers);
        standard_deviation = standard_deviation(numbers);
        si_unit_conversion = si_conversion(value, unit_in, unit_out);
        imperial_si_conversion = imperial_conversion(value, unit_in, unit_out);
        add = add(a, b);
        subtract = subtract(a, b);
        multiply = multiply(a, b);
        divide = divide(a, b);
        power = power(base, exponent);
        square_root = square_root(number, precision);
        absolute_value = absolute(number);
        round_number = round_number(number, decimal_places = D::Int(0));
        percentage = percentage(part, whole);
        min_value = min(numbers);
        max_value = max(numbers);
        sum_values = sum_values(numbers);
    }

    pub(super) fn load(_scenario: &Py, setting: &Setting) -> Reply<Self> {
        Ok(Self {
            metres_per_unit: setting.tables.table(NAME, "metres_per_unit"),
            imperial_factor: setting.tables.table(NAME, "imperial_factor"),
            digit_work_left: DIGIT_WORK,
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        Vec::new()
    }

    /// Takes the work of a result of this many digits from what may still be done.
    fn spend_digits(&mut self, precision: &Py) -> Reply<()> {
        let digits = match precision {
            Py::Int(digits) if *digits > CHEAP_DIGITS => digits.unsigned_abs(),
            // What is no number, or beyond all bounds, is answered by the function itself.
            _ => return Ok(()),
        };
        let left = self
            .digit_work_left
            .checked_sub(digits.saturating_mul(digits));
        self.digit_work_left = left.ok_or_else(Raise::limit)?;
        Ok(())
    }

    fn logarithm(&mut self, [value, base, precision]: [Py; 3]) -> Reply {
        if let Err(raise) = self.spend_digits(&precision) {
            return error(raise.text);
        }
        match logarithm::logarithm(&value, &base, &precision) {
            Ok(result) => Ok(dict! {"result" => result}),
            Err(raise) => error(raise.text),
        }
    }

    fn mean(&mut self, [numbers]: [Py; 1]) -> Reply {
        if !numbers.truthy() {
            return error("Cannot calculate mean of an empty list");
        }
        or_error(mean(&numbers), Class::Type, ALL)
    }

    fn standard_deviation(&mut self, [numbers]: [Py; 1]) -> Reply {
        if !numbers.truthy() {
            return error("Cannot calculate standard deviation of an empty list");
        }
        or_error(deviation(&numbers), Class::Type, ALL)
    }

    fn si_conversion(&mut self, [value, from, to]: [Py; 3]) -> Reply {
        if !is_number(&value) {
            return error("Value must be a number");
        }
        if !self.metres_per_unit.contains(&from)? || !self.metres_per_unit.contains(&to)? {
            return Self::unsupported(&from, &to);
        }
        let back = divide(&Py::Int(1), &self.metres_per_unit.item(&to)?)?;
        let metres = multiply(&value, &self.metres_per_unit.item(&from)?);
        or_error(
            metres.and_then(|metres| multiply(&metres, &back)),
            Class::Overflow,
            TOO_LARGE,
        )
    }

    fn unsupported(from: &Py, to: &Py) -> Reply {
        let (from, to) = (crate::bfcl::py::str(from), crate::bfcl::py::str(to));
        error(format!(
            "Conversion from '{from}' to '{to}' is not supported"
        ))
    }

    fn imperial_conversion(&mut self, [value, from, to]: [Py; 3]) -> Reply {
        if !is_number(&value) {
            return error("Value must be a number");
        }
        if eq(&from, &to) {
            return Ok(dict! {"result" => value});
        }
        let key = format!(
            "{}_to_{}",
            crate::bfcl::py::str(&from),
            crate::bfcl::py::str(&to)
        );
        let key = Py::from(key);
        if !self.imperial_factor.contains(&key)? {
            return Self::unsupported(&from, &to);
        }
        let factor = self.imperial_factor.item(&key)?;
        let result = if from.is("celsius") && to.is("fahrenheit") {
            multiply(&value, &factor).and_then(|product| add(&product, &Py::Int(32)))
        } else if from.is("fahrenheit") && to.is("celsius") {
            subtract(&value, &Py::Int(32)).and_then(|difference| multiply(&difference, &factor))
        } else {
            multiply(&value, &factor)
        };
        or_error(result, Class::Overflow, TOO_LARGE)
    }

    fn add(&mut self, [a, b]: [Py; 2]) -> Reply {
        or_error(add(&a, &b), Class::Type, BOTH)
    }

    fn subtract(&mut self, [a, b]: [Py; 2]) -> Reply {
        let sets = matches!((&a, &b), (Py::Set(_), Py::Set(_)));
        match sets {
            true => Err(Raise::limit()),
            false => or_error(subtract(&a, &b), Class::Type, BOTH),
        }
    }

    fn multiply(&mut self, [a, b]: [Py; 2]) -> Reply {
        match is_number(&a) && is_number(&b) {
            true => or_error(multiply(&a, &b), Class::Type, BOTH),
            false => error(BOTH),
        }
    }

    fn divide(&mut self, [a, b]: [Py; 2]) -> Reply {
        match eq(&b, &Py::Int(0)) {
            true => error("Cannot divide by zero"),
            false => or_error(divide(&a, &b), Class::Type, BOTH),
        }
    }

    fn power(&mut self, [base, exponent]: [Py; 2]) -> Reply {
        or_error(power(&base, &exponent), Class::Type, BOTH)
    }

    fn square_root(&mut self, [number, precision]: [Py; 2]) -> Reply {
        const TEXT: &str = "Input must be a number or computation resulted in an invalid operation";
        match less(&number, &Py::Int(0)) {
            Ok(true) => error("Cannot calculate square root of a negative number"),
            Ok(false) => {
                let root =
                    square_root::square_root(&number, &precision, || self.spend_digits(&precision));
                or_error(root, Class::Type, TEXT)
            }
            Err(_) => error(TEXT),
        }
    }

    fn absolute(&mut self, [number]: [Py; 1]) -> Reply {
        or_error(abs(&number), Class::Type, "Input must be a number")
    }

    fn round_number(&mut self, [number, places]: [Py; 2]) -> Reply {
        const TEXT: &str = "First input must be a number, second input must be an integer";
        or_error(round(&number, &places), Class::Type, TEXT)
    }

    fn percentage(&mut self, [part, whole]: [Py; 2]) -> Reply {
        if eq(&whole, &Py::Int(0)) {
            return error("Whole value cannot be zero");
        }
        let percent = divide(&part, &whole).and_then(|ratio| multiply(&ratio, &Py::Int(100)));
        or_error(percent, Class::Type, BOTH)
    }

    fn min(&mut self, [numbers]: [Py; 1]) -> Reply {
        if !numbers.truthy() {
            return error("Cannot find minimum of an empty list");
        }
        or_error(extreme(&numbers, "<"), Class::Type, ALL)
    }

    fn max(&mut self, [numbers]: [Py; 1]) -> Reply {
        if !numbers.truthy() {
            return error("Cannot find maximum of an empty list");
        }
        or_error(extreme(&numbers, ">"), Class::Type, ALL)
    }

    fn sum_values(&mut self, [numbers]: [Py; 1]) -> Reply {
        if !numbers.truthy() {
            return error("Cannot calculate sum of an empty list");
        }
        or_error(sum(&numbers), Class::Type, ALL)
    }
}

const TOO_LARGE: &str = "Conversion resulted in a value too large to represent";

fn mean(numbers: &Py) -> Reply {
    let total = sum(numbers)?;
    divide(&total, &Py::Int(numbers.len()? as i64))
}

/// The deviation of a population.
fn deviation(numbers: &Py) -> Reply {
    let mean = mean(numbers)?;
    let mut squares = Vec::new();
    for number in numbers.iterate()? {
        squares.push(power(&subtract(&number, &mean)?, &Py::Int(2))?);
    }
    let variance = divide(&sum(&squares.into())?, &Py::Int(numbers.len()? as i64))?;
    match variance {
        Py::Complex(..) => Err(Raise::type_error("must be real number, not complex")),
        variance => Ok(Py::Float(to_float(&variance)?.sqrt())),
    }
}

/// The least or greatest value, the first of equal ones.
fn extreme(numbers: &Py, operator: &str) -> Reply {
    let wanted = match operator {
        "<" => std::cmp::Ordering::Less,
        _ => std::cmp::Ordering::Greater,
    };
    let mut numbers = numbers.iterate()?.into_iter();
    let mut best = numbers.next().unwrap_or(Py::None);
    for number in numbers {
        if compare(&number, &best, operator)? == Some(wanted) {
            best = number;
        }
    }
    Ok(best)
}
