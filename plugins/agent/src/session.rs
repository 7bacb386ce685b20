//! One start of the agent: its process tree, its limits, its output.

use crate::output::{Kept, Reader};
use crate::{Config, checks::Service, scratch::Scratch};
use forerunner_sandbox::{Child, Finished, Limits, Outcome, Policy, Profile, spawn};
use forerunner_sdk::Host;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often we look whether the agent has ended or is not wanted any more.
const PERIOD: Duration = Duration::from_millis(40);
/// How long what an agent printed may take to arrive once nothing of it runs any more.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// What an agent gets of our environment besides what it was granted.
const USUAL: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TZ",
    "USER",
    "LOGNAME",
    "SHELL",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Entries that an agent may leave in its folder.
const MAX_FILES: u64 = 200_000;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The command was started and has ended, with everything that it had started.
    Ended(Outcome),
    /// The host wanted no result any more; everything was killed.
    Cancelled,
    /// The command was not started.
    NotStarted(String),
    /// Contact with the command was lost.
    Lost(String),
}

/// A session that is over.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) end: End,
    pub(crate) seconds: f64,
    /// As they came, capped.
    pub(crate) stdout: Kept,
    pub(crate) stderr: Kept,
    /// What confined the command.
    pub(crate) layers: String,
}

/// Starts the agent in the folder and waits for its end, answering its checks meanwhile.
pub(crate) fn run(
    config: &Config,
    scratch: &Scratch,
    texts: &Texts<'_>,
    checks: &Service<'_>,
    host: &dyn Host,
) -> Session {
    let begin = Instant::now();
    let not_started = |why: String| Session {
        end: End::NotStarted(why),
        seconds: begin.elapsed().as_secs_f64(),
        stdout: Kept::default(),
        stderr: Kept::default(),
        layers: String::new(),
    };
    let ready = granted(config).and_then(|()| argv(config, scratch, texts));
    let argv = match ready {
        Ok(argv) => argv,
        Err(why) => return not_started(why),
    };
    let mut child = match spawn(&policy(config, scratch), &argv) {
        Ok(child) => child,
        Err(error) => return not_started(error.to_string()),
    };
    if config.confine && child.layers().landlock_abi == 0 {
        // Its launcher is of another version, which knows nothing of this wish.
        _ = child.kill();
        return not_started("it could not be kept from writing elsewhere".to_owned());
    }
    let layers = child.layers().to_string();
    let (stdin, stdout) = (child.take_stdin(), child.take_stdout());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let service = scope.spawn(|| checks.serve(host, &done));
        if let (Some(mut stdin), true) = (stdin, config.prompt_on_stdin) {
            // An agent that does not read its input closes it by ending; if somebody holds it open
            // nevertheless, nobody waits for the thread.
            let prompt = texts.prompt.to_owned();
            thread::spawn(move || _ = stdin.write_all(prompt.as_bytes()));
        }
        let cap = (config.output_kib << 10) as usize;
        let output = stdout.map(|pipe| Reader::start(pipe, cap));
        let (cancelled, finished) = attend(child, host);
        done.store(true, Ordering::Relaxed);
        _ = service.join();
        let stdout = output.map(|output| output.finish(LAST_OUTPUT)).unwrap_or_default();
        let (end, stderr) = match finished {
            Ok(finished) => {
                let text = String::from_utf8_lossy(&finished.stderr).into_owned();
                let stderr = Kept::beginning(text, finished.output_truncated);
                (if cancelled { End::Cancelled } else { End::Ended(finished.outcome) }, stderr)
            }
            Err(_) if cancelled => (End::Cancelled, Kept::default()),
            Err(error) => (End::Lost(error.to_string()), Kept::default()),
        };
        Session { end, seconds: begin.elapsed().as_secs_f64(), stdout, stderr, layers }
    })
}

/// What placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a> {
    /// `{prompt}`.
    pub(crate) prompt: &'a str,
    /// `{brief}`.
    pub(crate) brief: &'a str,
}

/// Waits until the agent has ended; ends it when the host does not want it any more. Says whether
/// that was so.
fn attend(child: Child, host: &dyn Host) -> (bool, Result<Finished, forerunner_sandbox::Error>) {
    while child.cpu_time().is_ok() {
        if host.cancelled() {
            return (true, child.kill());
        }
        thread::sleep(PERIOD);
    }
    (false, child.wait())
}

/// Whether everything is there that the agent is to be given: without its key it would only cost.
fn granted(config: &Config) -> Result<(), String> {
    let is_missing = |name: &&String| !config.set.contains_key(*name) && env::var(name).is_err();
    match config.env.iter().find(is_missing) {
        Some(name) => Err(format!(
            "the variable `{}`, which `env` names, is not set or is no text\nhint: set it, or take \
             it out of `env`",
            name.escape_debug()
        )),
        None => Ok(()),
    }
}

