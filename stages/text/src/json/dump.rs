//! `json.dumps`.

use std::fmt::Write as _;

use super::Value;

/// How [`dumps_with`] writes; the default is `json.dumps(value, ensure_ascii=False)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dumps {
    /// Escape everything outside printable ASCII (Python's own default).
    pub ensure_ascii: bool,
    /// Write names in order of their code points.
    pub sort_keys: bool,
    /// Between items, and between a name and its value. `None`: `", "` (`","` with `indent`) and `": "`.
    pub separators: Option<(String, String)>,
    /// Spaces an indentation level; `None` writes on one line.
    pub indent: Option<usize>,
}

/// `json.dumps(value, ensure_ascii=False)`.
pub fn dumps(value: &Value) -> String {
    let mut out = String::new();
    dump(&mut out, value);
    out
}

/// Appends `json.dumps(value, ensure_ascii=False)`.
pub fn dump(out: &mut String, value: &Value) {
    let mut writer = Writer {
        out: std::mem::take(out),
        options: &PLAIN,
        item: ", ",
        key: ": ",
    };
    writer.value(value, 0);
    *out = writer.out;
}

/// The default options.
const PLAIN: Dumps = Dumps {
    ensure_ascii: false,
    sort_keys: false,
    separators: None,
    indent: None,
};

/// `json.dumps` with options.
pub fn dumps_with(value: &Value, options: &Dumps) -> String {
    let (item, key) = match &options.separators {
        Some((item, key)) => (item.as_str(), key.as_str()),
        None if options.indent.is_some() => (",", ": "),
        None => (", ", ": "),
    };
    let mut writer = Writer {
        out: String::new(),
        options,
        item,
        key,
    };
    writer.value(value, 0);
    writer.out
}

