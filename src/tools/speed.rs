//! The table of `doctor --bench`.

use serde_json::{Value, json};
use starling::exit;
use starling_lm::speed::{Device, Processor, Row};

use crate::cli::output::{self, Failure};

/// Every device that this build can compute on and that is here.
fn devices() -> Vec<Box<dyn Device>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![Box::new(Processor { threads })]
}

/// Measures all devices and prints a row a kind of work.
///
/// # Errors
/// A failure of a device, with its name.
pub(crate) fn print(json: bool) -> Result<u8, Failure> {
    let mut values = Vec::new();
    for device in devices() {
        let rows = device
            .measure()
            .map_err(|error| Failure::new(exit::STAGE, format!("{}: {error}", device.name())))?;
        if json {
            values.extend(rows.iter().map(|row| value(&device.name(), row)));
            continue;
        }
        output::data(&format!("{}\n", device.name()));
        for row in rows {
            output::data(&format!(
                "{:>12}  {:<44}  {:>7}  {:<8}  {:>4.0} % of {}\n",
                row.work,
                row.size,
                digits(row.figure),
                row.unit.name(),
                100.0 * row.figure / row.ceiling,
                digits(row.ceiling),
            ));
        }
    }
    if json {
        output::json(&Value::Array(values));
    }
    Ok(exit::DONE)
}

fn value(device: &str, row: &Row) -> Value {
    json!({
        "device": device,
        "work": row.work,
        "size": row.size,
        "figure": row.figure,
        "unit": row.unit.name(),
        "ceiling": row.ceiling,
    })
}

/// Three digits.
fn digits(figure: f64) -> String {
    let places = match figure {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{figure:.places$}")
}
