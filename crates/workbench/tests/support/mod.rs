//! A tiny harness built by cargo, and a runner for tests that need their own `main`.

use forerunner_workbench::{Compiler, Harness};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A folder with an installed harness and caches.
pub(crate) struct Bench {
    dir: TempDir,
    messages: Vec<u8>,
}

impl Bench {
    /// Builds and installs the harness: a crate `harness`, a dependency, and a build dependency
    /// that programs do not need.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sources = dir.path().join("sources");
        let files = [
            (
                "Cargo.toml",
                "[workspace]\nmembers = [\"harness\", \"deep\", \"buildtool\"]\nresolver = \"3\"\n",
            ),
            (
                "harness/Cargo.toml",
                "[package]\nname = \"tiny-harness\"\nedition = \"2024\"\n[lib]\nname = \"harness\"\n[dependencies]\ndeep = { path = \"../deep\" }\n[build-dependencies]\nbuildtool = { path = \"../buildtool\" }\n",
            ),
            ("harness/src/lib.rs", "pub fn answer() -> u32 { deep::value() }\n"),
            ("harness/build.rs", "fn main() { buildtool::nothing() }\n"),
            ("deep/Cargo.toml", "[package]\nname = \"deep\"\nedition = \"2024\"\n"),
            ("deep/src/lib.rs", "pub fn value() -> u32 { 42 }\n"),
            ("buildtool/Cargo.toml", "[package]\nname = \"buildtool\"\nedition = \"2024\"\n"),
            ("buildtool/src/lib.rs", "pub fn nothing() {}\n"),
        ];
        let messages = built(&sources, &files);
        let bench = Self { dir, messages };
        bench.install_again();
        fs::write(bench.secret(), "fn secret() {}").unwrap();
        bench
    }

    /// Installs over what is there.
    pub(crate) fn install_again(&self) -> Harness {
        Harness::install(&*self.messages, "harness", &self.dir.path().join("installed")).unwrap()
    }

    /// Another harness with more flags.
    pub(crate) fn install_with(&self, name: &str, flags: &[&str]) -> Harness {
        let dir = self.dir.path().join(name);
        Harness::install_with(&*self.messages, "harness", &dir, flags).unwrap()
    }

    /// A harness that calls a native library, which was on the machine that built it and is not on
    /// this one any more but for the copy that was installed.
    pub(crate) fn native_harness(&self) -> Harness {
        let sources = self.dir.path().join("native");
        let build = "fn main() {\n    let dir = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n    \
                     println!(\"cargo:rustc-link-search=native={dir}/built\");\n    \
                     println!(\"cargo:rustc-link-lib=dylib=forerunner_elsewhere\");\n}\n";
        let library = "unsafe extern \"C\" { fn elsewhere() -> u32; }\n\
                       pub fn answer() -> u32 { unsafe { elsewhere() } }\n";
        let files = [
            ("Cargo.toml", "[workspace]\nmembers = [\"harness\"]\nresolver = \"3\"\n"),
            (
                "harness/Cargo.toml",
                "[package]\nname = \"tiny-harness\"\nedition = \"2024\"\n[lib]\nname = \"harness\"\n",
            ),
            ("harness/src/lib.rs", library),
            ("harness/build.rs", build),
            ("harness/built/elsewhere.c", "unsigned elsewhere(void) { return 43; }\n"),
        ];
        let messages = built(&sources, &files);
        let folder = sources.join("harness/built");
        for (program, arguments) in [
            ("cc", &["-c", "elsewhere.c", "-o", "elsewhere.o"][..]),
            ("ar", &["rcs", "libforerunner_elsewhere.a", "elsewhere.o"]),
        ] {
            let mut command = Command::new(program);
            assert!(command.args(arguments).current_dir(&folder).status().unwrap().success());
        }
        let archive = folder.join("libforerunner_elsewhere.a");
        let dir = self.dir.path().join("native-installed");
        let harness =
            Harness::install_linked(&*messages, "harness", &dir, &[], &[archive]).unwrap();
        fs::remove_dir_all(folder).unwrap();
        harness
    }

    /// The installed harness.
    pub(crate) fn harness(&self) -> Harness {
        Harness::load(&self.dir.path().join("installed")).unwrap()
    }

    /// A copy that a test may damage.
    pub(crate) fn copy_of_harness(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        for entry in fs::read_dir(self.harness().dir()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        dir
    }

    /// A compiler with the cache called `cache`.
    pub(crate) fn compiler(&self, cache: &str) -> Compiler {
        Compiler::new(self.harness(), &self.cache(cache), false).unwrap()
    }

    /// Folder of the cache called `cache`.
    pub(crate) fn cache(&self, cache: &str) -> PathBuf {
        self.dir.path().join("caches").join(cache)
    }

    /// A file that programs must not reach, four folders above their sources.
    pub(crate) fn secret(&self) -> PathBuf {
        self.dir.path().join("secret.rs")
    }
}

/// Writes the sources of a workspace and builds its package `tiny-harness`; cargo's messages.
fn built(sources: &Path, files: &[(&str, &str)]) -> Vec<u8> {
    for (path, text) in files {
        let path = sources.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--offline", "--message-format=json", "-p", "tiny-harness"])
        .current_dir(sources)
        .env("CARGO_TARGET_DIR", sources.with_extension("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// How many files with this extension lie below `dir`.
pub(crate) fn files_below(dir: &Path, extension: &str) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| match path.is_dir() {
            true => files_below(&path, extension),
            false => usize::from(path.extension().is_some_and(|found| found == extension)),
        })
        .sum()
}

/// A test with its name.
pub(crate) type Test = (&'static str, fn(&Bench));

/// Runs tests one after the other and understands what test runners ask.
#[derive(Default)]
pub(crate) struct Runner {
    failed: usize,
    n_run: usize,
}

#[expect(clippy::print_stdout, reason = "a test binary reports on its standard output")]
impl Runner {
    /// Runs the tests that the command line names, or all of them, and ends the process.
    pub(crate) fn run(mut self, tests: &[Test]) -> ! {
        let has = |option: &str| std::env::args().any(|argument| argument == option);
        let filters: Vec<String> =
            std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let named = |name: &str| {
            filters.is_empty()
                || filters.iter().any(|f| if has("--exact") { name == f } else { name.contains(f) })
        };
        if has("--list") {
            // No test is ignored.
            let listed = if has("--ignored") { &[] } else { tests };
            listed.iter().for_each(|(name, _)| println!("{name}: test"));
            std::process::exit(0);
        }
        let bench = Bench::new();
        for (name, test) in tests.iter().filter(|(name, _)| named(name)) {
            let passed = catch_unwind(AssertUnwindSafe(|| test(&bench))).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            self.failed += usize::from(!passed);
            self.n_run += 1;
        }
        println!("\ntest result: {} passed; {} failed", self.n_run - self.failed, self.failed);
        drop(bench);
        std::process::exit(i32::from(self.failed > 0));
    }
}
