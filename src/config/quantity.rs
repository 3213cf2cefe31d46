//! Sizes and durations as people write them: `64MiB`, `64MB`, `250ms`, `8d`.

use std::time::Duration;

/// What a size may look like, for error messages.
pub(super) const SIZE: &str = "bytes as a whole number, or a size such as `64KB`, `64MB`, `64MiB` or `1GiB`";
/// What a duration may look like, for error messages.
pub(super) const DURATION: &str =
    "a whole number with a unit, such as `250ms`, `2s`, `1m`, `1h` or `8d` (`0s` for none)";

/// What a count may look like, for error messages.
pub(super) const COUNT: &str = "a whole number of at least 1, such as `1000`";
/// The regular expression of a count.
pub(super) const COUNT_PATTERN: &str = "^0*[1-9][0-9]*$";

const SIZE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a size in bytes.
///
/// # Errors
/// A clause that says what is wrong with the text; [`SIZE`] says what is right.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale = if unit.is_empty() {
        Some(1)
    } else {
        scale(&SIZE_UNITS, unit)
    };
    quantity(number, scale).ok_or_else(|| format!("`{text}` is not a size"))
}

/// Reads a duration; the finest unit is the millisecond.
///
/// # Errors
/// A clause that says what is wrong with the text; right is a whole number with a unit, such as `250ms`, `2h` or `8d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    if unit.is_empty() && !number.is_empty() {
        return Err(format!("`{text}` has no unit"));
    }
    quantity(number, scale(&DURATION_UNITS, unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration"))
}

/// Reads a whole number of at least `least`.
///
/// # Errors
/// A clause that says what is wrong with the text.
pub(super) fn parse_count(text: &str, least: u64) -> Result<u64, String> {
    let number = quantity(text, Some(1)).ok_or_else(|| format!("`{text}` is not a whole number"))?;
    if number < least {
        return Err(format!("`{text}` is less than {least}"));
    }
    Ok(number)
}

/// Writes a size so that [`parse_size`] reads the same.
pub(super) fn size_text(bytes: u64) -> String {
    let binary = SIZE_UNITS.iter().filter(|(unit, _)| unit.ends_with("iB"));
    write(bytes, binary).unwrap_or_else(|| bytes.to_string())
}

/// Writes a duration so that [`parse_duration`] reads the same; below a millisecond it is cut off.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    write(millis, DURATION_UNITS.iter()).unwrap_or_else(|| "0s".to_owned())
}

/// The regular expression of a size of at least one byte.
pub(super) fn size_pattern() -> String {
    format!("^0*[1-9][0-9]*(?: ?(?:{}))?$", names(&SIZE_UNITS))
}

/// The regular expression of a duration.
pub(super) fn duration_pattern() -> String {
    format!("^[0-9]+ ?(?:{})$", names(&DURATION_UNITS))
}

/// The regular expression of words in upper and lower case.
pub(super) fn any_case<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let letters = |word: &str| {
        word.chars()
            .map(|c| match c {
                // A class of two is a difference of sets to some engines.
                '-' => "-".to_owned(),
                c => format!("[{c}{}]", c.to_ascii_uppercase()),
            })
            .collect()
    };
    words.into_iter().map(letters).collect::<Vec<String>>().join("|")
}

fn names(units: &[(&str, u64)]) -> String {
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    names.join("|")
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (
        number,
        unit.strip_prefix(' ')
            .filter(|rest| !rest.is_empty())
            .unwrap_or(unit),
    )
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)
}

fn quantity(number: &str, scale: Option<u64>) -> Option<u64> {
    // `parse` alone would take a leading `+`.
    if !number.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(scale?)
}

fn write<'a>(amount: u64, mut units: impl Iterator<Item = &'a (&'a str, u64)>) -> Option<String> {
    units
        .find(|(_, scale)| amount > 0 && amount.is_multiple_of(*scale))
        .map(|(unit, scale)| format!("{}{unit}", amount / scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1B", 1),
            ("64KB", 64_000),
            ("64kB", 64_000),
            ("64KiB", 65_536),
            ("64MB", 64_000_000),
            ("64MiB", 67_108_864),
            ("64 MiB", 67_108_864),
            ("1GiB", 1_073_741_824),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "+1",
            "1.5MiB",
            "64mb",
            "64M",
            "1 ",
            "1  B",
            "99999999999999TiB",
            "1e3",
            "١",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("2s", 2_000),
            ("1m", 60_000),
            ("1h", 3_600_000),
            ("8d", 691_200_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_durations_are_refused() {
        for text in [
            "",
            "s",
            "2",
            "1.5s",
            "-1s",
            "2sec",
            "1h30m",
            "999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("2"), Err("`2` has no unit".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(amount in any::<u64>(), shift in 0_u32..63) {
            let amount = amount >> shift;
            prop_assert_eq!(parse_size(&size_text(amount)), Ok(amount));
            let duration = Duration::from_millis(amount);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
    }
}
