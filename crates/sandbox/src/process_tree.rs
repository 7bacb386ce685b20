//! Looking at process trees through `/proc`: who descends from whom, and what they use.

use std::{collections::HashMap, fs, sync::OnceLock, time::Duration};

/// What a process tree uses at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident memory. Pages shared by several processes count for each.
    pub(crate) rss_bytes: u64,
    /// User and system time, of ended and awaited children too.
    pub(crate) cpu: Duration,
}

/// The resident memory of one process; 0 once it has ended.
///
/// `statm` sums the kernel's counters over all cores. `stat` shows only what has been carried over
/// to the shared one, up to 32 pages less for each core, which is nothing for a small process.
pub(crate) fn resident_bytes(pid: i32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * units().page_bytes
}

/// The usage of `root`'s descendants; of `root` itself only the time of its ended children, since
/// `root` is our own init.
pub(crate) fn usage(root: i32) -> Usage {
    let mut total =
        Usage { rss_bytes: 0, cpu: Stat::read(root).map_or(Duration::ZERO, |stat| stat.children) };
    for pid in descendants(root) {
        total.rss_bytes += resident_bytes(pid);
        total.cpu += Stat::read(pid).map_or(Duration::ZERO, |stat| stat.own + stat.children);
    }
    total
}

/// All descendants of `root`, parents before children.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    let by_parent = (!kernel_lists_children()).then(children_by_parent);
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let children = match &by_parent {
            None => listed_children(pid),
            Some(map) => map.get(&pid).cloned().unwrap_or_default(),
        };
        found.extend(&children);
        next.extend(children);
    }
    found
}

/// `children` files need CONFIG_PROC_CHILDREN, which distributions set but a home-made kernel may
/// not.
fn kernel_lists_children() -> bool {
    static LISTS: OnceLock<bool> = OnceLock::new();
    *LISTS.get_or_init(|| {
        let pid = std::process::id();
        fs::exists(format!("/proc/{pid}/task/{pid}/children")).unwrap_or(false)
    })
}

/// Children hang on the thread that made them, so every thread is asked.
fn listed_children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<i32>>())
        .collect()
}

fn children_by_parent() -> HashMap<i32, Vec<i32>> {
    let mut map: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in processes() {
        if let Some(stat) = Stat::read(pid) {
            map.entry(stat.parent).or_default().push(pid);
        }
    }
    map
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/PID/stat` that matter here (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    parent: i32,
    own: Duration,
    children: Duration,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, units())
    }

    /// The second field is the program's name in parentheses and may hold anything, parentheses
    /// too; what follows the last one is safe to split.
    fn parse(line: &str, units: &Units) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        // `fields[0]` is the field that proc(5) numbers 3.
        let number = |n: usize| fields.get(n - 3)?.parse::<i64>().ok();
        let ticks = |n| {
            let ticks = u64::try_from(number(n)?).ok()?;
            Some(Duration::from_nanos(ticks * 1_000_000_000 / units.ticks_per_second))
        };
        Some(Self {
            parent: i32::try_from(number(4)?).ok()?,
            own: ticks(14)? + ticks(15)?,
            children: ticks(16)? + ticks(17)?,
        })
    }
}

struct Units {
    page_bytes: u64,
    ticks_per_second: u64,
}

fn units() -> &'static Units {
    static UNITS: OnceLock<Units> = OnceLock::new();
    UNITS.get_or_init(|| {
        // SAFETY: `sysconf` only reads.
        let get = |name| u64::try_from(unsafe { libc::sysconf(name) }).ok();
        Units {
            page_bytes: get(libc::_SC_PAGESIZE).unwrap_or(4096),
            ticks_per_second: get(libc::_SC_CLK_TCK).filter(|&n| n > 0).unwrap_or(100),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        process::{Child, Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let line = "7 (a) R 1 (b) S 42 7 7 0 -1 0 0 0 0 0 150 50 10 5 20 0 1 0 99 4096 3 0 0";
        let units = Units { page_bytes: 4096, ticks_per_second: 100 };
        let expected =
            Stat { parent: 42, own: Duration::from_secs(2), children: Duration::from_millis(150) };
        assert_eq!(Stat::parse(line, &units), Some(expected));
        assert_eq!(Stat::parse("7 (a) S", &units), None);
    }

    #[test]
    fn both_ways_of_finding_children_agree() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (me, pid) = (std::process::id().cast_signed(), child.id().cast_signed());
        assert!(children_by_parent()[&me].contains(&pid));
        assert!(descendants(me).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(me).contains(&pid));
    }

    #[test]
    fn the_memory_of_small_processes_is_counted_in_full() {
        let mut children: Vec<_> = (0..32).map(|_| echo_that_waits()).collect();
        let each: Vec<u64> =
            children.iter().map(|child| resident_bytes(child.id().cast_signed())).collect();
        let together = usage(std::process::id().cast_signed()).rss_bytes;
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(each.iter().all(|&bytes| bytes > 0), "{each:?}");
        assert!(together >= each.iter().sum(), "{together} of {each:?}");
    }

    /// A process that is up, has answered once and uses no more memory from now on.
    fn echo_that_waits() -> Child {
        let mut cat =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        cat
    }
}
