// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers as Kubernetes writes them.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

/// A quantity, to a millionth: `250m`, `3`, `12u`. What is below or above all quantities, or no
/// number, is the nearest that is one.
pub(super) fn format(value: f64) -> String {
    // Beyond this the millionths do not fit the 64 bits that Kubernetes calculates with.
    const LARGEST: f64 = 9e12;
    let micro = (value.clamp(0.0, LARGEST) * 1e6).round() as i64;
    match micro {
        whole if whole % 1_000_000 == 0 => (whole / 1_000_000).to_string(),
        milli if milli % 1_000 == 0 => format!("{}m", milli / 1_000),
        micro => format!("{micro}u"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_as_short_as_it_can_be() {
        for (value, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (0.25, "250m"),
            (1.234, "1234m"),
            (0.000_012, "12u"),
            (1.234_567_8, "1234568u"),
            (1e-9, "0"),
            (-1.0, "0"),
            (f64::NAN, "0"),
            (f64::INFINITY, "9000000000000"),
        ] {
            assert_eq!(format(value), text, "{value}");
        }
    }
}
