// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one message that is asked: DCMI 1.5, 6.6.1, Get Power Reading.

use std::fmt;

/// Network function "group extension" (IPMI 2.0, table 5-1).
pub(super) const NETFN_GROUP: u8 = 0x2c;

/// Get Power Reading.
pub(super) const GET_POWER_READING: u8 = 0x02;

/// DCMI's identification in group extension messages.
const GROUP: u8 = 0xdc;

/// The request's data: the group, mode 1 (system power statistics), no rolling average, reserved.
pub(super) const REQUEST: [u8; 4] = [GROUP, 0x01, 0x00, 0x00];

/// Bit 6 of the state: power measurement is active.
const ACTIVE: u8 = 0x40;

/// More than this no board draws, in W.
const MOST_WATTS: u16 = 50_000;

/// What the response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PowerReading {
    pub(super) watts: u16,
}

/// Why a response is no power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadReply {
    /// The controller refuses: IPMI 2.0, table 5-2.
    Code(u8),
    /// Fewer or other bytes than DCMI says.
    Shape(usize),
    /// Power measurement is not active.
    Inactive,
    /// 0 W or more than any board draws.
    Implausible(u16),
}

/// Reads a response, completion code first.
pub(super) fn parse(reply: &[u8]) -> Result<PowerReading, BadReply> {
    let shape = BadReply::Shape(reply.len());
    let (code, body) = reply.split_first().ok_or(shape)?;
    if *code != 0 {
        return Err(BadReply::Code(*code));
    }
    // Group, current, least, most, mean (2 each), time stamp, period (4 each), state.
    let body: &[u8; 18] = body
        .get(..18)
        .and_then(|b| b.try_into().ok())
        .ok_or(shape)?;
    if body[0] != GROUP {
        return Err(shape);
    }
    let watts = u16::from_le_bytes([body[1], body[2]]);
    if body[17] & ACTIVE == 0 {
        return Err(BadReply::Inactive);
    }
    if watts == 0 || watts > MOST_WATTS {
        return Err(BadReply::Implausible(watts));
    }
    Ok(PowerReading { watts })
}

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(
                f,
                "the controller refuses (0x{code:02x}): {}",
                meaning(*code)
            ),
            Self::Shape(length) => write!(
                f,
                "the controller's answer of {length} bytes is no DCMI power reading; it may not \
                 speak DCMI: try redfish.url"
            ),
            Self::Inactive => f.write_str(
                "power measurement is not active in the controller; activate it (`ipmitool dcmi \
                 power activate`, or the controller's own page)",
            ),
            Self::Implausible(watts) => write!(
                f,
                "the controller says {watts} W, which no running board draws; its supplies may \
                 tell no power"
            ),
        }
    }
}

fn meaning(code: u8) -> &'static str {
    match code {
        0xc0 => "it is busy",
        0xc1 => "it does not know the command, so it does not speak DCMI: try redfish.url",
        0xc3 => "it timed out",
        0xc7 => "it wants another length of request",
        0xcb => "it has no such sensor: power is not measured on this board",
        0xcc => "it does not like a field of the request",
        0xd4 => "this interface lacks the privilege",
        0xd5 => "it cannot in its present state",
        0xff => "unspecified error",
        _ => "see IPMI 2.0, table 5-2",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a board at 213 W answers.
    pub(super) const HONEST: [u8; 19] = [
        0x00, 0xdc, 0xd5, 0x00, 0x64, 0x00, 0x2c, 0x01, 0xd0, 0x00, 0x00, 0x00, 0x00, 0x66, 0xe8,
        0x03, 0x00, 0x00, 0x40,
    ];

    #[test]
    fn the_current_power_is_read() {
        assert_eq!(parse(&HONEST), Ok(PowerReading { watts: 213 }));
    }

    #[test]
    fn a_completion_code_becomes_a_reason() {
        for (code, word) in [
            (0xc0, "busy"),
            (0xc1, "DCMI"),
            (0xd4, "privilege"),
            (0x80, "0x80"),
        ] {
            let error = parse(&[code]).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_is_no_power_is_an_error_and_never_zero_watts() {
        let with = |at: usize, byte: u8| {
            let mut reply = HONEST;
            reply[at] = byte;
            parse(&reply)
        };
        assert_eq!(with(1, 0xdd), Err(BadReply::Shape(19)));
        assert_eq!(with(2, 0x00), Err(BadReply::Implausible(0)));
        assert_eq!(with(3, 0xff), Err(BadReply::Implausible(0xffd5)));
        assert_eq!(with(18, 0x00), Err(BadReply::Inactive));
        for length in 1..19 {
            assert_eq!(parse(&HONEST[..length]), Err(BadReply::Shape(length)));
        }
        assert_eq!(parse(&[]), Err(BadReply::Shape(0)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise(reply in proptest::collection::vec(any::<u8>(), 0..300)) {
            match parse(&reply) {
                Ok(reading) => prop_assert!((1..=MOST_WATTS).contains(&reading.watts)),
                Err(why) => prop_assert!(!why.to_string().is_empty()),
            }
        }
    }
}