struct Writer<'a> {
    out: String,
    options: &'a Dumps,
    item: &'a str,
    key: &'a str,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, level: usize) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Int(int) => push(&mut self.out, format_args!("{int}")),
            Value::BigInt(int) => push(&mut self.out, format_args!("{int}")),
            Value::Float(float) if float.is_nan() => self.out.push_str("NaN"),
            Value::Float(float) if float.is_infinite() => {
                self.out.push_str(if *float > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                });
            }
            Value::Float(float) => write_float(&mut self.out, *float),
            Value::Str(text) => self.string(text),
            Value::List(items) if items.is_empty() => self.out.push_str("[]"),
            Value::List(items) => {
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.separate(i, level + 1);
                    self.value(item, level + 1);
                }
                self.close(']', level);
            }
            Value::Dict(map) if map.is_empty() => self.out.push_str("{}"),
            Value::Dict(map) => {
                self.out.push('{');
                let mut entries: Vec<_> = map.iter().collect();
                if self.options.sort_keys {
                    entries.sort_by_key(|(name, _)| *name);
                }
                for (i, (name, item)) in entries.into_iter().enumerate() {
                    self.separate(i, level + 1);
                    self.string(name);
                    self.out.push_str(self.key);
                    self.value(item, level + 1);
                }
                self.close('}', level);
            }
        }
    }

    fn separate(&mut self, index: usize, level: usize) {
        if index > 0 {
            self.out.push_str(self.item);
        }
        self.new_line(level);
    }

    fn close(&mut self, bracket: char, level: usize) {
        self.new_line(level);
        self.out.push(bracket);
    }

    fn new_line(&mut self, level: usize) {
        if let Some(indent) = self.options.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * level));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        let special = if self.options.ensure_ascii {
            &OUTSIDE_ASCII
        } else {
            &SPECIAL
        };
        let mut written = 0;
        while let Some(run) = text.as_bytes()[written..]
            .iter()
            .position(|&byte| special[usize::from(byte)])
        {
            // The bytes passed over are whole characters, and a special one starts a character.
            let (plain, rest) = text[written..].split_at(run);
            self.out.push_str(plain);
            let Some(c) = rest.chars().next() else { break };
            written += run + c.len_utf8();
            self.escape(c);
        }
        self.out.push_str(&text[written..]);
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        match c {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\u{c}' => self.out.push_str("\\f"),
            '\u{8}' => self.out.push_str("\\b"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    push(&mut self.out, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
}

/// Bytes that `json.dumps(ensure_ascii=False)` escapes.
const SPECIAL: [bool; 256] = special(false);
/// The same, and every byte outside printable ASCII.
const OUTSIDE_ASCII: [bool; 256] = special(true);

const fn special(ascii: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let outside = byte >= 0x7f && ascii;
        table[byte] = byte < 0x20 || byte == b'"' as usize || byte == b'\\' as usize || outside;
        byte += 1;
    }
    table
}

/// Appends a finite float as Python's `repr` writes it: shortest digits that read back, always with `.0`
/// or an exponent, the exponent when the decimal one is below -4 or at least 16. `nan` and `inf` otherwise.
pub fn write_float(out: &mut String, float: f64) {
    if float.is_nan() {
        return out.push_str("nan");
    }
    if float.is_infinite() {
        return out.push_str(if float > 0.0 { "inf" } else { "-inf" });
    }
    if write_hundredths(out, float) {
        return;
    }
    let magnitude = float.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        let start = out.len();
        push(out, format_args!("{float}"));
        match out[start..].find('.') {
            None => out.push_str(".0"),
            Some(point) if out.len() - start > LONG => {
                let places = out.len() - start - point - 1;
                if let Some(even) = to_even(float, &out[start..], format!("{float:.places$}")) {
                    out.truncate(start);
                    out.push_str(&even);
                }
            }
            Some(_) => {}
        }
        return;
    }
    let mut scientific = format!("{float:e}");
    if let Some((digits, _)) = scientific.split_once('e')
        && digits.len() > LONG
        && let Some(point) = digits.find('.')
    {
        let places = digits.len() - point - 1;
        if let Some(even) = to_even(float, &scientific, format!("{float:.places$e}")) {
            scientific = even;
        }
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    out.push_str(digits);
    out.push('e');
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    out.push(sign);
    if exponent.len() < 2 {
        out.push('0');
    }
    out.push_str(exponent);
}

/// Two numbers of at most 15 digits never stand for the same float; a point is one byte more.
const LONG: usize = 16;

/// The other of two shortest texts, where there are two: when a float lies exactly between them Python writes the
/// one whose last digit is even, as rounding to a number of digits does here, and writing the shortest does not.
fn to_even(float: f64, shortest: &str, rounded: String) -> Option<String> {
    let same = rounded
        .parse::<f64>()
        .is_ok_and(|read| read.to_bits() == float.to_bits());
    (rounded != shortest && same).then_some(rounded)
}

/// Writes a float that is the nearest one to a number of at most two decimals, such as prices are; says whether it was.
///
/// Numbers of up to 15 digits have floats of their own, so that no other number as short stands for this one.
fn write_hundredths(out: &mut String, float: f64) -> bool {
    let magnitude = float.abs();
    if !(0.01..1e9).contains(&magnitude) {
        return false;
    }
    let hundredths = (magnitude * 100.0).round();
    if (hundredths / 100.0).to_bits() != magnitude.to_bits() {
        return false;
    }
    let hundredths = hundredths as u64;
    let mut buffer = [0_u8; 16];
    let mut start = buffer.len();
    let mut put = |byte: u8| {
        start -= 1;
        buffer[start] = byte;
    };
    let last = |number: u64| b'0' + (number % 10) as u8;
    if !hundredths.is_multiple_of(10) {
        put(last(hundredths));
    }
    put(last(hundredths / 10));
    put(b'.');
    let mut whole = hundredths / 100;
    loop {
        put(last(whole));
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    if float < 0.0 {
        out.push('-');
    }
    // ASCII digits are text.
    out.push_str(std::str::from_utf8(&buffer[start..]).unwrap_or_default());
    true
}

pub(crate) fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::write_float;

    #[test]
    fn short_decimals_are_written_like_any_other() {
        let plain = |float: f64| {
            let text = format!("{float}");
            if text.contains('.') {
                text
            } else {
                text + ".0"
            }
        };
        let mut floats = vec![
            0.01,
            0.1,
            0.29,
            1.0,
            10.0,
            1.15,
            227.16,
            0.30000000000000004,
            999_999_999.99,
            1e9,
        ];
        floats.extend((1..20_000).map(|i| f64::from(i) / 100.0));
        floats.extend((1..20_000).map(|i| f64::from(i) * 0.01));
        floats.extend((1..20_000).map(|i| f64::from(i) * 1234.567));
        for float in floats {
            for float in [float, -float] {
                let mut text = String::new();
                write_float(&mut text, float);
                assert_eq!(text, plain(float));
            }
        }
    }
}
