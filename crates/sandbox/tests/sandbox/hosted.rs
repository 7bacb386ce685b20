//! Runs the `hostile` example as a host, under each of the circumstances a machine can offer.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use forerunner_sandbox::{Limits, Policy, Profile};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An ordinary user to be, when root runs the tests: nobody's number and nobody else's.
const ORDINARY_USER: u32 = 64_321;

/// Where a test takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Everything this machine grants to whoever runs the tests.
    Full,
    /// Without namespaces, as in most containers.
    Floor,
    /// As an ordinary user, with everything granted to them.
    User,
    /// As an ordinary user without namespaces.
    UserFloor,
    /// As an ordinary user to whom the kernel refuses namespaces; the sandbox finds that out itself.
    UserDenied,
    /// The sandbox waived: shows that a probe can succeed, and so that its refusal means something.
    Waived,
}

impl Setting {
    /// Whether the host is another user than whoever runs the tests.
    fn becomes_user(self) -> bool {
        matches!(self, Self::User | Self::UserFloor | Self::UserDenied) && am_root()
    }

    /// The command of the `hostile` example that serves a request.
    fn host_command(self) -> &'static str {
        if self == Self::UserDenied { "denied" } else { "host" }
    }

    /// Starts a process that only waits, as the user the sandboxed programs run as, so that nothing
    /// but the sandbox protects it from them.
    pub(crate) fn victim(self) -> Victim {
        const NOBODY: u32 = 65_534;
        let user = if self.becomes_user() { ORDINARY_USER } else { NOBODY };
        let mut command = as_user(am_root().then_some(user), Path::new("/bin/sleep"));
        Victim(command.arg("1000").spawn().unwrap())
    }
}

/// A process that has nothing to do with the sandbox. Ended when dropped.
pub(crate) struct Victim(Child);

impl Victim {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs as `user`, or as ourselves.
fn as_user(user: Option<u32>, program: &Path) -> Command {
    let Some(user) = user.map(|number| number.to_string()) else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(program);
    command
}

/// One host process to be.
pub(crate) struct Host {
    setting: Setting,
    pub(crate) policy: Policy,
    /// In no other command line of this machine.
    token: String,
    folder: TempDir,
}

impl Host {
    /// `None`, said aloud, where the setting cannot be had: only root can become somebody else.
    pub(crate) fn new(setting: Setting, profile: Profile) -> Option<Self> {
        if matches!(setting, Setting::User | Setting::UserFloor) && !am_root() {
            eprintln!("skipped: already run by an ordinary user");
            return None;
        }
        let as_user = setting.becomes_user();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let work_dir = folder.path().join("work");
        fs::create_dir(&work_dir).unwrap();
        let secret = folder.path().join("granted");
        fs::write(&secret, "granted text").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
        if as_user {
            std::os::unix::fs::chown(&work_dir, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
            std::os::unix::fs::chown(&secret, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
        }
        let mut policy = Policy::new(profile, work_dir);
        policy.read_only = forerunner_sandbox::system_libraries();
        policy.read_only.extend([secret, hostile(), "/bin/true".into(), "/bin/echo".into()]);
        policy.work_dir_writable = true;
        policy.unsafe_no_sandbox = setting == Setting::Waived;
        policy.limits = Limits {
            memory_bytes: 256 << 20,
            cpu_seconds: 5,
            wall: Duration::from_secs(20),
            processes: 32,
            file_bytes: 8 << 20,
            disk_bytes: 64 << 20,
            files: 1_000,
            open_files: 64,
            output_bytes: 64 << 10,
        };
        let token = format!("token-{}-{number}", std::process::id());
        Some(Self { setting, policy, token, folder })
    }

    /// An empty folder that can be the work directory of another run.
    pub(crate) fn second_work_dir(&self) -> PathBuf {
        let second = self.folder.path().join("second");
        fs::create_dir(&second).unwrap();
        if self.setting.becomes_user() {
            std::os::unix::fs::chown(&second, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
        }
        second
    }

    /// A file the policy grants for reading, but which its own rights would let anyone write.
    pub(crate) fn granted_file(&self) -> PathBuf {
        self.folder.path().join("granted")
    }

    /// Runs a probe to its end in a host of its own.
    pub(crate) fn probe(&self, name: &str, detail: &str) -> Value {
        self.ask("run", &self.probe_argv(name, detail))
    }

    /// The probe's command line.
    pub(crate) fn probe_argv(&self, name: &str, detail: &str) -> Vec<String> {
        let hostile = hostile().to_string_lossy().into_owned();
        let words = [&hostile, "probe", name, detail, &self.token];
        words.map(str::to_owned).to_vec()
    }

    /// Has a host do what `mode` says and returns its answer. Whatever happened, nothing survives.
    pub(crate) fn ask(&self, mode: &str, argv: &[String]) -> Value {
        self.answer(self.start(mode, argv), argv)
    }

    /// Has a host run `argv` with another launcher than itself.
    pub(crate) fn ask_with_launcher(&self, launcher: &str, argv: &[String]) -> Value {
        let mut command = self.command();
        command
            .args([self.setting.host_command(), "run"])
            .env("FORERUNNER_SANDBOX_LAUNCHER", launcher);
        self.answer(self.request(command, argv), argv)
    }

    /// Has a host run `argv` and counts what survives.
    pub(crate) fn ask_and_count(&self, argv: &[String]) -> (Value, usize) {
        let answer = parse(self.start("run", argv));
        (answer, self.survivors())
    }

    fn answer(&self, host: Child, argv: &[String]) -> Value {
        let answer = parse(host);
        assert_eq!(self.survivors(), 0, "left behind by {argv:?}");
        answer
    }

    /// Starts a host that answers on its standard output.
    pub(crate) fn start(&self, mode: &str, argv: &[String]) -> Child {
        let mut command = self.command();
        command.args([self.setting.host_command(), mode]);
        self.request(command, argv)
    }

    /// The host's command line as the right user.
    fn command(&self) -> Command {
        let user = self.setting.becomes_user().then_some(ORDINARY_USER);
        as_user(user, &hostile())
    }

    fn request(&self, mut command: Command, argv: &[String]) -> Child {
        let floor = matches!(self.setting, Setting::Floor | Setting::UserFloor);
        command
            .env("FORERUNNER_SANDBOX_LAYERS", if floor { "floor" } else { "all" })
            .env("SECRET", "must not be seen")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut host = command.spawn().unwrap();
        let request = json!({ "policy": self.policy, "argv": argv });
        // A host that does not ask may be gone already.
        let _ = host.stdin.take().unwrap().write_all(request.to_string().as_bytes());
        host
    }

    /// How many processes carry this host's token in their command line.
    pub(crate) fn survivors(&self) -> usize {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&self.token)).count()
    }

    /// Waits until nothing survives; fails after a generous while.
    pub(crate) fn await_no_survivors(&self) {
        let begin = Instant::now();
        while self.survivors() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "something survived");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The answer of a host that has ended.
fn parse(host: Child) -> Value {
    let output = host.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The example, which cargo builds for tests beside them.
pub(crate) fn hostile() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/hostile");
    assert!(path.exists(), "`{}` is missing: run all targets of this package", path.display());
    path
}

/// Whether the tests are run by root.
pub(crate) fn am_root() -> bool {
    nix::unistd::getuid().is_root()
}

/// Where rustc lives.
pub(crate) fn sysroot() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().unwrap();
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).to_owned()
}
