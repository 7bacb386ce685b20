//! Cores for the slots: each slot measures on its own, one or as many as the environment uses at
//! the same time, and runs on the same machine keep out of each other's way.
//!
//! A run marks the cores it measures on by advisory locks on one file per core, in a folder that
//! the user's runs share. The operating system gives a lock back when its process ends, in
//! whatever way, so nothing is left behind by a crash. All of it is a courtesy among runs of one
//! user: a folder that cannot be used means no more than that runs do not know of each other.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::{Pid, Uid},
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Longest name of a lock's holder that is read: a process and a path.
const HOLDER_BYTES: u64 = 4096;
/// How long a run waits, ten milliseconds at a time, for another one that is choosing its cores.
const CHOICE_WAITS: u32 = 100;

/// The cores of a run, marked as taken for as long as this value lives.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// The cores of each slot; none where the machine does not say which cores there are.
    pub(super) slots: Vec<Vec<usize>>,
    /// What the operator should know about them.
    pub(super) warning: Option<String>,
    /// Where checks and compilations go: cores that nobody measures on, or else our own. Empty
    /// means anywhere.
    rest: Vec<usize>,
    /// All that this process could use when it began.
    allowed: Vec<usize>,
    locks: Vec<File>,
}

impl Cores {
    /// Chooses a core for each of `n_slots` and moves this process and everything it starts
    /// (checks, compilations) to the cores that remain, when any do. `run` is what other runs
    /// are told about who measures there.
    pub(super) fn claim(n_slots: usize, locks: Option<&Path>, run: &Path) -> Self {
        let cores = Self::choose(&allowed(), (n_slots, 1), locks, run);
        cores.leave_to_measurements(Pid::from_raw(0));
        cores
    }

    /// Chooses anew once the environment has said that an evaluation uses `per_slot` cores, and
    /// moves the threads and workers there are.
    pub(super) fn widen(&mut self, per_slot: usize, locks: Option<&Path>, run: &Path) {
        if per_slot < 2 {
            return;
        }
        // Our own marks would be in the way.
        self.locks.clear();
        *self = Self::choose(&self.allowed, (self.slots.len(), per_slot), locks, run);
        for thread in threads_below(Pid::this()) {
            self.leave_to_measurements(thread);
        }
    }

    /// Moves a thread, and what it will start, to the cores that remain, or to all
    /// when none does.
    fn leave_to_measurements(&self, thread: Pid) {
        let mut set = CpuSet::new();
        let cores = if self.rest.is_empty() { &self.allowed } else { &self.rest };
        if !cores.is_empty() && cores.iter().all(|core| set.set(*core).is_ok()) {
            // Only a convenience: without it checks and measurements share cores.
            let _ = sched_setaffinity(thread, &set);
        }
    }

    /// Chooses among `cores`, so many for each slot: free ones first, and of those the last ones.
    fn choose(
        cores: &[usize],
        (n_slots, per_slot): (usize, usize),
        locks: Option<&Path>,
        run: &Path,
    ) -> Self {
        if cores.is_empty() {
            return Self { slots: vec![Vec::new(); n_slots], ..Self::default() };
        }
        let board = locks.and_then(|folder| match Board::open(folder, run) {
            Ok(board) => Some(board),
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "cores cannot be marked");
                None
            }
        });
        let turn = board.as_ref().and_then(Board::wait_for_turn);
        let (mut free, mut taken) = (Vec::new(), Vec::new());
        for &core in cores.iter().rev() {
            match board.as_ref().map(|board| board.take(core)) {
                Some(Mark::Taken(holder)) => taken.push((core, holder)),
                Some(Mark::Ours(lock)) => free.push((core, Some(lock))),
                Some(Mark::None) | None => free.push((core, None)),
            }
        }
        let n_measured = (n_slots * per_slot).min(cores.len());
        let unused = free.split_off(n_measured.min(free.len()));
        taken.truncate(n_measured - free.len());
        let mut own: Vec<usize> = free.iter().map(|(core, _)| *core).collect();
        let mut rest: Vec<usize> = unused.into_iter().map(|(core, _)| core).collect();
        if rest.is_empty() && n_measured < cores.len() {
            // What others measure on is left alone, at the cost of our own measurements.
            rest.clone_from(&own);
        }
        drop(turn);
        own.extend(taken.iter().map(|(core, _)| *core));
        own.sort_unstable();
        let warning = if !taken.is_empty() {
            Some(shared(n_slots, &taken))
        } else if per_slot > 1 {
            crowded((n_slots, per_slot), own.len(), rest.len())
        } else {
            None
        };
        let of_slot = |slot: usize| {
            let places = slot * per_slot..(slot + 1) * per_slot;
            places.take(own.len()).map(|place| own[place % own.len()]).collect()
        };
        Self {
            slots: (0..n_slots).map(of_slot).collect(),
            warning,
            rest,
            allowed: cores.to_vec(),
            locks: free.into_iter().filter_map(|(_, lock)| lock).collect(),
        }
    }
}

