//! Compiled hooks on disk. A compiled hook is machine code, so only what this user's host has
//! written is loaded: the folder and each file must be the user's and writable by nobody else, and
//! each image carries a digest of itself, its component and the engine.

use crate::HookError;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use wasmtime::{Engine, component::Component};

/// First bytes of an image; another layout gets another line.
const MAGIC: &[u8] = b"forerunner hook image 1\n";
const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + DIGEST_BYTES;
/// Bits of the mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// A folder of compiled hooks.
pub(crate) struct Cache {
    folder: PathBuf,
}

/// What an image belongs to: a component and the engine that compiled it.
pub(crate) struct Key([u8; DIGEST_BYTES]);

impl Key {
    pub(crate) fn new(engine: &Engine, component: &[u8]) -> Self {
        let mut hash = Stable(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hash);
        hash.0.update(Sha256::digest(component));
        Self(hash.0.finalize().into())
    }

    fn file_name(&self) -> String {
        format!("{}.image", hex(&self.0))
    }

    /// Binds the image to its key, so that renaming an image makes it invalid.
    fn digest(&self, image: &[u8]) -> [u8; DIGEST_BYTES] {
        Sha256::new().chain_update(self.0).chain_update(image).finalize().into()
    }
}

/// A hasher whose result is the same in every process and build.
struct Stable(Sha256);

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Cache {
    /// Opens or creates the folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, HookError> {
        let refused = |problem: String| HookError::Cache { path: folder.to_owned(), problem };
        prepare(folder).map_err(|error| refused(format!("cannot be used: {error}")))?;
        let metadata = folder
            .symlink_metadata()
            .map_err(|error| refused(format!("cannot be read: {error}")))?;
        if !metadata.is_dir() {
            return Err(refused("is not a folder".to_owned()));
        }
        if metadata.uid() != geteuid().as_raw() {
            return Err(refused("belongs to another user".to_owned()));
        }
        if metadata.mode() & OTHERS_WRITE != 0 {
            return Err(refused("can be written by others".to_owned()));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The component of `key`, if a trustworthy and undamaged image of it is there.
    pub(crate) fn load(&self, engine: &Engine, key: &Key) -> Option<Component> {
        let file = read_ours(&self.folder.join(key.file_name())).ok()?;
        let (header, image) = file.split_at_checked(HEADER_BYTES)?;
        let (magic, digest) = header.split_at(MAGIC.len());
        if magic != MAGIC || *digest != key.digest(image) {
            return None;
        }
        deserialize(engine, image).ok()
    }

    /// Keeps a compiled component. A cache that cannot be written to is merely slow, so the caller
    /// may ignore the error.
    pub(crate) fn store(&self, key: &Key, image: &[u8]) -> io::Result<()> {
        // Created with mode 0600 and renamed when complete: others never see half of an image.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&key.digest(image))?;
        file.write_all(image)?;
        file.persist(self.folder.join(key.file_name()))?;
        Ok(())
    }
}

/// Creates the folder with mode 0700, if it is not there.
fn prepare(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The content of a regular file that belongs to this user and that nobody else can write. Checked
/// on the open file, so that it cannot be exchanged in between.
fn read_ours(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let mut file: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !is_ours(&metadata) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_ours(metadata: &Metadata) -> bool {
    metadata.is_file()
        && metadata.uid() == geteuid().as_raw()
        && metadata.mode() & OTHERS_WRITE == 0
}

#[expect(
    unsafe_code,
    reason = "the engine cannot check machine code, so we check where it is from"
)]
fn deserialize(engine: &Engine, image: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the image is what `Component::serialize` answered to this user's host: `load` has
    // read it from a file that belongs to this user and that nobody else can write, in a folder of
    // the same kind, and it has the digest that `store` wrote. The engine refuses images of other
    // engines by itself.
    unsafe { Component::deserialize(engine, image) }
}
