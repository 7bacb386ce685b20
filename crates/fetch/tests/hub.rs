//! Fetches from a hub on this machine, over real HTTP, with everything going wrong in turn.

mod support;

use forerunner_fetch::{Event, Fetch, FetchError, Fetched, Patience, fetch, source};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use support::{COMMIT, Fault, Hub, sha256, shard};

const VAL: &str = "fineweb_val_000000.bin";
const FIRST: &str = "fineweb_train_000001.bin";
const PATIENCE: Patience =
    Patience { attempts: 4, pause: Duration::from_millis(2), silence: Duration::from_secs(10) };

/// A hub and a folder to fetch into.
struct Place {
    hub: Hub,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { hub: Hub::start(), dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("shards")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder().join(file)
    }

    fn request(&self, shards: usize) -> Fetch {
        let source = source("fineweb10B").expect("known");
        let endpoint = Some(self.hub.endpoint.clone());
        Fetch { source, shards, folder: self.folder(), endpoint }
    }

    fn fetch_with(&self, patience: Patience) -> (Result<Fetched, FetchError>, Vec<Event>) {
        let mut events = Vec::new();
        let stop = AtomicBool::new(false);
        let result = fetch(&self.request(1), patience, &stop, &mut |event| events.push(event));
        (result, events)
    }

    fn fetch(&self) -> (Result<Fetched, FetchError>, Vec<Event>) {
        self.fetch_with(PATIENCE)
    }

    /// Fetches and checks that every byte is the published one, with a record that says so.
    fn good(&self) -> (Fetched, Vec<Event>) {
        let (result, events) = self.fetch();
        let fetched = result.expect("a good fetch");
        for file in [VAL, FIRST] {
            let bytes = fs::read(self.path(file)).expect("fetched");
            assert_eq!(sha256(&bytes), sha256(&self.hub.content(file)), "{file}");
            let record =
                fs::read_to_string(self.path(&format!("{file}.sha256"))).expect("recorded");
            assert_eq!(record, format!("{}  {file}\n", sha256(&bytes)));
        }
        let mut names: Vec<_> = fs::read_dir(self.folder())
            .expect("there")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        let expected =
            [FIRST.to_owned(), format!("{FIRST}.sha256"), VAL.to_owned(), format!("{VAL}.sha256")];
        assert_eq!(names, expected, "nothing else is left behind");
        (fetched, events)
    }

    /// Fetches in vain; the error with folder and address made readable.
    fn bad(&self) -> String {
        let error = self.fetch().0.expect_err("a fetch that fails").to_string();
        let (line, hint) = error.split_once('\n').expect("a hint");
        assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{hint}");
        let folder = fs::canonicalize(self.folder()).expect("made");
        line.replace(&self.hub.endpoint, "HUB").replace(&*folder.to_string_lossy(), "FOLDER")
    }
}

#[test]
fn a_fetch_brings_what_is_published_and_the_next_one_needs_no_hub() {
    let place = Place::new();
    let (fetched, events) = place.good();
    assert_eq!(fetched.commit.as_deref(), Some(COMMIT));
    let [val, train] = &fetched.files[..] else { panic!("{fetched:?}") };
    assert_eq!((val.file.as_str(), val.tokens, val.bytes), (VAL, 9_000, 19_024));
    assert_eq!((train.file.as_str(), train.tokens, train.bytes), (FIRST, 40_000, 81_024));
    assert_eq!((val.received, train.received), (val.bytes, train.bytes));
    assert_eq!(events[0], Event::Begun { file: VAL.to_owned(), bytes: 19_024, here: 0 });
    assert_eq!(events.last(), Some(&Event::Done(train.clone())));
    let n_requests = place.hub.requests();
    let (again, events) = place.good();
    assert_eq!(place.hub.requests(), n_requests, "nothing is asked for again");
    assert_eq!(again.commit, None);
    assert!(again.files.iter().all(|file| file.received == 0));
    assert_eq!(events[0], Event::Checking { file: VAL.to_owned() });
}

#[test]
fn a_cut_connection_is_continued_where_it_was_cut() {
    let place = Place::new();
    // The first cut is of the held-out file, the others of the one to train on.
    place.hub.misbehave([5_000, 100_000, 30_000, 0, 20_000].map(Fault::CutAfter));
    let (fetched, events) = place.good();
    assert_eq!(place.hub.downloads(VAL), [0, 5_000]);
    assert_eq!(place.hub.downloads(FIRST), [0, 30_000, 30_000, 50_000]);
    assert_eq!(fetched.files[0].received, fetched.files[0].bytes, "no byte came twice");
    assert_eq!(fetched.files[1].received, fetched.files[1].bytes, "no byte came twice");
    let waits = events.iter().filter(|event| matches!(event, Event::Waiting { .. })).count();
    assert_eq!(waits, 4);
}

