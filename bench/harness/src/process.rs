//! Reads a process's memory and CPU time from the kernel, and limits its CPU.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The peak resident memory of the process, in KiB.
pub fn peak_memory_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("{path} has no VmHWM"))
}

/// The CPU time of the process's live threads, in milliseconds. `schedstat` counts nanoseconds.
pub fn cpu_ms(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut nanos = 0;
    for thread in threads.flatten() {
        let path = thread.path().join("schedstat");
        // A thread may end meanwhile.
        let Ok(stat) = fs::read_to_string(&path) else {
            continue;
        };
        let first = stat.split_whitespace().next();
        nanos += first
            .and_then(|nanos| nanos.parse::<u64>().ok())
            .ok_or_else(|| format!("{} is `{stat}`", path.display()))?;
    }
    match nanos {
        0 => Err("the kernel does not count CPU time (schedstat)".to_owned()),
        _ => Ok(nanos as f64 / 1e6),
    }
}

/// A share of one CPU in periods of 20 ms, as Lambda gives it in proportion to memory. A control group, version 1 or 2.
pub struct Quota {
    folder: PathBuf,
}

const PERIOD_US: u64 = 20_000;

impl Quota {
    pub fn new(share: f64) -> Result<Self, String> {
        let make = || -> io::Result<Self> {
            let quota_us = (PERIOD_US as f64 * share) as u64;
            let name = format!("sqs-auto-redrive-bench-{}", std::process::id());
            let v1 = Path::new("/sys/fs/cgroup/cpu");
            if v1.is_dir() {
                let folder = v1.join(name);
                fs::create_dir_all(&folder)?;
                let quota = Self { folder };
                fs::write(
                    quota.folder.join("cpu.cfs_period_us"),
                    PERIOD_US.to_string(),
                )?;
                fs::write(quota.folder.join("cpu.cfs_quota_us"), quota_us.to_string())?;
                return Ok(quota);
            }
            let v2 = Path::new("/sys/fs/cgroup");
            fs::write(v2.join("cgroup.subtree_control"), "+cpu")?;
            let folder = v2.join(name);
            fs::create_dir_all(&folder)?;
            let quota = Self { folder };
            fs::write(
                quota.folder.join("cpu.max"),
                format!("{quota_us} {PERIOD_US}"),
            )?;
            Ok(quota)
        };
        make().map_err(|error| {
            format!(
                "cannot create a control group for the CPU share of 128 MB: {error}; \
                 run as root, or leave these scenarios out with --no-cpu-share"
            )
        })
    }

    pub fn add(&self, pid: u32) -> Result<(), String> {
        let path = self.folder.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The number of periods in which the kernel throttled the group.
    pub fn throttled(&self) -> u64 {
        let stat = fs::read_to_string(self.folder.join("cpu.stat")).unwrap_or_default();
        let count = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
