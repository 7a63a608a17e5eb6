// SPDX-License-Identifier: Apache-2.0 OR MIT
//! systemd's names.

/// A service or scope. Slices only group them.
pub(super) fn is_unit(part: &str) -> bool {
    let stem = part
        .strip_suffix(".service")
        .or_else(|| part.strip_suffix(".scope"));
    stem.is_some_and(|stem| !stem.is_empty())
}

/// The user of `user-1000.slice` or `user@1000.service`.
pub(super) fn user(part: &str) -> Option<u32> {
    let number = part
        .strip_prefix("user-")
        .and_then(|rest| rest.strip_suffix(".slice"))
        .or_else(|| part.strip_prefix("user@")?.strip_suffix(".service"))?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// systemd writes `-` and other bytes in a unit's name as `\x2d` (systemd-escape(1)). What
/// would not be printable stays as it is written: names become labels.
pub(super) fn unescape(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let code = (first == b'\\' && rest.first() == Some(&b'x'))
            .then(|| std::str::from_utf8(rest.get(1..3)?).ok())
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|byte| !byte.is_ascii_control());
        match code {
            Some(byte) => {
                out.push(byte);
                bytes = &rest[3..];
            }
            None => {
                out.push(first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_printable() {
        assert_eq!(unescape("a\\x2db.service"), "a-b.service");
        assert_eq!(unescape("x\\x.service"), "x\\x.service");
        assert_eq!(unescape("x\\x0a.service"), "x\\x0a.service");
        assert_eq!(unescape("\\xc3\\xa9.scope"), "é.scope");
    }

    #[test]
    fn a_user_is_a_number() {
        assert_eq!(user("user-1000.slice"), Some(1000));
        assert_eq!(user("user@0.service"), Some(0));
        for odd in [
            "user.slice",
            "user-.slice",
            "user-+1.slice",
            "user-4294967296.slice",
            "user@x.service",
        ] {
            assert_eq!(user(odd), None, "{odd}");
        }
    }
}
