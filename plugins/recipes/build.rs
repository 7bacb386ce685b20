//! Lists the files of `library/*/*.toml`, so that they become part of the plugin.

use std::{
    env, fs,
    io::{Error, Result},
    path::{Path, PathBuf},
};

fn main() -> Result<()> {
    let variable = |name: &str| env::var(name).map_err(Error::other);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("library");
    let mut list = String::from("&[\n");
    for folder in sorted(&root)?.iter().filter(|path| path.is_dir()) {
        list += &format!("    ({:?}, &[\n", name(folder));
        for file in sorted(folder)?.iter().filter(|path| path.extension() == Some("toml".as_ref()))
        {
            list += &format!("        ({:?}, include_str!({file:?})),\n", name(file));
        }
        list += "    ]),\n";
    }
    list += "]\n";
    // Cargo looks into folders, so a new recipe is seen as well.
    tell_cargo("rerun-if-changed=library");
    tell_cargo("rerun-if-changed=build.rs");
    fs::write(Path::new(&variable("OUT_DIR")?).join("embedded.rs"), list)
}

/// Printing is how a build script speaks to cargo.
fn tell_cargo(instruction: &str) {
    println!("cargo::{instruction}");
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
