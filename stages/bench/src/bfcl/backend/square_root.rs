//! Square roots in decimal arithmetic of a chosen precision, as Python's `decimal` computes and writes them.

use num_bigint::{BigInt, BigUint};
use num_traits::{Pow as _, Signed as _, Zero as _};

use crate::bfcl::py::{Class, Py, Raise, Reply};

/// Most digits that are computed; more would be a matter of seconds, and soon of minutes.
const MAX_PRECISION: i64 = 20_000;

/// A non-negative number: `digits * 10^exponent`.
struct Decimal {
    negative: bool,
    digits: BigUint,
    exponent: i64,
}

/// The root of a number that is not negative, with `precision` significant digits; `spend` is asked before the
/// work is begun.
pub(super) fn square_root(number: &Py, precision: &Py, spend: impl FnOnce() -> Reply<()>) -> Reply {
    let precision = digits(precision)?;
    spend()?;
    let decimal = match number {
        Py::Float(float) if float.is_nan() => return Ok(object("NaN")),
        Py::Float(float) if float.is_infinite() => return Ok(object("Infinity")),
        Py::Float(float) => exact(*float),
        Py::Bool(_) | Py::Int(_) | Py::Big(_) => {
            let int = match number {
                Py::Big(int) => (**int).clone(),
                Py::Int(int) => BigInt::from(*int),
                other => BigInt::from(u8::from(other.truthy())),
            };
            Decimal {
                negative: false,
                digits: int.magnitude().clone(),
                exponent: 0,
            }
        }
        _ => return Err(Raise::type_error("conversion is not supported")),
    };
    Ok(object(&root(&decimal, precision).to_string()))
}

fn object(text: &str) -> Py {
    Py::Object("decimal.Decimal", format!("Decimal('{text}')").into())
}

fn digits(precision: &Py) -> Reply<i64> {
    let precision = match precision {
        Py::Bool(value) => i64::from(*value),
        Py::Int(int) => *int,
        Py::Big(_) => {
            let text = "Python int too large to convert to C ssize_t";
            return Err(Raise::new(Class::Overflow, text));
        }
        _ => return Err(Raise::type_error("integer argument expected")),
    };
    if !(1..=999_999_999_999_999_999).contains(&precision) {
        return Err(Raise::value_error("valid range for prec is [1, MAX_PREC]"));
    }
    if precision > MAX_PRECISION {
        return Err(Raise::limit());
    }
    Ok(precision)
}

/// The exact decimal expansion of a finite float.
fn exact(float: f64) -> Decimal {
    let bits = float.abs().to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (mut mantissa, mut exponent) = match (bits >> 52) as i64 {
        0 => (fraction, -1074),
        biased => (fraction | 1 << 52, biased - 1075),
    };
    if mantissa == 0 {
        exponent = 0;
    } else {
        let zeros = mantissa.trailing_zeros();
        mantissa >>= zeros;
        exponent += i64::from(zeros);
    }
    let digits = match exponent >= 0 {
        true => BigUint::from(mantissa) << exponent.unsigned_abs(),
        false => BigUint::from(mantissa) * BigUint::from(5_u32).pow(exponent.unsigned_abs()),
    };
    Decimal {
        negative: float.is_sign_negative(),
        digits,
        exponent: exponent.min(0),
    }
}

fn ten_to(power: i64) -> BigUint {
    BigUint::from(10_u32).pow(power.unsigned_abs())
}

fn length(digits: &BigUint) -> i64 {
    digits.to_string().len() as i64
}

/// Correctly rounded, half to even; exact roots keep half the exponent where the precision allows.
fn root(number: &Decimal, precision: i64) -> Decimal {
    if number.digits.is_zero() {
        return Decimal {
            negative: number.negative,
            digits: BigUint::ZERO,
            exponent: number.exponent.div_euclid(2),
        };
    }
    let odd = number.exponent.rem_euclid(2) == 1;
    let half = number.exponent.div_euclid(2);
    let mut radicand = number.digits.clone();
    if odd {
        radicand *= 10_u32;
    }
    let count = (length(&radicand) + 1) / 2;
    // One digit more than asked for; what is behind it only matters by being there.
    let shift = precision + 1 - count;
    let mut is_exact = true;
    if shift >= 0 {
        radicand *= ten_to(2 * shift);
    } else {
        let unit = ten_to(2 * shift);
        is_exact = (&radicand % &unit).is_zero();
        radicand /= unit;
    }
    let mut digits = sqrt(&radicand);
    is_exact = is_exact && &digits * &digits == radicand;
    let mut exponent = half - shift;
    if is_exact {
        match shift >= 0 {
            true => digits /= ten_to(shift),
            false => digits *= ten_to(shift),
        }
        exponent = half;
    } else if (&digits % 5_u32).is_zero() {
        // Neither a tie nor an exact end.
        digits += 1_u32;
    }
    let mut root = Decimal {
        negative: false,
        digits,
        exponent,
    };
    root.round_to(precision);
    root
}

