//! Makes this process one that may not have namespaces, as ordinary users may not on recent
//! distributions and nobody may in most containers. Inherited by all that it starts.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Has the kernel answer EPERM to `unshare`, `setns` and every `clone` with a flag for a namespace.
/// `clone3`, whose flags a filter cannot read, is answered with ENOSYS.
pub(crate) fn deny_user_namespaces() {
    // SAFETY: numbers only. An ordinary user may install filters only after this.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
    ];
    let namespace = flags.map(|flag| with_flag(flag as u64)).to_vec();
    let refused = [
        (libc::SYS_unshare, Vec::new()),
        (libc::SYS_setns, Vec::new()),
        (libc::SYS_clone, namespace),
    ];
    install(BTreeMap::from(refused), libc::EPERM);
    install(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS);
}

fn with_flag(flag: u64) -> SeccompRule {
    let set = SeccompCondition::new(0, Len::Qword, Op::MaskedEq(flag), flag).unwrap();
    SeccompRule::new(vec![set]).unwrap()
}

fn install(refused: BTreeMap<i64, Vec<SeccompRule>>, error: i32) {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let answer = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, answer, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}
