// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Content negotiation: which dialect a scraper would rather have.

use super::Dialect;

/// The versions of OpenMetrics that what is written here is valid in.
const OPENMETRICS_VERSIONS: [&str; 2] = ["1.0.0", "0.0.1"];

/// The version of the text format that is written here.
const TEXT_VERSION: &str = "0.0.4";

/// The dialect of the larger weight; text where neither is wanted more than the other.
pub(super) fn preferred(accept: &str) -> Dialect {
    let weight = |dialect| {
        let ranges = accept.split(',').filter_map(Range::read);
        let fitting = ranges.filter_map(|range| Some((range.fit(dialect)?, range.weight)));
        // The most exact range counts, as RFC 9110 has it.
        fitting
            .max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))
            .map_or(0.0, |(_, weight)| weight)
    };
    if weight(Dialect::OpenMetrics) > weight(Dialect::Text) {
        Dialect::OpenMetrics
    } else {
        Dialect::Text
    }
}

/// One media range of the header.
struct Range<'a> {
    media: &'a str,
    version: Option<&'a str>,
    weight: f64,
}

impl<'a> Range<'a> {
    /// `None` for one whose weight is none.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            media: parts.next()?,
            version: None,
            weight: 1.0,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value),
                name if name.eq_ignore_ascii_case("q") => {
                    let weight = value.parse().ok()?;
                    range.weight = Some(weight).filter(|w| (0.0..=1.0).contains(w))?;
                }
                _ => {}
            }
        }
        Some(range)
    }

    /// How exactly it names a dialect; `None`: it names another.
    fn fit(&self, dialect: Dialect) -> Option<u8> {
        let (media, versions): (&str, &[&str]) = match dialect {
            Dialect::OpenMetrics => ("application/openmetrics-text", &OPENMETRICS_VERSIONS),
            Dialect::Text => ("text/plain", &[TEXT_VERSION]),
        };
        if self.media.eq_ignore_ascii_case(media) {
            return match self.version {
                None => Some(2),
                Some(version) => versions.contains(&version).then_some(3),
            };
        }
        // Who takes anything gets text: `*/*` names no dialect.
        let kind = media.split('/').next().unwrap_or_default();
        let is_kind = self.media.strip_suffix("/*").is_some_and(|k| k == kind);
        match self.media {
            "*/*" => Some(0),
            _ => is_kind.then_some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Prometheus 2.42 and 3 send it.
    const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,\
        application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    #[test]
    fn a_scraper_gets_what_it_would_rather_have() {
        for (accept, wanted) in [
            (PROMETHEUS, Dialect::OpenMetrics),
            ("application/openmetrics-text", Dialect::OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.3, text/plain;q=0.2",
                Dialect::OpenMetrics,
            ),
            (
                "application/openmetrics-text;q=0.2,text/plain;q=0.9",
                Dialect::Text,
            ),
            ("application/openmetrics-text;q=0", Dialect::Text),
            ("application/openmetrics-text;version=2.0.0", Dialect::Text),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily,text/plain",
                Dialect::Text,
            ),
            (
                "text/plain;version=1.0.0,application/*;q=0.2",
                Dialect::OpenMetrics,
            ),
            ("*/*", Dialect::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Dialect::Text),
            ("", Dialect::Text),
        ] {
            assert_eq!(preferred(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn a_weight_that_is_none_wants_nothing() {
        for weight in ["NaN", "-1", "2", "inf", "", "a"] {
            let accept = format!("application/openmetrics-text;q={weight},text/plain;q=0.1");
            assert_eq!(preferred(&accept), Dialect::Text, "{weight}");
        }
        preferred(";;,=;q,;q=;version");
    }
}
