//! Evaluates the expressions that arguments are made of.

use std::sync::Arc;

use starling_text::pycall::{BinaryOperator, Expr, UnaryOperator};

use super::{
    Class, Dict, Py, Raise, Reply, abs, add, compare, divide, eq, multiply, power, repr, response,
    str, subtract, sum, to_float, to_int,
};

/// The value of an expression; `call` answers calls of functions that are no builtins.
pub(crate) fn evaluate(
    expr: Expr,
    call: &mut dyn FnMut(starling_text::pycall::Call) -> Reply,
) -> Reply {
    let mut items = |items: Vec<Expr>| -> Reply<Vec<Py>> {
        items.into_iter().map(|item| evaluate(item, call)).collect()
    };
    Ok(match expr {
        Expr::None => Py::None,
        Expr::Ellipsis => Py::Ellipsis,
        Expr::Bool(value) => Py::Bool(value),
        Expr::Int(int) => Py::Int(int),
        Expr::BigInt(int) => Py::Big(Arc::new(*int)),
        Expr::Float(float) => Py::Float(float),
        Expr::Imaginary(imaginary) => Py::Complex(0.0, imaginary),
        Expr::Str(text) => text.into(),
        Expr::Bytes(bytes) => Py::Bytes(bytes.into()),
        Expr::List(list) => items(list)?.into(),
        Expr::Tuple(list) => Py::Tuple(Arc::new(items(list)?)),
        Expr::Set(list) => {
            let mut set: Vec<Py> = Vec::new();
            for item in items(list)? {
                item.require_hashable()?;
                if set.len() > 4096 {
                    return Err(Raise::limit());
                }
                if !set.iter().any(|found| eq(found, &item)) {
                    set.push(item);
                }
            }
            Py::Set(Arc::new(set))
        }
        Expr::Dict(entries) => {
            let mut dict = Dict::default();
            for (key, value) in entries {
                let key = evaluate(key.ok_or_else(unsupported)?, call)?;
                dict.insert(key, evaluate(value, call)?)?;
            }
            dict.into()
        }
        Expr::Name(name) => return Err(undefined(&name)),
        Expr::Call(function) => match function.function {
            Expr::Name(ref name) if is_builtin(name) => {
                let name = name.clone();
                let args = items(function.args)?;
                if !function.keywords.is_empty() {
                    return Err(Raise::type_error(format!(
                        "{name}() takes no keyword arguments"
                    )));
                }
                builtin(&name, &args)?
            }
            _ => call(*function)?,
        },
        Expr::Attribute(value, name) => {
            let value = evaluate(*value, call)?;
            return Err(Raise::attribute(&value, &name));
        }
        Expr::Subscript(value, index) => {
            let value = evaluate(*value, call)?;
            value.item(&evaluate(*index, call)?)?
        }
        Expr::Unary(operator, operand) => unary(operator, &evaluate(*operand, call)?)?,
        Expr::Binary(operator, left, right) => {
            let left = evaluate(*left, call)?;
            match operator {
                BinaryOperator::And if !left.truthy() => left,
                BinaryOperator::Or if left.truthy() => left,
                BinaryOperator::And | BinaryOperator::Or => evaluate(*right, call)?,
                _ => binary(operator, &left, &evaluate(*right, call)?)?,
            }
        }
        Expr::Starred(_) => return Err(unsupported()),
    })
}

pub(super) fn undefined(name: &str) -> Raise {
    Raise::new(Class::Other, format!("name '{name}' is not defined"))
}

fn unsupported() -> Raise {
    Raise::new(Class::Other, "unsupported expression")
}

