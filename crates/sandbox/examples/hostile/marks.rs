//! Places where one run could leave something for the next, or tell another that runs beside it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::probes::Attempt;

/// `leave_marks` writes wherever it can, `find_marks` says where it found something (and removes
/// it); `detail` is a file that both may read.
pub(crate) fn attempt(name: &str, detail: &str) -> Option<Attempt> {
    Some(match name {
        "leave_marks" => {
            let left: Vec<_> =
                PLACES.iter().filter(|place| (place.leave)(detail).is_ok()).map(name_of).collect();
            Ok(format!("{left:?}"))
        }
        "find_marks" => {
            let found: Vec<_> = PLACES
                .iter()
                .filter(|place| (place.find)(detail).unwrap_or(false))
                .map(name_of)
                .collect();
            if found.is_empty() {
                Err(io::Error::other("nothing was found"))
            } else {
                Ok(format!("{found:?}"))
            }
        }
        // To be compared with that of a later run: reading is granted, but it must not be seen.
        "access_time" => {
            fs::metadata(detail).map(|data| format!("{}.{:09}", data.atime(), data.atime_nsec()))
        }
        "lock_granted" => {
            fs::File::open(detail).and_then(|file| call(lock(&file))).map(|()| "locked".to_owned())
        }
        _ => return None,
    })
}

struct Place {
    name: &'static str,
    leave: fn(&str) -> io::Result<()>,
    /// Also removes it.
    find: fn(&str) -> io::Result<bool>,
}

fn name_of(place: &Place) -> &'static str {
    place.name
}

const PLACES: &[Place] = &[
    Place { name: "work directory", leave: |_| file("."), find: |_| take_file(".") },
    Place { name: "/tmp", leave: |_| file("/tmp"), find: |_| take_file("/tmp") },
    Place { name: "/var/tmp", leave: |_| file("/var/tmp"), find: |_| take_file("/var/tmp") },
    Place { name: "/dev/shm", leave: |_| file("/dev/shm"), find: |_| take_file("/dev/shm") },
    Place {
        name: "beside the file",
        leave: |path| file(parent(path)),
        find: |path| take_file(parent(path)),
    },
    Place {
        name: "content of the file",
        leave: append,
        find: |path| Ok(fs::read_to_string(path)?.ends_with(MARK)),
    },
    Place { name: "attribute of the file", leave: set_attribute, find: has_attribute },
    Place {
        name: "permissions of the file",
        leave: |path| set_mode(path, 0o640),
        find: |path| Ok(fs::metadata(path)?.mode() & 0o777 == 0o640),
    },
    Place { name: "System V memory", leave: |_| make_segment(), find: |_| take_segment() },
    Place { name: "message queue", leave: |_| make_queue(), find: |_| take_queue() },
    Place { name: "keyring", leave: |_| add_key(), find: |_| take_key() },
];

const MARK: &str = "left-by-an-earlier-run";

fn path_in(folder: impl AsRef<Path>) -> PathBuf {
    folder.as_ref().join(format!("forerunner-{MARK}"))
}

fn parent(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new("/"))
}

fn file(folder: impl AsRef<Path>) -> io::Result<()> {
    fs::write(path_in(folder), MARK)
}

fn take_file(folder: impl AsRef<Path>) -> io::Result<bool> {
    let path = path_in(folder);
    let found = path.exists();
    // Where it was only seen and cannot be removed, it was found all the same.
    let _ = fs::remove_file(path);
    Ok(found)
}

fn append(path: &str) -> io::Result<()> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(MARK.as_bytes())
}

fn set_mode(path: &str, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

fn call(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn lock(file: &fs::File) -> i64 {
    // SAFETY: the descriptor is open.
    unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(file), libc::LOCK_EX | libc::LOCK_NB) }
        .into()
}

fn c_path(path: &str) -> std::ffi::CString {
    std::ffi::CString::new(path).unwrap()
}

fn set_attribute(path: &str) -> io::Result<()> {
    let (path, value) = (c_path(path), MARK.as_bytes());
    // SAFETY: both strings and the value outlive the call.
    call(unsafe {
        let value = (value.as_ptr().cast(), value.len());
        libc::setxattr(path.as_ptr(), c"user.forerunner".as_ptr(), value.0, value.1, 0).into()
    })
}

fn has_attribute(path: &str) -> io::Result<bool> {
    let path = c_path(path);
    // SAFETY: asks for the length alone.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), c"user.forerunner".as_ptr(), std::ptr::null_mut(), 0)
    };
    Ok(length > 0)
}

/// Somewhat arbitrary, but always the same: both runs have to agree.
const SEGMENT: i32 = 0x464f_5245;

fn make_segment() -> io::Result<()> {
    // SAFETY: numbers only.
    call(unsafe { libc::shmget(SEGMENT, 4096, libc::IPC_CREAT | 0o666) }.into())
}

fn take_segment() -> io::Result<bool> {
    // SAFETY: numbers and a null pointer, which removal ignores.
    unsafe {
        let segment = libc::shmget(SEGMENT, 0, 0);
        call(segment.into())?;
        libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut());
    }
    Ok(true)
}

fn make_queue() -> io::Result<()> {
    // SAFETY: the name is constant and a null pointer asks for the usual sizes.
    call(unsafe {
        let attributes = std::ptr::null_mut::<libc::mq_attr>();
        let flags = libc::O_CREAT | libc::O_RDWR;
        libc::mq_open(c"/forerunner-mark".as_ptr(), flags, 0o666, attributes).into()
    })
}

fn take_queue() -> io::Result<bool> {
    // SAFETY: the name is constant.
    call(unsafe { libc::mq_unlink(c"/forerunner-mark".as_ptr()).into() })?;
    Ok(true)
}

/// The keyring that all processes of a user share.
const USER_KEYRING: i32 = -4;

fn add_key() -> io::Result<()> {
    // SAFETY: constant strings; the value has the length given.
    call(unsafe {
        let value = MARK.as_bytes();
        let (kind, name) = (c"user".as_ptr(), c"forerunner-mark".as_ptr());
        libc::syscall(libc::SYS_add_key, kind, name, value.as_ptr(), value.len(), USER_KEYRING)
    })
}

fn take_key() -> io::Result<bool> {
    const SEARCH: i32 = 10;
    const UNLINK: i32 = 9;
    // SAFETY: constant strings and numbers.
    unsafe {
        let (kind, name) = (c"user".as_ptr(), c"forerunner-mark".as_ptr());
        let key = libc::syscall(libc::SYS_keyctl, SEARCH, USER_KEYRING, kind, name, 0);
        call(key)?;
        libc::syscall(libc::SYS_keyctl, UNLINK, key, USER_KEYRING);
    }
    Ok(true)
}
