//! The run's clock: wall time for records and names, never for keys or artifacts.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 for a clock set before.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the run's clock, the one place that reads it"
)]
pub fn now_unix() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// A point of time in UTC, `2026-11-21T05-52-44.123Z`: sorts as text and may stand in a file name.
#[must_use]
pub fn stamp(unix: f64) -> String {
    // Beyond the year 9999 the text would no longer sort.
    let millis = (unix.clamp(0.0, 253_402_300_799.0) * 1000.0) as u64;
    let (days, ms) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{h:02}-{m:02}-{s:02}.{:03}Z",
        ms % 1000
    )
}

/// The stamp of now, or of a millisecond after the newest run where the clock says that this is still to come: the
/// order of their names is the order of the runs, whatever the clock did in between.
pub(crate) fn stamp_after(now_unix: f64, newest_run: Option<&str>) -> String {
    let now = stamp(now_unix);
    match newest_run.and_then(unstamp) {
        Some(newest) if stamp(newest) >= now => stamp(newest + 0.001_5),
        _ => now,
    }
}

/// The time of a stamp, with or without something after it; none for other texts.
fn unstamp(text: &str) -> Option<f64> {
    const FORM: &[u8] = b"0000-00-00T00-00-00.000Z";
    let text = text.get(..FORM.len())?;
    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    };
    if !text.bytes().zip(FORM).all(fits) {
        return None;
    }
    let number = |at: usize, digits: usize| text[at..at + digits].parse::<u64>().ok();
    let days = days(number(0, 4)?, number(5, 2)?, number(8, 2)?)?;
    let seconds = number(11, 2)? * 3600 + number(14, 2)? * 60 + number(17, 2)?;
    Some((days * 86_400 + seconds) as f64 + number(20, 3)? as f64 * 1e-3)
}

/// The day since 1970 of a date, as [`civil`] reversed; none before 1970 and for a month that is none.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) {
        return None;
    }
    let (year, month_from_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// Year, month and day of a day since 1970 in the Gregorian calendar.
///
/// Years begin in March here, so that the leap day is a year's last: within such a year, month `m`
/// (from 0) begins at day `(153 m + 2) / 5`.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march_0 = days + 719_468;
    let (era, of_era) = (since_march_0 / 146_097, since_march_0 % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, later) = if month_from_march < 10 {
        (month_from_march + 3, 0)
    } else {
        (month_from_march - 9, 1)
    };
    (era * 400 + year_of_era + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right-hand sides were printed by `date -u -d @N`.
    #[test]
    fn stamps_agree_with_the_calendar() {
        let cases = [
            (0.0, "1970-01-01T00-00-00.000Z"),
            (951_782_399.5, "2000-02-28T23-59-59.500Z"),
            (951_868_800.0, "2000-03-01T00-00-00.000Z"),
            (1_709_164_800.0, "2024-02-29T00-00-00.000Z"),
            (4_107_542_400.0, "2100-03-01T00-00-00.000Z"),
            (f64::NAN, "1970-01-01T00-00-00.000Z"),
        ];
        for (unix, text) in cases {
            assert_eq!(stamp(unix), text, "{unix}");
        }
    }

    #[test]
    fn a_clock_that_jumps_does_not_change_the_order_of_runs() {
        let now = 1_800_000_000.25;
        // Set back by a day, an hour, a millisecond; not at all; set forward.
        for newest in [86_400.0, 3600.0, 0.001, 0.0, -3600.0] {
            let newest = format!("{}-123", stamp(now + newest));
            let next = stamp_after(now, Some(&newest));
            assert!(format!("{next}-7") > newest, "{next} after {newest}");
            assert!(next >= stamp(now));
        }
        for no_stamp in [
            "",
            "mine",
            "2026-13-01T00-00-00.000Z",
            "2026-01-0éT00-00-00.00Z",
        ] {
            assert_eq!(stamp_after(now, Some(no_stamp)), stamp(now), "{no_stamp}");
        }
        assert_eq!(stamp_after(now, None), stamp(now));
    }

    #[test]
    fn stamps_are_read_as_they_were_written() {
        for day in 0..40_000 {
            let unix = f64::from(day) * 86_400.0 + 43_210.5;
            let back = unstamp(&stamp(unix)).expect("a stamp");
            assert!((back - unix).abs() < 1e-4, "{back} {unix}");
        }
    }

    #[test]
    fn later_sorts_later() {
        let mut last = String::new();
        for day in 0..50_000 {
            let now = stamp(f64::from(day) * 86_400.0 + 1.0);
            assert!(now > last, "{now}");
            last = now;
        }
    }
}
