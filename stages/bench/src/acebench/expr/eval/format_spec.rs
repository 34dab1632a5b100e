//! `format(value, specification)`: Python's small language of fill, alignment, sign, width, grouping, precision and
//! type, for texts and numbers.

use super::super::Reject;
use super::super::value::digits::decimal;
use super::super::value::float_text::{Form, Style, float_text};
use super::super::value::numbers::{Number, float, number};
use super::super::value::print::write_str;
use super::super::value::{Value, surrogate};
use super::format::{MAX_WIDTH, ascii_upper};

/// What a specification says; its default type stands for none.
#[derive(Debug, Clone)]
struct Spec {
    fill: char,
    align: char,
    /// `+`, `-` or a space.
    sign: Option<char>,
    no_negative_zero: bool,
    alternate: bool,
    width: usize,
    /// `,` or `_`.
    separator: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
    align_given: bool,
    fill_given: bool,
}

/// A number in parts, before it is padded.
struct Parts {
    negative: bool,
    prefix: &'static str,
    /// What may be grouped: the digits before the point.
    digits: String,
    /// From the point on.
    rest: String,
}

/// Formats a value; kinds without a language of their own take no specification.
pub(in super::super) fn format_value(value: &Value<'_>, spec: &str) -> Result<String, Reject> {
    if spec.is_empty() {
        let mut out = String::new();
        write_str(&mut out, value).map_err(|_| Reject)?;
        return Ok(out);
    }
    if let Value::Str(text) = value {
        return text_with(text, &Spec::read(spec, '<')?);
    }
    match number(value).ok_or(Reject)? {
        Number::Int(int) => {
            let spec = Spec::read(spec, '>')?;
            match spec.kind {
                None | Some('d' | 'n' | 'b' | 'o' | 'x' | 'X' | 'c') => integer(&int, &spec),
                _ => real(float(&Number::Int(int))?, &spec),
            }
        }
        Number::Float(float) => real(float, &Spec::read(spec, '>')?),
        Number::Complex(re, im) => complex(re, im, &Spec::read(spec, '>')?),
    }
}

impl Spec {
    fn read(text: &str, default_align: char) -> Result<Self, Reject> {
        let chars: Vec<char> = text.chars().collect();
        let mut rest = &chars[..];
        let mut spec = Self {
            fill: ' ',
            align: default_align,
            sign: None,
            no_negative_zero: false,
            alternate: false,
            width: 0,
            separator: None,
            precision: None,
            kind: None,
            align_given: false,
            fill_given: false,
        };
        let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
        if let [fill, align, after @ ..] = rest
            && is_align(*align)
        {
            (spec.fill, spec.align) = (*fill, *align);
            (spec.fill_given, spec.align_given) = (true, true);
            rest = after;
        } else if let [align, after @ ..] = rest
            && is_align(*align)
        {
            (spec.align, spec.align_given) = (*align, true);
            rest = after;
        }
        if let [sign @ ('+' | '-' | ' '), after @ ..] = rest {
            spec.sign = Some(*sign);
            rest = after;
        }
        spec.no_negative_zero = take(&mut rest, 'z');
        spec.alternate = take(&mut rest, '#');
        if !spec.fill_given && take(&mut rest, '0') {
            (spec.fill, spec.fill_given) = ('0', true);
            if !spec.align_given && default_align == '>' {
                spec.align = '=';
            }
        }
        spec.width = digits(&mut rest)?.unwrap_or(0);
        if take(&mut rest, ',') {
            spec.separator = Some(',');
        }
        if take(&mut rest, '_') && spec.separator.replace('_').is_some() {
            return Err(Reject);
        }
        if take(&mut rest, '.') {
            spec.precision = Some(digits(&mut rest)?.ok_or(Reject)?);
        }
        spec.kind = match rest {
            [] => None,
            [kind] => Some(*kind),
            _ => return Err(Reject),
        };
        let groups = match spec.kind {
            None | Some('d' | 'e' | 'f' | 'g' | 'E' | 'G' | '%' | 'F') => true,
            Some('b' | 'o' | 'x' | 'X') => spec.separator == Some('_'),
            Some(_) => false,
        };
        match spec.separator.is_none() || groups {
            true => Ok(spec),
            false => Err(Reject),
        }
    }

