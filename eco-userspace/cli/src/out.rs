// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing for people and for programs: streams, colour, numbers.

use std::{
    borrow::Cow,
    env,
    io::{self, ErrorKind, IsTerminal, Write as _},
};

use serde::Serialize;

use crate::exit::Failure;

/// Writes text to stdout. A reader that has gone (`eco top --once | head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::absent(format!(
            "stdout: {error}; the output is incomplete"
        ))),
        _ => Ok(()),
    }
}

/// Writes one value to stdout as indented JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&json(value)?)
}

/// One value as indented JSON with a newline at its end.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::absent(format!("this result cannot be written as JSON: {error}")))
}

/// How to emphasise words on one stream; nothing at all where colour is not wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// Plain text.
    pub(crate) const PLAIN: Self = Self { colour: false };

    /// For a stream: colour on a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        Self {
            colour: stream.is_terminal() && colour_wanted(),
        }
    }

    /// What is to be read first.
    pub(crate) fn bold<'a>(self, text: &'a str) -> Cow<'a, str> {
        self.wrap("1", text)
    }

    /// What matters less.
    pub(crate) fn dim<'a>(self, text: &'a str) -> Cow<'a, str> {
        self.wrap("2", text)
    }

    /// What needs a second look, such as an estimate.
    pub(crate) fn caution<'a>(self, text: &'a str) -> Cow<'a, str> {
        self.wrap("33", text)
    }

    fn wrap<'a>(self, code: &str, text: &'a str) -> Cow<'a, str> {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m").into()
        } else {
            text.into()
        }
    }
}

/// Whether the environment lets us use colour at all.
pub(crate) fn colour_wanted() -> bool {
    // no-color.org: set and not empty, whatever it holds.
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A quantity with its unit, three digits that matter: `12.3 kJ`, `860 mW`.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return format!("? {unit}");
    }
    let (scaled, prefix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        v if v >= 1.0 || v == 0.0 => (value, ""),
        v if v >= 1e-3 => (value * 1e3, "m"),
        _ => (value * 1e6, "µ"),
    };
    let digits = match scaled.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$} {prefix}{unit}")
}

/// A count of bytes: `11.2 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B");
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A span of time as people say it: `1.25 s`, `3 min 07 s`, `2 h 05 min`, `4 d 03 h`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 60.0 {
        return quantity(seconds, "s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// Text that a stranger chose, made safe for a terminal: no control characters, and none that
/// turn round the order of what is beside them.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(moves_others) {
        text.chars()
            .map(|c| if moves_others(c) { '\u{fffd}' } else { c })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}

/// Control characters, separators of lines, and the marks of Unicode's bidirectional algorithm
/// (UAX #9, table 4).
fn moves_others(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_show_three_digits_and_a_fitting_prefix() {
        for (value, text) in [
            (0.0, "0 J"),
            (1.0, "1.00 J"),
            (12.345, "12.3 J"),
            (999.6, "1000 J"),
            (1234.0, "1.23 kJ"),
            (0.86, "860 mJ"),
            (0.000_004_2, "4.20 µJ"),
            (3.6e9, "3.60 GJ"),
            (f64::NAN, "? J"),
        ] {
            assert_eq!(quantity(value, "J"), text);
        }
    }

    #[test]
    fn spans_read_as_people_say_them() {
        for (seconds, text) in [
            (1.25, "1.25 s"),
            (59.9, "59.9 s"),
            (187.0, "3 min 07 s"),
            (7_500.0, "2 h 05 min"),
            (356_400.0, "4 d 03 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(printable("näme שלום"), "näme שלום");
        assert_eq!(printable("a\u{202e}b\u{2028}"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn plain_style_adds_nothing() {
        assert_eq!(Style::PLAIN.bold("x"), "x");
        assert_eq!(Style { colour: true }.bold("x"), "\x1b[1mx\x1b[0m");
    }
}
