//! Logarithms of arbitrary precision, rounded and written as Python's `mpmath` does.
//!
//! Natural logarithms come from the arithmetic-geometric mean and are rounded to nearest; quotients follow mpmath's
//! own order of operations, so that the last digit agrees.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{One as _, Pow as _, Signed as _, Zero as _};

use super::square_root::sqrt;
use crate::bfcl::py::{Class, Py, Raise, Reply, repr, to_int};

/// Most decimal digits that are computed; more would be a matter of seconds, and soon of minutes.
const MAX_DIGITS: i64 = 20_000;

/// Bits a decimal digit.
const BITS_PER_DIGIT: f64 = 3.321_928_094_887_362_6;

/// A real number: `mantissa * 2^exponent` when finite.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Real {
    Nan,
    Infinite { negative: bool },
    Finite { mantissa: BigInt, exponent: i64 },
}

/// `log(value) / log(base)` with `precision` decimal digits.
pub(super) fn logarithm(value: &Py, base: &Py, precision: &Py) -> Reply {
    let digits = match to_int(precision)? {
        Py::Int(digits) if digits <= MAX_DIGITS => digits,
        _ => return Err(Raise::limit()),
    };
    let bits = ((digits.max(-10) + 1) as f64 * BITS_PER_DIGIT).round_ties_even();
    let bits = (bits as i64).max(1) as u64;
    let value = log(&real(value, bits)?, bits);
    let base = log(&real(base, bits)?, bits);
    let quotient = match (value, base) {
        ((a, None), (c, None)) => (divide(&a, &c, bits)?, None),
        ((a, Some(b)), (c, None)) => (divide(&a, &c, bits)?, Some(divide(&b, &c, bits)?)),
        ((p, None), (a, Some(b))) => {
            let norm = multiply(&a, &a).plus(&multiply(&b, &b), bits + 10);
            let imaginary = multiply(&b, &p).negated();
            (
                divide(&multiply(&a, &p), &norm, bits)?,
                Some(divide(&imaginary, &norm, bits)?),
            )
        }
        ((a, Some(b)), (c, Some(d))) => {
            let working = bits + 10;
            let norm = multiply(&c, &c).plus(&multiply(&d, &d), working);
            let re = multiply(&a, &c).plus(&multiply(&b, &d), working);
            let im = multiply(&b, &c).plus(&multiply(&a, &d).negated(), working);
            (divide(&re, &norm, bits)?, Some(divide(&im, &norm, bits)?))
        }
    };
    Ok(match quotient {
        (re, None) => Py::Object("mpf", format!("mpf('{}')", re.text(bits)).into()),
        (re, Some(im)) => {
            let (re, im) = (re.text(bits), im.text(bits));
            Py::Object("mpc", format!("mpc(real='{re}', imag='{im}')").into())
        }
    })
}

/// A number, exactly; a decimal text is rounded to the precision.
fn real(value: &Py, bits: u64) -> Reply<Real> {
    let refuse = || Raise::type_error(format!("cannot create mpf from {}", repr(value)));
    Ok(match value {
        Py::Bool(value) => Real::finite(BigInt::from(u8::from(*value)), 0),
        Py::Int(int) => Real::finite(BigInt::from(*int), 0),
        Py::Big(int) => Real::finite((**int).clone(), 0),
        Py::Float(float) => from_float(*float),
        Py::Str(text) => from_text(text, bits).ok_or_else(refuse)?,
        Py::Complex(..) => return Err(Raise::limit()),
        _ => return Err(refuse()),
    })
}

fn from_float(float: f64) -> Real {
    if float.is_nan() {
        return Real::Nan;
    }
    if float.is_infinite() {
        return Real::Infinite {
            negative: float < 0.0,
        };
    }
    let bits = float.abs().to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) = match (bits >> 52) as i64 {
        0 => (fraction, -1074),
        biased => (fraction | 1 << 52, biased - 1075),
    };
    let mantissa = BigInt::from(mantissa);
    Real::finite(if float < 0.0 { -mantissa } else { mantissa }, exponent)
}