/// Whether the agent's program is where a shell would look for it. What placeholders say is known
/// only at its start.
pub(crate) fn is_installed(config: &Config) -> bool {
    let program = config.command.first().map_or("", String::as_str);
    program.contains('{') || find(Path::new(program), env::var_os("PATH")).is_some()
}

/// The command line with its placeholders filled in, and the place of its program.
fn argv(config: &Config, scratch: &Scratch, texts: &Texts<'_>) -> Result<Vec<OsString>, String> {
    let folder = scratch.path().to_string_lossy();
    let word = |word: &String| OsString::from(fill(word, &folder, texts));
    let mut argv: Vec<OsString> = config.command.iter().map(word).collect();
    let program = argv.first().ok_or("no command")?;
    argv[0] = find(Path::new(program), env::var_os("PATH")).ok_or_else(|| {
        format!(
            "there is no program `{}`\nhint: install it, or give its whole path in `command`",
            program.to_string_lossy().escape_debug()
        )
    })?;
    Ok(argv)
}

/// Fills placeholders in, each once: what they stand for is not looked at again.
fn fill(word: &str, folder: &str, texts: &Texts<'_>) -> String {
    let known = [("{prompt}", texts.prompt), ("{brief}", texts.brief), ("{folder}", folder)];
    let mut filled = String::new();
    let mut rest = word;
    while let Some(brace) = rest.find('{') {
        filled.push_str(&rest[..brace]);
        rest = &rest[brace..];
        let (text, length) = known
            .iter()
            .find(|(name, _)| rest.starts_with(name))
            .map_or(("{", 1), |(name, text)| (*text, name.len()));
        // No argument of a process can hold a zero byte.
        filled.push_str(&text.replace('\0', ""));
        rest = &rest[length..];
    }
    filled + rest
}

/// Where a program lies: as a shell would find it.
fn find(program: &Path, path: Option<OsString>) -> Option<OsString> {
    let is_program = |file: &PathBuf| {
        file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        let file = program.canonicalize().ok()?;
        return is_program(&file).then(|| file.into_os_string());
    }
    let folders = path?;
    let mut files = env::split_paths(&folders).map(|folder| folder.join(program));
    files.find(|file| file.is_absolute() && is_program(file)).map(PathBuf::into_os_string)
}

fn policy(config: &Config, scratch: &Scratch) -> Policy {
    let folder = scratch.path();
    let mut policy = Policy::new(Profile::Tool, folder);
    policy.work_dir_writable = true;
    // An operator trusts the agent with the network and the files that it may read.
    policy.unsafe_no_sandbox = true;
    if config.confine {
        policy.writes_only = Some(config.writable.iter().map(|path| at_home(path)).collect());
    }
    policy.env = environment(config, folder).into_iter().collect();
    let disk = config.disk_mib << 20;
    policy.limits = Limits {
        memory_bytes: config.memory_mib.map_or(u64::MAX, |memory| memory << 20),
        cpu_seconds: u64::MAX,
        wall: Duration::from_secs(config.seconds),
        processes: config.processes,
        file_bytes: disk,
        disk_bytes: disk,
        files: MAX_FILES,
        open_files: 1 << 16,
        output_bytes: config.output_kib << 10,
    };
    policy
}

fn environment(config: &Config, folder: &Path) -> BTreeMap<String, String> {
    let granted = USUAL.into_iter().chain(config.env.iter().map(String::as_str));
    let mut variables: BTreeMap<String, String> =
        granted.filter_map(|name| Some((name.to_owned(), env::var(name).ok()?))).collect();
    variables.insert("TMPDIR".to_owned(), folder.join(".tmp").to_string_lossy().into_owned());
    let folder = folder.to_string_lossy();
    let set = config.set.iter();
    variables.extend(set.map(|(name, value)| (name.clone(), value.replace("{folder}", &folder))));
    variables
}

/// `~/x` in the home.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_once() {
        let texts = Texts { prompt: "say {folder}\0", brief: "B" };
        assert_eq!(fill("a{prompt}{brief}{other}{", "F", &texts), "asay {folder}B{other}{");
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let path = Some(OsString::from("/nowhere:relative:/bin:/usr/bin"));
        let found = find(Path::new("sh"), path.clone()).expect("there is a shell");
        assert!(Path::new(&found).is_absolute());
        assert_eq!(find(Path::new("no-such-program"), path.clone()), None);
        assert_eq!(find(Path::new("/etc/passwd"), path), None, "not executable");
        assert_eq!(find(Path::new("sh"), None), None);
        let installed = |program: &str| {
            is_installed(&Config { command: vec![program.to_owned()], ..Config::default() })
        };
        assert!(installed("sh") && !installed("no-such-program"));
        assert!(installed("{folder}/tool"), "nobody knows yet");
    }
}
