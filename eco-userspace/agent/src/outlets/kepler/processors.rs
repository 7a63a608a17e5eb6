// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `/proc/cpuinfo` says of each CPU.

/// More than Linux supports (`CONFIG_NR_CPUS` is at most 8192).
const MOST: usize = 8_192;

/// One CPU; what the kernel does not tell is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processor {
    pub(super) number: String,
    pub(super) vendor: String,
    pub(super) model: String,
    pub(super) package: String,
    pub(super) core: String,
}

/// Reads the file: a paragraph a CPU.
pub(super) fn read(cpuinfo: &str) -> Vec<Processor> {
    let mut all: Vec<Processor> = Vec::new();
    for (key, value) in cpuinfo.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim().to_owned();
        if key.trim() == "processor" {
            if all.len() == MOST {
                break;
            }
            all.push(Processor {
                number: value,
                ..Processor::default()
            });
            continue;
        }
        let Some(last) = all.last_mut() else { continue };
        match key.trim() {
            "vendor_id" => last.vendor = value,
            "model name" => last.model = value,
            "physical id" => last.package = value,
            "core id" => last.core = value,
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_paragraph_is_a_cpu_and_what_it_lacks_is_empty() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: \"X\"\n\
                    physical id\t: 1\ncore id\t\t: 7\n\nprocessor\t: 1\nBogoMIPS: 48\n";
        let all = read(text);
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].model.as_str(), all[0].core.as_str()),
            ("Xeon: \"X\"", "7")
        );
        assert_eq!((all[1].number.as_str(), all[1].model.as_str()), ("1", ""));
        assert_eq!(read("model name: x\n\0:::"), []);
    }
}
