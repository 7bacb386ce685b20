//! Templates: those that come with the plugin, and those of a folder that replace them.

use crate::text;
use forerunner_sdk::{Error, Result};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, syntax::SyntaxConfig};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The templates that come with the plugin, by name.
const BUILT_IN: [(&str, &str); 13] = [
    ("system", include_str!("../prompts/system.md.j2")),
    ("parent", include_str!("../prompts/parent.md.j2")),
    ("telemetry", include_str!("../prompts/telemetry.md.j2")),
    ("inspirations", include_str!("../prompts/inspirations.md.j2")),
    ("history", include_str!("../prompts/history.md.j2")),
    ("failures", include_str!("../prompts/failures.md.j2")),
    ("cut", include_str!("../prompts/cut.md.j2")),
    ("template", include_str!("../prompts/template.md.j2")),
    ("idea", include_str!("../prompts/idea.md.j2")),
    ("implementation", include_str!("../prompts/implementation.md.j2")),
    ("critique", include_str!("../prompts/critique.md.j2")),
    ("retry", include_str!("../prompts/retry.md.j2")),
    ("repair", include_str!("../prompts/repair.md.j2")),
];

/// How template files end.
const SUFFIX: &str = ".md.j2";
/// Largest template in bytes.
const MAX_TEMPLATE: u64 = 1 << 20;
/// Instructions that rendering one template may take: far more than any sensible one does.
const FUEL: u64 = 1_000_000;

/// All templates, compiled.
#[derive(Debug)]
pub(crate) struct Prompts {
    general: Set,
    /// Those of environments that have templates of their own.
    of: BTreeMap<String, Set>,
}

/// The templates that serve one environment.
#[derive(Debug)]
pub(crate) struct Set {
    templates: Environment<'static>,
    /// Where templates come from that replace those that come with the plugin.
    files: BTreeMap<String, PathBuf>,
}

impl Prompts {
    /// The built-in templates, replaced by those of `folder` and, for each environment, of the
    /// folder in it that has the environment's name.
    ///
    /// # Errors
    /// When a file cannot be read, has a name that no template has, or does not compile.
    pub(crate) fn new(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self { general: Set::new(&[BTreeMap::new()])?, of: BTreeMap::new() });
        };
        let (files, folders) = list(folder)?;
        let general = Set::new(std::slice::from_ref(&files))?;
        let mut of = BTreeMap::new();
        for (environment, inner) in folders {
            let (own, _) = list(&inner)?;
            of.insert(environment, Set::new(&[files.clone(), own])?);
        }
        Ok(Self { general, of })
    }

    /// The templates for an environment.
    pub(crate) fn of(&self, environment: &str) -> &Set {
        self.of.get(environment).unwrap_or(&self.general)
    }
}

impl Set {
    /// Later layers replace earlier ones.
    fn new(layers: &[BTreeMap<String, PathBuf>]) -> Result<Self> {
        let mut templates = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        templates.set_syntax(syntax.build().map_err(Error::failed)?);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        // So that errors name the variable.
        templates.set_debug(true);
        templates.set_fuel(Some(FUEL));
        templates.add_filter("data", |text: &str, label: &str| text::marked(text, label));
        templates.add_filter("fence", |text: &str, language: &str| text::fenced(text, language));
        for (name, source) in BUILT_IN {
            templates
                .add_template(name, source)
                .map_err(|error| broken(&format!("built-in {name}{SUFFIX}"), &error))?;
        }
        let mut files = BTreeMap::new();
        for (name, path) in layers.iter().flatten() {
            if !BUILT_IN.iter().any(|(known, _)| known == name) {
                let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                let why = format!(
                    "{}: no template is called `{name}` (known: {})",
                    path.display(),
                    known.join(", ")
                );
                return Err(Error::config("prompts", why));
            }
            let source = read(path)?;
            templates
                .add_template_owned(name.clone(), source)
                .map_err(|error| broken(&path.display().to_string(), &error))?;
            files.insert(name.clone(), path.clone());
        }
        Ok(Self { templates, files })
    }

