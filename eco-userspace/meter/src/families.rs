// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a CPU draws, by its family: the table behind the model.
//!
//! The figures are watts per logical CPU, idle and fully loaded, of whole servers at the wall
//! (so memory, fans and power supply are in them): the means over the SPECpower_ssj2008 results
//! of each family, as computed by Cloud Carbon Footprint's `ccf-coefficients` (Apache-2.0, run
//! on the SPECpower results published up to 2026-03-09; its `output/coefficients-*.csv` and
//! `tests/test_power_averages.py` agree). Single machines differ by a factor of two either way.
//! Families are told by the numbers of Linux's `intel-family.h` and of AMD's revision guides.

use crate::cpuinfo::CpuInfo;

/// A row of the table.
#[derive(Debug, PartialEq)]
pub(crate) struct Family {
    /// What people call it.
    pub(crate) name: &'static str,
    /// W per logical CPU when nothing runs.
    pub(crate) idle_watts: f64,
    /// W per logical CPU when everything runs.
    pub(crate) max_watts: f64,
    /// Where the figures are from.
    pub(crate) source: &'static str,
    matches: Matches,
}

/// Which CPUs a row is for.
#[derive(Debug, PartialEq)]
enum Matches {
    /// Family 6, these models, from one stepping to another.
    Intel(&'static [u32], u32, u32),
    /// A family, from one model to another.
    Amd(u32, u32, u32),
    /// Implementer 0x41 (Arm), these parts.
    Arm(&'static [u32]),
    /// Whatever no other row is for.
    Anything,
}

const CCF: &str = "Cloud Carbon Footprint ccf-coefficients 2026 (SPECpower_ssj2008)";
const ZEN5: &str = "stand-in: the 4th Gen's, Cloud Carbon Footprint ccf-coefficients 2026; its own \
    mean for the 5th is of a few small servers and five times higher";
const LATER_ARM: &str = "stand-in: Neoverse N1's, Cloud Carbon Footprint ccf-coefficients 2026 \
    (SPECpower_ssj2008 has no later Arm core)";
const MEAN: &str = "the mean of the known families; may be wrong by a factor of two or more";

const ANY_STEPPING: (u32, u32) = (0, u32::MAX);

const TABLE: &[Family] = &[
    intel("Sandy Bridge", 2.21, 8.63, &[0x2a, 0x2d], ANY_STEPPING),
    intel("Ivy Bridge", 1.71, 5.56, &[0x3a, 0x3e], ANY_STEPPING),
    intel(
        "Haswell",
        1.86,
        5.60,
        &[0x3c, 0x3f, 0x45, 0x46],
        ANY_STEPPING,
    ),
    intel(
        "Broadwell",
        0.71,
        3.69,
        &[0x3d, 0x47, 0x4f, 0x56],
        ANY_STEPPING,
    ),
    intel("Skylake (client)", 1.82, 5.86, &[0x4e, 0x5e], ANY_STEPPING),
    intel("Skylake (server)", 0.55, 4.01, &[0x55], (0, 4)),
    intel("Cascade Lake", 0.69, 4.06, &[0x55], (5, u32::MAX)),
    intel(
        "Coffee Lake",
        1.14,
        5.42,
        &[0x8e, 0x9e, 0xa5, 0xa6],
        ANY_STEPPING,
    ),
    intel("Ice Lake", 0.77, 3.76, &[0x6a, 0x6c], ANY_STEPPING),
    intel("Sapphire Rapids", 1.04, 4.16, &[0x8f], ANY_STEPPING),
    intel("Emerald Rapids", 0.81, 4.48, &[0xcf], ANY_STEPPING),
    intel("Granite Rapids", 0.58, 2.53, &[0xad, 0xae], ANY_STEPPING),
    amd(
        "AMD EPYC 1st Gen (Zen)",
        0.85,
        2.60,
        0x17,
        (0x00, 0x2f),
        CCF,
    ),
    amd(
        "AMD EPYC 2nd Gen (Zen 2)",
        0.47,
        1.69,
        0x17,
        (0x30, 0xff),
        CCF,
    ),
    amd("Hygon (Zen)", 0.85, 2.60, 0x18, (0x00, 0xff), CCF),
    amd(
        "AMD EPYC 4th Gen (Zen 4)",
        0.74,
        2.28,
        0x19,
        (0x10, 0x1f),
        CCF,
    ),
    amd(
        "AMD EPYC 4th Gen (Zen 4)",
        0.74,
        2.28,
        0x19,
        (0x60, 0xaf),
        CCF,
    ),
    amd(
        "AMD EPYC 3rd Gen (Zen 3)",
        0.46,
        1.96,
        0x19,
        (0x00, 0xff),
        CCF,
    ),
    amd(
        "AMD EPYC 5th Gen (Zen 5)",
        0.74,
        2.28,
        0x1a,
        (0x00, 0xff),
        ZEN5,
    ),
    arm("Arm Neoverse N1", &[0xd0c], CCF),
    arm(
        "Arm Neoverse V1, N2, V2, N3, V3",
        &[0xd40, 0xd49, 0xd4f, 0xd8e, 0xd84],
        LATER_ARM,
    ),
];

/// The row for CPUs that the table does not know.
const UNKNOWN: Family = Family {
    name: "unknown CPU",
    idle_watts: 1.01,
    max_watts: 4.00,
    source: MEAN,
    matches: Matches::Anything,
};

/// The row for a CPU.
pub(crate) fn of(cpu: &CpuInfo) -> &'static Family {
    TABLE
        .iter()
        .find(|row| row.matches.accepts(cpu))
        .unwrap_or(&UNKNOWN)
}

impl Family {
    /// Whether nothing is known of the CPU.
    pub(crate) fn is_default(&self) -> bool {
        self.matches == Matches::Anything
    }
}

impl Matches {
    fn accepts(&self, cpu: &CpuInfo) -> bool {
        let (family, model) = (cpu.family, cpu.model);
        match *self {
            Self::Intel(models, from, to) => {
                cpu.vendor == "GenuineIntel"
                    && family == Some(6)
                    && model.is_some_and(|model| models.contains(&model))
                    && (from..=to).contains(&cpu.stepping.unwrap_or(0))
            }
            Self::Amd(of_family, from, to) => {
                matches!(cpu.vendor.as_str(), "AuthenticAMD" | "HygonGenuine")
                    && family == Some(of_family)
                    && model.is_some_and(|model| (from..=to).contains(&model))
            }
            Self::Arm(parts) => {
                cpu.implementer == Some(0x41) && cpu.part.is_some_and(|part| parts.contains(&part))
            }
            Self::Anything => true,
        }
    }
}

const fn intel(
    name: &'static str,
    idle_watts: f64,
    max_watts: f64,
    models: &'static [u32],
    steppings: (u32, u32),
) -> Family {
    let matches = Matches::Intel(models, steppings.0, steppings.1);
    Family {
        name,
        idle_watts,
        max_watts,
        source: CCF,
        matches,
    }
}

const fn amd(
    name: &'static str,
    idle_watts: f64,
    max_watts: f64,
    family: u32,
    models: (u32, u32),
    source: &'static str,
) -> Family {
    let matches = Matches::Amd(family, models.0, models.1);
    Family {
        name,
        idle_watts,
        max_watts,
        source,
        matches,
    }
}

const fn arm(name: &'static str, parts: &'static [u32], source: &'static str) -> Family {
    Family {
        name,
        idle_watts: 0.74,
        max_watts: 1.71,
        source,
        matches: Matches::Arm(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_possible_machine() {
        for row in TABLE.iter().chain([&UNKNOWN]) {
            assert!(
                row.idle_watts > 0.0 && row.idle_watts < row.max_watts,
                "{row:?}"
            );
            assert!(!row.source.is_empty());
        }
    }

    #[test]
    fn the_default_is_the_mean_of_what_was_measured() {
        let mut measured: Vec<(f64, f64)> = Vec::new();
        for row in TABLE.iter().filter(|row| row.source == CCF) {
            let pair = (row.idle_watts, row.max_watts);
            if !measured.contains(&pair) {
                measured.push(pair);
            }
        }
        let count = measured.len() as f64;
        let idle = measured.iter().map(|(idle, _)| idle).sum::<f64>() / count;
        let max = measured.iter().map(|(_, max)| max).sum::<f64>() / count;
        assert!((idle - UNKNOWN.idle_watts).abs() < 0.01, "{idle}");
        assert!((max - UNKNOWN.max_watts).abs() < 0.01, "{max}");
    }

    #[test]
    fn cpus_are_told_apart_by_their_numbers() {
        let x86 = |vendor: &str, family, model, stepping| CpuInfo {
            vendor: vendor.to_owned(),
            family: Some(family),
            model: Some(model),
            stepping: Some(stepping),
            ..CpuInfo::default()
        };
        assert_eq!(
            of(&x86("GenuineIntel", 6, 0x55, 4)).name,
            "Skylake (server)"
        );
        assert_eq!(of(&x86("GenuineIntel", 6, 0x55, 7)).name, "Cascade Lake");
        assert_eq!(of(&x86("GenuineIntel", 15, 0x55, 7)).name, "unknown CPU");
        assert_eq!(
            of(&x86("AuthenticAMD", 0x19, 0x01, 1)).name,
            "AMD EPYC 3rd Gen (Zen 3)"
        );
        assert_eq!(
            of(&x86("AuthenticAMD", 0x19, 0x11, 1)).name,
            "AMD EPYC 4th Gen (Zen 4)"
        );
        assert_eq!(
            of(&x86("AuthenticAMD", 0x17, 0x31, 0)).name,
            "AMD EPYC 2nd Gen (Zen 2)"
        );
        let n1 = CpuInfo {
            implementer: Some(0x41),
            part: Some(0xd0c),
            ..CpuInfo::default()
        };
        assert_eq!(of(&n1).name, "Arm Neoverse N1");
        assert!(of(&CpuInfo::default()).is_default());
    }
}
