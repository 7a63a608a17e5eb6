// SPDX-License-Identifier: Apache-2.0 OR MIT
//! eco on other kernels than the one that runs: each is booted in a virtual machine whose only
//! program is a script of ours.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic names the line that failed"
)]

mod archive;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use archive::Archive;

/// A boot under emulation takes ten seconds; one that hangs is ended here.
const AT_MOST: Duration = Duration::from_secs(240);

/// What the machine does: counts a shell loop with an agent, and holds it against the kernel's
/// own count.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /sys/fs/cgroup /var/lib/eco /run /tmp; mount -t cgroup2 cgroup /sys/fs/cgroup
eco-agent > /tmp/log 2>&1 &
i=0; while [ ! -S /run/eco/agent.sock ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
eco run --measure agent --json /tmp/run.json -- sh -c '
  i=0; while [ $i -lt 200 ]; do /bin/busybox true; i=$((i+1)); done
  echo "KERNEL $(head -1 /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/cpu.stat)"'
echo "CPU $(grep -o '"cpu_seconds": [0-9.]*' /tmp/run.json | head -1)"
echo "PROCESSES $(grep -o '"processes": [0-9]*' /tmp/run.json)"
echo "TIER $(grep -o '"tier": "[a-z]*"' /tmp/run.json)"
echo "JOULES $(grep -o '"total": [0-9.]*' /tmp/run.json)"
cat /tmp/log
echo THE-END
poweroff -f
"#;

#[test]
fn linux_6_1_is_counted_exactly() {
    counts_exactly("6.1");
}

#[test]
fn linux_6_12_is_counted_exactly() {
    counts_exactly("6.12");
}

fn counts_exactly(series: &str) {
    let machine = match Machine::find(series) {
        Ok(machine) => machine,
        Err(missing) => {
            skip(&missing);
            return;
        }
    };
    let said = machine.boot();
    let number = |key: &str| {
        let line = said.lines().find(|line| line.starts_with(key));
        let line = line.unwrap_or_else(|| panic!("no {key} in:\n{said}"));
        let digits = line
            .rsplit(|c: char| !(c.is_ascii_digit() || c == '.'))
            .next();
        digits
            .and_then(|d| d.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{line}\n{said}"))
    };
    assert!(
        said.contains(r#"TIER "tier": "iter""#),
        "BPF was refused:\n{said}"
    );
    let (counted, kernel) = (number("CPU"), number("KERNEL") / 1e6);
    // The shell's own end comes after it has printed the kernel's count.
    assert!(
        counted >= kernel * 0.999 && counted < kernel * 1.1 + 0.1,
        "{counted} s, {kernel} s"
    );
    let processes = number("PROCESSES");
    assert!(
        (201.0..=210.0).contains(&processes),
        "{processes} processes:\n{said}"
    );
    assert!(number("JOULES") > 0.0);
}

/// A kernel, and all that goes into its machine.
struct Machine {
    kernel: PathBuf,
    emulator: PathBuf,
    busybox: PathBuf,
    programs: [PathBuf; 2],
}

impl Machine {
    fn find(series: &str) -> Result<Self, String> {
        let kernel = tools().join("kernels").join(series).join("vmlinuz");
        let missing = |what: &str| format!("no {what}; `cargo xtask kernels` brings it");
        if !kernel.is_file() {
            return Err(missing(&format!("Linux {series}")));
        }
        let emulator = which("qemu-system-x86_64").ok_or_else(|| missing("emulator"))?;
        let busybox = which("busybox").ok_or_else(|| missing("busybox"))?;
        let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release");
        let folder = env::var_os("ECO_BIN_DIR").map_or(release, PathBuf::from);
        let programs = ["eco", "eco-agent"].map(|name| folder.join(name));
        if let Some(absent) = programs.iter().find(|program| !program.is_file()) {
            return Err(format!(
                "no {}; `cargo xtask build` makes it",
                absent.display()
            ));
        }
        Ok(Self {
            kernel,
            emulator,
            busybox,
            programs,
        })
    }

    /// Boots, and gives what the machine wrote to its console.
    fn boot(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("initrd");
        fs::write(&disk, self.disk()).unwrap();
        let console = folder.path().join("console");
        let mut machine = Command::new(&self.emulator)
            // A kernel patches its own code while it boots; an emulator of several threads may run
            // the half of it (an int3 that nobody put there).
            .args(["-accel", "tcg,thread=single"])
            .args([
                "-m",
                "512",
                "-smp",
                "2",
                "-display",
                "none",
                "-no-reboot",
                "-nic",
                "none",
            ])
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&disk)
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while machine.try_wait().unwrap().is_none() && begun.elapsed() < AT_MOST {
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = machine.kill();
        let _ = machine.wait();
        let said = fs::read(&console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).replace('\r', "");
        assert!(
            said.contains("THE-END"),
            "the machine did not come to its end:\n{said}"
        );
        said
    }

    fn disk(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("init", INIT.as_bytes());
        archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n");
        archive.file("bin/busybox", &fs::read(&self.busybox).unwrap());
        let mut libraries = Vec::new();
        for program in &self.programs {
            let name = program.file_name().unwrap().to_string_lossy();
            archive.file(&format!("bin/{name}"), &fs::read(program).unwrap());
            libraries.extend(libraries_of(program));
        }
        libraries.sort();
        libraries.dedup();
        for library in libraries {
            let path = library.to_string_lossy().trim_start_matches('/').to_owned();
            archive.file(&path, &fs::read(&library).unwrap());
        }
        archive.finish()
    }
}

/// The shared libraries of a program, by the paths under which it looks for them.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect()
}

/// xtask's tool folder, by the same rule.
fn tools() -> PathBuf {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    variable("ECO_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
        let home = || PathBuf::from(variable("HOME").unwrap_or_default()).join(".cache");
        variable("XDG_CACHE_HOME")
            .map_or_else(home, PathBuf::from)
            .join("eco/tools")
    })
}

fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[expect(clippy::print_stdout, reason = "a skipped test says so on its output")]
fn skip(why: &str) {
    println!("skipped: {why}");
}
