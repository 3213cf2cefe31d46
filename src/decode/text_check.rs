//! What JSON text may become the value of a string column: what any later reader can parse again.

use super::reject::{Misfit, RejectKind};

/// The most levels of nesting of one value, as serde_json limits it.
const MAX_DEPTH: usize = 128;

/// Checks the nesting and the escapes of a value's text, which is JSON in all else.
///
/// # Errors
/// [`RejectKind::TooDeep`], or [`RejectKind::Syntax`] for half a surrogate pair.
pub(super) fn check_text(raw: &str) -> Result<(), Misfit> {
    if !raw.starts_with(['[', '{']) {
        return Ok(());
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut rest = raw.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => rest = skip_escape(after)?,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Misfit::new(
                        RejectKind::TooDeep,
                        "found a value nested deeper than 128 levels",
                    ));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Skips what follows a backslash: one byte, `u` and four digits, or a surrogate pair.
fn skip_escape(text: &[u8]) -> Result<&[u8], Misfit> {
    let [b'u', rest @ ..] = text else {
        return Ok(text.get(1..).unwrap_or_default());
    };
    let (first, rest) = hex_unit(rest);
    match first {
        0xD800..=0xDBFF => match rest {
            [b'\\', b'u', rest @ ..] => match hex_unit(rest) {
                (0xDC00..=0xDFFF, rest) => Ok(rest),
                _ => Err(half_pair()),
            },
            _ => Err(half_pair()),
        },
        0xDC00..=0xDFFF => Err(half_pair()),
        _ => Ok(rest),
    }
}

/// Reads four hex digits, which the parser has checked.
fn hex_unit(text: &[u8]) -> (u32, &[u8]) {
    let (digits, rest) = text.split_at(text.len().min(4));
    let unit = digits.iter().fold(0, |unit, byte| {
        unit << 4 | char::from(*byte).to_digit(16).unwrap_or_default()
    });
    (unit, rest)
}

#[cold]
fn half_pair() -> Misfit {
    Misfit::new(
        RejectKind::Syntax,
        "found a string with an escape that is not a Unicode character",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_counts_brackets_outside_strings_only() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check_text(&nested(128)), Ok(()));
        assert_eq!(check_text(&nested(129)).unwrap_err().kind, RejectKind::TooDeep);
        let quoted = format!("[\"\\\"{}\"]", "[".repeat(200));
        assert_eq!(check_text(&quoted), Ok(()));
        let flat = format!("[{}1]", "[],".repeat(200));
        assert_eq!(check_text(&flat), Ok(()));
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        assert_eq!(check_text(r#"["\ud83d\ude00"]"#), Ok(()));
        assert_eq!(check_text(r#"["\\ud83d"]"#), Ok(()));
        for text in [
            r#"["\ud83d"]"#,
            r#"["\ude00"]"#,
            r#"["\ud83d\u0041"]"#,
            r#"["\ud83dx"]"#,
        ] {
            assert_eq!(check_text(text).unwrap_err().kind, RejectKind::Syntax, "{text}");
        }
    }
}
