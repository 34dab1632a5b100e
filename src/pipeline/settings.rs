//! The settings that every stage has whatever its kind, and those of `[run]`.
//!
//! None of them changes a byte of any output, so none is in a key.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::{Device, Keep, Mistake, Span};

/// More threads than any machine has is a mistake.
const MOST_THREADS: u64 = 4096;

/// Reads settings of one place and keeps what is wrong with them.
pub(super) struct Reader<'m> {
    place: String,
    mistakes: &'m mut Vec<Mistake>,
}

impl<'m> Reader<'m> {
    /// `place` is named in every message.
    pub(super) fn new(place: String, mistakes: &'m mut Vec<Mistake>) -> Self {
        Self { place, mistakes }
    }

    /// `threads = 2`.
    pub(super) fn threads(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<usize> {
        self.count("threads", value)
    }

    /// `cards = 8`.
    pub(super) fn cards(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<usize> {
        self.count("cards", value)
    }

    /// `shards = 4`.
    pub(super) fn shards(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<usize> {
        self.count("shards", value)
    }

    /// `keep = "digest"`.
    pub(super) fn keep(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<Keep> {
        let value = value?;
        match value.get_ref().as_str() {
            Some("all") => Some(Keep::All),
            Some("digest") => Some(Keep::Digest),
            _ => {
                self.wrong("keep", "\"all\" or \"digest\"".to_owned(), &value);
                None
            }
        }
    }

    fn count(&mut self, name: &str, value: Option<Spanned<DeValue<'_>>>) -> Option<usize> {
        let value = value?;
        let number = value.get_ref().as_integer();
        let threads = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        match threads {
            Some(n @ 1..=MOST_THREADS) => usize::try_from(n).ok(),
            _ => {
                let expected = format!("a whole number from 1 to {MOST_THREADS}");
                self.wrong(name, expected, &value);
                None
            }
        }
    }

    /// `device = "cuda"`.
    pub(super) fn device(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<Device> {
        let value = value?;
        match value.get_ref().as_str() {
            Some("cpu") => Some(Device::Cpu),
            Some("cuda") => Some(Device::Cuda),
            _ => {
                self.wrong("device", "\"cpu\" or \"cuda\"".to_owned(), &value);
                None
            }
        }
    }

    /// `time-limit = "1h30m"`.
    pub(super) fn duration(
        &mut self,
        name: &str,
        value: Option<Spanned<DeValue<'_>>>,
    ) -> Option<Duration> {
        let value = value?;
        let duration = value.get_ref().as_str().and_then(parse_duration);
        if duration.is_none() {
            let expected = "a time such as \"90s\", \"20m\" or \"1h30m\"".to_owned();
            self.wrong(name, expected, &value);
        }
        duration
    }

    /// `memory = "16GB"`, in bytes.
    pub(super) fn memory(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<u64> {
        let value = value?;
        let memory = value.get_ref().as_str().and_then(parse_size);
        if memory.is_none() {
            let expected = "a size such as \"900MB\", \"16GB\" or \"1.5GB\"".to_owned();
            self.wrong("memory", expected, &value);
        }
        memory
    }

    fn wrong(&mut self, name: &str, expected: String, value: &Spanned<DeValue<'_>>) {
        let span: Span = value.span();
        self.mistakes.push(Mistake::BadSetting {
            place: self.place.clone(),
            name: format!("`{name}`"),
            expected,
            found: shown(value.get_ref()),
            span,
        });
    }
}

/// A short form of a wrong value: itself where it is short, else its type.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
        DeValue::Integer(n) if n.as_str().len() <= 40 => n.to_string(),
        DeValue::Float(n) if n.as_str().len() <= 40 => n.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        other => article(other.type_str()),
    }
}

/// The name of a type with its article.
pub(super) fn article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// Hours, minutes and seconds in this order, each at most once and none of it zero in all.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut rest = text;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let number: u64 = number.parse().ok().filter(|_| digits)?;
            seconds = seconds.checked_add(number.checked_mul(factor)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Bytes of a size such as `900MB` or `1.5GB`; a kilobyte is 1,000 bytes.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let units = [("kB", 3), ("MB", 6), ("GB", 9), ("TB", 12)];
    let (number, digits) = units
        .iter()
        .find_map(|(unit, digits)| Some((text.strip_suffix(unit)?.trim_end(), *digits)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits_only = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits_only(whole) || !digits_only(part) || part.len() > digits {
        return None;
    }
    let part: u64 = format!("{part:0<digits$}").parse().ok()?;
    let factor = 10_u64.pow(u32::try_from(digits).ok()?);
    let bytes = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)?
        .checked_add(part)?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("16GB"), Some(16_000_000_000));
        assert_eq!(parse_size("1.5 GB"), Some(1_500_000_000));
        assert_eq!(parse_size("900MB"), Some(900_000_000));
        for wrong in [
            "",
            "GB",
            "5",
            "-1GB",
            "1.GB",
            ".5GB",
            "1e3MB",
            "0kB",
            "1.2345kB",
            "99999999999TB",
        ] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_read() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs());
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("20m"), Some(1200));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("2h0m5s"), Some(7205));
        for wrong in [
            "",
            "0s",
            "5",
            "m",
            "-1s",
            "1.5h",
            "+3s",
            "5s1h",
            "1h1h",
            "99999999999999999999s",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
