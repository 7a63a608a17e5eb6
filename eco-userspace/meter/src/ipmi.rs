// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The management controller through the kernel's IPMI device: DCMI's power reading.

mod dcmi;
mod device;

use std::{io, path::Path, time::Duration};

use self::device::Device;
use crate::{
    Descriptor, Domain, Finding, Found, Source,
    background::{Background, Probe, SteppedMeter},
};

/// How often the controller is asked. Its own steps are 1 s or longer; each question costs the
/// kernel's IPMI thread some ms on the slow interfaces (KCS).
const PERIOD: Duration = Duration::from_secs(2);

/// How long the agent's start waits for the first answer.
const PATIENCE: Duration = Duration::from_secs(7);

/// The interface that the kernel's driver registers, under sysfs.
const CLASS: &str = "class/ipmi/ipmi0";

/// DMI's record of a management controller (SMBIOS 3.6, type 38), under sysfs.
const DMI_RECORD: &str = "firmware/dmi/entries/38-0";

/// Asks the controller that `sysfs` shows, through its device under `dev` (the real `/dev`).
#[must_use]
pub fn discover(sysfs: &Path, dev: &Path) -> Found {
    let path = dev.join("ipmi0");
    let mut found = Found::default();
    if !sysfs.join(CLASS).exists() {
        if sysfs.join(DMI_RECORD).exists() {
            found.findings.push(Finding::new(
                path.display(),
                "this machine has a management controller, but no driver for it is loaded",
                "Load it: `modprobe ipmi_si && modprobe ipmi_devintf`.",
            ));
        }
        return found;
    }
    match Device::open(&path) {
        Ok(device) => begin(Box::new(device), &path, PATIENCE),
        Err(why) => {
            found.findings.push(cannot_open(&path, &why));
            found
        }
    }
}

/// A way to a controller.
trait Channel: Send {
    /// Sends a request, and returns the response, completion code first.
    fn ask(&mut self, netfn: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>>;
}

fn begin(channel: Box<dyn Channel>, path: &Path, patience: Duration) -> Found {
    let mut found = Found::default();
    let place = path.display().to_string();
    let background = match Background::start("eco-ipmi", PERIOD, Dcmi { channel }) {
        Ok(background) => background,
        Err(why) => {
            let what = format!("no thread to ask it: {why}");
            found.findings.push(Finding::new(place, what, ""));
            return found;
        }
    };
    let trouble = match background.first(patience) {
        Some(Ok(())) => {
            let descriptor = Descriptor {
                name: "board".to_owned(),
                domain: Domain::Board,
                device: "board".to_owned(),
                source: Source::Ipmi,
            };
            let meter = SteppedMeter::new(descriptor, place, background);
            found.meters.push(Box::new(meter));
            return found;
        }
        Some(Err(why)) => why,
        None => "the controller does not answer".to_owned(),
    };
    let advice = "Start the agent again once that is put right; until then it is not a meter.";
    found.findings.push(Finding::new(place, trouble, advice));
    found
}

struct Dcmi {
    channel: Box<dyn Channel>,
}

impl Probe for Dcmi {
    fn ask(&mut self) -> Result<u64, String> {
        let reply = self
            .channel
            .ask(dcmi::NETFN_GROUP, dcmi::GET_POWER_READING, &dcmi::REQUEST)
            .map_err(|why| format!("the controller cannot be asked: {why}"))?;
        let reading = dcmi::parse(&reply).map_err(|why| why.to_string())?;
        Ok(u64::from(reading.watts) * 1_000_000)
    }
}

fn cannot_open(path: &Path, why: &io::Error) -> Finding {
    let advice = match why.kind() {
        io::ErrorKind::NotFound => "Load the device's driver: `modprobe ipmi_devintf`.",
        io::ErrorKind::PermissionDenied => "Run the agent as root: the device is root's alone.",
        _ => "",
    };
    Finding::new(path.display(), format!("cannot be opened: {why}"), advice)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, fs};

    use super::*;
    use crate::Load;

    /// Answers as it was told to, the last answer for ever.
    struct Bmc(VecDeque<io::Result<Vec<u8>>>);

    impl Channel for Bmc {
        fn ask(&mut self, netfn: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
            assert_eq!((netfn, command, data), (0x2c, 0x02, &[0xdc, 1, 0, 0][..]));
            match self.0.pop_front() {
                Some(answer) => answer,
                None => Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
        }
    }

    const ENOUGH: Duration = Duration::from_secs(60);

    fn begin_with(answer: io::Result<Vec<u8>>) -> Found {
        let bmc = Bmc(VecDeque::from([answer]));
        begin(Box::new(bmc), Path::new("/dev/ipmi0"), ENOUGH)
    }

    fn power(watts: u16) -> Vec<u8> {
        let mut reply = vec![0; 19];
        reply[1] = 0xdc;
        reply[2..4].copy_from_slice(&watts.to_le_bytes());
        reply[18] = 0x40;
        reply
    }

    #[test]
    fn a_controller_that_tells_power_is_the_boards_meter() {
        let mut found = begin_with(Ok(power(350)));
        assert_eq!(found.findings, []);
        let meter = &mut found.meters[0];
        assert_eq!(meter.descriptor().source, Source::Ipmi);
        meter.read(&Load::default()).unwrap();
    }

    #[test]
    fn a_controller_that_cannot_is_a_finding_that_says_why() {
        let cases = [
            (Ok(vec![0xc1]), "DCMI"),
            (Ok(vec![]), "0 bytes"),
            (Ok(power(0)), "0 W"),
            (
                Err(io::Error::from(io::ErrorKind::TimedOut)),
                "cannot be asked",
            ),
        ];
        for (answer, word) in cases {
            let found = begin_with(answer);
            assert!(found.meters.is_empty());
            assert!(
                found.findings[0].what.contains(word),
                "{:?}",
                found.findings
            );
        }
    }

    #[test]
    fn a_missing_driver_is_named_where_there_is_a_controller() {
        let tree = tempfile::tempdir().unwrap();
        let discovered = || discover(tree.path(), tree.path());
        assert_eq!(discovered().findings, [], "no controller, nothing to say");
        fs::create_dir_all(tree.path().join(DMI_RECORD)).unwrap();
        assert!(discovered().findings[0].advice.contains("modprobe ipmi_si"));
        fs::create_dir_all(tree.path().join(CLASS)).unwrap();
        assert!(
            discovered().findings[0]
                .advice
                .contains("modprobe ipmi_devintf")
        );
        fs::write(tree.path().join("ipmi0"), "no device").unwrap();
        let found = discovered();
        assert!(found.meters.is_empty());
        assert!(found.findings[0].what.contains("cannot be asked"));
    }
}
