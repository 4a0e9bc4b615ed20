//! What the machine and the cgroup allow, where the file does not say: workers, memory, descriptors.
//!
//! Workers are the CPU quota rounded up; without a quota, at most four. Memory is the cgroup's limit; without one, none.

use std::{fs, num::NonZero, path::Path, thread::available_parallelism};

/// Workers to use when there is no quota, at most.
const WITHOUT_QUOTA: usize = 4;

/// What this process may use.
pub(crate) fn host() -> proxy::Host {
    proxy::Host {
        workers: workers(),
        memory_limit: memory_limit(),
        descriptors: sys::descriptors::raise(),
        resident: sys::memory::resident,
        release_memory: sys::memory::release,
    }
}

/// The cgroup's memory limit in bytes: v2, then v1. A container sees its own cgroup at the root of the file system; a process
/// outside of one finds its own by name.
fn memory_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let own = |controller: &str| path_of(&groups, controller).unwrap_or_default();
    [
        format!("/sys/fs/cgroup{}/memory.max", own("")),
        "/sys/fs/cgroup/memory.max".to_owned(),
        format!("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", own("memory")),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ]
    .iter()
    .find_map(|path| memory(&read(path)?))
}

/// The path of this process in the hierarchy of a controller, from `/proc/self/cgroup` (cgroups(7)); v2 has no name.
fn path_of(groups: &str, controller: &str) -> Option<String> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        (controllers.split(',').any(|name| name == controller) && path != "/").then(|| path.to_owned())
    })
}

/// Bytes; `max`, or v1's largest number of whole pages, for no limit.
fn memory(text: &str) -> Option<u64> {
    const UNLIMITED: u64 = 1 << 60;
    text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED)
}

/// The default number of workers on this machine.
fn workers() -> usize {
    let cpus = available_parallelism().map_or(1, NonZero::get);
    // cgroup v2, then v1, as a container sees its own.
    let quota = read("/sys/fs/cgroup/cpu.max").and_then(|text| v2(&text)).or_else(|| {
        let quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        let period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
        v1(&quota, &period)
    });
    choose(quota, cpus)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(path)).ok()
}

fn choose(quota: Option<usize>, cpus: usize) -> usize {
    match quota {
        Some(quota) => quota.clamp(1, cpus.max(1)),
        None => cpus.clamp(1, WITHOUT_QUOTA),
    }
}

/// `150000 100000`, or `max 100000` for no quota.
fn v2(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    v1(quota, period)
}

/// Quota and period in microseconds; -1 or `max` for no quota.
fn v1(quota: &str, period: &str) -> Option<usize> {
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok()?;
    if period == 0 {
        return None;
    }
    usize::try_from(quota.div_ceil(period)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(v2("150000 100000\n"), Some(2));
        assert_eq!(v2("50000 100000"), Some(1));
        assert_eq!(v2("max 100000"), None);
        assert_eq!(v1("-1", "100000"), None);
        assert_eq!(v1("100000", "0"), None);
    }

    #[test]
    fn the_own_cgroup_is_found_by_name() {
        let groups = "12:memory:/pods/a\n3:cpu,cpuacct:/\n0::/user.slice\n";
        assert_eq!(path_of(groups, "memory").as_deref(), Some("/pods/a"));
        assert_eq!(path_of(groups, "cpuacct"), None);
        assert_eq!(path_of(groups, "").as_deref(), Some("/user.slice"));
    }

    #[test]
    fn no_memory_limit_is_no_limit() {
        assert_eq!(memory("67108864\n"), Some(67_108_864));
        assert_eq!(memory("max\n"), None);
        assert_eq!(memory("9223372036854771712\n"), None);
    }

    #[test]
    fn without_a_quota_there_are_at_most_four() {
        assert_eq!(choose(None, 64), 4);
        assert_eq!(choose(None, 2), 2);
        assert_eq!(choose(Some(8), 2), 2);
        assert_eq!(choose(Some(1), 64), 1);
    }
}
