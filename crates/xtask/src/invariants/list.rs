//! The list of absences. docs/ARCHITECTURE.md points here.

/// One absence.
pub(super) struct Invariant {
    /// As docs/ARCHITECTURE.md has it.
    pub(super) sentence: &'static str,
    pub(super) rule: Rule,
}

/// How an absence is checked.
pub(super) enum Rule {
    /// Of the workspace, only `by` name the dependency in their manifests, tests included.
    OnlyThese { dependency: &'static str, by: &'static [&'static str] },
    /// The package names no other dependency, tests excluded.
    NothingBut { package: &'static str, dependencies: &'static [&'static str] },
    /// No chain of dependencies leads from the package to the other, tests excluded.
    NeverReaches { package: &'static str, dependency: &'static str },
    /// The sources use none of the macros.
    NoMacros { folder: &'static str, macros: &'static [&'static str] },
    /// The sources mention none of the modules of the standard library.
    NoStdModules { folder: &'static str, modules: &'static [&'static str] },
}

const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];
const OUTSIDE_WORLD: &[&str] = &["fs", "net", "process", "thread", "env", "io", "time"];

const fn invariant(sentence: &'static str, rule: Rule) -> Invariant {
    Invariant { sentence, rule }
}

const fn only_these(
    sentence: &'static str,
    dependency: &'static str,
    by: &'static [&'static str],
) -> Invariant {
    invariant(sentence, Rule::OnlyThese { dependency, by })
}

const fn never_reaches(
    sentence: &'static str,
    package: &'static str,
    dependency: &'static str,
) -> Invariant {
    invariant(sentence, Rule::NeverReaches { package, dependency })
}

/// Every absence, in the order of the rooms.
pub(super) const INVARIANTS: &[Invariant] = &[
    invariant(
        "core does no I/O and starts no threads",
        Rule::NoStdModules { folder: "crates/core/src", modules: OUTSIDE_WORLD },
    ),
    invariant(
        "core depends on nothing that does I/O",
        Rule::NothingBut {
            package: "forerunner-core",
            dependencies: &["serde", "serde_json", "sha2", "thiserror"],
        },
    ),
    invariant(
        "stats are pure functions",
        Rule::NoStdModules { folder: "crates/stats/src", modules: OUTSIDE_WORLD },
    ),
    invariant(
        "stats depend on nothing that does I/O",
        Rule::NothingBut {
            package: "forerunner-stats",
            dependencies: &["forerunner-core", "serde", "statrs"],
        },
    ),
    only_these(
        "no plugin names abi_stable: the interface is invisible to authors",
        "abi_stable",
        &["forerunner-abi", "forerunner-sdk", "forerunner-runtime"],
    ),
    only_these("only abi loads libraries", "libloading", &["forerunner-abi"]),
    only_these(
        "only sdk and runtime know the interface",
        "forerunner-abi",
        &["forerunner-sdk", "forerunner-runtime"],
    ),
    never_reaches(
        "a NanoGPT program is linked with no part of the plugin interface",
        "forerunner-nanogpt-harness",
        "abi_stable",
    ),
    never_reaches("core does not know the plugin interface", "forerunner-core", "abi_stable"),
    never_reaches(
        "the sandbox knows nothing of benchmarks",
        "forerunner-sandbox",
        "forerunner-core",
    ),
    only_these("only sandbox knows Landlock", "landlock", &["forerunner-sandbox"]),
    only_these("only sandbox knows seccomp", "seccompiler", &["forerunner-sandbox"]),
    only_these("only verify knows wasmtime", "wasmtime", &["forerunner-verify"]),
    only_these(
        "only train-ops and the NanoGPT harness know candle",
        "candle-core",
        &["forerunner-train-ops", "forerunner-nanogpt-harness"],
    ),
    never_reaches("the command links no tensors", "forerunner-cli", "candle-core"),
    never_reaches("the NanoGPT plugin links no tensors", "forerunner-nanogpt", "candle-core"),
    only_these("only kernels names CUDA's bindings", "cudarc", &["forerunner-kernels"]),
    never_reaches("the command links no CUDA", "forerunner-cli", "cudarc"),
    never_reaches("the NanoGPT plugin links no CUDA", "forerunner-nanogpt", "cudarc"),
    only_these("only the NanoGPT plugin asks NVML", "nvml-wrapper", &["forerunner-nanogpt"]),
    only_these(
        "only the runtime knows the store's database, and tests that spoil one",
        "rusqlite",
        &["forerunner-runtime", "forerunner-tests"],
    ),
    invariant(
        "the runtime never prints",
        Rule::NoMacros { folder: "crates/runtime/src", macros: PRINTING },
    ),
    only_these("only report draws terminals", "anstyle", &["forerunner-report"]),
    only_these(
        "only commands read arguments",
        "clap",
        &["forerunner-cli", "forerunner-fuzz", "forerunner-scripted-model", "xtask"],
    ),
    only_these(
        "anyhow stays out of libraries",
        "anyhow",
        &["forerunner-fuzz", "xtask", "forerunner-tests"],
    ),
    only_these("only mcp speaks the Model Context Protocol", "rmcp", &["forerunner-mcp"]),
    only_these("only models knows providers of models", "genai", &["forerunner-models"]),
    only_these("only models and fetch have a network client", "reqwest", &["forerunner-models"]),
    only_these("only models and fetch have a network client", "ureq", &["forerunner-fetch"]),
    only_these("only fetch knows the hub that data comes from", "hf-hub", &["forerunner-fetch"]),
    only_these("only commands fetch data", "forerunner-fetch", &["forerunner-cli"]),
    never_reaches("no environment has a network client", "forerunner-nanogpt", "ureq"),
    never_reaches("the runtime has no network client", "forerunner-runtime", "ureq"),
    only_these(
        "only mcp and models are asynchronous",
        "tokio",
        &["forerunner-mcp", "forerunner-models"],
    ),
    never_reaches("no search is asynchronous", "forerunner-runtime", "tokio"),
];
