//! Keys: where they come from, and how they stay out of every text.

use crate::{ModelConfig, provider::Provider};
use forerunner_core::{Error, Result};
use std::{borrow::Cow, fs::File, io::Read, ops::Range, path::Path};

/// A key. It cannot be shown, compared or written: there are no such implementations.
pub(crate) struct Secret(String);

/// Whether there is a key.
pub(crate) enum Key {
    /// None is wanted.
    Unneeded,
    /// One is wanted and was not found; the text says where it was looked for.
    Missing(String),
    /// Here it is.
    Present(Secret),
}

/// A file that is longer than this holds something else.
const LONGEST: u64 = 16 << 10;

/// What stands in a text where a key stood.
const REMOVED: &str = "[key removed]";

impl Key {
    /// Looks for the key where the configuration says.
    ///
    /// # Errors
    /// When a file is there that cannot be a key's, or that others can read. What is missing is no
    /// error: a replay needs no key.
    pub(crate) fn find(config: &ModelConfig, provider: &Provider) -> Result<Self> {
        let name = &config.name;
        if let Some(path) = &config.key_file {
            return match from_file(path) {
                Ok(Some(text)) => Secret::new(&text)
                    .map(Self::Present)
                    .map_err(|why| Error::config(&format!("{name}.key_file"), why)),
                Ok(None) => Ok(Self::Missing(format!(
                    "the file with the key of `{name}` is not there: `{}`\nhint: write the key into it and run \
                     `chmod 600` on it",
                    path.display()
                ))),
                Err(why) => Err(Error::config(&format!("{name}.key_file"), why)),
            };
        }
        let Some(variable) = &provider.key_env else {
            return Ok(Self::Unneeded);
        };
        match std::env::var(variable).ok().filter(|text| !text.trim().is_empty()) {
            Some(text) => Secret::new(&text).map(Self::Present).map_err(|why| {
                Error::config(&format!("{name}.key_env"), format!("`{variable}` {why}"))
            }),
            None if provider.needs_key => Ok(Self::Missing(format!(
                "no key for `{name}`: the variable `{variable}` is not set\nhint: export {variable}=..., or name \
                 another variable in `key_env` or a file in `key_file`"
            ))),
            None => Ok(Self::Unneeded),
        }
    }

    /// The text without the key and without long pieces of it: for what people read.
    pub(crate) fn out_of_message<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.out_of(text, 8)
    }

    /// The text without the key and without long pieces of it: for replies, in which a short piece
    /// is more likely chance than a leak.
    pub(crate) fn out_of_reply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.out_of(text, 16)
    }

    fn out_of<'a>(&self, text: &'a str, least: usize) -> Cow<'a, str> {
        match self {
            Self::Present(secret) => secret.out_of(text, least),
            Self::Unneeded | Self::Missing(_) => Cow::Borrowed(text),
        }
    }
}

impl Secret {
    fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("holds no key");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("holds more than one word, or characters that no key has");
        }
        Ok(Self(text.to_owned()))
    }

    /// The key itself, for the request that needs it and for nothing else.
    pub(crate) fn reveal(&self) -> String {
        self.0.clone()
    }

    /// The text without every piece of the key that has at least `least` bytes. Words that servers
    /// without keys are given (`EMPTY`, `ollama`: below 8 bytes) are no secrets and stay.
    fn out_of<'a>(&self, text: &'a str, least: usize) -> Cow<'a, str> {
        let key = self.0.as_bytes();
        if key.len() < 8 {
            return Cow::Borrowed(text);
        }
        let least = least.min(key.len());
        // Every piece of `least` bytes covers one of these blocks, so it is enough to look for them.
        let block = least.div_ceil(2);
        let mut found: Vec<Range<usize>> = Vec::new();
        for start in (0..=key.len() - block).step_by(block) {
            let needle = &self.0[start..start + block];
            for (place, _) in text.match_indices(needle) {
                let bytes = text.as_bytes();
                let before = (1..=start.min(place))
                    .take_while(|back| bytes[place - back] == key[start - back])
                    .count();
                let after = (start + block..key.len())
                    .zip(place + block..bytes.len())
                    .take_while(|(k, b)| key[*k] == bytes[*b])
                    .count();
                if before + block + after >= least {
                    found.push(place - before..place + block + after);
                }
            }
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_by_key(|range| range.start);
        let mut clean = String::with_capacity(text.len());
        let mut kept = 0;
        for range in found {
            if range.end <= kept {
                continue;
            }
            // A range that overlaps the one before belongs to the same removal.
            if range.start >= kept {
                clean.push_str(&text[kept..range.start]);
                clean.push_str(REMOVED);
            }
            kept = range.end;
        }
        clean.push_str(&text[kept..]);
        Cow::Owned(clean)
    }
}