#[test]
fn a_fetch_that_was_killed_is_continued_by_the_next_one() {
    let place = Place::new();
    place.hub.misbehave([4_000; 4].map(|_| Fault::CutAfter(0)));
    place.hub.misbehave([Fault::CutAfter(4_000)]);
    let error = place.bad();
    assert!(error.starts_with("gave up on `fineweb_val_000000.bin` after 4 attempts"), "{error}");
    // As a kill leaves it: a part, and no lock that anybody holds.

    let (fetched, events) = place.good();
    assert_eq!(place.hub.downloads(VAL), [0, 0, 0, 0, 0, 4_000]);
    assert_eq!(fetched.files[0].received, 19_024);
    assert_eq!(events[0], Event::Begun { file: VAL.to_owned(), bytes: 19_024, here: 0 });
}

#[test]
fn killed_at_the_last_instant_no_byte_is_fetched_again() {
    let place = Place::new();
    let content = place.hub.content(VAL);
    let blobs = place.folder().join(".unfinished/datasets--kjj0--fineweb10B-gpt2/blobs");
    fs::create_dir_all(&blobs).unwrap();
    // All bytes had come but the file was still a part.
    fs::write(blobs.join(sha256(&content)).with_extension("part"), &content).unwrap();
    assert_eq!(place.good().0.files[0].received, 0);
    // The file was whole but not yet checked.
    fs::remove_file(place.path(VAL)).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(sha256(&content)), &content).unwrap();
    assert_eq!(place.good().0.files[0].received, 0);
    assert!(place.hub.downloads(VAL).is_empty());
    // The part is longer than the file: it is started again.
    fs::remove_file(place.path(VAL)).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(sha256(&content)).with_extension("part");
    fs::write(part, [&content[..], &content[..]].concat()).unwrap();
    assert_eq!(place.good().0.files[0].received, 19_024);
}

