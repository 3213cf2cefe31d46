//! Numbers, exactly: every digit of the text counts, and nothing goes through a float that need not.

/// Why a text is not a number of the wanted shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberError {
    /// The text is not a decimal number.
    NotANumber,
    /// The number has more fraction digits, not zeros, than the type keeps.
    Fraction,
    /// The number has more digits before the point than the type keeps.
    Range,
}

/// Parses a JSON integer, or a number with zero fraction, that fits 64 bits.
pub(super) fn parse_integer(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = split_sign(text.as_bytes());
    if digits.is_empty() || digits.len() > 18 {
        return parse_wide_integer(text);
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return parse_wide_integer(text);
        }
        // At most 18 digits: this cannot overflow.
        value = value * 10 + i64::from(digit);
    }
    Ok(if negative { -value } else { value })
}

#[cold]
fn parse_wide_integer(text: &str) -> Result<i64, NumberError> {
    let value = parse_decimal(text, 19, 0)?;
    i64::try_from(value).map_err(|_| NumberError::Range)
}

/// Parses a decimal number, exponent and all, into units of 10^-scale with at most `precision` digits.
///
/// Takes the numbers of JSON, and also leading zeros, which texts of fixed width have.
pub(super) fn parse_decimal(text: &str, precision: u32, scale: u32) -> Result<i128, NumberError> {
    let (negative, rest) = split_sign(text.as_bytes());
    let (integer, rest) = split_digits(rest);
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', after)) => match split_digits(after) {
            ([], _) => return Err(NumberError::NotANumber),
            parts => parts,
        },
        _ => (&[][..], rest),
    };
    if integer.is_empty() {
        return Err(NumberError::NotANumber);
    }
    let exponent = parse_exponent(rest)?;

    // Digits at places from `kept` on are finer than the scale.
    let kept = (integer.len() as i64)
        .saturating_add(exponent)
        .saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut digit_count = 0;
    let mut place: i64 = 0;
    for byte in integer.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if place < kept {
            value = push_digit(value, digit, &mut digit_count, precision)?;
        } else if digit != 0 {
            return Err(NumberError::Fraction);
        }
        place += 1;
    }
    while value != 0 && place < kept {
        value = push_digit(value, 0, &mut digit_count, precision)?;
        place += 1;
    }
    Ok(if negative { -value } else { value })
}

/// Appends a digit to a value of at most `precision` digits.
fn push_digit(value: i128, digit: u8, digit_count: &mut u32, precision: u32) -> Result<i128, NumberError> {
    if value == 0 && digit == 0 {
        return Ok(0);
    }
    *digit_count += 1;
    if *digit_count > precision {
        return Err(NumberError::Range);
    }
    value
        .checked_mul(10)
        .and_then(|value| value.checked_add(i128::from(digit)))
        .ok_or(NumberError::Range)
}

/// Parses what follows the digits: nothing, or an exponent. Huge exponents saturate.
fn parse_exponent(text: &[u8]) -> Result<i64, NumberError> {
    let rest = match text {
        [] => return Ok(0),
        [b'e' | b'E', rest @ ..] => rest,
        _ => return Err(NumberError::NotANumber),
    };
    let (negative, digits) = match rest {
        [b'+', digits @ ..] => (false, digits),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::NotANumber);
    }
    let size = digits.iter().fold(0_i64, |value, byte| {
        value
            .saturating_mul(10)
            .saturating_add(i64::from(byte.wrapping_sub(b'0')))
    });
    Ok(if negative { size.saturating_neg() } else { size })
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_with_zero_fraction_are_exact() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("1.0", 1),
            ("1e3", 1000),
            ("1.5e1", 15),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9007199254740993.000", 9_007_199_254_740_993),
            ("0e999999999999999999999", 0),
        ] {
            assert_eq!(parse_integer(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn integers_that_do_not_fit_are_refused() {
        for (text, error) in [
            ("9223372036854775808", NumberError::Range),
            ("18446744073709551615", NumberError::Range),
            ("1e400", NumberError::Range),
            ("1.5", NumberError::Fraction),
            ("9007199254740993.1", NumberError::Fraction),
            ("1e-1", NumberError::Fraction),
            ("", NumberError::NotANumber),
            ("-", NumberError::NotANumber),
            ("+1", NumberError::NotANumber),
            ("1.", NumberError::NotANumber),
            (".5", NumberError::NotANumber),
            ("1e", NumberError::NotANumber),
            ("0x10", NumberError::NotANumber),
            (" 1", NumberError::NotANumber),
        ] {
            assert_eq!(parse_integer(text), Err(error), "{text}");
        }
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(parse_decimal("12.34", 10, 2), Ok(1234));
        assert_eq!(parse_decimal("-12.3400", 10, 2), Ok(-1234));
        assert_eq!(parse_decimal("1.2e3", 10, 2), Ok(120_000));
        assert_eq!(parse_decimal("120e-1", 4, 2), Ok(1200));
        assert_eq!(parse_decimal("007.5", 3, 2), Ok(750));
        assert_eq!(parse_decimal("0.1", 38, 38), Ok(10_i128.pow(37)));
        assert_eq!(parse_decimal("12.345", 10, 2), Err(NumberError::Fraction));
        assert_eq!(parse_decimal("123.4", 4, 2), Err(NumberError::Range));
        assert_eq!(parse_decimal("1e-999999999999", 4, 2), Err(NumberError::Fraction));
        let widest = "9".repeat(38);
        assert_eq!(parse_decimal(&widest, 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(
            parse_decimal(&format!("{widest}9"), 38, 0),
            Err(NumberError::Range)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_long_is_read_back(value in any::<i64>()) {
            prop_assert_eq!(parse_integer(&value.to_string()), Ok(value));
        }

        #[test]
        fn decimals_equal_their_units(units in -999_999_999_i128..1_000_000_000, scale in 1_u32..9) {
            let power = 10_i128.pow(scale);
            let sign = if units < 0 { "-" } else { "" };
            let (whole, part) = (units.abs() / power, units.abs() % power);
            let text = format!("{sign}{whole}.{part:0width$}", width = scale as usize);
            prop_assert_eq!(parse_decimal(&text, 38, scale), Ok(units));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eE]{0,12}") {
            let _outcome = parse_decimal(&text, 38, 9);
        }
    }
}
