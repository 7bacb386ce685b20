//! Programs that use too much or do not want to die.

use std::{
    io::{self, Write},
    thread::sleep,
    time::Duration,
};

use crate::probes::Attempt;

const FOREVER: Duration = Duration::from_secs(5000);

/// Runs `name`; `detail` is a number where one is needed.
pub(crate) fn attempt(name: &str, detail: &str) -> Option<Attempt> {
    let number = || detail.parse::<usize>().unwrap();
    Some(match name {
        "memory_bomb" => memory_bomb(),
        "huge_allocation" => Ok(format!("{}", std::hint::black_box(vec![1u8; 1 << 40]).len())),
        "shared_memory_bomb" => shared_memory_bomb(),
        "memory_in_children" => {
            for _ in 0..4 {
                fork_or_panic(|| hold(vec![1u8; number()]));
            }
            sleep(FOREVER);
            Ok("slept".into())
        }
        "disk_bomb" => {
            let mut file = std::fs::File::create("big").unwrap();
            loop {
                if let Err(error) = file.write_all(&[0; 1 << 16]) {
                    break Err(error);
                }
            }
        }
        "many_files" => loop {
            file_of_a_mebibyte(&format!("file-{}", unique())).unwrap();
        },
        "many_empty_files" => loop {
            std::fs::File::create(format!("file-{}", unique())).unwrap();
        },
        "many_removed_files" => {
            let mut files = Vec::new();
            for _ in 0..32 {
                files.push(file_of_a_mebibyte("file").unwrap());
                std::fs::remove_file("file").unwrap();
            }
            hold(files)
        }
        "many_removed_mappings" => {
            for _ in 0..32 {
                map_one_page(&file_of_a_mebibyte("file").unwrap());
                std::fs::remove_file("file").unwrap();
            }
            hold(())
        }
        "nested_folders" => {
            for _ in 0..3000 {
                std::fs::create_dir("deeper").unwrap();
                std::env::set_current_dir("deeper").unwrap();
            }
            hold(())
        }
        "thread_bomb" => {
            let mut n_threads = 0;
            let error = loop {
                match std::thread::Builder::new().stack_size(64 << 10).spawn(|| sleep(FOREVER)) {
                    Ok(_) => n_threads += 1,
                    Err(error) => break error,
                }
            };
            Err(io::Error::other(format!("after {n_threads} threads: {error}")))
        }
        "descriptor_bomb" => {
            let mut files = Vec::new();
            let error = loop {
                match std::fs::File::open("/dev/null") {
                    Ok(file) => files.push(file),
                    Err(error) => break error,
                }
            };
            Err(io::Error::other(format!("{} opened, then {error}", files.len())))
        }
        "spin" => spin(),
        "spin_ignoring_signals" => {
            // SAFETY: installs no handler.
            unsafe { libc::signal(libc::SIGXCPU, libc::SIG_IGN) };
            spin()
        }
        "spin_in_children" => {
            for _ in 0..4 {
                fork_or_panic(|| spin());
            }
            sleep(FOREVER);
            Ok("slept".into())
        }
        "sleep" => {
            print!("x");
            io::stdout().flush().unwrap();
            sleep(FOREVER);
            Ok("slept".into())
        }
        "flood" => loop {
            let _ = io::stdout().write_all(&[b'o'; 4096]);
            let _ = io::stderr().write_all(&[b'e'; 4096]);
        },
        "fork_bomb" => Err(fork_bomb()),
        "exponential_fork_bomb" => loop {
            // SAFETY: both copies go on.
            unsafe { libc::fork() };
        },
        "daemon" => {
            daemon();
            Ok("left a daemon".into())
        }
        "daemon_and_sleep" => {
            daemon();
            sleep(FOREVER);
            Ok("slept".into())
        }
        "hop" => {
            fork_or_panic(|| hop());
            sleep(FOREVER);
            Ok("slept".into())
        }
        _ => return None,
    })
}

/// A number that no other call returns.
fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn file_of_a_mebibyte(path: &str) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).open(path)?;
    file.write_all(&[1; 1 << 20])?;
    Ok(file)
}

/// Enough to keep all of a file, even when it is closed and has no name.
fn map_one_page(file: &std::fs::File) {
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(file);
    let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: a fresh mapping that nobody looks at.
    let mapping =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, descriptor, 0) };
    assert_ne!(mapping, libc::MAP_FAILED);
}

fn memory_bomb() -> ! {
    let mut blocks = Vec::new();
    loop {
        blocks.push(vec![1u8; 4 << 20]);
    }
}

fn shared_memory_bomb() -> Attempt {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let n_bytes = 2usize << 30;
    // SAFETY: a fresh mapping, written within its bounds.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), n_bytes, protection, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        memory.cast::<u8>().write_bytes(1, n_bytes);
    }
    Ok("two GiB".into())
}

fn hold<T>(value: T) -> ! {
    std::hint::black_box(&value);
    sleep(FOREVER);
    std::process::exit(0)
}

fn spin() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

fn fork_or_panic(child: impl FnOnce()) {
    // SAFETY: these programs have one thread.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", io::Error::last_os_error()),
        0 => child(),
        _ => {}
    }
}

/// Never the same process for long: each leaves as soon as it has a successor.
fn hop() -> ! {
    loop {
        // SAFETY: plain system calls in a program with one thread.
        unsafe {
            if libc::fork() > 0 {
                libc::_exit(0);
            }
        }
    }
}

fn fork_bomb() -> io::Error {
    let mut n_forks = 0;
    loop {
        // SAFETY: the child only sleeps.
        match unsafe { libc::fork() } {
            -1 => {
                let error = io::Error::last_os_error();
                return io::Error::other(format!("after {n_forks} forks: {error}"));
            }
            0 => hold(()),
            _ => n_forks += 1,
        }
    }
}

/// Forked twice, in a session of its own, deaf to signals: nobody's child.
fn daemon() {
    // SAFETY: plain system calls in a program with one thread.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
                    libc::signal(signal, libc::SIG_IGN);
                }
                libc::close(0);
                libc::close(1);
                libc::close(2);
                hold(());
            }
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}
