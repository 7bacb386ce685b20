//! What can be fetched by name.

use crate::FetchError;

/// A published data set of token shards: files of 256 little-endian `i32` (20240520, 1, number of
/// tokens, zeros) and the tokens as little-endian `u16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Name on the command line.
    pub name: &'static str,
    /// The data set's repository on the hub.
    pub repository: &'static str,
    /// The file that is held out.
    pub held_out: &'static str,
    /// How the names of the files to train on begin; six digits, counted from 1, and `.bin` follow.
    pub train: &'static str,
    /// Number of files to train on that there are.
    pub most_shards: usize,
    /// How many of them are fetched unless more are asked for.
    pub default_shards: usize,
    /// Bytes of one file, but for the last: what people are told beforehand.
    pub file_bytes: u64,
    /// The environment that makes a data set of the files.
    pub environment: &'static str,
}

/// Everything that can be fetched.
pub const SOURCES: &[Source] = &[Source {
    name: "fineweb10B",
    repository: "kjj0/fineweb10B-gpt2",
    held_out: "fineweb_val_000000.bin",
    train: "fineweb_train_",
    most_shards: 103,
    // 800 million tokens: enough to try things, in less than two gigabytes.
    default_shards: 8,
    // 100 million tokens of two bytes, and the header.
    file_bytes: 200_001_024,
    environment: "nanogpt",
}];

/// The source of this name.
///
/// # Errors
/// [`FetchError::UnknownSource`] when there is none.
pub fn source(name: &str) -> Result<&'static Source, FetchError> {
    SOURCES.iter().find(|source| source.name == name).ok_or_else(|| FetchError::UnknownSource {
        name: name.to_owned(),
        known: SOURCES.iter().map(|source| source.name).collect::<Vec<_>>().join(", "),
    })
}

impl Source {
    /// Names of the files that a fetch of so many shards needs: the held-out one, then those to
    /// train on in order.
    ///
    /// # Errors
    /// [`FetchError::Shards`] when there are not that many, or none are asked for.
    pub fn files(&self, shards: usize) -> Result<Vec<String>, FetchError> {
        if shards == 0 || shards > self.most_shards {
            return Err(FetchError::Shards { asked: shards, most: self.most_shards });
        }
        let train = (1..=shards).map(|number| format!("{}{number:06}.bin", self.train));
        Ok(std::iter::once(self.held_out.to_owned()).chain(train).collect())
    }

    /// About how many bytes a fetch of so many shards brings.
    pub fn bytes(&self, shards: usize) -> u64 {
        (shards as u64 + 1) * self.file_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_they_are_published() {
        let fineweb = source("fineweb10B").unwrap();
        let files = fineweb.files(2).unwrap();
        let expected =
            ["fineweb_val_000000.bin", "fineweb_train_000001.bin", "fineweb_train_000002.bin"];
        assert_eq!(files, expected);
        assert_eq!(fineweb.files(103).unwrap().last().unwrap(), "fineweb_train_000103.bin");
        assert_eq!(fineweb.bytes(fineweb.default_shards), 1_800_009_216);
    }

    #[test]
    fn what_there_is_not_is_named_with_what_there_is() {
        let check = |error: FetchError, expected: &str| assert_eq!(error.to_string(), expected);
        check(
            source("fineweb").unwrap_err(),
            "unknown data set `fineweb` (known: fineweb10B)\nhint: data of your own needs no \
             fetching, see `forerunner data prepare --help`",
        );
        for asked in [0, 104] {
            check(
                SOURCES[0].files(asked).unwrap_err(),
                &format!("cannot fetch {asked} shards\nhint: ask for 1 to 103"),
            );
        }
    }
}
