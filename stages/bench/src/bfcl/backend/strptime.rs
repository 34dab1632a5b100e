//! `datetime.strptime` for the two formats that the back ends use.

use std::sync::LazyLock;

use regex::Regex;

use crate::bfcl::py::{Py, Raise, Reply, quoted};

/// Seconds since the beginning of the year 1; only compared.
pub(super) type Instant = i64;

const DATE: &str = "%Y-%m-%d";
const TIME: &str = "%Y-%m-%d %H:%M:%S";

static DATE_PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(\d\d\d\d)-(1[0-2]|0[1-9]|[1-9])-(3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])")
        .expect("valid pattern")
});

static TIME_PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^(\d\d\d\d)-(1[0-2]|0[1-9]|[1-9])-(3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])[\s\x1c-\x1f]+",
        r"(2[0-3]|[0-1]\d|\d):([0-5]\d|\d):(6[0-1]|[0-5]\d|\d)"
    ))
    .expect("valid pattern")
});

/// Year, month and day of a text.
pub(super) fn date(text: &Py) -> Reply<(i64, i64, i64)> {
    let parts = parse(text, &DATE_PATTERN, DATE)?;
    check_day(&parts)?;
    Ok((parts[0], parts[1], parts[2]))
}

/// Midnight of a text.
pub(super) fn midnight(text: &Py) -> Reply<Instant> {
    let (year, month, day) = date(text)?;
    Ok(days(year, month, day) * 86_400)
}

/// The instant of a text with date and time.
pub(super) fn instant(text: &Py) -> Reply<Instant> {
    let parts = parse(text, &TIME_PATTERN, TIME)?;
    check_day(&parts)?;
    if parts[5] > 59 {
        return Err(Raise::value_error("second must be in 0..59"));
    }
    let days = days(parts[0], parts[1], parts[2]);
    Ok(days * 86_400 + parts[3] * 3600 + parts[4] * 60 + parts[5])
}

fn parse(text: &Py, pattern: &Regex, format: &str) -> Reply<Vec<i64>> {
    let Some(text) = text.as_str() else {
        let name = text.type_name();
        let text = format!("strptime() argument 1 must be str, not {name}");
        return Err(Raise::type_error(text));
    };
    let Some(found) = pattern.captures(text) else {
        let text = quoted(text);
        let text = format!("time data {text} does not match format '{format}'");
        return Err(Raise::value_error(text));
    };
    let rest = &text[found.get(0).map_or(0, |whole| whole.end())..];
    if !rest.is_empty() {
        return Err(Raise::value_error(format!(
            "unconverted data remains: {rest}"
        )));
    }
    // Groups are digits, of any script for the first ones; those that are not ASCII count as no match.
    let number =
        |group: Option<regex::Match<'_>>| group.and_then(|g| g.as_str().trim().parse().ok());
    let numbers: Option<Vec<i64>> = found.iter().skip(1).map(number).collect();
    numbers.ok_or_else(|| {
        let text = quoted(text);
        Raise::value_error(format!("time data {text} does not match format '{format}'"))
    })
}

fn check_day(parts: &[i64]) -> Reply<()> {
    let (year, month, day) = (parts[0], parts[1], parts[2]);
    if year == 0 {
        return Err(Raise::value_error("year 0 is out of range"));
    }
    if day > days_of(year, month) {
        return Err(Raise::value_error("day is out of range for month"));
    }
    Ok(())
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400;
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day
}
