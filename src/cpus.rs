//! How many workers to run when the file does not say: the cgroup's CPU quota rounded up; without a quota, at most four.

use std::{fs, num::NonZero, path::Path, thread::available_parallelism};

/// Workers to use when there is no quota, at most.
const WITHOUT_QUOTA: usize = 4;

/// The default number of workers on this machine.
pub(crate) fn workers() -> usize {
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
    fn without_a_quota_there_are_at_most_four() {
        assert_eq!(choose(None, 64), 4);
        assert_eq!(choose(None, 2), 2);
        assert_eq!(choose(Some(8), 2), 2);
        assert_eq!(choose(Some(1), 64), 1);
    }
}
