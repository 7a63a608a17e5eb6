// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protobuf, written into one buffer without a message ever being built.
//!
//! A message's length stands before it and is known after it. Four bytes are kept for each and
//! filled in later: a varint may be longer than it must.

/// Room for a length: 2^28 bytes.
const ROOM: usize = 4;

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// A message that is not complete yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Open(usize);

impl Writer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn open(&mut self, field: u32) -> Open {
        self.key(field, 2);
        self.bytes.extend_from_slice(&[0; ROOM]);
        Open(self.bytes.len())
    }

    pub(crate) fn close(&mut self, open: Open) {
        let length = self.bytes.len() - open.0;
        for (at, byte) in self.bytes[open.0 - ROOM..open.0].iter_mut().enumerate() {
            let more = if at + 1 < ROOM { 0x80 } else { 0 };
            *byte = (length >> (7 * at)) as u8 & 0x7f | more;
        }
    }

    pub(crate) fn text(&mut self, field: u32, text: &str) {
        self.raw(field, text.as_bytes());
    }

    /// Bytes, or a message that is complete.
    pub(crate) fn raw(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn number(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    pub(crate) fn fixed(&mut self, field: u32, value: u64) {
        self.key(field, 1);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn double(&mut self, field: u32, value: f64) {
        self.fixed(field, value.to_bits());
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint((field << 3 | kind).into());
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of that number; `None` if there is none, or no message.
pub(crate) fn find(mut bytes: &[u8], wanted: u64) -> Option<Value<'_>> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Bytes(bytes.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(bytes.split_off(..length)?)
            }
            5 => Value::Bytes(bytes.split_off(..4)?),
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(value);
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.number(9, 300);
        let message = writer.open(1);
        writer.text(2, &"x".repeat(200));
        writer.close(message);
        assert_eq!(find(writer.bytes(), 9), Some(Value::Number(300)));
        let Some(Value::Bytes(inner)) = find(writer.bytes(), 1) else {
            panic!("no message");
        };
        assert_eq!(
            find(inner, 2),
            Some(Value::Bytes("x".repeat(200).as_bytes()))
        );
        assert_eq!(find(writer.bytes(), 3), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&bytes, 1);
        }
    }
}
