// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tree says of CPUs: which are one core, and how fast they go.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::scenario::{Frequency, Smt};

/// The files of all CPUs.
pub(super) struct Processor {
    clocks: Vec<File>,
    shown_mhz: Option<f64>,
}

impl Processor {
    /// Writes the files for `cpus` CPUs, if the scenario says anything of them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn new(
        sysfs: &Path,
        cpus: usize,
        smt: Option<&Smt>,
        frequency: Option<&Frequency>,
    ) -> io::Result<Self> {
        let mut clocks = Vec::new();
        if smt.is_none() && frequency.is_none() {
            let shown_mhz = None;
            return Ok(Self { clocks, shown_mhz });
        }
        let all = sysfs.join("devices/system/cpu");
        fs::create_dir_all(&all)?;
        fs::write(all.join("online"), format!("0-{}\n", cpus - 1))?;
        for cpu in 0..cpus {
            let folder = all.join(format!("cpu{cpu}"));
            let topology = folder.join("topology");
            fs::create_dir_all(&topology)?;
            let siblings = siblings(smt, cpu);
            let first = siblings.split(',').next().unwrap_or_default().trim();
            for (name, text) in [
                ("thread_siblings_list", siblings.as_str()),
                ("core_cpus_list", &siblings),
                ("core_id", &format!("{first}\n")),
                ("physical_package_id", "0\n"),
            ] {
                fs::write(topology.join(name), text)?;
            }
            if let Some(frequency) = frequency {
                let folder = folder.join("cpufreq");
                fs::create_dir_all(&folder)?;
                let highest = format!("{:.0}\n", frequency.highest_mhz * 1e3);
                fs::write(folder.join("cpuinfo_max_freq"), &highest)?;
                fs::write(folder.join("scaling_max_freq"), &highest)?;
                clocks.push(File::create(folder.join("scaling_cur_freq"))?);
            }
        }
        let mut processor = Self {
            clocks,
            shown_mhz: None,
        };
        processor.show(frequency.map(|frequency| frequency.highest_mhz))?;
        Ok(processor)
    }

    /// Shows the clock, if it has changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn show(&mut self, mhz: Option<f64>) -> io::Result<()> {
        if mhz == self.shown_mhz {
            return Ok(());
        }
        self.shown_mhz = mhz;
        for clock in &self.clocks {
            // Always as long: a reader never sees half of a number.
            let khz = mhz.unwrap_or_default() * 1e3;
            clock.write_all_at(format!("{khz:<12.0}\n").as_bytes(), 0)?;
        }
        Ok(())
    }
}

fn siblings(smt: Option<&Smt>, cpu: usize) -> String {
    let cores = smt.map_or(&[][..], |smt| &smt.core);
    let own = cores
        .iter()
        .find(|core| core.iter().any(|c| *c as usize == cpu));
    let list = own.map_or_else(
        || cpu.to_string(),
        |core| {
            let threads: Vec<String> = core.iter().map(u32::to_string).collect();
            threads.join(",")
        },
    );
    list + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_says_who_shares_a_core_and_how_fast_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let smt = Smt {
            shared: 0.5,
            core: vec![vec![0, 2]],
        };
        let frequency = Frequency {
            highest_mhz: 3000.0,
            exponent: 1.0,
            phase: Vec::new(),
        };
        let mut processor = Processor::new(root.path(), 3, Some(&smt), Some(&frequency)).unwrap();
        processor.show(Some(1200.0)).unwrap();
        let read = |path: &str| {
            let file = root.path().join("devices/system/cpu").join(path);
            fs::read_to_string(file).unwrap().trim().to_owned()
        };
        assert_eq!(read("cpu2/topology/thread_siblings_list"), "0,2");
        assert_eq!(read("cpu1/topology/thread_siblings_list"), "1");
        assert_eq!(read("cpu1/cpufreq/scaling_cur_freq"), "1200000");
        assert_eq!(read("cpu1/cpufreq/cpuinfo_max_freq"), "3000000");
    }
}
