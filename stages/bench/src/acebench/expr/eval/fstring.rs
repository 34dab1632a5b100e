//! The value of an f-string.

use super::super::value::Value;
use super::super::value::print::{write_ascii, write_repr, write_str};
use super::super::{Field, Piece, Reject};
use super::format_spec::format_value;
use super::{Evaluated, Evaluator};

impl<'a> Evaluator<'_, 'a> {
    /// Joins texts and formatted fields.
    pub(in super::super) fn format(&mut self, pieces: &[Piece<'a>]) -> Evaluated<'a> {
        text(self, pieces).map(|text| Value::Str(text.into()))
    }
}

fn text<'a>(evaluator: &mut Evaluator<'_, 'a>, pieces: &[Piece<'a>]) -> Result<String, Reject> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(field) => {
                let formatted = formatted(evaluator, field)?;
                evaluator.budget.spend(formatted.len() as u64)?;
                out.push_str(&formatted);
            }
        }
    }
    Ok(out)
}

fn formatted<'a>(evaluator: &mut Evaluator<'_, 'a>, field: &Field<'a>) -> Result<String, Reject> {
    let mut value = evaluator.value(&field.value)?;
    if let Some(conversion) = field.conversion {
        let mut out = String::new();
        let print = match conversion {
            'r' => write_repr,
            'a' => write_ascii,
            _ => write_str,
        };
        print(&mut out, &value).map_err(|_| Reject)?;
        value = Value::Str(out.into());
    }
    let spec = text(evaluator, field.spec.as_deref().unwrap_or_default())?;
    format_value(&value, &spec)
}