fn from_text(text: &str, bits: u64) -> Option<Real> {
    let float = crate::bfcl::number::parse_float(text)?;
    let text = text.trim().to_ascii_lowercase();
    if text.contains("inf") || text.contains("nan") {
        return Some(from_float(float));
    }
    let (number, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: BigInt = format!("{whole}{fraction}")
        .replace(['_', '+'], "")
        .parse()
        .ok()?;
    let exponent = exponent - fraction.len() as i64;
    if exponent.abs() > MAX_DIGITS || digits.bits() > 500_000 {
        return None;
    }
    let power = BigInt::from(10).pow(exponent.unsigned_abs());
    Some(match exponent >= 0 {
        true => Real::finite(digits * power, 0).rounded(bits),
        false => quotient(&digits, 0, &power, 0, bits),
    })
}

impl Real {
    /// Normalized: the mantissa is odd, or all is zero.
    fn finite(mantissa: BigInt, exponent: i64) -> Self {
        match mantissa.trailing_zeros() {
            None => Self::zero(),
            Some(zeros) => Self::Finite {
                mantissa: mantissa >> zeros,
                exponent: exponent + zeros as i64,
            },
        }
    }

    fn zero() -> Self {
        Self::Finite {
            mantissa: BigInt::ZERO,
            exponent: 0,
        }
    }

    fn is_zero(&self) -> bool {
        matches!(self, Self::Finite { mantissa, .. } if mantissa.is_zero())
    }

    fn sign(&self) -> Sign {
        match self {
            Self::Nan => Sign::NoSign,
            Self::Infinite { negative: true } => Sign::Minus,
            Self::Infinite { negative: false } => Sign::Plus,
            Self::Finite { mantissa, .. } => mantissa.sign(),
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Nan => Self::Nan,
            Self::Infinite { negative } => Self::Infinite {
                negative: !negative,
            },
            Self::Finite { mantissa, exponent } => Self::Finite {
                mantissa: -mantissa,
                exponent,
            },
        }
    }

    /// To nearest, half to even.
    fn rounded(self, bits: u64) -> Self {
        let Self::Finite { mantissa, exponent } = self else {
            return self;
        };
        let excess = mantissa.bits().saturating_sub(bits);
        if excess == 0 {
            return Self::finite(mantissa, exponent);
        }
        let magnitude = mantissa.magnitude();
        let kept: BigUint = magnitude >> excess;
        let rest = magnitude - (&kept << excess);
        let half = BigUint::one() << (excess - 1);
        let up = match rest.cmp(&half) {
            Ordering::Greater => true,
            Ordering::Equal => kept.bit(0),
            Ordering::Less => false,
        };
        let kept = BigInt::from_biguint(mantissa.sign(), kept + u32::from(up));
        Self::finite(kept, exponent + excess as i64)
    }

    /// Sum, cut to `bits`.
    fn plus(&self, other: &Self, bits: u64) -> Self {
        match (self, other) {
            (Self::Nan, _) | (_, Self::Nan) => Self::Nan,
            (Self::Infinite { negative: a }, Self::Infinite { negative: b }) if a != b => Self::Nan,
            (Self::Infinite { .. }, _) => self.clone(),
            (_, Self::Infinite { .. }) => other.clone(),
            (
                Self::Finite {
                    mantissa: a,
                    exponent: x,
                },
                Self::Finite {
                    mantissa: b,
                    exponent: y,
                },
            ) => {
                let low = *x.min(y);
                let sum = (a << (x - low).unsigned_abs()) + (b << (y - low).unsigned_abs());
                let excess = sum.bits().saturating_sub(bits);
                let cut = sum.magnitude() >> excess;
                Self::finite(BigInt::from_biguint(sum.sign(), cut), low + excess as i64)
            }
        }
    }

    /// Decimal text with the digits that tell numbers of this precision apart.
    fn text(&self, bits: u64) -> String {
        let digits = ((bits as f64 / BITS_PER_DIGIT).round_ties_even() as i64 - 1).max(1);
        let digits = if digits == 15 { 17 } else { digits + 3 };
        match self {
            Self::Nan => "nan".to_owned(),
            Self::Infinite { negative: true } => "-inf".to_owned(),
            Self::Infinite { negative: false } => "+inf".to_owned(),
            Self::Finite { mantissa, .. } if mantissa.is_zero() => "0.0".to_owned(),
            Self::Finite { mantissa, exponent } => decimal(mantissa, *exponent, digits),
        }
    }
}

/// The digits of a number, first cut three behind the last one wanted, then rounded half up.
fn decimal(mantissa: &BigInt, exponent: i64, wanted: i64) -> String {
    let sign = if mantissa.is_negative() { "-" } else { "" };
    let magnitude = mantissa.magnitude();
    let log2_10 = std::f64::consts::LN_10 / std::f64::consts::LN_2;
    let bits = ((wanted + 3) as f64 * log2_10) as i64 + 10;
    let fixed_bits = (bits - exponent - magnitude.bits() as i64).max(0);
    let fixed_digits = (fixed_bits as f64 / log2_10 + 0.5) as i64;
    let shift = exponent + fixed_bits;
    let fixed = match shift >= 0 {
        true => magnitude << shift.unsigned_abs(),
        false => magnitude >> shift.unsigned_abs(),
    };
    let scaled: BigUint =
        (fixed * BigUint::from(10_u32).pow(fixed_digits.unsigned_abs())) >> fixed_bits as u64;
    let digits = scaled.to_string();
    let mut place = digits.len() as i64 - fixed_digits - 1;
    let count = wanted as usize;
    let mut kept: Vec<u8> = digits.bytes().take(count).collect();
    if digits
        .as_bytes()
        .get(count)
        .is_some_and(|digit| *digit >= b'5')
    {
        let nines = kept
            .iter()
            .rev()
            .take_while(|digit| **digit == b'9')
            .count();
        let last = kept.len() - nines;
        kept[last..].fill(b'0');
        match last.checked_sub(1) {
            Some(last) => kept[last] += 1,
            None => {
                kept[0] = b'1';
                place += 1;
            }
        }
    }
    let kept: String = kept.into_iter().map(char::from).collect();
    let lowest = -(wanted / 3).max(5);
    let (text, exponent) = layout(&kept, place, lowest, wanted);
    let text = text.trim_end_matches('0');
    let zero = if text.ends_with('.') { "0" } else { "" };
    match exponent {
        0 => format!("{sign}{text}{zero}"),
        exponent => format!("{sign}{text}{zero}e{exponent:+}"),
    }
}

/// Puts the point in; numbers close to one are written without exponent.
fn layout(digits: &str, place: i64, lowest: i64, highest: i64) -> (String, i64) {
    if place <= lowest || place >= highest {
        let (first, rest) = digits.split_at(1);
        return (format!("{first}.{rest}"), place);
    }
    if place < 0 {
        let zeros = "0".repeat(place.unsigned_abs() as usize - 1);
        return (format!("0.{zeros}{digits}"), 0);
    }
    let split = place as usize + 1;
    let zeros = "0".repeat(split.saturating_sub(digits.len()));
    let digits = format!("{digits}{zeros}");
    let (whole, fraction) = digits.split_at(split);
    (format!("{whole}.{fraction}"), 0)
}

fn multiply(a: &Real, b: &Real) -> Real {
    match (a, b) {
        (
            Real::Finite {
                mantissa: a,
                exponent: x,
            },
            Real::Finite {
                mantissa: b,
                exponent: y,
            },
        ) => Real::finite(a * b, x + y),
        _ => match (a.sign(), b.sign()) {
            (Sign::NoSign, _) | (_, Sign::NoSign) => Real::Nan,
            (a, b) => Real::Infinite { negative: a != b },
        },
    }
}

fn divide(a: &Real, b: &Real, bits: u64) -> Reply<Real> {
    let by_zero = || Raise::new(Class::Other, "");
    Ok(match (a, b) {
        _ if b.is_zero() => return Err(by_zero()),
        (Real::Nan, _) | (_, Real::Nan) => Real::Nan,
        (Real::Infinite { .. }, Real::Infinite { .. }) => Real::Nan,
        (Real::Infinite { negative }, _) => Real::Infinite {
            negative: *negative != (b.sign() == Sign::Minus),
        },
        (_, Real::Infinite { .. }) => Real::zero(),
        (
            Real::Finite {
                mantissa: a,
                exponent: x,
            },
            Real::Finite {
                mantissa: b,
                exponent: y,
            },
        ) => quotient(a, *x, b, *y, bits),
    })
}

/// A quotient of finite numbers, rounded once.
fn quotient(a: &BigInt, x: i64, b: &BigInt, y: i64, bits: u64) -> Real {
    let shift = (bits + 5 + b.bits()).saturating_sub(a.bits()).max(5);
    let scaled: BigInt = a << shift;
    let mut result: BigInt = (&scaled / b) << 1_u32;
    if !(&scaled % b).is_zero() {
        // A rest only decides halves: one bit stands for it.
        result += if a.is_negative() == b.is_negative() {
            1
        } else {
            -1
        };
    }
    Real::finite(result, x - y - shift as i64 - 1).rounded(bits)
}

/// The natural logarithm, with an imaginary part for negative numbers.
fn log(x: &Real, bits: u64) -> (Real, Option<Real>) {
    match x {
        Real::Nan => (Real::Nan, None),
        Real::Infinite { negative } => {
            let positive = Real::Infinite { negative: false };
            (positive, negative.then(|| pi(bits)))
        }
        Real::Finite { mantissa, .. } if mantissa.is_zero() => {
            (Real::Infinite { negative: true }, None)
        }
        Real::Finite { mantissa, exponent } => {
            let re = log_positive(mantissa.magnitude(), *exponent, bits);
            (re, mantissa.is_negative().then(|| pi(bits)))
        }
    }
}

fn pi(bits: u64) -> Real {
    let working = bits + 32;
    Real::finite(pi_fixed(working), -(working as i64)).rounded(bits)
}

fn log_positive(mantissa: &BigUint, exponent: i64, bits: u64) -> Real {
    let magnitude = exponent + mantissa.bits() as i64;
    if mantissa.is_one() {
        let working = bits + 96;
        let log = ln2_fixed(working) * exponent;
        return Real::finite(log, -(working as i64)).rounded(bits);
    }
    // Close to 1 the logarithm is small, and as many bits more are needed.
    let small = match magnitude {
        0 | 1 => {
            let one = BigUint::one() << mantissa.bits().saturating_sub(magnitude as u64);
            let distance = if *mantissa > one {
                mantissa - one
            } else {
                one - mantissa
            };
            mantissa.bits() - distance.bits()
        }
        _ => 0,
    };
    let working = bits + 64 + small;
    Real::finite(log_fixed(mantissa, magnitude, working), -(working as i64)).rounded(bits)
}

/// `log(m)` in units of `2^-bits`, where `m` is the mantissa scaled to this magnitude.
///
/// `log(s) = pi / (2 agm(1, 4/s))` up to `1/s^2`, for `s = m 2^k`.
fn log_fixed(mantissa: &BigUint, magnitude: i64, bits: u64) -> BigInt {
    let guard = 64 - bits.leading_zeros() as u64 + 32;
    let wanted = bits + guard;
    // s has this many bits before the point.
    let size = wanted / 2 + 8;
    let scale = wanted + size + 8;
    // 4/s in units of 2^-scale.
    let numerator = BigUint::one() << (scale + 2 + mantissa.bits());
    let small = numerator / (mantissa << size);
    let mean = agm(BigUint::one() << scale, small);
    let pi = pi_fixed(scale);
    let log_s = (pi << (scale - 1)) / BigInt::from(mean);
    let shift = size as i64 - magnitude;
    let log = log_s - ln2_fixed(scale) * shift;
    log >> (scale - bits)
}

fn agm(mut a: BigUint, mut b: BigUint) -> BigUint {
    loop {
        let mean: BigUint = (&a + &b) >> 1_u32;
        let distance = if a > b { &a - &b } else { &b - &a };
        if distance.bits() <= 2 {
            return mean;
        }
        b = sqrt(&(&a * &b));
        a = mean;
    }
}

/// Sum of `sign^i / ((2i+1) n^(2i+1))` in units of `2^-bits`.
fn inverse_series(n: u32, alternating: bool, bits: u64) -> BigInt {
    let mut power = (BigUint::one() << bits) / n;
    let mut sum = BigInt::ZERO;
    let square = n * n;
    let mut divisor = 1_u64;
    while !power.is_zero() {
        let term = BigInt::from(&power / divisor);
        let minus = alternating && divisor % 4 == 3;
        sum += if minus { -term } else { term };
        power /= square;
        divisor += 2;
    }
    sum
}

/// Machin's formula.
fn pi_fixed(bits: u64) -> BigInt {
    let working = bits + 32;
    let pi = inverse_series(5, true, working) * 16 - inverse_series(239, true, working) * 4;
    pi >> 32_u32
}

/// `log 2 = 18 artanh(1/26) - 2 artanh(1/4801) + 8 artanh(1/8749)`
fn ln2_fixed(bits: u64) -> BigInt {
    let working = bits + 32;
    let log = inverse_series(26, false, working) * 18 - inverse_series(4801, false, working) * 2
        + inverse_series(8749, false, working) * 8;
    log >> 32_u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_mpmaths() {
        let text = |value: Py, base: Py, digits: i64| {
            let result = logarithm(&value, &base, &Py::Int(digits));
            result.map_or_else(|raise| raise.text, |value| repr(&value))
        };
        let float = Py::Float;
        for (value, base, digits, expected) in [
            (float(0.5), float(10.0), 15, "mpf('-0.30102999566398114')"),
            (float(3.7), float(1e16), 15, "mpf('0.035512607754187187')"),
            (float(0.0), float(2.0), 1, "mpf('-inf')"),
            (float(3.0), float(0.5), 1, "mpf('-1.578')"),
            (
                float(0.5),
                float(-8.0),
                2,
                "mpc(real='-0.10156', imag='0.15356')",
            ),
            (
                float(-1.0),
                float(7.0),
                10,
                "mpc(real='0.0', imag='1.614459257078')",
            ),
            (float(8.0), float(2.0), 0, "mpf('2.5')"),
            (float(8.0), float(2.0), -3, "mpf('4.0')"),
            (
                float(2.0),
                float(-8.0),
                5,
                "mpc(real='0.10154915', imag='-0.15341926')",
            ),
            (
                float(1e-320),
                float(10.0),
                20,
                "mpf('-320.0000048349480421539')",
            ),
            (float(3.0), float(1.0), 5, ""),
        ] {
            assert_eq!(text(value, base, digits), expected);
        }
        assert_eq!(text(Py::None, Py::Int(2), 5), "cannot create mpf from None");
        assert_eq!(text(Py::from("2"), Py::Int(2), 5), "mpf('1.0')");
    }
}
