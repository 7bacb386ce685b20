//! From source to a component: with cargo, with clang, or from a core module that another compiler
//! made.

use crate::{ComponentError, encode, sha256};
use serde::Deserialize;
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TARGET: &str = "wasm32-unknown-unknown";

/// The compilers that a build calls.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Cargo, for hooks in Rust.
    pub cargo: OsString,
    /// The compiler that cargo calls, asked for its version and folders.
    pub rustc: OsString,
    /// Clang with its first arguments, for hooks in C: `["clang"]`, or for example
    /// `["python3", "-m", "ziglang", "cc"]`.
    pub clang: Vec<String>,
}

impl Default for Tools {
    fn default() -> Self {
        Self { cargo: "cargo".into(), rustc: "rustc".into(), clang: vec!["clang".into()] }
    }
}

/// What is built, and how.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// A folder with a `Cargo.toml` or a `hook.c`, or a core module.
    pub source: PathBuf,
    /// Where the component goes (default: `NAME.wasm` in the folder, where `NAME` is the crate's or
    /// the folder's).
    pub out: Option<PathBuf>,
    /// The profile of cargo, for hooks in Rust (default: `release`).
    pub profile: Option<String>,
}

/// A component in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: usize,
    /// Its SHA-256 in hex, the hook's identity.
    pub sha256: String,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nothing to build.
    #[error(
        "{} is no hook: there is neither a Cargo.toml nor a hook.c in it\nhint: `forerunner hook new \
         NAME` makes one; a core module can be given instead of a folder", .0.display()
    )]
    NoSource(PathBuf),
    /// It is not clear where the component goes.
    #[error(
        "the component would replace its own core module {}\nhint: name it NAME.core.wasm, or give \
         --out FILE", .0.display()
    )]
    NoOutput(PathBuf),
    /// The standard library for WebAssembly is missing.
    #[error(
        "{} cannot compile for {TARGET}\nhint: run `rustup target add {TARGET}`, or write the hook in \
         C (`forerunner hook new NAME --language c`)", .0.display()
    )]
    Target(PathBuf),
    /// A tool cannot be started.
    #[error("cannot start `{command}`: {source}\nhint: {hint}")]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
        /// How to get it.
        hint: &'static str,
    },
    /// A tool failed.
    #[error("`{command}` failed ({status}){output}\nhint: {hint}")]
    Tool {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said, where it did not say it to the terminal itself.
        output: String,
        /// What to do.
        hint: &'static str,
    },
    /// Cargo made no module.
    #[error("cargo built no WebAssembly module of {}\nhint: the crate needs a library", .0.display())]
    NoModule(PathBuf),
    /// The module is none, or not that of a hook.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", .path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

const GET_CARGO: &str = "install Rust, or write the hook in C";
const GET_CLANG: &str = "install clang and lld, or name a compiler that knows wasm32, for example \
                         --clang \"python3 -m ziglang cc\" after `pip install ziglang`";
const MEND: &str = "mend what the compiler says above";

/// Builds a hook and writes its component.
///
/// The same source and compiler give the same bytes, wherever the source lies, unless RUSTFLAGS is
/// set.
///
/// # Errors
/// When there is no source, a compiler is missing or refuses it, it is not a hook, or a file
/// cannot be written.
pub fn build(recipe: &Recipe, tools: &Tools) -> Result<Built, BuildError> {
    let source = &recipe.source;
    let (module, name) = if source.is_file() {
        (read(source)?, name_of_module(source))
    } else if source.join("Cargo.toml").is_file() {
        rust(source, recipe.profile.as_deref().unwrap_or("release"), tools)?
    } else if source.join("hook.c").is_file() {
        c(source, tools)?
    } else {
        return Err(BuildError::NoSource(source.clone()));
    };
    let folder = if source.is_file() { source.parent().unwrap_or(Path::new("")) } else { source };
    let path = recipe.out.clone().unwrap_or_else(|| folder.join(format!("{name}.wasm")));
    if path == *source {
        return Err(BuildError::NoOutput(path));
    }
    let component = encode(&module)?;
    std::fs::write(&path, &component).map_err(|source| BuildError::File {
        what: "write",
        path: path.clone(),
        source,
    })?;
    Ok(Built { path, bytes: component.len(), sha256: sha256(&component) })
}

/// `a.core.wasm` and `a.wasm` are both modules of `a`.
fn name_of_module(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".wasm").unwrap_or(&name);
    name.strip_suffix(".core").unwrap_or(name).to_owned()
}

/// One message of cargo, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The core module of the crate in `folder`, and the crate's name.
fn rust(folder: &Path, profile: &str, tools: &Tools) -> Result<(Vec<u8>, String), BuildError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| BuildError::File { what: "read", path, source }
    };
    let folder = folder.canonicalize().map_err(unreadable(folder))?;
    let asked = |arguments: &[&str]| ask(&tools.rustc, arguments, &folder);
    let library = asked(&["--print", "target-libdir", "--target", TARGET])?;
    if !Path::new(library.trim()).is_dir() {
        return Err(BuildError::Target(PathBuf::from(&tools.rustc)));
    }
    let mut command = Command::new(&tools.cargo);
    // The crate type is given here, so that natively the crate may be an ordinary library.
    command.args(["rustc", "--lib", "--crate-type", "cdylib", "--target", TARGET]);
    command.args(["--profile", profile, "--message-format", "json-render-diagnostics"]);
    let flags: Vec<String> = remapped(&asked(&["--print", "sysroot"])?, &asked(&["-vV"])?)
        .into_iter()
        .map(|(from, to)| format!("{:?}", format!("--remap-path-prefix={}={to}", from.display())))
        .collect();
    command.args(["--config", &format!("target.{TARGET}.rustflags=[{}]", flags.join(","))]);
    let shown = "cargo rustc";
    let output =
        command.current_dir(&folder).stderr(Stdio::inherit()).output().map_err(|source| {
            BuildError::Start { command: shown.into(), source, hint: GET_CARGO }
        })?;
    if !output.status.success() {
        let (command, status) = (shown.into(), output.status.to_string());
        return Err(BuildError::Tool { command, status, output: String::new(), hint: MEND });
    }
    let manifest = folder.join("Cargo.toml");
    let module = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter::<Message>()
        .map_while(Result::ok)
        .filter(|m| m.reason == "compiler-artifact" && m.manifest_path == manifest)
        .flat_map(|message| message.filenames)
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .ok_or_else(|| BuildError::NoModule(folder.clone()))?;
    let name = name_of_module(&module).replace('_', "-");
    Ok((read(&module)?, name))
}

