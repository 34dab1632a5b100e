//! Complex arithmetic, by the formulas of CPython: a real operand counts as one with the imaginary part zero.

use super::super::{BinaryOp, Reject};
use super::same;

pub(in super::super) type Complex = (f64, f64);

/// `a op b`.
///
/// # Errors
/// Division by zero, a power beyond the floats, and operators that complex numbers do not have.
pub(in super::super) fn complex(op: BinaryOp, a: Complex, b: Complex) -> Result<Complex, Reject> {
    match op {
        BinaryOp::Add => Ok((a.0 + b.0, a.1 + b.1)),
        BinaryOp::Sub => Ok((a.0 - b.0, a.1 - b.1)),
        BinaryOp::Mul => Ok(product(a, b)),
        BinaryOp::Div => quotient(a, b),
        BinaryOp::Pow => power(a, b),
        _ => Err(Reject),
    }
}

fn product(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// Divides by the larger part of the divisor first, which keeps the squares out.
fn quotient(a: Complex, b: Complex) -> Result<Complex, Reject> {
    if b.0.abs() >= b.1.abs() {
        if same(b.0, 0.0) {
            return Err(Reject);
        }
        let ratio = b.1 / b.0;
        let divisor = b.0 + b.1 * ratio;
        return Ok(((a.0 + a.1 * ratio) / divisor, (a.1 - a.0 * ratio) / divisor));
    }
    if b.1.abs() >= b.0.abs() {
        let ratio = b.0 / b.1;
        let divisor = b.0 * ratio + b.1;
        return Ok(((a.0 * ratio + a.1) / divisor, (a.1 * ratio - a.0) / divisor));
    }
    Ok((f64::NAN, f64::NAN))
}

fn power(a: Complex, b: Complex) -> Result<Complex, Reject> {
    /// Whole exponents up to here are multiplied out.
    const SMALL: f64 = 100.0;
    let whole = same(b.1, 0.0) && same(b.0, b.0.floor()) && b.0.abs() <= SMALL;
    let power = match whole {
        true if b.0 > 0.0 => whole_power(a, b.0 as u32),
        true => quotient((1.0, 0.0), whole_power(a, -b.0 as u32))?,
        false => polar_power(a, b)?,
    };
    match power.0.is_infinite() || power.1.is_infinite() {
        true => Err(Reject),
        false => Ok(power),
    }
}

fn whole_power(base: Complex, exponent: u32) -> Complex {
    let (mut power, mut square) = ((1.0, 0.0), base);
    let mut bits = exponent;
    while bits > 0 {
        if bits & 1 == 1 {
            power = product(power, square);
        }
        bits >>= 1;
        square = product(square, square);
    }
    power
}

fn polar_power(a: Complex, b: Complex) -> Result<Complex, Reject> {
    let zero = |number: Complex| same(number.0, 0.0) && same(number.1, 0.0);
    if zero(b) {
        return Ok((1.0, 0.0));
    }
    if zero(a) {
        return match !same(b.1, 0.0) || b.0 < 0.0 {
            true => Err(Reject),
            false => Ok((0.0, 0.0)),
        };
    }
    let size = a.0.hypot(a.1);
    let angle = a.1.atan2(a.0);
    let (mut length, mut phase) = (size.powf(b.0), angle * b.0);
    if !same(b.1, 0.0) {
        length /= (angle * b.1).exp();
        phase += b.1 * size.ln();
    }
    // The C library's sine reports a domain error, which Python takes for a division by zero.
    match phase.is_infinite() {
        true => Err(Reject),
        false => Ok((length * phase.cos(), length * phase.sin())),
    }
}