    fn style(&self, form: Form, precision: usize, dot_zero: bool) -> Style {
        Style {
            form,
            precision,
            alternate: self.alternate,
            dot_zero,
        }
    }

    /// The sign that stands before a number.
    fn sign_text(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        }
    }

    /// Digits between separators.
    fn group(&self) -> usize {
        match self.kind {
            Some('b' | 'o' | 'x' | 'X') => 4,
            _ => 3,
        }
    }
}

fn take(rest: &mut &[char], wanted: char) -> bool {
    let found = rest.first() == Some(&wanted);
    if found {
        *rest = &rest[1..];
    }
    found
}

fn digits(rest: &mut &[char]) -> Result<Option<usize>, Reject> {
    let mut number = None;
    while let Some(digit) = rest.first().and_then(|c| decimal(*c)) {
        let next = number.unwrap_or(0) * 10 + digit as usize;
        if next > MAX_WIDTH {
            return Err(Reject);
        }
        number = Some(next);
        *rest = &rest[1..];
    }
    Ok(number)
}

fn text_with(text: &str, spec: &Spec) -> Result<String, Reject> {
    let plain = spec.sign.is_none()
        && !spec.no_negative_zero
        && !spec.alternate
        && spec.align != '='
        && spec.separator.is_none()
        && matches!(spec.kind, None | Some('s'));
    if !plain {
        return Err(Reject);
    }
    let text: String = match spec.precision {
        Some(limit) => text.chars().take(limit).collect(),
        None => text.to_owned(),
    };
    Ok(padded(spec, "", &text))
}

/// A sign or prefix and what follows it, at the place that the alignment gives.
fn padded(spec: &Spec, before: &str, text: &str) -> String {
    let length = before.chars().count() + text.chars().count();
    let missing = spec.width.saturating_sub(length);
    let (left, middle, right) = match spec.align {
        '<' => (0, 0, missing),
        '^' => (missing / 2, 0, missing - missing / 2),
        '=' => (0, missing, 0),
        _ => (missing, 0, 0),
    };
    let fill = |count: usize| spec.fill.to_string().repeat(count);
    let (left, middle, right) = (fill(left), fill(middle), fill(right));
    format!("{left}{before}{middle}{text}{right}")
}

fn laid_out(parts: &Parts, spec: &Spec) -> String {
    let before = format!("{}{}", spec.sign_text(parts.negative), parts.prefix);
    // Zeros that pad are grouped with the digits.
    let wanted = match (spec.fill, spec.align) {
        ('0', '=') => spec
            .width
            .saturating_sub(before.len() + parts.rest.chars().count()),
        _ => 0,
    };
    let digits = match (spec.separator, parts.digits.as_str()) {
        (_, "") => String::new(),
        (None, digits) => format!("{digits:0>wanted$}"),
        (Some(separator), digits) => grouped(digits, separator, spec.group(), wanted),
    };
    padded(spec, &before, &(digits + &parts.rest))
}

/// Digits with separators, and zeros before them up to a width; no separator comes first.
fn grouped(digits: &str, separator: char, group: usize, width: usize) -> String {
    let mut left = digits;
    let mut missing = width as i64;
    let mut groups: Vec<String> = Vec::new();
    loop {
        let length = group.min(left.len().max(usize::try_from(missing).unwrap_or(0)).max(1));
        let (rest, own) = left.split_at(left.len().saturating_sub(length));
        groups.push(format!("{own:0>length$}"));
        left = rest;
        missing -= length as i64;
        if left.is_empty() && missing <= 0 {
            groups.reverse();
            return groups.join(separator.to_string().as_str());
        }
        missing -= 1;
    }
}

