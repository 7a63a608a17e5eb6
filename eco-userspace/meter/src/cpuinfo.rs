// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `/proc/cpuinfo` says of the first CPU, and how many CPUs are online.

use std::{fs, path::Path};

/// More CPUs than Linux supports (`CONFIG_NR_CPUS` is at most 8192).
const MOST_CPUS: u32 = 8_192;

/// The first CPU of a machine; whatever the kernel does not tell is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuInfo {
    pub(crate) vendor: String,
    pub(crate) family: Option<u32>,
    pub(crate) model: Option<u32>,
    pub(crate) stepping: Option<u32>,
    pub(crate) implementer: Option<u32>,
    pub(crate) part: Option<u32>,
    /// CPUs that the file lists.
    pub(crate) listed: u32,
    pub(crate) is_guest: bool,
}

impl CpuInfo {
    /// Takes what it knows from `/proc/cpuinfo`; later CPUs only count.
    pub(crate) fn parse(text: &str) -> Self {
        let mut cpu = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let (key, value) = (key.trim(), value.trim());
            match key {
                "processor" => cpu.listed = (cpu.listed + 1).min(MOST_CPUS),
                _ if cpu.listed > 1 => {}
                "vendor_id" => cpu.vendor = value.to_owned(),
                "cpu family" => cpu.family = number(value),
                "model" => cpu.model = number(value),
                "stepping" => cpu.stepping = number(value),
                "CPU implementer" => cpu.implementer = number(value),
                "CPU part" => cpu.part = number(value),
                "flags" => cpu.is_guest = value.split(' ').any(|flag| flag == "hypervisor"),
                _ => {}
            }
        }
        cpu
    }
}

/// How many CPUs are online, by `devices/system/cpu/online` under `sysfs`.
pub(crate) fn online(sysfs: &Path) -> Option<u32> {
    let text = fs::read_to_string(sysfs.join("devices/system/cpu/online")).ok()?;
    count(text.trim())
}

/// The number of CPUs in a list like `0-3,8`.
fn count(list: &str) -> Option<u32> {
    let mut sum = 0u32;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum = sum.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (1..=MOST_CPUS).contains(&sum).then_some(sum)
}

/// A decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8,10-11"), Some(7));
        for odd in [
            "",
            "-",
            "3-1",
            "0-",
            "a",
            "0-4294967295",
            "0-8192",
            "0,,1",
            "-1",
        ] {
            assert_eq!(count(odd), None, "{odd}");
        }
    }

    #[test]
    fn x86_and_arm_are_both_read() {
        let x86 = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
            model name\t: Xeon: odd\nstepping\t: 7\nflags\t\t: fpu hypervisor\n\n\
            processor\t: 1\nmodel\t\t: 99\n";
        let cpu = CpuInfo::parse(x86);
        assert_eq!(
            (cpu.family, cpu.model, cpu.stepping),
            (Some(6), Some(85), Some(7))
        );
        assert_eq!((cpu.listed, cpu.is_guest), (2, true));
        let arm = CpuInfo::parse("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n");
        assert_eq!((arm.implementer, arm.part), (Some(0x41), Some(0xd0c)));
    }

    #[test]
    fn odd_text_is_no_cpu() {
        for odd in [
            "",
            ":::",
            "model: -1\ncpu family: 99999999999999\n",
            "\0\u{fffd}",
        ] {
            let cpu = CpuInfo::parse(odd);
            assert_eq!(cpu, CpuInfo::default(), "{odd:?}");
        }
    }
}
