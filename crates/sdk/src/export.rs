//! The plugin's side of loading: what it offers, and how its configuration is read.

use crate::guest::{encode, environment_object, guard, mutator_object, selector_object};
use abi_stable::{
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RSlice, RStr, RString, RVec},
};
use forerunner_abi::{Bytes, Export, Kind, Plugin, PluginRef};
use forerunner_core::{Environment, Error, Mutator, Result, Selector};
use serde::de::DeserializeOwned;
use std::sync::OnceLock;

type Build<T> = Box<dyn Fn(&[u8]) -> Result<Box<T>> + Send + Sync>;

/// What a plugin offers, by kind and name.
#[derive(Default)]
pub struct Registry {
    environments: Vec<(&'static str, Build<dyn Environment>)>,
    mutators: Vec<(&'static str, Build<dyn Mutator>)>,
    selectors: Vec<(&'static str, Build<dyn Selector>)>,
}

/// Reads a plugin's configuration; the error names the field.
pub(crate) fn config<C: DeserializeOwned>(bytes: &[u8]) -> Result<C> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let text = error.inner().to_string();
        // The place within our own encoding means nothing to the author of a run file.
        let text = text.split(" at line ").next().unwrap_or_default().to_owned();
        if path == "." { Error::Config(text) } else { Error::config(&path, text) }
    })
}

impl Registry {
    /// Offers an environment.
    pub fn environment<C: DeserializeOwned, T: Environment + 'static>(
        &mut self,
        name: &'static str,
        build: impl Fn(C) -> Result<T> + Send + Sync + 'static,
    ) {
        self.environments.push((name, Box::new(move |b| Ok(Box::new(build(config(b)?)?)))));
    }

    /// Offers a mutator.
    pub fn mutator<C: DeserializeOwned, T: Mutator + 'static>(
        &mut self,
        name: &'static str,
        build: impl Fn(C) -> Result<T> + Send + Sync + 'static,
    ) {
        self.mutators.push((name, Box::new(move |b| Ok(Box::new(build(config(b)?)?)))));
    }

    /// Offers a selector.
    pub fn selector<C: DeserializeOwned, T: Selector + 'static>(
        &mut self,
        name: &'static str,
        build: impl Fn(C) -> Result<T> + Send + Sync + 'static,
    ) {
        self.selectors.push((name, Box::new(move |b| Ok(Box::new(build(config(b)?)?)))));
    }
}

struct Loaded {
    name: &'static str,
    version: &'static str,
    registry: Registry,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();

/// Makes the root module of this plugin. Called once, by the exported header.
pub fn plugin(name: &'static str, version: &'static str, fill: fn(&mut Registry)) -> PluginRef {
    LOADED.get_or_init(|| {
        let mut registry = Registry::default();
        fill(&mut registry);
        Loaded { name, version, registry }
    });
    Plugin {
        name: plugin_name,
        version: plugin_version,
        exports,
        connect: crate::logging::connect,
        environment,
        mutator,
        selector,
    }
    .leak_into_prefix()
}

fn loaded() -> &'static Loaded {
    LOADED.get().expect("set before the root module is handed out")
}

extern "C" fn plugin_name() -> RString {
    loaded().name.into()
}

extern "C" fn plugin_version() -> RString {
    loaded().version.into()
}

extern "C" fn exports() -> RVec<Export> {
    fn list<T: ?Sized>(kind: Kind, of: &[(&'static str, Build<T>)]) -> Vec<Export> {
        of.iter().map(|(name, _)| Export { kind, name: (*name).into() }).collect()
    }
    let registry = &loaded().registry;
    let mut all = list(Kind::Environment, &registry.environments);
    all.extend(list(Kind::Mutator, &registry.mutators));
    all.extend(list(Kind::Selector, &registry.selectors));
    all.into()
}

fn build<T: ?Sized, R>(
    of: &[(&'static str, Build<T>)],
    name: &str,
    config: &[u8],
    wrap: impl FnOnce(Box<T>) -> R,
) -> RResult<R, Bytes> {
    let made = guard(|| match of.iter().find(|(known, _)| *known == name) {
        Some((_, build)) => build(config),
        None => {
            let known: Vec<_> = of.iter().map(|(known, _)| *known).collect();
            Err(Error::Config(format!("no export named `{name}` (known: {})", known.join(", "))))
        }
    });
    match made {
        Ok(object) => RResult::ROk(wrap(object)),
        Err(error) => RResult::RErr(encode(&error)),
    }
}

extern "C" fn environment(
    name: RStr<'_>,
    config: RSlice<'_, u8>,
) -> RResult<forerunner_abi::Environment, Bytes> {
    build(&loaded().registry.environments, &name, &config, environment_object)
}

extern "C" fn mutator(
    name: RStr<'_>,
    config: RSlice<'_, u8>,
) -> RResult<forerunner_abi::Mutator, Bytes> {
    build(&loaded().registry.mutators, &name, &config, mutator_object)
}

extern "C" fn selector(
    name: RStr<'_>,
    config: RSlice<'_, u8>,
) -> RResult<forerunner_abi::Selector, Bytes> {
    build(&loaded().registry.selectors, &name, &config, selector_object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only its reading is tested")]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its reading is tested")]
        rate: f64,
    }

    #[test]
    fn a_configuration_error_names_the_field() {
        let check = |text: &str, expected: &str| {
            let error = config::<Outer>(text.as_bytes()).expect_err("bad configuration");
            assert_eq!(error.to_string(), expected);
        };
        check(
            r#"{"inner":{"rate":"x"}}"#,
            "bad configuration: `inner.rate`: invalid type: string \"x\", expected f64",
        );
        check(
            r#"{"inner":{"rat":1}}"#,
            "bad configuration: `inner.rat`: unknown field `rat`, expected `rate`",
        );
        check("{}", "bad configuration: missing field `inner`");
    }
}
