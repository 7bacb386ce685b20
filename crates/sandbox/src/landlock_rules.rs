//! Landlock: which files can be opened, and no TCP, foreign signals or abstract sockets.
//!
//! Landlock decides when a file is opened, linked, moved or removed. It does not decide about
//! `stat`, `chdir`, permissions, owners and times: a program can learn that a path exists. The
//! seccomp filter and the read-only view take care of the changes.

use std::{
    io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::{
    Gpu, Policy, Profile, elf_interpreter,
    error::Failure,
    gpu::{OWN_FILES, OWN_THREADS},
};

const HINT: &str = "use kernel 5.13 or newer with Landlock enabled (boot parameter \
                    `lsm=landlock,…`; containers: a runtime that permits its calls)";

/// The version the running kernel offers, at least 1.
pub(crate) fn kernel_abi() -> io::Result<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call reads no memory and only returns a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION)
    };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}

/// Confines the calling thread for good and returns the version in use. Everything that version
/// knows is handled, and a kernel that cannot enforce it is an error.
pub(crate) fn restrict(policy: &Policy, program: Option<&Path>) -> Result<u32, Failure> {
    let abi = kernel_abi().map_err(|error| Failure::floor("Landlock", error, HINT))?;
    let rules = rules(policy, program, ABI::from(abi.cast_signed()))?;
    let status = rules.restrict_self().map_err(|e| Failure::floor("Landlock", e, HINT))?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(Failure::floor("Landlock", "the rules were enforced only in part", HINT));
    }
    Ok(abi)
}

/// Confines the calling thread for good to writing below `work_dir` and `paths` and to the usual
/// devices, and to signalling its own kind, and returns the version in use. It goes on reading and
/// executing everything.
pub(crate) fn restrict_writes(work_dir: &Path, paths: &[PathBuf]) -> Result<u32, Failure> {
    let failed = |error| Failure::floor("Landlock", error, HINT);
    let number = kernel_abi().map_err(|error| Failure::floor("Landlock", error, HINT))?;
    let abi = ABI::from(number.cast_signed());
    // Terminals are made and set up by `ioctl`, which is no way to change files.
    let writes = AccessFs::from_write(abi) & !AccessFs::IoctlDev;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writes)
        .map_err(failed)?;
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::Signal).map_err(failed)?;
    }
    let mut created = ruleset.create().map_err(failed)?;
    let devices = DEVICES.iter().map(PathBuf::from).filter(|path| path.exists());
    for path in devices.chain(paths.iter().cloned()).chain([work_dir.to_owned()]) {
        created = grant(created, &path, writes, abi)?;
    }
    let status = created.restrict_self().map_err(failed)?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(Failure::floor("Landlock", "the rules were enforced only in part", HINT));
    }
    Ok(number)
}

/// What ordinary commands write to besides files.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

fn rules(policy: &Policy, program: Option<&Path>, abi: ABI) -> Result<RulesetCreated, Failure> {
    let failed = |error| Failure::floor("Landlock", error, HINT);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(failed)?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(failed)?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket).map_err(failed)?;
    }
    let mut created = ruleset.create().map_err(failed)?;
    for (path, access) in grants(policy, program, abi)? {
        created = grant(created, &path, access, abi)?;
    }
    Ok(created)
}

/// Who may do what. Execution is the interesting right: a program gets it for its own file and its
/// loader only, so the one `execve` that seccomp has to let pass can start nothing else.
fn grants(
    policy: &Policy,
    program: Option<&Path>,
    abi: ABI,
) -> Result<Vec<(PathBuf, BitFlags<AccessFs>)>, Failure> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = AccessFs::ReadFile | AccessFs::Execute;
    let mut work = read;
    if policy.work_dir_writable {
        work |= AccessFs::WriteFile | AccessFs::RemoveDir | AccessFs::RemoveFile;
        work |= AccessFs::MakeDir | AccessFs::MakeReg;
        work |= (AccessFs::Refer | AccessFs::Truncate) & AccessFs::from_all(abi);
    }
    let mut grants = vec![
        (policy.work_dir.clone(), work),
        ("/dev/null".into(), AccessFs::ReadFile | AccessFs::WriteFile),
        ("/dev/zero".into(), AccessFs::ReadFile.into()),
        ("/dev/urandom".into(), AccessFs::ReadFile.into()),
    ];
    grants.extend(program.map(|program| (program.to_owned(), execute)));
    match policy.profile {
        Profile::Program => {
            grants.extend(policy.read_only.iter().map(|path| (path.clone(), read)));
            let loader = program.map(|program| loader(policy, program)).transpose()?.flatten();
            grants.extend(loader.map(|loader| (loader, execute)));
            grants.extend(policy.gpu.iter().flat_map(|gpu| gpu_grants(gpu, abi)));
        }
        Profile::Tool => {
            let access = read | AccessFs::Execute;
            grants.extend(policy.read_only.iter().map(|path| (path.clone(), access)));
        }
    }
    Ok(grants)
}

/// What belongs to a GPU. Control of devices (`ioctl`) is judged from version 5 on; before, whoever
/// can open a device can control it, and only these can be opened.
fn gpu_grants(gpu: &Gpu, abi: ABI) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let control = BitFlags::from(AccessFs::IoctlDev) & AccessFs::from_all(abi);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | control;
    let mut grants: Vec<_> = gpu.nodes.iter().map(|node| (node.clone(), device)).collect();
    grants.extend(gpu.libraries.iter().map(|path| (path.clone(), read)));
    // A private /proc may lack what the machine's has.
    let own = OWN_FILES.iter().map(PathBuf::from);
    let information = gpu.information.iter().cloned().chain(own).filter(|path| path.exists());
    grants.extend(information.map(|path| (path, read)));
    grants.push((OWN_THREADS.into(), read | AccessFs::WriteFile));
    grants
}

/// The dynamic loader, if `program` names one that was granted anyway. The program's file is
/// hostile: the name in it must not open another path.
fn loader(policy: &Policy, program: &Path) -> Result<Option<PathBuf>, Failure> {
    let refused = |reason: String| Failure::Execute { program: show(program), reason };
    let named = elf_interpreter::read(program).map_err(|error| refused(error.to_string()))?;
    let Some(named) = named else { return Ok(None) };
    let real = named.canonicalize().map_err(|e| refused(format!("`{}`: {e}", show(&named))))?;
    let granted = policy.read_only.iter().flat_map(|path| path.canonicalize());
    if granted.into_iter().any(|path| real.starts_with(path)) {
        return Ok(Some(real));
    }
    Err(refused(format!(
        "its loader `{}` is not below a readable path\n\
         hint: link it statically, or add `system_libraries()` to the readable paths",
        show(&named)
    )))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn grant(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    abi: ABI,
) -> Result<RulesetCreated, Failure> {
    let step = format!("cannot grant `{}`", path.display());
    // The library's own text does not name the reason in one line.
    let is_dir = std::fs::metadata(path).map_err(|e| Failure::setup(&step, e))?.is_dir();
    let access = if is_dir { access } else { access & AccessFs::from_file(abi) };
    let parent = PathFd::new(path).map_err(|e| Failure::setup(&step, e))?;
    rules.add_rule(PathBeneath::new(parent, access)).map_err(|e| Failure::setup(&step, e))
}
