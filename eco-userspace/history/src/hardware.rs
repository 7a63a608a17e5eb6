// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a command runs on, as far as any user may know it.

use std::{collections::BTreeMap, fs, path::Path};

use crate::run::Hardware;

/// This machine, by its `/proc`; what that does not tell is empty.
#[must_use]
pub fn of(procfs: &Path) -> Hardware {
    let read = |file: &str| fs::read_to_string(procfs.join(file)).unwrap_or_default();
    let cpuinfo = read("cpuinfo");
    Hardware {
        host: read("sys/kernel/hostname").trim().to_owned(),
        cpu: field(&cpuinfo, "model name").unwrap_or_default().to_owned(),
        cpus: cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count() as u32,
        memory_bytes: memory(&read("meminfo")).unwrap_or(0),
        gpus: gpus(&procfs.join("driver/nvidia/gpus")),
    }
}

/// In KiB, whatever the file calls it (proc_meminfo(5)).
fn memory(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

/// `2 × NVIDIA H100`: NVIDIA's driver tells its models in a file for each.
fn gpus(folder: &Path) -> String {
    let mut models: BTreeMap<String, u32> = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path().join("information")).unwrap_or_default();
        let model = field(&text, "Model").unwrap_or("GPU").to_owned();
        *models.entry(model).or_default() += 1;
    }
    let words = models.into_iter().map(|(model, count)| match count {
        1 => model,
        _ => format!("{count} × {model}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/hostname", "n1\n");
        let cpu = "processor\t: 0\nmodel name\t: A: CPU\n\nprocessor\t: 1\nmodel name\t: B\n";
        write("cpuinfo", cpu);
        write("meminfo", "MemTotal:       2048 kB\n");
        for (at, model) in [
            ("0000:01:00.0", "H100"),
            ("0000:02:00.0", "H100"),
            ("3", "T4"),
        ] {
            let file = format!("driver/nvidia/gpus/{at}/information");
            write(&file, &format!("Model: \t\t {model}\nIRQ: 5\n"));
        }
        let wanted = Hardware {
            host: "n1".to_owned(),
            cpu: "A: CPU".to_owned(),
            cpus: 2,
            memory_bytes: 2 << 20,
            gpus: "2 × H100, T4".to_owned(),
        };
        assert_eq!(of(folder.path()), wanted);
    }

    #[test]
    fn what_is_not_told_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of(folder.path()), Hardware::default());
        fs::write(folder.path().join("meminfo"), "MemTotal: many kB\n").unwrap();
        assert_eq!(of(folder.path()).memory_bytes, 0);
    }
}
