//! Dates and times: ISO 8601 and RFC 3339 texts to days, microseconds and nanoseconds, over bytes.
//!
//! Years run from 0001 to 9999. Fraction digits beyond the unit are dropped. A leap second (`:60`) becomes the
//! last instant of its minute, so that order is kept and nothing lands in the next minute.

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const SECOND_RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Why a text is not the wanted date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeError {
    /// The text has another format.
    Format,
    /// The format is right, and the calendar or the clock has no such instant.
    Range,
    /// A timestamp has no offset and needs one.
    OffsetMissing,
    /// A timestamp has an offset and may not have one.
    OffsetPresent,
}

/// An instant, or a local date and time: seconds since the epoch and nanoseconds of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    seconds: i64,
    nanos: i64,
}

impl Instant {
    /// Microseconds since the epoch.
    pub(super) fn micros(self) -> i64 {
        // The range of years keeps this far from overflow.
        self.seconds * 1_000_000 + self.nanos / 1_000
    }

    /// Nanoseconds since the epoch, if 64 bits hold them (years 1677 to 2262).
    pub(super) fn nanos(self) -> Result<i64, TimeError> {
        let nanos = i128::from(self.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(self.nanos);
        i64::try_from(nanos).map_err(|_| TimeError::Range)
    }
}

/// Parses `YYYY-MM-DD` into days since the epoch.
pub(super) fn parse_date(text: &[u8]) -> Result<i32, TimeError> {
    match split_date(text)? {
        (days, []) => Ok(days),
        _ => Err(TimeError::Format),
    }
}

/// Parses `HH:MM:SS[.fraction]` into microseconds since midnight.
pub(super) fn parse_time(text: &[u8]) -> Result<i64, TimeError> {
    match split_time(text)? {
        (time, []) => Ok(time.micros()),
        _ => Err(TimeError::Format),
    }
}

/// Parses a date and a time without offset, apart by `T` or a space.
pub(super) fn parse_timestamp(text: &[u8]) -> Result<Instant, TimeError> {
    let (local, rest) = split_timestamp(text)?;
    match rest {
        [] => Ok(local),
        _ => match offset_seconds(rest) {
            Ok(_) => Err(TimeError::OffsetPresent),
            Err(_) => Err(TimeError::Format),
        },
    }
}

/// Parses a date and a time with an offset (`Z`, `+HH:MM`, `-HH:MM`), apart by `T` or a space.
pub(super) fn parse_timestamptz(text: &[u8]) -> Result<Instant, TimeError> {
    let (local, rest) = split_timestamp(text)?;
    if rest.is_empty() {
        return Err(TimeError::OffsetMissing);
    }
    let seconds = local.seconds - offset_seconds(rest)?;
    if SECOND_RANGE.contains(&seconds) {
        Ok(Instant {
            seconds,
            nanos: local.nanos,
        })
    } else {
        Err(TimeError::Range)
    }
}

fn split_timestamp(text: &[u8]) -> Result<(Instant, &[u8]), TimeError> {
    let (days, rest) = split_date(text)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else {
        return Err(TimeError::Format);
    };
    let (time, rest) = split_time(rest)?;
    let seconds = i64::from(days) * SECONDS_PER_DAY + time.seconds;
    Ok((
        Instant {
            seconds,
            nanos: time.nanos,
        },
        rest,
    ))
}

fn split_date(text: &[u8]) -> Result<(i32, &[u8]), TimeError> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, rest @ ..] = text else {
        return Err(TimeError::Format);
    };
    let year = two_digits(*y0, *y1)? * 100 + two_digits(*y2, *y3)?;
    let month = two_digits(*m0, *m1)?;
    let day = two_digits(*d0, *d1)?;
    if year == 0 || day == 0 || day > days_in_month(year, month) {
        return Err(TimeError::Range);
    }
    Ok((days_from_civil(year, month, day), rest))
}

fn split_time(text: &[u8]) -> Result<(Instant, &[u8]), TimeError> {
    let [h0, h1, b':', m0, m1, b':', s0, s1, rest @ ..] = text else {
        return Err(TimeError::Format);
    };
    let hour = two_digits(*h0, *h1)?;
    let minute = two_digits(*m0, *m1)?;
    let second = two_digits(*s0, *s1)?;
    let (nanos, rest) = split_fraction(rest)?;
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeError::Range);
    }
    let (second, nanos) = if second == 60 {
        (59, NANOS_PER_SECOND - 1)
    } else {
        (second, nanos)
    };
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Ok((Instant { seconds, nanos }, rest))
}

/// Takes `.` and its digits off the front; digits beyond the ninth are dropped.
fn split_fraction(text: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let [b'.', after @ ..] = text else {
        return Ok((0, text));
    };
    let end = after
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(after.len());
    let (digits, rest) = after.split_at(end);
    if digits.is_empty() {
        return Err(TimeError::Format);
    }
    let mut nanos = 0;
    let mut unit = NANOS_PER_SECOND / 10;
    for byte in digits.iter().take(9) {
        nanos += i64::from(byte.wrapping_sub(b'0')) * unit;
        unit /= 10;
    }
    Ok((nanos, rest))
}