fn integer(int: &num_bigint::BigInt, spec: &Spec) -> Result<String, Reject> {
    use num_traits::{Signed, ToPrimitive};
    if spec.precision.is_some() || spec.no_negative_zero {
        return Err(Reject);
    }
    if spec.kind == Some('c') {
        if spec.sign.is_some() || spec.alternate {
            return Err(Reject);
        }
        let code = int
            .to_u32()
            .filter(|code| *code <= 0x10_ffff)
            .ok_or(Reject)?;
        let c = char::from_u32(code).unwrap_or_else(|| surrogate(code));
        let parts = Parts {
            negative: false,
            prefix: "",
            digits: String::new(),
            rest: c.to_string(),
        };
        return Ok(laid_out(&parts, spec));
    }
    let magnitude = int.magnitude();
    let (prefix, digits) = match spec.kind {
        Some('b') => ("0b", format!("{magnitude:b}")),
        Some('o') => ("0o", format!("{magnitude:o}")),
        Some('x') => ("0x", format!("{magnitude:x}")),
        Some('X') => ("0X", format!("{magnitude:X}")),
        _ => {
            let mut digits = String::new();
            let value = Value::big(magnitude.clone().into());
            write_str(&mut digits, &value).map_err(|_| Reject)?;
            ("", digits)
        }
    };
    let parts = Parts {
        negative: int.is_negative(),
        prefix: if spec.alternate { prefix } else { "" },
        digits,
        rest: String::new(),
    };
    Ok(laid_out(&parts, spec))
}

/// The form and precision that a type stands for.
fn form(spec: &Spec) -> Result<(Form, usize, bool), Reject> {
    let precision = spec.precision.unwrap_or(6);
    Ok(match (spec.kind, spec.precision) {
        (Some('e' | 'E'), _) => (Form::Exponent, precision, false),
        (Some('f' | 'F' | '%'), _) => (Form::Fixed, precision, false),
        (Some('g' | 'G' | 'n'), _) => (Form::General, precision, false),
        (None, None) => (Form::Shortest, 0, true),
        (None, Some(precision)) => (Form::General, precision, true),
        _ => return Err(Reject),
    })
}

fn real(float: f64, spec: &Spec) -> Result<String, Reject> {
    let (form, precision, dot_zero) = form(spec)?;
    let percent = spec.kind == Some('%');
    let float = if percent { float * 100.0 } else { float };
    let text = float_text(float, spec.style(form, precision, dot_zero));
    let mut parts = split(&text, spec);
    if percent {
        parts.rest.push('%');
    }
    Ok(laid_out(&parts, spec))
}

/// Sign, digits before the point and the rest of a printed float.
fn split(text: &str, spec: &Spec) -> Parts {
    let magnitude = text.strip_prefix('-').unwrap_or(text);
    let zero = !magnitude.contains(|c: char| matches!(c, '1'..='9' | 'i' | 'n'));
    let upper = matches!(spec.kind, Some('E' | 'F' | 'G'));
    let magnitude = ascii_upper(magnitude, upper);
    let digits = magnitude.bytes().take_while(u8::is_ascii_digit).count();
    Parts {
        negative: magnitude.len() < text.len() && !(spec.no_negative_zero && zero),
        prefix: "",
        digits: magnitude[..digits].to_owned(),
        rest: magnitude[digits..].to_owned(),
    }
}

/// Both parts in one form, between parentheses where no type is given; padded as a whole.
fn complex(re: f64, im: f64, spec: &Spec) -> Result<String, Reject> {
    if spec.fill == '0' && spec.fill_given || spec.align == '=' || spec.kind == Some('%') {
        return Err(Reject);
    }
    let (form, precision, _) = form(spec)?;
    let bare = Spec {
        fill: ' ',
        align: '<',
        width: 0,
        ..spec.clone()
    };
    let part = |float: f64, sign: Option<char>| {
        let text = float_text(float, spec.style(form, precision, false));
        let spec = Spec {
            sign,
            ..bare.clone()
        };
        laid_out(&split(&text, &spec), &spec)
    };
    let only_imaginary = spec.kind.is_none() && re.to_bits() == 0;
    let text = if only_imaginary {
        format!("{}j", part(im, spec.sign))
    } else {
        let (open, close) = if spec.kind.is_none() {
            ("(", ")")
        } else {
            ("", "")
        };
        format!(
            "{open}{}{}j{close}",
            part(re, spec.sign),
            part(im, Some('+'))
        )
    };
    Ok(padded(spec, "", &text))
}
