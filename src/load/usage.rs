//! What processes use, from /proc.

use std::fs;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::load::plan::LoadError;
use crate::load::report::Memory;
use crate::load::wire::failed;

/// Most processes of one server.
const PROCESSES_MAX: usize = 256;

/// These processes and their children.
pub fn tree_of(roots: &[u32]) -> Vec<u32> {
    let mut tree = roots.to_vec();
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        for task in tasks(pid) {
            let children = read(&format!("{task}/children"));
            let children = children.split_ascii_whitespace().filter_map(|it| it.parse().ok());
            tree.extend(children.collect::<Vec<u32>>());
        }
        next += 1;
        tree.truncate(PROCESSES_MAX);
    }
    tree
}

/// CPU time of all their threads that live, to the nanosecond.
pub fn cpu_of(pids: &[u32]) -> Duration {
    let nanos = pids.iter().flat_map(|&pid| tasks(pid)).filter_map(|task| {
        let text = read(&format!("{task}/schedstat"));
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Their memory.
pub fn memory_of(pids: &[u32]) -> Memory {
    let mut memory = Memory::default();
    for pid in pids {
        let text = read(&format!("/proc/{pid}/smaps_rollup"));
        let kib = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
            value.unwrap_or(0_u64)
        };
        memory.rss += kib("Rss:") * 1024;
        memory.pss += kib("Pss:") * 1024;
    }
    memory
}

/// Keeps the calling thread, and what it starts from now on, on one core.
pub fn pin_to_core(core: usize) -> Result<(), LoadError> {
    let mut set = CpuSet::new();
    set.set(core).map_err(failed("there is no such core"))?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(failed("cannot be kept on this core"))
}

fn tasks(pid: u32) -> Vec<String> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    entries.map(|entry| format!("{directory}/{}", entry.file_name().to_string_lossy())).collect()
}

/// A process may end at any time: then there is nothing to read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Clock;

    #[test]
    fn a_process_sees_its_own_work_and_memory() {
        let me = [std::process::id()];
        let (before, until) = (cpu_of(&me), Clock.uptime() + Duration::from_millis(60));
        while Clock.uptime() < until {
            std::hint::spin_loop();
        }
        assert!(cpu_of(&me) > before);
        let memory = memory_of(&me);
        assert!(memory.rss >= memory.pss && memory.pss > 100_000, "{memory:?}");
        assert!(tree_of(&me).contains(&me[0]));
    }

    #[test]
    fn nobody_uses_nothing() {
        // Process ids end at 2^22.
        let nobody = [u32::MAX];
        assert_eq!(cpu_of(&nobody), Duration::ZERO);
        assert_eq!(memory_of(&nobody).pss, 0);
        assert_eq!(tree_of(&nobody), nobody);
    }
}
