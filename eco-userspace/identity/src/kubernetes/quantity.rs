// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kubernetes' quantities: `100m`, `1.5Gi`, `1e3`.

/// A quantity times `scale`, rounded up as the API server does; `None` if it is none, negative,
/// or beyond `u64`.
///
/// Suffixes are those of `k8s.io/apimachinery/pkg/api/resource`.
pub(super) fn parse(text: &str, scale: f64) -> Option<u64> {
    let at = text
        .find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'))
        .unwrap_or(text.len());
    // `12E` is exa, `12e3` and `12E3` are exponents.
    let at = match text[..at].find(['e', 'E']) {
        Some(exponent) if text[exponent + 1..at].parse::<i32>().is_err() => exponent,
        _ => at,
    };
    let (number, suffix) = text.split_at(at);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => f64::from(1u32 << 20),
        "Gi" => f64::from(1u32 << 30),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * factor * scale;
    // A thousandth's binary fraction is no reason to round a whole number up.
    let whole = (value - 1e-6).ceil().max(0.0);
    (value >= 0.0 && whole < u64::MAX as f64).then_some(whole as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, thousandths) in [
            ("100m", 100),
            ("1", 1000),
            ("0.5", 500),
            ("1500u", 2),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("2k", 2_000_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text, 1000.0), Some(thousandths), "{text}");
        }
        assert_eq!(parse("64Mi", 1.0), Some(64 << 20));
        assert_eq!(parse("1.5Gi", 1.0), Some(3 << 29));
        assert_eq!(parse("1E", 1.0), Some(1_000_000_000_000_000_000));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for odd in [
            "", "m", "-1", "NaN", "inf", "1e400", "1 Gi", "1gi", "Gi", "1e", "99999Ei", "é",
        ] {
            assert_eq!(parse(odd, 1000.0), None, "{odd}");
        }
    }
}