fn offset_seconds(text: &[u8]) -> Result<i64, TimeError> {
    match text {
        [b'Z' | b'z'] => Ok(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let hour = two_digits(*h0, *h1)?;
            let minute = two_digits(*m0, *m1)?;
            if hour > 23 || minute > 59 {
                return Err(TimeError::Range);
            }
            let seconds = i64::from(hour * 3600 + minute * 60);
            Ok(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => Err(TimeError::Format),
    }
}

fn two_digits(tens: u8, ones: u8) -> Result<u32, TimeError> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return Err(TimeError::Format);
    }
    Ok(u32::from(tens) * 10 + u32::from(ones))
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

/// Counts the days from 1970-01-01 to a date of the proleptic Gregorian calendar.
///
/// The era arithmetic of <https://howardhinnant.github.io/date_algorithms.html>, for years 0001 to 9999.
fn days_from_civil(year: u32, month: u32, day: u32) -> i32 {
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era) as i32 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, Utc};
    use proptest::prelude::*;

    fn tz(text: &str) -> Result<i64, TimeError> {
        parse_timestamptz(text.as_bytes()).map(Instant::micros)
    }

    #[test]
    fn timestamps_need_an_offset_exactly_where_the_type_has_one() {
        assert_eq!(tz("2024-02-29T12:00:00"), Err(TimeError::OffsetMissing));
        assert_eq!(
            parse_timestamp(b"2024-02-29T12:00:00Z"),
            Err(TimeError::OffsetPresent)
        );
        assert_eq!(tz("1970-01-01t01:00:00.000001+01:00"), Ok(1));
        assert_eq!(tz("1970-01-01 00:00:00z"), Ok(0));
    }

    #[test]
    fn leap_second_is_the_last_instant_of_its_minute() {
        assert_eq!(tz("1970-01-01T00:00:60Z"), Ok(59_999_999));
        assert_eq!(parse_time(b"23:59:60.5"), Ok(86_399_999_999));
        assert_eq!(parse_time(b"23:59:61"), Err(TimeError::Range));
    }

    #[test]
    fn fraction_beyond_the_unit_is_dropped() {
        assert_eq!(parse_time(b"00:00:00.1234569999999"), Ok(123_456));
        assert_eq!(parse_time(b"00:00:00."), Err(TimeError::Format));
    }

    #[test]
    fn calendar_is_kept() {
        assert_eq!(parse_date(b"2023-02-29"), Err(TimeError::Range));
        assert_eq!(parse_date(b"0000-01-01"), Err(TimeError::Range));
        assert_eq!(parse_date(b"2024-13-01"), Err(TimeError::Range));
        assert_eq!(parse_date(b"2024-1-01"), Err(TimeError::Format));
        assert_eq!(parse_date(b"2024-01-011"), Err(TimeError::Format));
        assert_eq!(tz("0001-01-01T00:00:00+00:01"), Err(TimeError::Range));
        assert_eq!(tz("9999-12-31T23:59:59-00:01"), Err(TimeError::Range));
        assert_eq!(tz("9999-12-31T23:59:59.999999Z"), Ok(253_402_300_799_999_999));
    }

    #[test]
    fn nanoseconds_outside_64_bits_are_refused() {
        let read = |text: &str| parse_timestamptz(text.as_bytes()).and_then(Instant::nanos);
        assert_eq!(read("1970-01-01T00:00:00.000000001Z"), Ok(1));
        assert_eq!(read("2300-01-01T00:00:00Z"), Err(TimeError::Range));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn instants_equal_those_of_chrono(
            micros in -62_135_596_800_000_000_i64..253_402_300_799_999_999,
            minutes in -1439_i32..1440,
        ) {
            let at: DateTime<Utc> = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(tz(&at.to_rfc3339_opts(SecondsFormat::Micros, true)), Ok(micros));
            let local = at.naive_utc();
            let text = local.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            prop_assert_eq!(parse_timestamp(text.as_bytes()).map(Instant::micros), Ok(micros));
            let days = local.date().signed_duration_since(NaiveDate::default()).num_days();
            prop_assert_eq!(parse_date(&text.as_bytes()[..10]).map(i64::from), Ok(days));
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hour, minute) = (minutes.abs() / 60, minutes.abs() % 60);
            let expected = (local - TimeDelta::minutes(minutes.into())).and_utc().timestamp_micros();
            let expected = if SECOND_RANGE.contains(&expected.div_euclid(1_000_000)) {
                Ok(expected)
            } else {
                Err(TimeError::Range)
            };
            prop_assert_eq!(tz(&format!("{text}{sign}{hour:02}:{minute:02}")), expected);
        }

        #[test]
        fn what_we_read_chrono_reads_alike(
            text in "[0-2][0-9]{3}-[0-1][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-5][0-9](\\.[0-9]{1,9})?",
        ) {
            let theirs = NaiveDateTime::parse_from_str(&text.replace(' ', "T"), "%Y-%m-%dT%H:%M:%S%.f").ok();
            let theirs = theirs.filter(|at| at.date() >= NaiveDate::from_ymd_opt(1, 1, 1).unwrap());
            let ours = parse_timestamp(text.as_bytes()).ok().map(Instant::micros);
            prop_assert_eq!(ours, theirs.map(|at| at.and_utc().timestamp_micros()));
            let clock = NaiveTime::parse_from_str(&text[11..], "%H:%M:%S%.f").ok();
            let clock = clock.map(|at| (at - NaiveTime::MIN).num_microseconds().unwrap());
            prop_assert_eq!(parse_time(&text.as_bytes()[11..]).ok(), clock);
        }
    }
}
