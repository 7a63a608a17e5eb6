// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether something looks like an NVIDIA GPU, driver or not.

use std::{fs, path::Path};

/// NVIDIA's PCI vendor id.
const VENDOR: &str = "0x10de";

/// PCI's base class of display controllers.
const DISPLAY: &str = "0x03";

/// The driver's device files: the control device, and WSL's.
const DEVICE_FILES: [&str; 2] = ["/dev/nvidiactl", "/dev/dxg"];

pub(super) fn is_there(sysfs: &Path) -> bool {
    has_device(sysfs) || DEVICE_FILES.iter().any(|path| Path::new(path).exists())
}

fn has_device(sysfs: &Path) -> bool {
    let Ok(devices) = fs::read_dir(sysfs.join("bus/pci/devices")) else {
        return false;
    };
    let starts = |path: &Path, file: &str, wanted: &str| {
        fs::read_to_string(path.join(file)).is_ok_and(|text| text.starts_with(wanted))
    };
    devices.flatten().any(|device| {
        let path = device.path();
        starts(&path, "vendor", VENDOR) && starts(&path, "class", DISPLAY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(root: &Path, slot: &str, vendor: &str, class: &str) {
        let folder = root.join("bus/pci/devices").join(slot);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vendor"), vendor).unwrap();
        fs::write(folder.join("class"), class).unwrap();
    }

    #[test]
    fn a_display_device_of_nvidias_is_a_gpu_and_nothing_else_is() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_device(root.path()));
        device(root.path(), "0000:00:02.0", "0x8086\n", "0x030000\n");
        // The sound of a graphics card.
        device(root.path(), "0000:01:00.1", "0x10de\n", "0x040300\n");
        assert!(!has_device(root.path()));
        device(root.path(), "0000:01:00.0", "0x10de\n", "0x030200\n");
        assert!(has_device(root.path()));
    }
}
