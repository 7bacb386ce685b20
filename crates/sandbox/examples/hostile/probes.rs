//! What must be refused: one attempt each at something outside the sandbox.

use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt, symlink},
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
    },
    process::Command,
};

/// What came of an attempt.
pub(crate) type Attempt = io::Result<String>;

/// Tries `name`; `detail` is a path or a process number where one is needed.
pub(crate) fn attempt(name: &str, detail: &str) -> Option<Attempt> {
    files(name, detail).or_else(|| network(name)).or_else(|| processes(name, detail))
}

fn files(name: &str, detail: &str) -> Option<Attempt> {
    let done = |what: &str| what.to_owned();
    Some(match name {
        "read_passwd" => fs::read_to_string("/etc/passwd"),
        "read_own_memory" => fs::File::open("/proc/self/mem").map(|_| done("opened")),
        "read_own_status" => fs::read_to_string("/proc/self/status").map(|_| done("read")),
        "read_host_command" => fs::read_to_string(format!("/proc/{detail}/cmdline")),
        "list_root" => fs::read_dir("/").map(|entries| entries.count().to_string()),
        "list_processes" => fs::read_dir("/proc").map(|entries| entries.count().to_string()),
        "open" => fs::File::open(detail).map(|_| done("opened")),
        "write_tmp" => write_and_remove("/tmp/forerunner-escaped"),
        "link_and_write" => fs::hard_link(detail, "linked")
            .and_then(|()| fs::OpenOptions::new().append(true).open("linked"))
            .map(|_| done("opened a link for writing")),
        "move_out" => fs::write("moving", "x")
            .and_then(|()| fs::rename("moving", "/var/tmp/forerunner-moved"))
            .and_then(|()| fs::remove_file("/var/tmp/forerunner-moved"))
            .map(|()| done("moved a file out")),
        "change_owner" => {
            let path = CString::new(detail).unwrap();
            // SAFETY: `path` outlives the call. To whom it belongs already.
            call(unsafe { libc::chown(path.as_ptr(), libc::getuid(), libc::getgid()) })
        }
        "write_outside" => write_and_remove("/var/tmp/forerunner-escaped"),
        "write_dev_shm" => write_and_remove("/dev/shm/forerunner-escaped"),
        "write_read_only" => {
            fs::OpenOptions::new().append(true).open(detail).map(|_| done("opened for writing"))
        }
        "truncate_read_only" => {
            let path = CString::new(detail).unwrap();
            // SAFETY: `path` outlives the call. The length is that of the file.
            call(unsafe { libc::truncate(path.as_ptr(), fs::metadata(detail).unwrap().len() as _) })
        }
        "chmod_read_only" => fs::metadata(detail)
            .and_then(|data| fs::set_permissions(detail, data.permissions()))
            .map(|()| done("changed permissions")),
        "touch_read_only" => {
            let path = CString::new(detail).unwrap();
            // SAFETY: `path` outlives the call.
            call(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) })
        }
        "make_symlink" => symlink("/etc/passwd", "link").map(|()| done("linked")),
        "make_fifo" => {
            // SAFETY: the string is constant.
            call(unsafe { libc::mkfifo(c"fifo".as_ptr(), 0o600) })
        }
        "exec_shell" => Err(exec("/bin/sh", &["-c", "echo allowed: a shell"])),
        "exec_from_work_dir" => {
            let mut options = fs::OpenOptions::new();
            let mut copy = options.write(true).create(true).mode(0o755).open("copy").unwrap();
            io::copy(&mut fs::File::open("/bin/echo").unwrap(), &mut copy).unwrap();
            drop(copy);
            Err(exec("./copy", &["allowed: from the work directory"]))
        }
        "exec_memory_file" => exec_memory_file(),
        _ => return None,
    })
}

fn network(name: &str) -> Option<Attempt> {
    let bound = |_| "bound".to_owned();
    Some(match name {
        "tcp" => TcpListener::bind("127.0.0.1:0").map(|_| "bound".to_owned()),
        "udp" => UdpSocket::bind("127.0.0.1:0").map(|_| "bound".to_owned()),
        "unix_abstract" => SocketAddr::from_abstract_name("forerunner-probe")
            .and_then(|address| UnixDatagram::bind_addr(&address))
            .map(bound),
        "unix_path" => UnixListener::bind("socket").map(|_| "bound".to_owned()),
        "tcp_connect" => {
            // Nobody listens there, so getting as far as being refused is getting through.
            match TcpStream::connect("127.0.0.1:9") {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    Ok("reached the address".to_owned())
                }
                other => other.map(|_| "connected".to_owned()),
            }
        }
        "netlink" => {
            // SAFETY: numbers only.
            call(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) })
        }
        "unix_pair" => UnixStream::pair().map(|_| "made".to_owned()),
        _ => return None,
    })
}

