//! HTML as text, and numbers as people read them.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// HTML in the making. Markup is what the source holds; all else is escaped.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, between tags or within the quotes of an attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // A string takes whatever is written to it.
        let _written = write!(Escaped(&mut self.0), "{text}");
        self
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // No part of a name that is shown.
                letter if letter.is_control() => self.0.push('\u{fffd}'),
                letter => self.0.push(letter),
            }
        }
        Ok(())
    }
}

/// A whole number with its thousands apart.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the largest unit that leaves at least one.
pub(super) fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        // What would be written as 1,024.0 is 1.0 of the next.
        if size < 1023.95 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ if (size - size.round()).abs() < 0.05 => format!("{size:.0} {unit}"),
        _ => format!("{size:.1} {unit}"),
    }
}

/// A duration in one unit.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        0..10 => format!("{seconds:.1} s"),
        whole @ 10..120 => format!("{whole} s"),
        whole @ 120..7_200 => format!("{} min", whole / 60),
        whole @ 7_200..172_800 => format!("{} h", whole / 3_600),
        whole => format!("{} d", whole / 86_400),
    }
}

/// How long ago something was; what is not past, as a clock that was set says, is now.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let past = (now - at).to_std().unwrap_or_default();
    match past.as_secs() {
        0 => "now".to_owned(),
        seconds @ 1..10 => format!("{seconds} s ago"),
        _ => format!("{} ago", duration(past)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.markup("<b title=\"")
            .text("\"><script>alert('x')</script>&amp;\0\n");
        html.markup("\">").text(7).markup("</b>");
        assert_eq!(
            html.done(),
            "<b title=\"&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;\u{fffd}\u{fffd}\">7</b>"
        );
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        let numbers = [0, 999, 1_000, 12_345_678, u64::MAX].map(number);
        assert_eq!(
            numbers,
            ["0", "999", "1,000", "12,345,678", "18,446,744,073,709,551,615"]
        );
        let sizes = [0, 1023, 1024, 1_600, (1 << 20) - 1, 256 << 20, 5 << 40, u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            [
                "0 B",
                "1023 B",
                "1 KiB",
                "1.6 KiB",
                "1 MiB",
                "256 MiB",
                "5 TiB",
                "16777216 TiB"
            ]
        );
        let durations = [0.0, 0.0804, 0.9996, 9.94, 10.0, 119.9, 120.0, 7_300.0, 200_000.0];
        let durations = durations.map(|seconds| duration(Duration::from_secs_f64(seconds)));
        assert_eq!(
            durations,
            [
                "0 ms", "80 ms", "1.0 s", "9.9 s", "10 s", "119 s", "2 min", "2 h", "2 d"
            ]
        );
        let now = DateTime::UNIX_EPOCH;
        let after = |millis| now + Duration::from_millis(millis);
        assert_eq!(ago(now, after(999)), "now");
        assert_eq!(ago(now, after(3_999)), "3 s ago");
        assert_eq!(ago(after(5_000), now), "now");
    }
}
