//! Pages in headless Chromium, where there is one.

use crate::Scratch;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Chromium, from the distribution's package or from Google.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser without a window, with a fresh profile for every page.
pub struct Browser(PathBuf);

/// A colour scheme that a page may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark text on a light ground.
    Light,
    /// Light text on a dark ground.
    Dark,
}

/// What became of a page.
pub struct Dom {
    /// The document after its scripts ran, as HTML.
    pub html: String,
    /// What scripts, and the browser itself, wrote to the console.
    pub console: Vec<String>,
}

impl Browser {
    /// The browser on the search path; without one, `None` after saying so aloud. Continuous
    /// integration sets FORERUNNER_NEEDS_BROWSER: there it must not be missing.
    ///
    /// # Panics
    /// When there is none and there must be.
    pub fn find(test: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .flat_map(|folder| NAMES.map(|name| folder.join(name)))
            .find(|program| program.is_file());
        if found.is_none() {
            let needed = std::env::var_os("FORERUNNER_NEEDS_BROWSER").is_some();
            assert!(!needed, "{test}: FORERUNNER_NEEDS_BROWSER is set, and there is no Chromium");
            crate::skip(test, "there is no Chromium (Debian: `apt-get install chromium`)");
        }
        found.map(Self)
    }

    /// Opens a page, lets its scripts run, and reads the document back.
    ///
    /// # Panics
    /// When the browser fails.
    pub fn dom(&self, scratch: &Scratch, page: &Path) -> Dom {
        let mut command = self.command(scratch, page);
        command.arg("--dump-dom").arg(url(page));
        let done = scratch.done(command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let console = done.stderr.lines().filter(|line| line.contains("CONSOLE"));
        Dom { console: console.map(str::to_owned).collect(), html: done.stdout }
    }

    /// A picture (PNG) of the upper part of a page, `width` by `height` pixels.
    ///
    /// # Panics
    /// When the browser fails, or makes no picture.
    pub fn picture(
        &self,
        scratch: &Scratch,
        page: &Path,
        (width, height): (u32, u32),
        scheme: Scheme,
    ) -> Vec<u8> {
        let file = scratch.path().join("picture.png");
        let scheme = match scheme {
            Scheme::Light => 1,
            Scheme::Dark => 0,
        };
        let mut command = self.command(scratch, page);
        command
            .arg(format!("--screenshot={}", file.display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .args(["--hide-scrollbars", "--force-device-scale-factor=1"])
            .arg(url(page));
        let done = scratch.done(command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let picture = std::fs::read(&file).expect("the browser made a picture");
        std::fs::remove_file(file).expect("it is ours");
        picture
    }

    fn command(&self, scratch: &Scratch, page: &Path) -> Command {
        assert!(page.is_file(), "{} is missing", page.display());
        let profile = tempfile::tempdir_in(scratch.path()).expect("a folder").keep();
        let mut command = scratch.program(&self.0);
        command.env("HOME", scratch.path()).args([
            "--headless",
            // Our own pages, in a container as often as not.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            // Containers give little of it.
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--enable-logging=stderr",
            "--v=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command
    }
}

fn url(page: &Path) -> String {
    format!("file://{}", page.display())
}
