//! The cache of compiled hooks: used when sound, made again when not, refused when others can write.

mod assemble;

use assemble::{ACCEPT, Guest, answer};
use forerunner_verify::{HookError, HookHost, Limits};
use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("deep/cache")
    }

    fn hook(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.wasm"));
        if !path.exists() {
            let mut guest = Guest::new(name);
            let report = guest.report(ACCEPT, &[], &[]);
            std::fs::write(&path, guest.component(&answer(report))).expect("room");
        }
        path
    }

    /// Loads in a fresh host, and answers the name that the hook gives itself.
    fn load(&self, name: &str) -> String {
        let host = HookHost::new(Limits::default(), Some(&self.cache())).expect("a host");
        host.load(&self.hook(name)).expect("a sound hook").manifest().name.clone()
    }

    fn images(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.cache()).expect("the cache");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").mode() & 0o777
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().expect("it is there").ino()
}

#[test]
fn a_hook_is_compiled_once() {
    let bench = Bench::new();
    assert_eq!(bench.load("one"), "one");
    let [image] = &bench.images()[..] else { panic!("{:?}", bench.images()) };
    assert_eq!((mode(&bench.cache()), mode(image)), (0o700, 0o600));
    let before = inode(image);
    assert_eq!(bench.load("one"), "one");
    assert_eq!(inode(image), before, "the image was written again");
    assert_eq!(bench.load("two"), "two");
    assert_eq!(bench.images().len(), 2);
}

#[test]
fn damaged_images_are_made_again() {
    let bench = Bench::new();
    bench.load("one");
    let image = bench.images().remove(0);
    let sound = std::fs::read(&image).expect("an image");
    let last = sound.len() - 1;
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damages = [
        Vec::new(),
        b"not an image".to_vec(),
        sound[..sound.len() / 2].to_vec(),
        [&*sound, b"more"].concat(),
        flipped(0),
        flipped(30),
        flipped(sound.len() / 2),
        flipped(last),
    ];
    for (index, damaged) in damages.iter().enumerate() {
        std::fs::write(&image, damaged).expect("room");
        assert_eq!(bench.load("one"), "one", "damage {index}");
        assert!(std::fs::read(&image).expect("an image") == sound, "damage {index} is still there");
    }
}

#[test]
fn an_image_under_another_name_is_not_trusted() {
    let bench = Bench::new();
    bench.load("one");
    let one = bench.images().remove(0);
    bench.load("two");
    let two = bench.images().into_iter().find(|path| *path != one).expect("another image");
    let sound = std::fs::read(&two).expect("an image");
    std::fs::copy(&one, &two).expect("room");
    assert_eq!(bench.load("two"), "two");
    assert!(std::fs::read(&two).expect("an image") == sound);
}

#[test]
fn files_that_others_could_have_written_are_not_trusted() {
    let bench = Bench::new();
    bench.load("one");
    let image = bench.images().remove(0);
    for lax in [0o620, 0o602, 0o666] {
        std::fs::set_permissions(&image, Permissions::from_mode(lax)).expect("our file");
        let before = inode(&image);
        assert_eq!(bench.load("one"), "one");
        assert_eq!(mode(&image), 0o600);
        assert_ne!(inode(&image), before, "mode {lax:o} was trusted");
    }
    // A link to a sound image is not one.
    let elsewhere = bench.folder.path().join("elsewhere");
    std::fs::rename(&image, &elsewhere).expect("the same disk");
    std::os::unix::fs::symlink(&elsewhere, &image).expect("a link");
    assert_eq!(bench.load("one"), "one");
    assert!(image.symlink_metadata().expect("an image").is_file(), "the link was followed");
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let bench = Bench::new();
    let refused = |path: &Path, problem: &str| match HookHost::new(Limits::default(), Some(path)) {
        Err(error @ HookError::Cache { .. }) => {
            let message = error.to_string();
            assert!(message.contains(problem) && message.contains("hint:"), "{message}");
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{} was taken", path.display()),
    };
    let lax = bench.folder.path().join("lax");
    std::fs::create_dir(&lax).expect("room");
    std::fs::set_permissions(&lax, Permissions::from_mode(0o777)).expect("our folder");
    refused(&lax, "can be written by others");
    refused(&bench.hook("one"), "is not a folder");
    let link = bench.folder.path().join("link");
    std::os::unix::fs::symlink("/tmp", &link).expect("a link");
    refused(&link, "is not a folder");
    // A folder that belongs to somebody else: the system's own, unless the test runs as root.
    if !nix::unistd::geteuid().is_root() {
        refused(Path::new("/usr"), "belongs to another user");
    }
}
