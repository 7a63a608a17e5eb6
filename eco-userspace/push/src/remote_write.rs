// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Prometheus' remote-write 1.0: protobuf in a block of snappy.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>

use eco_https::SetupError;

use crate::{
    destination::{Address, Destination, PushError, Remote},
    outlet::Protocol,
    samples::{self, Sample},
    wire::Writer,
};

/// A batch is sent when it has so many bytes.
const BATCH: usize = 512 << 10;

/// The address is the whole of it.
const ADDRESS: Address = Address {
    path: "",
    method: "",
};

const HEADERS: &[(&str, &str)] = &[
    ("content-encoding", "snappy"),
    ("content-type", "application/x-protobuf"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// A store that takes remote-write.
pub struct RemoteWrite {
    to: Destination,
    batch: Writer,
    packed: Vec<u8>,
}

impl RemoteWrite {
    /// To that store.
    ///
    /// # Errors
    /// When a file of certificates cannot be used.
    pub fn new(remote: Remote) -> Result<Self, SetupError> {
        Ok(Self {
            to: Destination::new(remote, HEADERS)?,
            batch: Writer::default(),
            packed: Vec::new(),
        })
    }

    fn flush(&mut self) -> Result<(), PushError> {
        let raw = self.batch.bytes();
        self.packed
            .resize(snap::raw::max_compress_len(raw.len()), 0);
        let length = snap::raw::Encoder::new()
            .compress(raw, &mut self.packed)
            .map_err(|why| PushError::Unreachable {
                url: "snappy".into(),
                why: why.to_string(),
            })?;
        self.batch.clear();
        self.to.send(&ADDRESS, &self.packed[..length]).map(drop)
    }
}

impl Protocol for RemoteWrite {
    fn push(&mut self, text: &str, now_ns: u64) -> Result<u64, PushError> {
        self.batch.clear();
        let mut failed = None;
        samples::read(text, |_, sample| {
            if failed.is_some() {
                return;
            }
            write(&mut self.batch, sample, now_ns / 1_000_000);
            if self.batch.len() >= BATCH {
                failed = self.flush().err();
            }
        });
        match failed {
            Some(why) => Err(why),
            None if self.batch.len() > 0 => self.flush().map(|()| 0),
            None => Ok(0),
        }
    }
}

/// A `TimeSeries`: its labels in the order of their names, and one sample.
fn write(out: &mut Writer, sample: &Sample<'_>, at_ms: u64) {
    let mut labels: Vec<(&str, &str)> = vec![("__name__", sample.name)];
    // To a store an empty label is none.
    let given = sample.labels.iter().filter(|(_, value)| !value.is_empty());
    labels.extend(given.map(|(name, value)| (*name, value.as_ref())));
    labels.sort_unstable();
    let series = out.open(1);
    for (name, value) in labels {
        let label = out.open(1);
        out.text(1, name);
        out.text(2, value);
        out.close(label);
    }
    let point = out.open(2);
    out.double(1, sample.value);
    out.number(2, at_ms);
    out.close(point);
    out.close(series);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Value, find};

    #[test]
    fn labels_come_in_the_order_of_their_names_and_empty_ones_not_at_all() {
        let mut out = Writer::default();
        samples::read("a_total{z=\"1\",b=\"\",c=\"x\\ny\"} 2\n", |_, sample| {
            write(&mut out, sample, 1234);
        });
        let Some(Value::Bytes(series)) = find(out.bytes(), 1) else {
            panic!("no series");
        };
        let said = String::from_utf8_lossy(series);
        let at = |text: &str| said.find(text).unwrap();
        assert!(at("__name__") < at("x\ny") && at("x\ny") < at("z"));
        let Some(Value::Bytes(point)) = find(series, 2) else {
            panic!("no sample");
        };
        assert_eq!(find(point, 2), Some(Value::Number(1234)));
        assert_eq!(find(point, 1), Some(Value::Bytes(&2.0f64.to_le_bytes())));
    }
}