fn processes(name: &str, detail: &str) -> Option<Attempt> {
    // SAFETY, for all of these: plain system calls with numbers or constant strings.
    Some(match name {
        "fork" => match unsafe { libc::fork() } {
            0 => unsafe { libc::_exit(0) },
            pid => call(pid.min(0)),
        },
        "spawn" => Command::new("/bin/true").status().map(|status| status.to_string()),
        "ptrace" => call(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } as i32),
        // Signal 0 asks for permission and does no harm where it is granted.
        "signal_host" => call(unsafe { libc::kill(detail.parse().unwrap(), 0) }),
        "signal_parent" => call(unsafe { libc::kill(libc::getppid().max(1), 0) }),
        "thread_signal_host" => {
            let pid: i32 = detail.parse().unwrap();
            call(unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, 0) } as i32)
        }
        "unshare" => call(unsafe { libc::unshare(libc::CLONE_NEWUSER) }),
        "clone_namespace" => {
            let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
            match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
                0 => unsafe { libc::_exit(0) },
                pid => call(pid.min(0) as i32),
            }
        }
        "clone3" => {
            let arguments = [0u64; 11];
            let size = size_of_val(&arguments);
            match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) } {
                0 => unsafe { libc::_exit(0) },
                pid => call(pid.min(0) as i32),
            }
        }
        "io_uring" => {
            let mut parameters = [0u64; 15];
            let pointer = parameters.as_mut_ptr();
            call(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, pointer) }.min(0) as i32)
        }
        "keyring" => call(unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 1) }.min(0) as i32),
        "system_v_memory" => call(unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) }.min(0)),
        "read_host_memory" => {
            let pid: i32 = detail.parse().unwrap();
            let mut byte = 0u8;
            let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
            // Nothing is mapped there: permission is what is asked for.
            let remote = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
            let read = unsafe {
                libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0)
            };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EFAULT) => Ok("its memory is open".to_owned()),
                _ if read >= 0 => Ok("read".to_owned()),
                _ => Err(error),
            }
        }
        "attach_host" => {
            // Does not stop it, and lets it go when this process ends.
            let pid: i32 = detail.parse().unwrap();
            call(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) } as i32)
        }
        "outlive_init" => call(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) }),
        "change_affinity" => {
            let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
            call(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })
        }
        "raise_limit" => {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            unsafe { libc::getrlimit(libc::RLIMIT_CPU, &raw mut limit) };
            limit.rlim_cur = 100_000;
            limit.rlim_max = 100_000;
            call(unsafe { libc::setrlimit(libc::RLIMIT_CPU, &raw const limit) })
        }
        _ => return None,
    })
}

fn write_and_remove(path: &str) -> Attempt {
    fs::write(path, "x")?;
    fs::remove_file(path)?;
    Ok(format!("wrote {path}"))
}

fn call(result: i32) -> Attempt {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok("the call was granted".to_owned()) }
}

/// Replaces this process, or says why not.
fn exec(path: &str, arguments: &[&str]) -> io::Error {
    std::os::unix::process::CommandExt::exec(Command::new(path).args(arguments))
}

fn exec_memory_file() -> Attempt {
    // SAFETY: the name is constant; the descriptor is ours.
    let descriptor = unsafe { libc::memfd_create(c"memory".as_ptr(), 0) };
    call(descriptor)?;
    // SAFETY: just made, owned by nobody else.
    let mut file = unsafe { <fs::File as std::os::fd::FromRawFd>::from_raw_fd(descriptor) };
    file.write_all(&fs::read("/bin/echo")?)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    let arguments = [c"echo".as_ptr(), c"allowed: from memory".as_ptr(), std::ptr::null()];
    // SAFETY: the array ends with a null pointer and lives long enough.
    call(unsafe { libc::fexecve(descriptor, arguments.as_ptr(), [std::ptr::null()].as_ptr()) })
}
