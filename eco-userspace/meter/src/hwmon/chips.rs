// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the power and energy attributes of known sensor chips measure.
//!
//! A chip's driver tells its name and sometimes labels; which wire it sits on only the board's
//! maker knows. So only chips whose wire is certain are used: by their driver (it serves one kind
//! of device), or by a label that names the machine's input. All others are listed as findings.

use crate::Domain;

/// What an attribute of a chip stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Energy of this domain and device.
    Use(Domain, String),
    /// Known, and part of another domain or nobody's here.
    Leave,
    /// A chip that is not in the table.
    Unknown,
}

/// The kind of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `power*`, in µW.
    Power,
    /// `energy*`, in µJ.
    Energy,
    /// `in*` and `curr*` of one channel, in mV and mA.
    Channel,
}

/// What attribute `kind` of `chip` with `label` measures; `order` counts chips of one name.
pub(super) fn role(chip: &str, kind: Kind, label: &str, order: usize) -> Role {
    if LEFT_TO_OTHERS.iter().any(|left| chip.starts_with(left)) {
        return Role::Leave;
    }
    let mut known = false;
    for rule in RULES.iter().filter(|rule| rule.is_for(chip)) {
        known = true;
        if rule.kind != kind {
            continue;
        }
        if let Some(number) = rule.label.matches(label) {
            return Role::Use(rule.domain, rule.device.name(number, order));
        }
    }
    match kind {
        // Voltages and currents of other chips are no power meter.
        _ if known => Role::Leave,
        Kind::Channel => Role::Leave,
        Kind::Power | Kind::Energy => Role::Unknown,
    }
}

/// GPUs, batteries and ACPI have sources of their own.
const LEFT_TO_OTHERS: [&str; 11] = [
    "amdgpu",
    "i915",
    "xe",
    "nouveau",
    "nvidia",
    "power_meter",
    "BAT",
    "ADP",
    "AC",
    "ucsi_source",
    "hidpp_battery",
];

struct Rule {
    /// The driver's name; a star at its end stands for any rest.
    chip: &'static str,
    kind: Kind,
    label: Label,
    domain: Domain,
    device: Device,
}

