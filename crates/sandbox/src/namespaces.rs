//! Namespaces, when they can be had: they add to the floor and are never relied on.
//!
//! Recent distributions refuse user namespaces to ordinary users and containers forbid `unshare`.
//! Whatever is refused is left out, and [`Layers`](crate::Layers) says so.

use std::{fs, io, path::Path};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

use crate::identity::{Identity, prctl};

/// What [`enter`] achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// No namespace; root has been left.
    Nothing,
    /// All of them, with the rights over them that a user namespace gives; root has been left.
    WithUser,
    /// All but the user namespace, as root; root still has to be left.
    AsRoot,
}

/// Enters new user, mount, network, IPC, host name and (for children) process namespaces.
///
/// Root first tries it as `nobody`, inside a user namespace. If that is refused, or if a capability
/// has to be kept (which a user namespace would end), the namespaces are made by root itself.
pub(crate) fn enter(identity: Identity) -> io::Result<Entered> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !identity.keeps_capability() {
        identity.assume()?;
        let (uid, gid) = (geteuid(), getegid());
        if unshare(CloneFlags::CLONE_NEWUSER | namespaces).is_ok() {
            // Changing the user made the files in /proc/self root's.
            prctl(libc::PR_SET_DUMPABLE, 1)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
            identity.settle()?;
            return Ok(Entered::WithUser);
        }
        identity.restore()?;
    }
    if identity.drops_root() && unshare(namespaces).is_ok() {
        return Ok(Entered::AsRoot);
    }
    identity.settle()?;
    Ok(Entered::Nothing)
}

/// What [`arrange_mounts`] achieved.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mounts {
    pub(crate) private_proc: bool,
    pub(crate) read_only_view: bool,
}

/// Rearranges the mounts, in a process of the new process namespace: a `/proc` that shows only
/// this namespace, and everything read-only but a writable work directory. With `names_threads` the
/// names of threads in `/proc` can be written as well; Landlock keeps that to the program's own.
pub(crate) fn arrange_mounts(writable: Option<&Path>, names_threads: bool) -> Mounts {
    let mut mounts = Mounts::default();
    let none = None::<&str>;
    // Without this, what follows would show outside.
    if mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).is_err() {
        return mounts;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mounts.private_proc = mount(Some("proc"), "/proc", Some("proc"), flags, none).is_ok();
    mounts.read_only_view = make_read_only(writable, names_threads).is_ok();
    mounts
}

/// The work directory becomes a mount of its own first and is then spared.
fn make_read_only(writable: Option<&Path>, names_threads: bool) -> io::Result<()> {
    if let Some(path) = writable {
        mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    set_read_only(Path::new("/"), true)?;
    if names_threads {
        set_read_only(Path::new("/proc"), false)?;
    }
    writable.map_or(Ok(()), |path| set_read_only(path, false))
}

/// `mount_setattr` (kernel 5.12) on the mount at `path` and, to set, on all below.
fn set_read_only(path: &Path, read_only: bool) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READ_ONLY: u64 = 1;
    let attributes = match read_only {
        true => Attributes { set: READ_ONLY, ..Attributes::default() },
        false => Attributes { clear: READ_ONLY, ..Attributes::default() },
    };
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = if read_only { AT_RECURSIVE } else { 0 };
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: `path` is a C string and `attributes` is laid out as in linux/mount.h; both outlive
    // the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