/// The file's text, or nothing when there is no such file.
fn from_file(path: &Path) -> Result<Option<String>, String> {
    let shown = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot open `{shown}`: {error}")),
    };
    // Asked of the open file: nobody can put another one in its place meanwhile.
    let metadata = file.metadata().map_err(|error| format!("cannot look at `{shown}`: {error}"))?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(format!("`{shown}` is not a file with a key and nothing else"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "others than its owner can reach the key in `{shown}` (mode {:03o})\nhint: run `chmod 600 {shown}`",
                mode & 0o777
            ));
        }
    }
    let mut text = String::new();
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-proj-Zq81mXw0Lr55tPdHcV2n9yBsKe7uFaGj";

    fn key(text: &str) -> Key {
        Key::Present(Secret::new(text).expect("a key"))
    }

    #[test]
    fn the_key_and_long_pieces_of_it_are_cut_out() {
        let key = key(KEY);
        let check = |text: String, expected: &str| {
            assert_eq!(key.out_of_message(&text), expected, "{text}")
        };
        check(format!("bad key {KEY}!"), "bad key [key removed]!");
        check(format!("{KEY}{KEY}"), "[key removed][key removed]");
        check(format!("key={}...", &KEY[..20]), "key=[key removed]...");
        check(format!("ends in {}", &KEY[KEY.len() - 8..]), "ends in [key removed]");
        check(format!("ends in {}", &KEY[KEY.len() - 4..]), "ends in FaGj");
        check(format!("ümläut {KEY} ümläut"), "ümläut [key removed] ümläut");
        check("nothing to see".to_owned(), "nothing to see");
        for start in 0..KEY.len() - 8 {
            for end in start + 8..=KEY.len() {
                let text = format!("<{}>", &KEY[start..end]);
                check(text, "<[key removed]>");
            }
        }
        // In replies, only what can hardly be chance.
        assert_eq!(key.out_of_reply("sk-proj-Zq81"), "sk-proj-Zq81");
        assert_eq!(key.out_of_reply(&KEY[5..30]), REMOVED);
    }

    #[test]
    fn placeholders_are_no_secrets() {
        assert_eq!(key("EMPTY").out_of_message("if EMPTY then"), "if EMPTY then");
    }

    #[cfg(unix)]
    #[test]
    fn files_that_others_can_read_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("key");
        let mut config = ModelConfig::new("m", "x");
        config.provider = Some("openai".to_owned());
        config.key_file = Some(path.clone());
        let find = || Key::find(&config, &Provider::of(&config).expect("a provider"));
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .expect("permissions");
        };
        assert!(matches!(find(), Ok(Key::Missing(text)) if text.contains("chmod 600")));
        std::fs::write(&path, format!("{KEY}\n")).expect("written");
        for open in [0o640, 0o604, 0o660, 0o777] {
            mode(open);
            let error = find().err().expect("refused").to_string();
            assert!(error.contains("hint: run `chmod 600"), "{error}");
            assert!(!error.contains(KEY), "{error}");
        }
        mode(0o600);
        assert!(matches!(find(), Ok(Key::Present(secret)) if secret.reveal() == KEY));
        for wrong in ["", " \n", "two words", "k\u{e4}y"] {
            std::fs::write(&path, wrong).expect("written");
            assert!(find().is_err(), "{wrong:?}");
        }
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("folder");
        assert!(find().is_err());
    }
}
