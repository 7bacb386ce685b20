//! What a hook says of itself.

use crate::text::{clean, is_made_of, is_name};
use forerunner_core::Permission;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Longest name of a hook or a rule in bytes.
pub(crate) const MAX_NAME: usize = 64;
const MAX_VERSION: usize = 32;

/// What a hook says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Letters, digits and `-`; at most 64 bytes.
    pub name: String,
    /// Letters, digits, `.`, `+` and `-`; at most 32 bytes.
    pub version: String,
    /// What it needs. It runs only when all of it is permitted.
    pub wants: BTreeSet<Permission>,
}

impl Manifest {
    /// The manifest, or what is wrong with it.
    pub(crate) fn checked(
        name: &str,
        version: &str,
        wants: BTreeSet<Permission>,
    ) -> Result<Self, String> {
        if !is_name(name, MAX_NAME) {
            return Err(format!(
                "its name is `{}` (must be 1 to {MAX_NAME} letters, digits and `-`)",
                clean(name, MAX_NAME)
            ));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+-".contains(&byte);
        if !is_made_of(version, MAX_VERSION, allowed) {
            return Err(format!(
                "its version is `{}` (must be 1 to {MAX_VERSION} letters, digits, `.`, `+` and `-`)",
                clean(version, MAX_VERSION)
            ));
        }
        Ok(Self { name: name.to_owned(), version: version.to_owned(), wants })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_plain() {
        let check = |name: &str, version: &str| Manifest::checked(name, version, BTreeSet::new());
        assert!(check("loss-check", "1.2.0-rc.1+x").is_ok());
        for (name, version) in
            [("", "1"), ("a/b", "1"), ("a\u{1b}[2J", "1"), ("a", ""), ("a", "1 2")]
        {
            let problem = check(name, version).expect_err("an odd manifest");
            assert!(!problem.contains('\u{1b}'), "{problem:?}");
        }
        assert!(check(&"a".repeat(65), "1").is_err());
        assert!(check("a", &"1".repeat(33)).is_err());
    }
}