    /// Names of the templates that are not those that come with the plugin.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The template with its variables filled in.
    ///
    /// # Errors
    /// When a variable does not exist; the error names file, line and variable.
    pub(crate) fn render(&self, name: &str, variables: &minijinja::Value) -> Result<String> {
        let template = self.templates.get_template(name);
        template.and_then(|template| template.render(variables)).map_err(|error| {
            let place = self.files.get(name).map(|path| path.display().to_string());
            broken(&place.unwrap_or_else(|| format!("built-in {name}{SUFFIX}")), &error)
        })
    }
}

/// Template files of a folder by name, and folders in it.
type Listed = (BTreeMap<String, PathBuf>, BTreeMap<String, PathBuf>);

fn list(folder: &Path) -> Result<Listed> {
    let unreadable =
        |error: io::Error| Error::config("prompts", format!("{}: {error}", folder.display()));
    let (mut files, mut folders) = (BTreeMap::new(), BTreeMap::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            folders.insert(name, path);
        } else if let Some(name) = name.strip_suffix(SUFFIX) {
            files.insert(name.to_owned(), path);
        }
    }
    Ok((files, folders))
}

fn read(path: &Path) -> Result<String> {
    let unreadable = |why: String| Error::config("prompts", format!("{}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_TEMPLATE {
        return Err(unreadable(format!("{size} bytes; at most {MAX_TEMPLATE} are read")));
    }
    fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}

fn broken(file: &str, error: &minijinja::Error) -> Error {
    let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
    let what = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let hint = match error.kind() {
        ErrorKind::UndefinedError => {
            "\nhint: `docs/models.md` lists the variables of each template"
        }
        ErrorKind::SyntaxError => "\nhint: templates are written in the language of Jinja 2",
        _ => "",
    };
    Error::config("prompts", format!("{file}{line}: {}{what}{hint}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn refused(files: &[(&str, &str)], variables: &minijinja::Value) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("within the folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let error = Prompts::new(Some(folder.path()))
            .and_then(|prompts| prompts.of("toy").render("retry", variables))
            .expect_err("refused");
        error.to_string().replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn errors_name_file_line_and_variable() {
        let variables = context! { complaint => "no" };
        insta::assert_snapshot!(
            refused(&[("retry.md.j2", "Line one.\n{{ complaint }} {{ complain }}\n")], &variables),
            @r"
        bad configuration: `prompts`: DIR/retry.md.j2:2: undefined value: `complain` is undefined
        hint: `docs/models.md` lists the variables of each template
        "
        );
        insta::assert_snapshot!(
            refused(&[("toy/retry.md.j2", "{{ complaint.text.more }}")], &variables),
            @r"
        bad configuration: `prompts`: DIR/toy/retry.md.j2:1: undefined value: `complaint.text` is undefined
        hint: `docs/models.md` lists the variables of each template
        "
        );
        insta::assert_snapshot!(refused(&[("retry.md.j2", "{% if %}")], &variables), @r"
        bad configuration: `prompts`: DIR/retry.md.j2:1: syntax error: unexpected end of block
        hint: templates are written in the language of Jinja 2
        ");
        insta::assert_snapshot!(refused(&[("rtry.md.j2", "")], &variables), @"bad configuration: `prompts`: DIR/rtry.md.j2: no template is called `rtry` (known: system, parent, telemetry, inspirations, history, failures, cut, template, idea, implementation, critique, retry, repair)");
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let text =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        let message = refused(&[("retry.md.j2", text)], &context! { complaint => "" });
        assert!(message.contains("fuel"), "{message}");
    }

    #[test]
    fn the_environments_own_folder_comes_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        fs::create_dir(folder.path().join("toy")).expect("made");
        write("retry.md.j2", "general {{ complaint }}").expect("written");
        write("toy/retry.md.j2", "toy {{ complaint }}").expect("written");
        write("README.md", "not a template").expect("written");
        let prompts = Prompts::new(Some(folder.path())).expect("sound");
        let variables = context! { complaint => "x" };
        assert_eq!(prompts.of("toy").render("retry", &variables), Ok("toy x".to_owned()));
        assert_eq!(prompts.of("other").render("retry", &variables), Ok("general x".to_owned()));
        assert_eq!(prompts.of("toy").replaced().collect::<Vec<_>>(), ["retry"]);
        let built_in = Prompts::new(None).expect("sound");
        assert_ne!(built_in.of("toy").render("retry", &variables), Ok("toy x".to_owned()));
    }
}
