// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtual machines, by the cgroup of the process that is the machine.

use super::{container::without_number, systemd::unescape};

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Who runs it.
    pub hypervisor: Hypervisor,
    /// Its name, or its number where it has none. libvirt cuts long names off.
    pub name: String,
}

/// Who runs a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hypervisor {
    /// QEMU, by libvirt or Proxmox.
    Qemu,
    /// Cloud Hypervisor, by libvirt.
    CloudHypervisor,
    /// Firecracker, by its jailer.
    Firecracker,
    /// Whatever systemd-vmspawn starts.
    Vmspawn,
}

impl Hypervisor {
    /// A name for people and labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Firecracker => "firecracker",
            Self::Vmspawn => "vmspawn",
        }
    }
}

/// libvirt's drivers of virtual machines, by the name that it gives them in cgroups.
const DRIVERS: [(&str, Hypervisor); 2] = [
    ("qemu", Hypervisor::Qemu),
    ("ch", Hypervisor::CloudHypervisor),
];

/// The virtual machine that `part` is for, if it is for one; its parents stand above it.
pub(super) fn of_part(part: &str, [parent, grandparent]: [&str; 2]) -> Option<Machine> {
    let scope = part.strip_suffix(".scope");
    let machine = scope
        .and_then(|scope| of_scope(scope.strip_prefix("machine-")?))
        .or_else(|| of_partition(part))
        .or_else(|| {
            let named = |hypervisor, name: &str| Machine {
                hypervisor,
                name: name.to_owned(),
            };
            match (parent, grandparent) {
                // Proxmox: `/qemu.slice/100.scope`.
                ("qemu.slice", _) => {
                    let name = scope?;
                    let name = name.strip_prefix("qemu-").unwrap_or(name);
                    Some(named(Hypervisor::Qemu, name))
                }
                // libvirt before 1.0.5: `/libvirt/qemu/NAME`.
                ("qemu", "libvirt") => Some(named(Hypervisor::Qemu, part)),
                ("firecracker", _) => Some(named(Hypervisor::Firecracker, part)),
                _ => {
                    let name = part.strip_prefix("systemd-vmspawn@")?;
                    let name = name.strip_suffix(".service")?;
                    Some(named(Hypervisor::Vmspawn, &unescape(name)))
                }
            }
        })?;
    (!machine.name.is_empty()).then_some(machine)
}

/// libvirt with systemd: `machine-qemu\x2d1\x2dNAME.scope`, without `machine-` and `.scope`;
/// before libvirt 1.3 without the number.
pub(super) fn of_scope(escaped: &str) -> Option<Machine> {
    let plain = unescape(escaped);
    DRIVERS.iter().find_map(|(driver, hypervisor)| {
        let rest = plain.strip_prefix(driver)?.strip_prefix('-')?;
        let name = match without_number(&plain, &format!("{driver}-")) {
            whole if whole == plain => rest,
            name => name,
        };
        (!name.is_empty()).then(|| Machine {
            hypervisor: *hypervisor,
            name: name.to_owned(),
        })
    })
}

/// libvirt without systemd: `/machine/qemu-1-NAME.libvirt-qemu`, before 1.3 without the number.
fn of_partition(part: &str) -> Option<Machine> {
    DRIVERS.iter().find_map(|(driver, hypervisor)| {
        let name = part.strip_suffix(driver)?.strip_suffix(".libvirt-")?;
        Some(Machine {
            hypervisor: *hypervisor,
            name: without_number(name, &format!("{driver}-")).to_owned(),
        })
    })
}