/// The threads of a process and of all that descend from it, where the system lists children.
fn threads_below(process: Pid) -> Vec<Pid> {
    let mut threads = Vec::new();
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for entry in entries {
        threads
            .extend(entry.file_name().to_str().and_then(|id| id.parse().ok()).map(Pid::from_raw));
        let children = fs::read_to_string(entry.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        threads.extend(children.flat_map(|id| threads_below(Pid::from_raw(id))));
    }
    threads
}

/// The cores this process may use.
fn allowed() -> Vec<usize> {
    let this = Pid::from_raw(0);
    let set = sched_getaffinity(this).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

fn shared(n_slots: usize, taken: &[(usize, String)]) -> String {
    let list: Vec<_> = taken.iter().map(|(core, by)| format!("core {core} with {by}")).collect();
    let slots = if n_slots == 1 { "1 slot".to_owned() } else { format!("{n_slots} slots") };
    format!(
        "too few free cores for {slots}: sharing {}; measurements there disturb each other, let \
         one run end first or lower `run.slots`",
        list.join(" and ")
    )
}

/// What is wrong with the cores of slots that need several, when something is: those clocks are wall
/// clocks, which count what others do on a core.
fn crowded((n_slots, per_slot): (usize, usize), n_own: usize, n_rest: usize) -> Option<String> {
    if n_own < n_slots * per_slot {
        let most = (n_own / per_slot).max(1);
        return Some(format!(
            "every slot measures on {per_slot} cores at the same time, and there are {n_own} for \
             {n_slots} slots: measurements there disturb each other, set `run.slots` to {most}"
        ));
    }
    (n_rest == 0).then(|| {
        format!(
            "every slot measures on {per_slot} cores by the wall clock, and no core is left for \
             checks and compilations: they lengthen what is measured meanwhile; use fewer slots or \
             a machine with more cores"
        )
    })
}

/// What became of an attempt to mark a core.
enum Mark {
    Ours(File),
    /// By whom.
    Taken(String),
    /// The mark cannot be made.
    None,
}

/// The folder with the locks.
struct Board {
    folder: PathBuf,
    /// What is written into our locks.
    holder: String,
}

impl Board {
    /// Uses the folder, which is made when it is not there. In a place that everybody can write,
    /// somebody else may have made it first; then it is left alone.
    fn open(folder: &Path, run: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let data = fs::symlink_metadata(folder)?;
        if !data.is_dir() || data.uid() != Uid::effective().as_raw() || data.mode() & 0o022 != 0 {
            return Err(io::Error::other("somebody else can write there"));
        }
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let holder = format!("pid {}, {}", std::process::id(), run.display());
        Ok(Self { folder: folder.to_owned(), holder })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.folder.join(name))
    }

    /// A choice looks at every core and locks it for a moment: two at the same time would see each
    /// other's hands instead of free cores. A run that is stopped in the middle of its choice must
    /// not stop others, so nobody waits for long.
    fn wait_for_turn(&self) -> Option<File> {
        let file = self.file("choice.lock").ok()?;
        for _ in 0..CHOICE_WAITS {
            match file.try_lock() {
                Ok(()) => return Some(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }

    fn take(&self, core: usize) -> Mark {
        let Ok(mut file) = self.file(&format!("core-{core}.lock")) else { return Mark::None };
        match file.try_lock() {
            Ok(()) => {
                // For people only: a name that cannot be written changes nothing.
                let _ = file.set_len(0).and_then(|()| file.write_all(self.holder.as_bytes()));
                Mark::Ours(file)
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = file.take(HOLDER_BYTES).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.is_empty();
                Mark::Taken(if known {
                    format!("another run ({holder})")
                } else {
                    "another run".to_owned()
                })
            }
            Err(TryLockError::Error(_)) => Mark::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn claim(folder: &Path, n_slots: usize, run: &str) -> Cores {
        wide(folder, (n_slots, 1), run)
    }

    fn wide(folder: &Path, slots: (usize, usize), run: &str) -> Cores {
        Cores::choose(&[2, 3, 4, 5], slots, Some(&folder.join("locks")), Path::new(run))
    }

    fn slots(cores: &Cores) -> Vec<usize> {
        assert!(cores.slots.iter().all(|slot| slot.len() == 1));
        cores.slots.concat()
    }

    #[test]
    fn runs_take_free_cores_first_and_say_when_they_share() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = claim(folder.path(), 1, "/runs/first");
        assert_eq!((slots(&first), &first.rest), (vec![5], &vec![4, 3, 2]));
        let second = claim(folder.path(), 2, "/runs/second");
        assert_eq!((slots(&second), &second.rest), (vec![3, 4], &vec![2]));
        assert_eq!((&first.warning, &second.warning), (&None, &None));
        let third = claim(folder.path(), 2, "/runs/third");
        assert_eq!((slots(&third), &third.rest), (vec![2, 5], &vec![2]));
        let warning = third.warning.as_deref().expect("a core is shared");
        let pid = std::process::id();
        let expected = format!(
            "too few free cores for 2 slots: sharing core 5 with another run (pid {pid}, \
             /runs/first); measurements there"
        );
        assert!(warning.starts_with(&expected), "{warning}");
        // A run that is over, however it ended, leaves its cores behind.
        drop((first, third));
        let fourth = claim(folder.path(), 1, "/runs/fourth");
        assert_eq!((slots(&fourth), &fourth.warning), (vec![5], &None));
    }

    #[test]
    fn more_slots_than_cores_take_turns_without_a_word_about_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cores = claim(folder.path(), 6, "run");
        assert_eq!(slots(&cores), [2, 3, 4, 5, 2, 3]);
        assert_eq!((&cores.warning, &cores.rest), (&None, &Vec::new()));
        let nowhere = Cores::choose(&[], (2, 2), None, Path::new("run"));
        assert_eq!(nowhere.slots, [[0; 0]; 2]);
    }

    #[test]
    fn slots_that_need_several_cores_get_them_or_a_warning() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let one = wide(folder.path(), (1, 2), "/runs/one");
        assert_eq!((&one.slots, &one.rest, &one.warning), (&vec![vec![4, 5]], &vec![3, 2], &None));
        // Another run shares with nobody, and its checks stay away from others' cores.
        let other = wide(folder.path(), (1, 2), "/runs/other");
        assert_eq!((&other.slots, &other.rest), (&vec![vec![2, 3]], &vec![3, 2]));
        drop((one, other));
        let check = |n_slots: usize, slots: &[&[usize]], expected: &str| {
            let cores = wide(folder.path(), (n_slots, 2), "run");
            assert_eq!(cores.slots, slots);
            let warning = cores.warning.unwrap_or_default();
            assert!(warning.contains(expected), "{warning}");
        };
        check(2, &[&[2, 3], &[4, 5]], "no core is left for checks");
        check(3, &[&[2, 3], &[4, 5], &[2, 3]], "there are 4 for 3 slots");
        check(3, &[&[2, 3], &[4, 5], &[2, 3]], "set `run.slots` to 2");
        let lone = Cores::choose(&[7], (1, 2), None, Path::new("run"));
        assert_eq!(lone.slots, [[7]]);
        let warning = lone.warning.expect("one core is not two");
        assert!(warning.contains("there are 1 for 1 slots"), "{warning}");
    }

    #[test]
    fn a_choice_is_made_anew_when_more_is_needed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cores = claim(folder.path(), 1, "/runs/first");
        let locks = folder.path().join("locks");
        cores.allowed = allowed();
        let n_allowed = cores.allowed.len();
        cores.widen(1, Some(&locks), Path::new("/runs/first"));
        assert_eq!(slots(&cores), [5], "what needs one core keeps it");
        cores.widen(n_allowed.max(2), Some(&locks), Path::new("/runs/first"));
        assert_eq!(cores.slots, [allowed()]);
        assert!(cores.warning.is_some(), "nothing is left");
    }

    #[test]
    fn a_folder_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("locks"), "in the way").expect("written");
        let claims = [claim(folder.path(), 1, "one"), claim(folder.path(), 1, "two")];
        assert!(claims.iter().all(|cores| slots(cores) == [5] && cores.warning.is_none()));
        fs::remove_file(folder.path().join("locks")).expect("removed");
        // Whoever can write there could make us wait, or write through a link of theirs.
        fs::create_dir(folder.path().join("locks")).expect("made");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path().join("locks"), open).expect("allowed");
        drop(claim(folder.path(), 1, "one"));
        assert_eq!(fs::read_dir(folder.path().join("locks")).expect("listed").count(), 0);
    }

    #[test]
    fn many_at_the_same_time_get_a_core_each() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let claims: Vec<Cores> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| claim(folder.path(), 1, "run"));
            let threads: Vec<_> = (0..4).map(|_| start()).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut all: Vec<usize> = claims.iter().flat_map(slots).collect();
        all.sort_unstable();
        assert_eq!(all, [2, 3, 4, 5]);
        assert!(claims.iter().all(|cores| cores.warning.is_none()));
    }

    #[test]
    fn processes_that_run_already_are_moved_as_well() {
        // A shell and its child, both of which were there before.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60; true"])
            .spawn()
            .expect("a shell");
        let shell_pid = Pid::from_raw(shell.id().cast_signed());
        let begin = std::time::Instant::now();
        while threads_below(shell_pid).len() < 2 {
            assert!(begin.elapsed() < Duration::from_secs(60), "the shell starts no child");
            std::thread::sleep(Duration::from_millis(5));
        }
        let all = allowed();
        let last = all[all.len() - 1];
        let cores = Cores { rest: vec![last], allowed: all, ..Cores::default() };
        let threads = threads_below(shell_pid);
        threads.iter().for_each(|thread| cores.leave_to_measurements(*thread));
        let may_use = |thread: &Pid| {
            let set = sched_getaffinity(*thread).expect("it still runs");
            (0..CpuSet::count()).filter(|core| set.is_set(*core) == Ok(true)).collect::<Vec<_>>()
        };
        for thread in &threads {
            assert_eq!(may_use(thread), [last], "{thread}");
        }
        for thread in &threads {
            let _ = nix::sys::signal::kill(*thread, nix::sys::signal::Signal::SIGKILL);
        }
        shell.wait().expect("it has ended");
    }
}
