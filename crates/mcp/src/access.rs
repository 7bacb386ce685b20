//! Who may connect over the network: bearer tokens, and the clients that they stand for.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Fewest characters of a token that somebody chose.
const SHORTEST: usize = 16;

/// Tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}\nhint: a file of tokens has a line `NAME TOKEN` for each client", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("others may read {path}, so its tokens are no secret\nhint: `chmod 600 {path}`", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// A line makes no sense. Its text is not shown: it may hold a token.
    #[error("{path}, line {line}: {message}\nhint: write `NAME TOKEN`, a token of at least 16 characters, each of both once", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: &'static str,
    },
    /// No token can be drawn.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The tokens that open the server.
pub struct Access(Vec<Client>);

struct Client {
    /// The name that quotas and ideas go by; without one, it is what the client calls itself.
    name: Option<String>,
    token: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a token.
        f.debug_list().entries(self.0.iter().map(|client| &client.name)).finish()
    }
}

impl Access {
    /// One secret token for everybody, and the token itself.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate() -> Result<(Self, String), AccessError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((Self(vec![Client { name: None, token: token.clone() }]), token))
    }

    /// The clients in a file with a line `NAME TOKEN` for each; lines that are empty or start with
    /// `#` say nothing.
    ///
    /// # Errors
    /// When the file cannot be read, others can read it, or a line makes no sense.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let failed = |source| AccessError::Read { path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(AccessError::Open { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut clients: Vec<Client> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let wrong = |message| AccessError::Line { path: path.to_owned(), line, message };
            let words: Vec<&str> = content.split_whitespace().collect();
            let (name, token) = match words[..] {
                [] => continue,
                [first, ..] if first.starts_with('#') => continue,
                [name, token] => (name, token),
                _ => return Err(wrong("it has not two words")),
            };
            if token.len() < SHORTEST {
                return Err(wrong("the token is too short"));
            }
            let known =
                |client: &Client| client.token == token || client.name.as_deref() == Some(name);
            if clients.iter().any(known) {
                return Err(wrong("the name or the token was there before"));
            }
            clients.push(Client { name: Some(name.to_owned()), token: token.to_owned() });
        }
        if clients.is_empty() {
            let message = "there is no client in the file";
            return Err(AccessError::Line { path: path.to_owned(), line: 1, message });
        }
        Ok(Self(clients))
    }

    /// Whom an `Authorization` header lets in: `None` for nobody, else the client's name, if it has
    /// one.
    pub(crate) fn admit(&self, header: Option<&str>) -> Option<Option<String>> {
        let given = header?.strip_prefix("Bearer ")?.trim();
        let client = self.0.iter().find(|client| same(&client.token, given))?;
        Some(client.name.clone())
    }
}

/// Whether two texts are equal, in a time that depends on their lengths alone.
fn same(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        (folder, path)
    }

    #[test]
    fn a_token_lets_its_client_in_and_nobody_else() {
        let text = "# clients\n\nann 0123456789abcdef\nbob fedcba9876543210 \n";
        let (_folder, path) = file(text, 0o600);
        let access = Access::read(&path).expect("a good file");
        let admit = |header| access.admit(header);
        assert_eq!(admit(Some("Bearer 0123456789abcdef")), Some(Some("ann".to_owned())));
        assert_eq!(admit(Some("Bearer fedcba9876543210")), Some(Some("bob".to_owned())));
        let wrong = [
            "",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "ann",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ];
        for header in wrong {
            assert_eq!(admit(Some(header)), None, "{header}");
        }
        assert_eq!(admit(None), None);
        assert!(!format!("{access:?}").contains("0123"), "{access:?}");

        let (access, token) = Access::generate().expect("random numbers");
        assert_eq!(access.admit(Some(&format!("Bearer {token}"))), Some(None));
        assert!(token.len() == 32 && !format!("{access:?}").contains(&token));
    }

    #[test]
    fn tokens_that_are_no_secret_are_refused_and_never_shown() {
        let good = "ann 0123456789abcdef";
        for (text, mode, expected) in [
            (good, 0o644, "others may read"),
            ("ann 0123", 0o600, "line 1: the token is too short"),
            ("ann 0123456789abcdef 1", 0o600, "line 1: it has not two words"),
            ("ann 0123456789abcdef\nann 1123456789abcdef", 0o600, "line 2: the name or the token"),
            ("ann 0123456789abcdef\nbob 0123456789abcdef", 0o600, "line 2: the name or the token"),
            ("# nobody", 0o600, "there is no client"),
        ] {
            let (_folder, path) = file(text, mode);
            let error = Access::read(&path).expect_err("refused").to_string();
            assert!(error.contains(expected) && error.contains("hint: "), "{error}");
            assert!(!error.contains("0123"), "{error}");
        }
        let missing = Access::read(Path::new("/no/such/file")).expect_err("missing").to_string();
        assert!(missing.starts_with("cannot read /no/such/file: "), "{missing}");
    }
}
