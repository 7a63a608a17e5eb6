// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The units, as systemd itself reads them.

use std::{fs, process::Command};

use eco_tests::needs;

use crate::deploy;

/// Each unit, the program in it, and how exposed systemd may call it, in tenths of 0 (nothing)
/// to 10 (everything): 3.3 and 1.6 to systemd 252, and later ones look at more. The agent must see
/// all of the node's processes.
const UNITS: [(&str, &str, &str); 2] = [
    ("eco-agent.service", "/usr/bin/eco-agent", "50"),
    ("eco-serve.service", "/usr/bin/eco ", "30"),
];

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    needs!(Programs);
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: there is no systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (unit, program, exposure) in UNITS {
        let text = fs::read_to_string(deploy("systemd").join(unit)).unwrap();
        // It looks whether the program is there.
        let built = eco_tests::programs::eco()
            .parent()
            .unwrap()
            .display()
            .to_string();
        assert!(text.contains(program), "{unit}: {text}");
        let here = folder.path().join(unit);
        fs::write(&here, text.replace("/usr/bin", &built)).unwrap();
        let verify = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&here)
            .output();
        let verify = verify.unwrap();
        // What it does not know it only warns of.
        assert!(
            verify.status.success() && verify.stderr.is_empty(),
            "{unit}: {verify:?}"
        );
        let security = Command::new("systemd-analyze")
            .args([
                "security",
                "--offline=true",
                "--no-pager",
                "--threshold",
                exposure,
            ])
            .arg(&here)
            .output()
            .unwrap();
        assert!(security.status.success(), "{unit}: {security:?}");
    }
}
