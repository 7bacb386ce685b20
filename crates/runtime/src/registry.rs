//! Finds, loads and describes plugins.

use abi_stable::std_types::{RResult, RSlice, RStr};
use abi_stable::{sabi_trait::prelude::TD_Opaque, std_types::RArc};
use forerunner_abi::{Kind, LoadFailure, PluginRef, RawSink, RawSink_TO};
use forerunner_core::{Environment, Mutator, Result as PluginResult, Selector};
use forerunner_sdk::__private::{ForeignEnvironment, ForeignMutator, ForeignSelector};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A plugin could not be found, loaded or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// No file of that name on the search path.
    #[error(
        "no plugin offers the {kind} `{name}` (known: {known}; searched: {searched})\nhint: put the plugin's library into one of the searched folders, or name another folder with `--plugins DIR` or FORERUNNER_PLUGINS"
    )]
    Unknown {
        /// `environment`, `mutator` or `selector`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
        /// Where it was looked for.
        searched: String,
    },
    /// The file is not there.
    #[error("cannot find the plugin {path}\nhint: `forerunner plugin list` shows what is there", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The dynamic loader refused the file.
    #[error("{path} is not a library that can be loaded: {cause}\nhint: build the plugin with `crate-type = [\"cdylib\"]` for this platform", path = path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        cause: String,
    },
    /// A library without a plugin header.
    #[error("{path} is a library but not a plugin: it exports no plugin header\nhint: add an `export_plugin!` line and depend on forerunner-sdk", path = path.display())]
    NotAPlugin {
        /// The file.
        path: PathBuf,
    },
    /// Built against another interface.
    #[error("{path} was built for plugin interface {found}, this host speaks {ours}\nhint: rebuild the plugin against forerunner-sdk {ours}", path = path.display())]
    Interface {
        /// The file.
        path: PathBuf,
        /// Its interface version.
        found: String,
        /// Our interface version.
        ours: &'static str,
    },
    /// The same version with other layouts.
    #[error("{path} has another memory layout than this host although both say interface {ours}\nhint: rebuild the plugin and the host from the same sources", path = path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// Our interface version.
        ours: &'static str,
        /// abi_stable's report.
        report: String,
    },
    /// The plugin refused to make the object.
    #[error(
        "plugin {plugin} {version}: cannot make {kind} `{name}`: {error}\nhint: check the `config` table of this plugin in the run file"
    )]
    Make {
        /// Plugin name.
        plugin: String,
        /// Plugin version.
        version: String,
        /// `environment`, `mutator` or `selector`.
        kind: &'static str,
        /// The export.
        name: String,
        /// The plugin's words.
        error: forerunner_core::Error,
    },
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Environment => "environment",
        Kind::Mutator => "mutator",
        Kind::Selector => "selector",
    }
}

/// A loaded plugin.
#[derive(Clone, Copy)]
pub struct Plugin(PluginRef);

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// File it was loaded from.
    pub path: PathBuf,
    /// Name of its crate.
    pub name: String,
    /// Version of its crate.
    pub version: String,
    /// What it offers: (kind, name).
    pub exports: Vec<(String, String)>,
}

impl Plugin {
    /// Loads one file.
    ///
    /// # Errors
    /// One line with a hint, whatever the file is.
    pub fn load(path: &Path) -> Result<Self, PluginError> {
        let path = path.to_owned();
        if !path.exists() {
            return Err(PluginError::Missing { path });
        }
        // Without a slash the dynamic loader would search its own path.
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let ours = forerunner_abi::interface_version();
        let plugin = forerunner_abi::load(&absolute).map_err(|failure| match failure {
            LoadFailure::NotALibrary(cause) => PluginError::NotALibrary { path, cause },
            LoadFailure::NotAPlugin => PluginError::NotAPlugin { path },
            LoadFailure::Interface { found } => PluginError::Interface { path, found, ours },
            LoadFailure::Layout(report) => PluginError::Layout { path, ours, report },
        })?;
        let sink = LogSink { plugin: plugin.name()().into() };
        plugin.connect()(RawSink_TO::from_ptr(RArc::new(sink), TD_Opaque));
        Ok(Self(plugin))
    }

    /// What it says of itself.
    pub fn describe(&self, path: &Path) -> Description {
        let exports = self.0.exports()();
        Description {
            path: path.to_owned(),
            name: self.0.name()().into(),
            version: self.0.version()().into(),
            exports: exports
                .iter()
                .map(|export| (kind_name(export.kind).to_owned(), export.name.to_string()))
                .collect(),
        }
    }

    fn make<R>(
        &self,
        kind: &'static str,
        name: &str,
        config: &serde_json::Value,
        build: extern "C" fn(RStr<'_>, RSlice<'_, u8>) -> RResult<R, forerunner_abi::Bytes>,
    ) -> Result<R, PluginError> {
        let made: PluginResult<R> = match build(name.into(), config.to_string().as_bytes().into()) {
            RResult::ROk(object) => Ok(object),
            RResult::RErr(bytes) => {
                Err(forerunner_sdk::__private::answer::<()>(RResult::RErr(bytes))
                    .err()
                    .unwrap_or_else(|| forerunner_core::Error::failed("an error without text")))
            }
        };
        made.map_err(|error| PluginError::Make {
            plugin: self.0.name()().into(),
            version: self.0.version()().into(),
            kind,
            name: name.to_owned(),
            error,
        })
    }