enum Label {
    Any,
    Is(&'static str),
    /// This, and a number that says which.
    Numbered(&'static str),
    /// One of the names that board makers give to the whole machine's input.
    Input,
}

enum Device {
    Board,
    /// The socket of the label's number, or the only one.
    Package,
    /// One a power supply.
    Supply,
}

const fn rule(
    chip: &'static str,
    kind: Kind,
    label: Label,
    domain: Domain,
    device: Device,
) -> Rule {
    Rule {
        chip,
        kind,
        label,
        domain,
        device,
    }
}

/// Sources: the kernel's Documentation/hwmon/NAME.rst and drivers/hwmon; Jetson rails: NVIDIA's
/// Jetson Linux Developer Guide, "Power monitor"; PSUs answer PMBus READ_PIN, their wall power.
const RULES: &[Rule] = &[
    rule(
        "amd_energy",
        Kind::Energy,
        Label::Numbered("Esocket"),
        Domain::Package,
        Device::Package,
    ),
    rule(
        "fam15h_power",
        Kind::Power,
        Label::Any,
        Domain::Package,
        Device::Package,
    ),
    rule(
        "apm_xgene",
        Kind::Power,
        Label::Is("CPU power"),
        Domain::Package,
        Device::Package,
    ),
    rule(
        "ibmpowernv",
        Kind::Energy,
        Label::Numbered("Chip "),
        Domain::Package,
        Device::Package,
    ),
    rule(
        "ibmpowernv",
        Kind::Power,
        Label::Is("System"),
        Domain::Board,
        Device::Board,
    ),
    rule(
        "macsmc_hwmon",
        Kind::Power,
        Label::Is("Total System Power"),
        Domain::Board,
        Device::Board,
    ),
    rule(
        "corsairpsu",
        Kind::Power,
        Label::Is("power total"),
        Domain::Board,
        Device::Supply,
    ),
    // Jetson: Xavier, Orin, Orin Nano.
    rule(
        "ina3221",
        Kind::Channel,
        Label::Is("VDD_IN"),
        Domain::Board,
        Device::Board,
    ),
    rule(
        "ina3221",
        Kind::Channel,
        Label::Is("VDD_CPU_CV"),
        Domain::Package,
        Device::Package,
    ),
    rule(
        "ina3221",
        Kind::Channel,
        Label::Is("VDD_CPU_GPU_CV"),
        Domain::Package,
        Device::Package,
    ),
    rule(
        "ina3221",
        Kind::Channel,
        Label::Is("CPU"),
        Domain::Package,
        Device::Package,
    ),
    // Single-rail monitors sit anywhere.
    rule(
        "ina2*",
        Kind::Power,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    rule(
        "ltc2945",
        Kind::Power,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    rule(
        "ltc2947",
        Kind::Energy,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    rule(
        "ltc428*",
        Kind::Power,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    rule(
        "adm12*",
        Kind::Power,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    rule(
        "lm25*",
        Kind::Power,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    rule(
        "lm50*",
        Kind::Power,
        Label::Input,
        Domain::Board,
        Device::Board,
    ),
    // Server power supplies behind PMBus.
    rule(
        "cffps*",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "ipsps*",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "pfe1100",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "pfe3000",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "dps920ab",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "dps460",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "fsg032",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
    rule(
        "crps*",
        Kind::Power,
        Label::Is("pin"),
        Domain::Board,
        Device::Supply,
    ),
];

impl Rule {
    fn is_for(&self, chip: &str) -> bool {
        match self.chip.strip_suffix('*') {
            Some(start) => chip.starts_with(start),
            None => chip == self.chip,
        }
    }
}

impl Label {
    /// The label's number, 0 if it has none; `None` if it is another label.
    fn matches(&self, label: &str) -> Option<u32> {
        const INPUTS: [&str; 7] = [
            "vdd_in", "vin_sys", "board", "system", "total", "input", "12v_in",
        ];
        match self {
            Self::Any => Some(0),
            Self::Is(text) => (label == *text).then_some(0),
            Self::Numbered(start) => label.strip_prefix(start)?.trim().parse().ok(),
            Self::Input => INPUTS
                .iter()
                .any(|input| label.eq_ignore_ascii_case(input))
                .then_some(0),
        }
    }
}

impl Device {
    fn name(&self, number: u32, order: usize) -> String {
        match self {
            Self::Board => "board".to_owned(),
            Self::Package => format!("package-{number}"),
            Self::Supply => format!("psu-{order}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_which_socket() {
        let esocket = role("amd_energy", Kind::Energy, "Esocket1", 0);
        assert_eq!(esocket, Role::Use(Domain::Package, "package-1".into()));
        assert_eq!(role("amd_energy", Kind::Energy, "Ecore001", 0), Role::Leave);
        assert_eq!(role("amd_energy", Kind::Energy, "Esocket", 0), Role::Leave);
        let chip = role("ibmpowernv", Kind::Energy, "Chip 8", 0);
        assert_eq!(chip, Role::Use(Domain::Package, "package-8".into()));
        assert_eq!(
            role("ibmpowernv", Kind::Energy, "Chip 0 Vdd", 0),
            Role::Leave
        );
    }

    #[test]
    fn a_monitor_of_an_unknown_wire_is_not_taken_for_the_board() {
        assert_eq!(role("ina226", Kind::Power, "", 0), Role::Leave);
        assert_eq!(role("ina226", Kind::Power, "VDD_3V3", 0), Role::Leave);
        let board = Role::Use(Domain::Board, "board".into());
        assert_eq!(role("ina226", Kind::Power, "VDD_IN", 0), board);
        assert_eq!(role("tps53679", Kind::Power, "pin", 0), Role::Unknown);
        assert_eq!(role("tps53679", Kind::Channel, "vout1", 0), Role::Leave);
    }

    #[test]
    fn each_power_supply_is_a_device() {
        let second = role("cffps2", Kind::Power, "pin", 1);
        assert_eq!(second, Role::Use(Domain::Board, "psu-1".into()));
        assert_eq!(role("cffps2", Kind::Power, "pout1", 1), Role::Leave);
    }
}
