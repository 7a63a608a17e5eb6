// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text format of `/metrics`, read line by line without a copy of what needs none.

use std::borrow::Cow;

/// A family that is being read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) help: &'a str,
}

/// One line.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    /// Name and labels as they stand there: what tells the series from all others.
    pub(crate) series: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(crate) value: f64,
}

impl Sample<'_> {
    /// A label's value; empty if it has none.
    pub(crate) fn label(&self, name: &str) -> &str {
        let mut labels = self.labels.iter();
        labels
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }
}

/// Calls `visit` for each sample, with its family. A line that is none is left out.
pub(crate) fn read<'a>(text: &'a str, mut visit: impl FnMut(&Family<'a>, &Sample<'a>)) {
    let mut family = Family::default();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            family = Family { name, kind, help };
        } else if !line.starts_with('#')
            && let Some(sample) = sample(line)
        {
            visit(&family, &sample);
        }
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    // The value has no blank; a label's value may.
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, mut rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = Vec::with_capacity(8);
    while rest != "}" {
        let (key, after) = rest.split_once("=\"")?;
        let end = closing_quote(after)?;
        labels.push((key, unescaped(&after[..end])));
        let after = &after[end + 1..];
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Sample {
        series,
        name,
        labels,
        value,
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(c) => plain.push(c),
                None => {}
            },
            c => plain.push(c),
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_may_hold_anything() {
        let line = r#"a_total{x="q\"},{\\\n é",y=""} 1.5"#;
        let read = sample(line).unwrap();
        assert_eq!((read.name, read.value), ("a_total", 1.5));
        assert_eq!(read.label("x"), "q\"},{\\\n é");
        assert_eq!(read.labels.len(), 2);
        assert!(sample("up 1").unwrap().labels.is_empty());
    }

    #[test]
    fn a_line_that_is_cut_anywhere_is_none() {
        let line = r#"a_total{x="y"} 1"#;
        for cut in 0..line.len() {
            assert_eq!(sample(&line[..cut]), None, "{cut}");
        }
        for line in ["a{b} 1", "a{b=\"c\"} x", "a{b=\"c\"x} 1", ""] {
            assert_eq!(sample(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}") {
            read(&text, |_, _| {});
        }
    }
}