#[test]
fn wrong_bytes_are_fetched_again_once_and_never_kept() {
    let place = Place::new();
    place.hub.misbehave([Fault::Spoilt]);
    let (_, events) = place.good();
    let waited = events.iter().find_map(|event| match event {
        Event::Waiting { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(waited.expect("a second attempt").contains("the hub says"), "{events:?}");

    let place = Place::new();
    place.hub.misbehave([Fault::Spoilt, Fault::Spoilt]);
    let error = place.bad();
    assert!(
        error.starts_with(
            "`fineweb_val_000000.bin` from HUB is not the published file: its SHA-256 is"
        ),
        "{error}"
    );
    assert!(!place.path(VAL).exists());
    assert_eq!(place.hub.downloads(VAL), [0, 0], "nothing of a spoilt file is continued");
}

#[test]
fn a_server_that_ignores_where_to_continue_is_noticed() {
    let place = Place::new();
    place.hub.misbehave([Fault::CutAfter(5_000), Fault::IgnoresRange]);
    place.good();
    assert_eq!(place.hub.downloads(VAL), [0, 5_000, 0]);
}

#[test]
fn a_busy_hub_is_asked_again_and_a_refusing_one_is_not() {
    let place = Place::new();
    place.hub.misbehave([429, 500, 503].map(Fault::Status));
    let (_, events) = place.good();
    let pauses: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Waiting { reason, pause, .. } => {
                Some((reason.rsplit(' ').next().unwrap().to_owned(), pause.as_millis()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(pauses, [("429".into(), 2), ("500".into(), 4), ("503".into(), 8)]);

    let place = Place::new();
    place.hub.misbehave([429; 4].map(Fault::Status));
    let error = "gave up on `fineweb_val_000000.bin` after 4 attempts: the hub answered with HTTP \
                 status 429";
    assert_eq!(place.bad(), error);
    place.hub.misbehave([Fault::Status(403)]);
    assert_eq!(place.bad(), "HUB refuses `fineweb_val_000000.bin`: HTTP status 403");
}

#[test]
fn what_is_not_published_or_no_hub_is_said_so() {
    let place = Place::new();
    let mut request = place.request(4);
    let result = fetch(&request, PATIENCE, &AtomicBool::new(false), &mut |_| {});
    let error = result.unwrap_err().to_string();
    let expected = "has no `fineweb_train_000004.bin` in the data set `kjj0/fineweb10B-gpt2`\nhint: ask \
                    for fewer shards, or check HF_ENDPOINT";
    assert!(error.ends_with(expected), "{error}");
    assert!(place.path("fineweb_train_000003.bin").exists(), "what there is stays");
    place.hub.misbehave([Fault::LoginPage]);
    fs::remove_file(place.path(VAL)).unwrap();
    let error = place.bad();
    assert!(error.starts_with("HUB does not speak the hub's protocol: "), "{error}");
    // Nobody listens there: the port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    request.endpoint = Some(format!("http://127.0.0.1:{port}/"));
    let result = fetch(&request, PATIENCE, &AtomicBool::new(false), &mut |_| {});
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot reach http://127.0.0.1:{port}: ")), "{error}");
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(error.contains("\nhint: check the network"), "{error}");
}

#[test]
fn a_file_that_is_no_shard_is_refused() {
    let place = Place::new();
    let mut bytes = shard(0..9_000);
    bytes[0] ^= 1;
    place.hub.publish(VAL, bytes.clone());
    let expected = "`fineweb_val_000000.bin` from HUB is not the published file: it starts with \
                    20240521 and 1, not with 20240520 and 1";
    assert_eq!(place.bad(), expected);
    bytes[0] ^= 1;
    bytes.truncate(9_000);
    place.hub.publish(VAL, bytes);
    // Without a hash the header is all there is to go by.
    place.hub.without_hashes();
    let expected = "`fineweb_val_000000.bin` from HUB is not the published file: its header promises \
                    9000 tokens (19024 bytes), it has 9000 bytes";
    assert_eq!(place.bad(), expected);
}

#[test]
fn a_record_is_held_against_what_comes_later() {
    let place = Place::new();
    place.good();
    // Damaged on the disk: fetched again.
    let mut bytes = place.hub.content(VAL);
    bytes[2_000] ^= 1;
    fs::write(place.path(VAL), &bytes).unwrap();
    let (_, events) = place.good();
    assert_eq!(events[1], Event::Damaged { file: VAL.to_owned() });
    // Lost, and the hub has another one by now.
    fs::remove_file(place.path(VAL)).unwrap();
    place.hub.publish(VAL, shard(5..9_005));
    let error = place.bad();
    let expected =
        "`fineweb_val_000000.bin` is not the file that was fetched first: its SHA-256 is";
    assert!(error.starts_with(expected), "{error}");
    assert!(!place.path(VAL).exists());
    // The new one is accepted by deleting the record, and is not fetched again for it.
    let n_downloads = place.hub.downloads(VAL).len();
    fs::remove_file(place.path(&format!("{VAL}.sha256"))).unwrap();
    place.good();
    assert_eq!(place.hub.downloads(VAL).len(), n_downloads);
}

#[test]
fn files_put_there_by_hand_are_used_when_they_are_the_published_ones() {
    let place = Place::new();
    fs::create_dir_all(place.folder()).unwrap();
    fs::write(place.path(VAL), place.hub.content(VAL)).unwrap();
    assert_eq!(place.good().0.files[0].received, 0);
    assert!(place.hub.downloads(VAL).is_empty());

    let place = Place::new();
    fs::create_dir_all(place.folder()).unwrap();
    fs::write(place.path(VAL), "years of work").unwrap();
    let error = place.bad();
    let expected = "`FOLDER/fineweb_val_000000.bin` is there already and is not the published file: its \
                    SHA-256 is";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(fs::read_to_string(place.path(VAL)).unwrap(), "years of work");
}

#[test]
fn a_full_disk_is_said_so_and_not_tried_again() {
    let place = Place::new();
    let blobs = place.folder().join(".unfinished/datasets--kjj0--fineweb10B-gpt2/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(sha256(&place.hub.content(VAL))).with_extension("part");
    // A device whose every write finds the disk full.
    symlink(Path::new("/dev/full"), part).unwrap();
    let error = place.bad();
    let expected = "cannot write in `FOLDER/.unfinished`: No space left on device";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(place.hub.downloads(VAL), [0]);
}

#[test]
fn a_fetch_stops_when_it_is_told_to_and_keeps_what_came() {
    let place = Place::new();
    place.hub.misbehave([Fault::Trickle]);
    let stop = AtomicBool::new(false);
    let mut received = 0;
    let result = fetch(&place.request(1), PATIENCE, &stop, &mut |event| {
        if let Event::Received { here } = event {
            received = here;
            stop.store(true, Ordering::Relaxed);
        }
    });
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Interrupted), "{error}");
    assert!(received > 0 && received < 19_024, "{received}");
    let blobs = place.folder().join(".unfinished/datasets--kjj0--fineweb10B-gpt2/blobs");
    let part = blobs.join(sha256(&place.hub.content(VAL))).with_extension("part");
    assert!(fs::metadata(part).unwrap().len() >= received);
}

#[test]
fn silence_ends_a_fetch() {
    let place = Place::new();
    place.hub.misbehave([Fault::Silence]);
    let patience = Patience { silence: Duration::from_millis(300), ..PATIENCE };
    let error = place.fetch_with(patience).0.unwrap_err();
    assert!(matches!(error, FetchError::Stalled { .. }), "{error}");
}

#[test]
fn two_fetches_do_not_work_in_one_folder() {
    let place = Place::new();
    let mut second = None;
    let stop = AtomicBool::new(false);
    let first = fetch(&place.request(1), PATIENCE, &stop, &mut |_| {
        second.get_or_insert_with(|| place.fetch().0.unwrap_err().to_string());
    });
    assert!(first.is_ok());
    let second = second.expect("an event");
    assert!(second.starts_with("another `forerunner data fetch` works in `"), "{second}");
}
