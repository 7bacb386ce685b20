//! Who the program runs as: the caller, or `nobody` when root is the caller.
//!
//! Root is exempt from `RLIMIT_NPROC` and owns too much. As `nobody` a program cannot pass folders
//! closed to others, such as `/root`, where toolchains of root live; for a granted path below one
//! of these a single capability to read is kept. What can be opened then is still Landlock's
//! decision, but the program can `stat` in closed folders.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::Path,
};

use nix::unistd::{Gid, Uid, getuid, setgroups, setresgid, setresuid};

use crate::{Policy, error::Failure};

/// The customary user and group number of `nobody`.
const NOBODY: u32 = 65534;

/// Capabilities do not depend on the user number (capabilities(7)).
const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SETPCAP: u32 = 8;

/// How root is to be left; decided before anything else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Not root: stay who we are.
    Caller,
    /// Become `nobody`, keeping the given capability.
    Nobody { keep: Option<u32> },
}

impl Identity {
    /// Looks at who calls and what has to be reachable, and hands the work directory over.
    pub(crate) fn prepare(policy: &Policy, program: Option<&Path>) -> Result<Self, Failure> {
        if !getuid().is_root() || policy.unsafe_no_sandbox {
            return Ok(Self::Caller);
        }
        if policy.work_dir_writable {
            hand_over(&policy.work_dir).map_err(|error| {
                Failure::setup(&format!("cannot own `{}`", policy.work_dir.display()), error)
            })?;
        }
        let paths = policy.readable().chain([&policy.work_dir]).map(|path| path.as_path());
        match paths.chain(program).find(|path| !reachable_by_others(path)) {
            None => Ok(Self::Nobody { keep: None }),
            Some(path) => match capability_to_read() {
                Some(capability) => Ok(Self::Nobody { keep: Some(capability) }),
                None => Err(Failure::Setup(format!(
                    "`nobody` cannot reach `{}`, and root may not hand on the right to\n\
                     hint: run as an ordinary user, or make the folders above it passable (chmod o+x)",
                    path.display()
                ))),
            },
        }
    }

    pub(crate) fn drops_root(self) -> bool {
        self != Self::Caller
    }

    pub(crate) fn keeps_capability(self) -> bool {
        matches!(self, Self::Nobody { keep: Some(_) })
    }

    /// Takes `nobody`'s groups and effective user, but can still go back with [`Self::restore`].
    pub(crate) fn assume(self) -> io::Result<()> {
        if self.drops_root() {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            setgroups(&[])?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, Uid::from_raw(0))?;
        }
        Ok(())
    }

    /// Undoes [`Self::assume`] as far as the user goes; capabilities come back with it.
    pub(crate) fn restore(self) -> io::Result<()> {
        if self.drops_root() {
            let root = Uid::from_raw(0);
            setresuid(root, root, root)?;
        }
        Ok(())
    }

    /// Leaves root for good.
    pub(crate) fn settle(self) -> io::Result<()> {
        let Self::Nobody { keep } = self else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        if Uid::effective().is_root() {
            setgroups(&[])?;
            setresgid(gid, gid, gid)?;
        }
        if keep.is_some() {
            // Else `setresuid` would drop it, and `access` (which linkers use) would not honour it.
            prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)?;
        }
        setresuid(uid, uid, uid)?;
        keep.map_or(Ok(()), keep_only)
    }
}

/// Gives a directory of root's to `nobody`. Not through symbolic links, and not what belongs to
/// somebody else.
fn hand_over(work_dir: &Path) -> io::Result<()> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = fs::OpenOptions::new().read(true).custom_flags(flags).open(work_dir)?;
    if directory.metadata()?.uid() == 0 {
        fchown(&directory, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// Whether others may pass every folder above `path` and read what lies there.
fn reachable_by_others(path: &Path) -> bool {
    let mode_of = |path: &Path| fs::metadata(path).map(|data| (data.mode(), data.uid()));
    let Ok(real) = path.canonicalize() else { return true }; // A missing path fails elsewhere.
    let folders = real.ancestors().skip(1).chain(path.ancestors().skip(1));
    let passable =
        |(mode, uid): (u32, u32)| mode & 0o001 != 0 || uid == NOBODY && mode & 0o100 != 0;
    let readable =
        |(mode, uid): (u32, u32)| mode & 0o004 != 0 || uid == NOBODY && mode & 0o400 != 0;
    folders.into_iter().all(|folder| mode_of(folder).is_ok_and(passable))
        && mode_of(&real).is_ok_and(|data| readable(data) && (!real.is_dir() || passable(data)))
}

/// The smallest capability that lets `nobody` read everywhere and that this root may keep.
///
/// Containers commonly grant CAP_DAC_OVERRIDE only. It also lets write, so it is taken only where
/// Landlock judges every way of writing (truncation since version 3).
fn capability_to_read() -> Option<u32> {
    let held = |capability: u32| {
        // SAFETY: reads one bit of the bounding set.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability)) == 1 }
    };
    let override_is_safe = crate::landlock_rules::kernel_abi().is_ok_and(|abi| abi >= 3);
    let candidates = [(CAP_DAC_READ_SEARCH, true), (CAP_DAC_OVERRIDE, override_is_safe)];
    let found = candidates.into_iter().find(|&(capability, safe)| safe && held(capability));
    found.map(|(capability, _)| capability).filter(|_| held(CAP_SETPCAP))
}

/// Drops all capabilities but one, and has that one survive `execve`.
fn keep_only(capability: u32) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let bit = 1 << capability;
    let data = [
        Data { effective: bit, permitted: bit, inheritable: bit },
        Data { effective: 0, permitted: 0, inheritable: 0 },
    ];
    // SAFETY: version 3 of the call reads one header and two data records, laid out as in
    // linux/capability.h.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    const PR_CAP_AMBIENT: i32 = 47;
    const PR_CAP_AMBIENT_RAISE: libc::c_ulong = 2;
    // SAFETY: numbers only.
    let raised = unsafe {
        libc::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(capability), 0, 0)
    };
    if raised == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `prctl` with one number as argument.
pub(crate) fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: every option used here takes numbers, no pointers.
    if unsafe { libc::prctl(option, value, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
