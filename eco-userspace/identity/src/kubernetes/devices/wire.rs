// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answer of `podresources/v1`'s `List`, in protobuf's wire format.
//!
//! Field numbers are those of `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`; whatever
//! else a message holds is passed over, as protobuf wants it.

use super::Device;

/// All devices in a `ListPodResourcesResponse`; `None` if it is none.
pub(super) fn devices(message: &[u8]) -> Option<Vec<Device>> {
    let mut found = Vec::new();
    let mut pods = Fields(message);
    while let Some(field) = pods.next()? {
        if let (1, Value::Bytes(pod)) = field {
            of_pod(pod, &mut found)?;
        }
    }
    Some(found)
}

/// `PodResources`: name = 1, namespace = 2, containers = 3.
fn of_pod(message: &[u8], found: &mut Vec<Device>) -> Option<()> {
    let (mut name, mut namespace) = (String::new(), String::new());
    let first = found.len();
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => namespace = text(bytes)?,
            (3, Value::Bytes(container)) => of_container(container, found)?,
            _ => {}
        }
    }
    // The pod's name may stand behind its containers.
    for device in &mut found[first..] {
        device.pod.clone_from(&name);
        device.namespace.clone_from(&namespace);
    }
    Some(())
}

/// `ContainerResources`: name = 1, devices = 2.
fn of_container(message: &[u8], found: &mut Vec<Device>) -> Option<()> {
    let mut name = String::new();
    let first = found.len();
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(devices)) => of_devices(devices, found)?,
            _ => {}
        }
    }
    for device in &mut found[first..] {
        device.container.clone_from(&name);
    }
    Some(())
}

/// `ContainerDevices`: resource_name = 1, device_ids = 2.
fn of_devices(message: &[u8], found: &mut Vec<Device>) -> Option<()> {
    let mut resource = String::new();
    let first = found.len();
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => resource = text(bytes)?,
            (2, Value::Bytes(id)) => found.push(Device {
                id: text(id)?,
                resource: String::new(),
                namespace: String::new(),
                pod: String::new(),
                container: String::new(),
            }),
            _ => {}
        }
    }
    for device in &mut found[first..] {
        device.resource.clone_from(&resource);
    }
    Some(())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// The fields of a message that are not read yet.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    /// Text, or a message in the message.
    Bytes(&'a [u8]),
    /// Any number.
    Number,
}

impl<'a> Fields<'a> {
    /// The next field's number and value; `Some(None)` at the end, `None` for what is no message.
    #[expect(
        clippy::option_option,
        reason = "no more fields, and no fields at all, are two things"
    )]
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => {
                self.number()?;
                Value::Number
            }
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }

    /// A base-128 varint, of ten bytes at most.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, bytes: usize) -> Option<Value<'a>> {
        self.0 = self.0.get(bytes..)?;
        Some(Value::Number)
    }
}
