//! What must go on working: the honest twins.

use std::{
    fs,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use rayon::prelude::*;

use crate::probes::Attempt;

/// Runs `name`; `detail` is a path where one is needed.
pub(crate) fn attempt(name: &str, detail: &str) -> Option<Attempt> {
    Some(match name {
        "read_granted" => fs::read_to_string(detail),
        "write_inside" => write_inside(),
        "threads" => Ok(threads()),
        "clocks_and_chance" => clocks_and_chance(),
        "environment" => Ok(format!("{:?}", std::env::vars().collect::<Vec<_>>())),
        "descriptors" => Ok(format!("{:?}", open_descriptors())),
        "identity" => {
            // SAFETY: only asks.
            Ok(unsafe {
                format!(
                    "uid {} gid {} cpu {}",
                    libc::getuid(),
                    libc::getgid(),
                    libc::sched_getcpu()
                )
            })
        }
        "standard_input" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| format!("{text:?}"))
        }
        "both_streams" => {
            print!("to stdout ");
            io::stderr().write_all(b"to stderr").map(|()| "done".into())
        }
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        "wait_for_child" => {
            std::process::Command::new("/bin/true").status().map(|status| status.to_string())
        }
        "echo" => echo(),
        "nothing" => Ok(String::new()),
        _ => return None,
    })
}

fn write_inside() -> Attempt {
    fs::create_dir_all("a/b")?;
    fs::write("a/b/file", "first")?;
    fs::rename("a/b/file", "a/moved")?;
    let mut file = fs::OpenOptions::new().append(true).open("a/moved")?;
    file.write_all(b" second")?;
    file.sync_all()?;
    file.set_len(8)?;
    let text = fs::read_to_string("a/moved")?;
    fs::remove_dir_all("a/b")?;
    Ok(text)
}

/// Memory, locks and threads as numeric programs use them.
fn threads() -> String {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let sum: u64 = pool.install(|| (0..1_000_000u64).into_par_iter().map(|n| n % 7).sum());
    let large: Vec<u8> = vec![1; 64 << 20];
    let total: usize = pool.install(|| large.par_chunks(4096).map(<[u8]>::len).sum());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send("sent").unwrap()).join().unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    format!("{sum} {total} {} {}", receiver.recv().unwrap(), cores.get() > 0)
}

fn clocks_and_chance() -> Attempt {
    let begin = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    let set: std::collections::HashSet<i32> = (0..10).collect(); // Its keys are random.
    Ok(format!("{} {}", begin.elapsed() >= Duration::from_millis(1), set.len()))
}

fn open_descriptors() -> Vec<i32> {
    // SAFETY: only asks.
    (0..1024).filter(|&number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0).collect()
}

/// Repeats lines; to `work` it computes for a while and answers with its own CPU seconds.
fn echo() -> Attempt {
    for line in io::stdin().lines() {
        match line?.as_str() {
            "work" => {
                let begin = own_cpu();
                while own_cpu() - begin < 0.1 {}
                println!("{}", own_cpu() - begin);
            }
            other => println!("{other}"),
        }
    }
    Ok("end of input".into())
}

fn own_cpu() -> f64 {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    Duration::from(clock.now().unwrap()).as_secs_f64()
}