/// Paths of this machine that would end up in panic messages, and what stands for them: folders of
/// downloaded crates, and the sources of the standard library where they are installed.
fn remapped(sysroot: &str, version: &str) -> Vec<(PathBuf, String)> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    let registries = cargo_home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    let mut folders: Vec<PathBuf> =
        registries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let mut pairs: Vec<_> = folders.into_iter().map(|f| (f, "/cargo".to_owned())).collect();
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    pairs.push((library, format!("/rustc/{}", commit.unwrap_or("unknown"))));
    pairs
}

/// What a compiler prints when asked; nothing when it refuses to answer.
fn ask(program: &OsString, arguments: &[&str], folder: &Path) -> Result<String, BuildError> {
    let command = || program.to_string_lossy().into_owned();
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.map_err(|source| BuildError::Start {
        command: command(),
        source,
        hint: GET_CARGO,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The core module of `hook.c` in `folder`, and the folder's name.
fn c(folder: &Path, tools: &Tools) -> Result<(Vec<u8>, String), BuildError> {
    let shown = tools.clang.join(" ");
    let mut words = tools.clang.iter();
    let mut command = Command::new(words.next().map_or("clang", |word| word));
    command.args(words);
    if tools.clang.iter().any(|word| word.contains("zig")) {
        command.args(["-target", "wasm32-freestanding"]);
    } else {
        // Copies of records become instructions instead of calls of a C library that is not there.
        command.args(["--target=wasm32", "-ffreestanding", "-mbulk-memory"]);
    }
    let module = folder.join("hook.core.wasm");
    command.args(["-O2", "-Wall", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all", "-o"]);
    command.arg(&module).arg(folder.join("hook.c"));
    let output = command.output().map_err(|source| BuildError::Start {
        command: shown.clone(),
        source,
        hint: GET_CLANG,
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let refused = ["wasm-ld", "unable to create target", "unrecognized", "linker"];
        let hint = if refused.iter().any(|text| said.contains(text)) { GET_CLANG } else { MEND };
        let (status, output) = (output.status.to_string(), format!("\n{}", said.trim_end()));
        return Err(BuildError::Tool { command: shown, status, output, hint });
    }
    let bytes = read(&module)?;
    // Only an intermediate result; that it stays where it cannot be removed does no harm.
    drop(std::fs::remove_file(&module));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = folder.file_name().map_or_else(|| "hook".into(), |name| name.to_string_lossy());
    Ok((bytes, name.into_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| BuildError::File {
        what: "read",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &Path, out: Option<PathBuf>, tools: &Tools) -> BuildError {
        let recipe = Recipe { source: source.to_owned(), out, profile: None };
        build(&recipe, tools).expect_err("it cannot be built")
    }

    #[test]
    fn a_folder_without_source_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = refused(folder.path(), None, &Tools::default());
        assert!(matches!(error, BuildError::NoSource(_)), "{error}");
    }

    #[test]
    fn a_missing_compiler_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let hook = folder.path().join("mine");
        crate::create(&hook, crate::Language::C).expect("made");
        let tools = Tools { clang: vec!["no-such-clang".into()], ..Tools::default() };
        let text = refused(&hook, None, &tools).to_string();
        assert!(text.starts_with("cannot start `no-such-clang`"), "{text}");
        assert!(text.contains("\nhint: install clang"), "{text}");
        let rust = folder.path().join("other");
        crate::create(&rust, crate::Language::Rust).expect("made");
        let tools = Tools { rustc: "no-such-rustc".into(), ..Tools::default() };
        let text = refused(&rust, None, &tools).to_string();
        assert!(text.starts_with("cannot start `no-such-rustc`"), "{text}");
    }

    #[test]
    fn a_compiler_without_the_target_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let hook = folder.path().join("mine");
        crate::create(&hook, crate::Language::Rust).expect("made");
        // Answers every question with the name of a folder that is not there.
        let tools = Tools { rustc: "echo".into(), ..Tools::default() };
        let error = refused(&hook, None, &tools);
        assert!(matches!(error, BuildError::Target(_)), "{error}");
        assert!(error.to_string().contains("rustup target add wasm32-unknown-unknown"));
    }

    #[test]
    fn a_core_module_is_never_replaced_by_its_component() {
        let folder = tempfile::tempdir().expect("a folder");
        let module = folder.path().join("a.wasm");
        std::fs::write(&module, b"\0asm\x01\0\0\0").expect("written");
        let error = refused(&module, None, &Tools::default());
        assert!(matches!(error, BuildError::NoOutput(_)), "{error}");
        let error = refused(&module, Some(folder.path().join("b.wasm")), &Tools::default());
        assert!(matches!(error, BuildError::Component(_)), "{error}");
        assert_eq!(name_of_module(Path::new("x/a.core.wasm")), "a");
        assert_eq!(name_of_module(Path::new("a.wasm")), "a");
    }
}
