//! Opens plugin libraries. `abi_stable`'s own loader caches one module per type and would
//! silently answer the first plugin for every later one, so this goes through `libloading`.

use crate::PluginRef;
use abi_stable::library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME_WITH_NUL, RootModule};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::{error::Error as _, path::Path};

/// Why a file could not be loaded as a plugin. One line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadFailure {
    /// The dynamic loader refused the file; its words.
    NotALibrary(String),
    /// A library, but it exports no plugin header.
    NotAPlugin,
    /// A plugin of another interface version.
    Interface {
        /// The version it was built against.
        found: String,
    },
    /// The same version, but types are laid out differently; abi_stable's report, pages long.
    Layout(String),
}

/// The version of the interface that this host speaks.
pub fn interface_version() -> &'static str {
    PluginRef::VERSION_STRINGS.version.as_str()
}

/// Versions match in major and minor: for `0.x` a minor bump breaks plugins.
fn compatible(a: &str, b: &str) -> bool {
    let prefix = |version: &str| {
        let mut parts = version.split('.');
        (parts.next().map(str::to_owned), parts.next().map(str::to_owned))
    };
    prefix(a) == prefix(b)
}

/// Loads the plugin at `path`. The library stays mapped for the life of the process.
///
/// # Errors
/// One [`LoadFailure`]; nothing is left half loaded that could be called.
pub fn load(path: &Path) -> Result<PluginRef, LoadFailure> {
    // SAFETY: loading runs the library's initialisers; plugins are trusted code.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        LoadFailure::NotALibrary(cause)
    })?;
    // Plugins hand out objects with code in the library, so it is never unloaded.
    let library = Box::leak(Box::new(library));
    // SAFETY: when the symbol is there it is abi_stable's header, whose magic `upgrade` checks
    // before anything else is read.
    let header =
        unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) }
            .map_err(|_| LoadFailure::NotAPlugin)?;
    let header = header.upgrade().map_err(|error| LoadFailure::Layout(error.to_string()))?;
    let found = header.version_strings().version.as_str().to_owned();
    if !compatible(&found, interface_version()) {
        return Err(LoadFailure::Interface { found });
    }
    header.init_root_module::<PluginRef>().map_err(|error| LoadFailure::Layout(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_major_and_minor_decide() {
        assert!(compatible("0.1.0", "0.1.7"));
        assert!(!compatible("0.1.0", "0.2.0"));
        assert!(!compatible("1.1.0", "0.1.0"));
    }

    #[test]
    fn what_is_not_a_plugin_is_said_so() {
        let missing = load(Path::new("/nonexistent/libx.so")).err();
        assert!(
            matches!(missing, Some(LoadFailure::NotALibrary(text)) if text.contains("libx.so"))
        );
        let libc = load(Path::new("libc.so.6")).err();
        assert_eq!(libc, Some(LoadFailure::NotAPlugin));
    }
}