fn unary(operator: UnaryOperator, operand: &Py) -> Reply {
    match operator {
        UnaryOperator::Not => Ok(Py::Bool(!operand.truthy())),
        UnaryOperator::Negative => match operand {
            Py::Float(float) => Ok(Py::Float(-float)),
            Py::Complex(re, im) => Ok(Py::Complex(-re, -im)),
            Py::Int(_) | Py::Bool(_) | Py::Big(_) => subtract(&Py::Int(0), operand),
            _ => bad_operand("-", operand),
        },
        UnaryOperator::Positive => match operand {
            Py::Float(_) | Py::Complex(..) => Ok(operand.clone()),
            Py::Int(_) | Py::Bool(_) | Py::Big(_) => to_int(operand),
            _ => bad_operand("+", operand),
        },
        UnaryOperator::Invert => match operand {
            Py::Int(_) | Py::Bool(_) | Py::Big(_) => subtract(&Py::Int(-1), operand),
            _ => bad_operand("~", operand),
        },
    }
}

fn bad_operand(operator: &str, operand: &Py) -> Reply {
    let name = operand.type_name();
    Err(Raise::type_error(format!(
        "bad operand type for unary {operator}: '{name}'"
    )))
}

fn binary(operator: BinaryOperator, left: &Py, right: &Py) -> Reply {
    use std::cmp::Ordering::{Equal, Greater, Less};
    Ok(match operator {
        BinaryOperator::Add => add(left, right)?,
        BinaryOperator::Subtract => subtract(left, right)?,
        BinaryOperator::Multiply => multiply(left, right)?,
        BinaryOperator::Divide => divide(left, right)?,
        BinaryOperator::Power => power(left, right)?,
        BinaryOperator::Equal => Py::Bool(eq(left, right)),
        BinaryOperator::NotEqual => Py::Bool(!eq(left, right)),
        BinaryOperator::Less => Py::Bool(compare(left, right, "<")? == Some(Less)),
        BinaryOperator::LessEqual => {
            Py::Bool(matches!(compare(left, right, "<=")?, Some(Less | Equal)))
        }
        BinaryOperator::Greater => Py::Bool(compare(left, right, ">")? == Some(Greater)),
        BinaryOperator::GreaterEqual => {
            Py::Bool(matches!(compare(left, right, ">=")?, Some(Greater | Equal)))
        }
        BinaryOperator::In => Py::Bool(right.contains(left)?),
        BinaryOperator::NotIn => Py::Bool(!right.contains(left)?),
        _ => return Err(unsupported()),
    })
}

fn is_builtin(name: &str) -> bool {
    matches!(
        name,
        "len"
            | "str"
            | "repr"
            | "int"
            | "float"
            | "bool"
            | "abs"
            | "sum"
            | "list"
            | "tuple"
            | "print"
    )
}

/// Builtins without side effects that call strings have been seen to use.
fn builtin(name: &str, args: &[Py]) -> Reply {
    if name == "print" {
        return Ok(Py::None);
    }
    let [value] = args else {
        return match (name, args) {
            ("str", []) => Ok("".into()),
            ("int", []) => Ok(Py::Int(0)),
            ("float", []) => Ok(Py::Float(0.0)),
            ("bool", []) => Ok(Py::Bool(false)),
            ("list", []) => Ok(Vec::new().into()),
            ("tuple", []) => Ok(Py::Tuple(Arc::default())),
            _ => {
                let given = args.len();
                let text = format!("{name}() takes exactly one argument ({given} given)");
                Err(Raise::type_error(text))
            }
        };
    };
    Ok(match name {
        "len" => Py::Int(value.len()? as i64),
        // Long integers cannot be printed, whether asked for by `str` or as the answer.
        "str" => response(value).map(|_| str(value))?.into(),
        "repr" => response(value).map(|_| repr(value))?.into(),
        "int" => to_int(value)?,
        "float" => Py::Float(to_float(value)?),
        "bool" => Py::Bool(value.truthy()),
        "abs" => abs(value)?,
        "sum" => sum(value)?,
        "list" => value.iterate()?.into(),
        _ => Py::Tuple(Arc::new(value.iterate()?)),
    })
}