impl Decimal {
    fn round_to(&mut self, precision: i64) {
        let excess = length(&self.digits) - precision;
        if excess <= 0 {
            return;
        }
        let unit = ten_to(excess);
        let (quotient, rest) = (&self.digits / &unit, &self.digits % &unit);
        let twice = rest * 2_u32;
        let up = twice > unit || (twice == unit && quotient.bit(0));
        self.digits = quotient + u32::from(up);
        self.exponent += excess;
        if length(&self.digits) > precision {
            self.digits /= 10_u32;
            self.exponent += 1;
        }
    }
}

impl std::fmt::Display for Decimal {
    /// Plain from six zeros behind the point on, else scientific.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.digits.to_string();
        let length = digits.len() as i64;
        let left = length + self.exponent;
        let plain = self.exponent <= 0 && left > -6;
        let point = if plain { left } else { 1 };
        let sign = if self.negative { "-" } else { "" };
        f.write_str(sign)?;
        if point <= 0 {
            write!(f, "0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))?;
        } else if point >= length {
            write!(f, "{digits}{}", "0".repeat((point - length) as usize))?;
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            write!(f, "{whole}.{fraction}")?;
        }
        match left - point {
            0 => Ok(()),
            exponent => write!(f, "E{exponent:+}"),
        }
    }
}

/// The integer square root, rounded down.
pub(super) fn sqrt(number: &BigUint) -> BigUint {
    // The method below wants the highest bits set: shift by an even number of bits.
    let bits = number.bits();
    if bits <= 512 {
        return number.sqrt();
    }
    let shift = (4 - bits % 4) % 4;
    let shift = shift - shift % 2;
    let (root, _) = sqrt_with_rest(&(number << shift));
    root >> (shift / 2)
}

/// Zimmermann's recursive square root: the root of the upper half gives the lower half by one division.
fn sqrt_with_rest(number: &BigUint) -> (BigUint, BigUint) {
    let bits = number.bits();
    if bits <= 512 {
        let root = number.sqrt();
        let rest = number - &root * &root;
        return (root, rest);
    }
    let quarter = bits / 4;
    let mask = (BigUint::from(1_u32) << quarter) - 1_u32;
    let lowest = number & &mask;
    let second = (number >> quarter) & &mask;
    let (root, rest) = sqrt_with_rest(&(number >> (2 * quarter)));
    let dividend = (rest << quarter) + second;
    let divisor: BigUint = &root << 1_u32;
    let (quotient, rest) = (&dividend / &divisor, &dividend % &divisor);
    let mut result = (root << quarter) + &quotient;
    let mut remainder =
        BigInt::from((rest << quarter) + lowest) - BigInt::from(&quotient * &quotient);
    while remainder.is_negative() {
        remainder += BigInt::from(&result << 1_u32) - 1;
        result -= 1_u32;
    }
    (result, remainder.magnitude().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: Py, precision: i64) -> String {
        crate::bfcl::py::str(
            &square_root(&number, &Py::Int(precision), || Ok(())).expect("a number"),
        )
    }

    #[test]
    fn roots_are_pythons() {
        for (number, precision, expected) in [
            (2.675, 5, "Decimal('1.6355')"),
            (1e20, 5, "Decimal('1.0000E+10')"),
            (1e20, 30, "Decimal('10000000000')"),
            (0.25, 10, "Decimal('0.5')"),
            (0.5, 30, "Decimal('0.707106781186547524400844362105')"),
            (-0.0, 3, "Decimal('-0')"),
        ] {
            assert_eq!(text(Py::Float(number), precision), expected);
        }
        assert_eq!(text(Py::Int(0), 3), "Decimal('0')");
    }

    #[test]
    fn long_roots_are_exact() {
        for bits in [500_u32, 513, 1000, 1023, 4001, 9999] {
            let number = (BigUint::from(7_u32) << bits) / 3_u32;
            assert_eq!(sqrt(&number), number.sqrt(), "{bits}");
            let square = &number * &number;
            assert_eq!(sqrt(&square), number);
            assert_eq!(sqrt(&(square - 1_u32)), number - 1_u32);
        }
    }
}