    /// Makes an environment.
    ///
    /// # Errors
    /// When the plugin refuses the configuration.
    pub fn environment(
        &self,
        name: &str,
        config: &serde_json::Value,
    ) -> Result<impl Environment + use<>, PluginError> {
        self.make("environment", name, config, self.0.environment()).map(ForeignEnvironment)
    }

    /// Makes a mutator.
    ///
    /// # Errors
    /// When the plugin refuses the configuration.
    pub fn mutator(
        &self,
        name: &str,
        config: &serde_json::Value,
    ) -> Result<Box<dyn Mutator>, PluginError> {
        Ok(Box::new(ForeignMutator(self.make("mutator", name, config, self.0.mutator())?)))
    }

    /// Makes a selector.
    ///
    /// # Errors
    /// When the plugin refuses the configuration.
    pub fn selector(
        &self,
        name: &str,
        config: &serde_json::Value,
    ) -> Result<Box<dyn Selector>, PluginError> {
        Ok(Box::new(ForeignSelector(self.make("selector", name, config, self.0.selector())?)))
    }
}

/// Passes a plugin's log records on to the host's log.
#[derive(Clone)]
struct LogSink {
    plugin: String,
}

impl RawSink for LogSink {
    fn max_level(&self) -> u8 {
        use tracing::level_filters::LevelFilter;
        let current = LevelFilter::current();
        [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG]
            .iter()
            .position(|level| *level == current)
            .map_or(if current == LevelFilter::TRACE { 5 } else { 0 }, |index| index as u8 + 1)
    }

    fn event(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        let (plugin, from, fields) = (&*self.plugin, target.as_str(), fields.as_str());
        match level {
            1 => tracing::error!(plugin, from, fields, "{message}"),
            2 => tracing::warn!(plugin, from, fields, "{message}"),
            3 => tracing::info!(plugin, from, fields, "{message}"),
            4 => tracing::debug!(plugin, from, fields, "{message}"),
            _ => tracing::trace!(plugin, from, fields, "{message}"),
        }
    }
}

/// Folders in which plugins are looked for.
#[derive(Debug, Clone)]
pub struct Registry {
    folders: Vec<PathBuf>,
}

impl Registry {
    /// Looks in `folders`, in order.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// The library files in all folders, in order; folders that are not there are skipped.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in &self.folders {
            let mut here: Vec<_> = std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
                .collect();
            here.sort();
            files.extend(here);
        }
        files
    }

    /// The folders in which installed hooks are looked for, in order.
    pub fn hook_folders(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.join("hooks"))
    }

    /// Installed hooks with their files, by name; of two with the same name the first one found.
    pub fn hooks(&self) -> Vec<(String, PathBuf)> {
        let mut hooks = std::collections::BTreeMap::new();
        for folder in self.hook_folders() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_component = path.extension().is_some_and(|extension| extension == "wasm");
                if let (true, Some(name)) = (is_component, path.file_stem()) {
                    hooks.entry(name.to_string_lossy().into_owned()).or_insert(path);
                }
            }
        }
        hooks.into_iter().collect()
    }

    /// The file of the installed hook called `name`.
    pub fn hook(&self, name: &str) -> Option<PathBuf> {
        self.hooks().into_iter().find(|(known, _)| known == name).map(|(_, path)| path)
    }

    /// Every file with what it says of itself or why it cannot be loaded.
    pub fn list(&self) -> Vec<(PathBuf, Result<Description, PluginError>)> {
        let describe = |path: &PathBuf| Plugin::load(path).map(|plugin| plugin.describe(path));
        self.files().into_iter().map(|path| (path.clone(), describe(&path))).collect()
    }

    /// The plugin that offers `name`, and its file. `plugin` names a file to use instead of
    /// searching. The library called `lib<name>.so` or `libforerunner_<name>.so` is tried first,
    /// so that a search rarely opens more than one file.
    ///
    /// # Errors
    /// When nothing offers it, or the named file cannot be loaded.
    pub fn find(
        &self,
        kind: &'static str,
        name: &str,
        plugin: Option<&Path>,
    ) -> Result<(Plugin, PathBuf), PluginError> {
        if let Some(path) = plugin {
            return Ok((Plugin::load(path)?, path.to_owned()));
        }
        let mut files = self.files();
        let unlikely = |path: &Path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let wanted = name.replace('-', "_");
            stem != format!("libforerunner_{wanted}") && stem != format!("lib{wanted}")
        };
        files.sort_by_key(|path| unlikely(path));
        let mut known = Vec::new();
        for path in files {
            let plugin = match Plugin::load(&path) {
                Ok(plugin) => plugin,
                // The file that is called after what is wanted: its own error says more than
                // that nothing offers it.
                Err(error) if !unlikely(&path) => return Err(error),
                Err(_) => continue,
            };
            for (found_kind, found) in plugin.describe(&path).exports {
                if found_kind == kind {
                    if found == name {
                        return Ok((plugin, path));
                    }
                    known.push(found);
                }
            }
        }
        known.sort();
        let none = || "none".to_owned();
        Err(PluginError::Unknown {
            kind,
            name: name.to_owned(),
            known: if known.is_empty() { none() } else { known.join(", ") },
            searched: if self.folders.is_empty() {
                none()
            } else {
                let shown: Vec<_> = self.folders.iter().map(|f| f.display().to_string()).collect();
                shown.join(", ")
            },
        })
    }
}
