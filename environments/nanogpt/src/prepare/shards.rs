//! Data sets from existing token shards.

use super::folder::Folder;
use crate::{
    DataError, Manifest, Tokens,
    manifest::{Part, TokenKind},
    shard::Shard,
    stream::END_OF_TEXT,
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// Tokens of each held-out slice where the validation shards are as long as the speedrun's: 10,240
/// windows of 1,024 positions and the token that each predicts last, which no other window shows. So
/// 10,485,760 tokens are scored, as many as the speedrun scores, and val has them from its first
/// 10,496,001 (0.1 % more than its 10,485,760, whose windows overlap by a token).
const SPEEDRUN_SLICE: usize = 10_240 * 1_025 + 1;

/// Makes a GPT-2 data set from shards in the FineWeb format.
///
/// The files of `train`, in order, are the training text; they are not copied but mapped where they
/// lie, and must stay there. The held-out slices are copied from `val`:
///
/// - Where `val` holds at least 41,984,004 tokens (four times a slice; FineWeb's official validation
///   shard has 100 million), val is its first 10,496,001 tokens, dev begins with the first document
///   after those and vault with the first document after dev, each as long as val.
/// - A shorter `val` is divided into three equal runs of tokens: dev, val and vault.
///
/// # Errors
/// When a shard is absent or damaged, holds a token outside the vocabulary, or there are none.
pub fn from_shards(
    train: &[PathBuf],
    val: &[PathBuf],
    name: &str,
    out: &Path,
) -> Result<Manifest, DataError> {
    let open = |paths: &[PathBuf], what: &str| -> Result<Tokens, DataError> {
        if paths.is_empty() {
            let hint = "give shards for training and for validation";
            return Err(DataError::Empty { what: format!("the list of {what} shards"), hint });
        }
        let shards = paths.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>, _>>()?;
        shards.iter().try_for_each(|shard| shard.check_tokens(TokenKind::Gpt2.vocab()))?;
        Ok(Tokens::new(shards))
    };
    let (train, val) = (open(train, "training")?, open(val, "validation")?);
    let mut folder = Folder::create(name, out, TokenKind::Gpt2)?;
    folder.refer(Part::Train, &train)?;
    for (part, range) in divided(&val, SPEEDRUN_SLICE) {
        folder.write(part, |file| file.push(val.tokens(range)))?;
    }
    let source =
        format!("{} training and {} validation shards", train.shards().len(), val.shards().len());
    folder.finish(source)
}

/// Which tokens are in which slice. `slice` is the length of one, where there is enough for four.
fn divided(tokens: &Tokens, slice: usize) -> [(Part, Range<usize>); 3] {
    let len = tokens.len();
    if len < 4 * slice {
        let third = len / 3;
        return [
            (Part::Dev, 0..third),
            (Part::Val, third..2 * third),
            (Part::Vault, 2 * third..3 * third),
        ];
    }
    // Room for one more slice is left for the ends of documents; in text without any, runs touch.
    let document = |from: usize, to: usize| tokens.find(from..to, END_OF_TEXT).unwrap_or(from);
    let dev = document(slice, len - 2 * slice);
    let vault = document(dev + slice, len - slice);
    [(Part::Dev, dev..dev + slice), (Part::Val, 0..slice), (Part::Vault, vault..vault + slice)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, shard::ShardWriter};

    fn shard(path: PathBuf, tokens: impl IntoIterator<Item = u16>) -> PathBuf {
        let mut writer = ShardWriter::create(&path).unwrap();
        writer.push(tokens).unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn validation_shards_are_divided_in_three() {
        let dir = tempfile::tempdir().unwrap();
        let train = [shard(dir.path().join("a"), 0..10), shard(dir.path().join("b"), 10..20)];
        let val = [shard(dir.path().join("c"), 0..5), shard(dir.path().join("d"), 5..10)];
        let out = dir.path().join("out");
        let manifest = from_shards(&train, &val, "web", &out).unwrap();
        assert_eq!(manifest.vocab, 50_257);
        let dataset = Dataset::open(&out).unwrap();
        let tokens = |part: Part| {
            let shard = dataset.part(part);
            shard.tokens(0..shard.len()).collect::<Vec<_>>()
        };
        assert_eq!(tokens(Part::Train), (0..20).collect::<Vec<_>>());
        assert_eq!(tokens(Part::Dev), [0, 1, 2]);
        assert_eq!(tokens(Part::Val), [3, 4, 5]);
        assert_eq!(tokens(Part::Vault), [6, 7, 8]);
    }

    #[test]
    fn a_long_validation_text_is_divided_as_the_speedrun_has_it() {
        let dir = tempfile::tempdir().unwrap();
        // Documents of 7 tokens; 100 tokens, for slices of 20.
        let tokens = |n: u16| (0..n).map(|at| if at % 7 == 0 { END_OF_TEXT } else { at });
        let check = |name: &str, n: u16, expected: [Range<usize>; 3]| {
            let path = shard(dir.path().join(name), tokens(n));
            let tokens = Tokens::from(Shard::open(&path).unwrap());
            let parts = [Part::Dev, Part::Val, Part::Vault];
            assert_eq!(
                divided(&tokens, 20),
                parts.into_iter().zip(expected).collect::<Vec<_>>()[..]
            );
        };
        check("long", 100, [21..41, 0..20, 42..62]);
        check("enough", 80, [21..41, 0..20, 42..62]);
        check("short", 79, [0..26, 26..52, 52..78]);
        let plain = Tokens::from(Shard::open(&shard(dir.path().join("plain"), 0..100)).unwrap());
        let ranges = divided(&plain, 20).map(|(_, range)| range);
        assert_eq!(ranges, [20..40, 0..20, 40..60]);
        // What tracks need of a slice for the speedrun's score.
        assert_eq!(SPEEDRUN_SLICE, crate::score::tokens_needed(1_024, 10_240));
    }

    #[test]
    fn training_shards_stay_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let val = [shard(dir.path().join("val"), 0..9)];
        std::fs::create_dir_all(out.join("shards")).unwrap();
        let within = shard(out.join("shards/1.bin"), 0..10);
        let elsewhere = shard(dir.path().join("2.bin"), 10..20);
        let manifest =
            from_shards(&[within.clone(), elsewhere.clone()], &val, "web", &out).unwrap();
        assert!(!out.join("train.bin").exists(), "nothing is copied");
        let list = std::fs::read_to_string(out.join("train.json")).unwrap();
        assert!(list.contains("\"shards/1.bin\""), "moves with the data set: {list}");
        assert!(list.contains(&*elsewhere.to_string_lossy()), "{list}");
        // The same tokens in one file are the same data set.
        let whole = shard(dir.path().join("whole.bin"), 0..20);
        let of_whole = from_shards(&[whole], &val, "web", &dir.path().join("other"));
        assert_eq!(of_whole.unwrap().fingerprint(), manifest.fingerprint());
        // Made again, with fewer shards: what was fetched stays, what is stale goes.
        std::fs::write(out.join("train.bin"), "stale").unwrap();
        let fewer = from_shards(std::slice::from_ref(&within), &val, "web", &out).unwrap();
        assert_ne!(fewer.fingerprint(), manifest.fingerprint());
        assert!(within.exists() && !out.join("train.bin").exists());
        assert_eq!(Dataset::open(&out).unwrap().part(Part::Train).len(), 10);
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        left.retain(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        assert!(left.is_empty(), "no temporary folder is left: {left:?}");
    }

    #[test]
    fn a_preparation_that_was_cut_off_is_made_again_and_foreign_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let val = shard(dir.path().join("val"), 0..9);
        std::fs::create_dir_all(out.join("shards")).unwrap();
        let train = shard(out.join("shards/1.bin"), 0..10);
        std::fs::write(out.join("dev.bin"), "cut off").unwrap();
        from_shards(std::slice::from_ref(&train), std::slice::from_ref(&val), "web", &out).unwrap();
        std::fs::remove_file(out.join("dataset.json")).unwrap();
        std::fs::write(out.join("thesis.tex"), "years of work").unwrap();
        let error = from_shards(&[train], &[val], "web", &out).unwrap_err().to_string();
        assert!(error.contains("exists and is not a data set"), "{error}");
        assert!(out.join("thesis.tex").exists());
    }

    #[test]
    fn no_training_shard_is_lost_with_an_older_data_set() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let val = [shard(dir.path().join("val"), 0..9)];
        let elsewhere = shard(dir.path().join("1.bin"), 0..10);
        from_shards(&[elsewhere], &val, "web", &out).unwrap();
        // Shards of one's own beside the parts of a data set stay where they are.
        let own = shard(out.join("own.bin"), 0..20);
        from_shards(std::slice::from_ref(&own), &val, "web", &out).unwrap();
        assert_eq!(Dataset::open(&out).unwrap().part(Part::Train).len(), 20);
        // The parts themselves do not.
        let error = from_shards(&[out.join("dev.bin")], &val, "web", &out).unwrap_err().to_string();
        assert!(error.contains("out/dev.bin` is part of the data set that would be"), "{error}");
        assert!(error.contains("\nhint: "), "{error}");
        assert_eq!(Dataset::open(&out).unwrap().part(Part::Train).len(), 20, "nothing changed");
    }

    #[test]
    fn what_happens_to_a_shard_afterwards_is_noticed() {
        let check = |damage: fn(&Path), expected: &str| {
            let dir = tempfile::tempdir().unwrap();
            let val = shard(dir.path().join("val"), 0..9);
            let train =
                [shard(dir.path().join("1.bin"), 0..10), shard(dir.path().join("2.bin"), 10..20)];
            let out = dir.path().join("out");
            from_shards(&train, &[val], "web", &out).unwrap();
            let verified = || std::fs::read_to_string(out.join("verified.json")).unwrap();
            let before = verified();
            Dataset::open(&out).unwrap();
            assert_eq!(verified(), before, "what was just made is not read again");
            damage(dir.path());
            let error = Dataset::open(&out).unwrap_err().to_string();
            let root = std::fs::canonicalize(dir.path()).unwrap();
            let error = error.replace(&*root.to_string_lossy(), "D");
            let error = error.replace(&*dir.path().to_string_lossy(), "D");
            let (line, hint) = error.split_once('\n').expect("a hint");
            assert!(line.starts_with(expected), "{line}");
            assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{hint}");
        };
        check(|dir| std::fs::remove_file(dir.join("2.bin")).unwrap(), "`D/2.bin` is gone");
        check(|dir| drop(shard(dir.join("2.bin"), 10..21)), "`D/2.bin` has changed");
        check(
            |dir| {
                // As long as before: only when it was written tells, and clocks of disks are coarse.
                let path = shard(dir.join("2.bin"), 11..21);
                let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
                std::fs::File::options()
                    .append(true)
                    .open(path)
                    .unwrap()
                    .set_modified(later)
                    .unwrap();
            },
            "`D/2.bin` has changed",
        );
        check(|dir| drop(std::fs::write(dir.join("1.bin"), "x")), "`D/1.bin` is not a token shard");
        check(
            |dir| drop(std::fs::write(dir.join("out/train.json"), "{}")),
            "`D/out/train.json` does not describe a data set: missing field `files`",
        );
        check(
            |dir| {
                // The files in another order: each is what it was, together they are not.
                let list = dir.join("out/train.json");
                let text = std::fs::read_to_string(&list).unwrap();
                let mut list_of: crate::manifest::ShardList = serde_json::from_str(&text).unwrap();
                list_of.files.reverse();
                std::fs::write(list, serde_json::to_string(&list_of).unwrap()).unwrap();
            },
            "`D/out/train.json` has changed",
        );
    }

    #[test]
    fn bad_shards_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = shard(dir.path().join("good"), 0..30);
        let alien = shard(dir.path().join("alien"), [1, 50_257]);
        let tiny = shard(dir.path().join("tiny"), [1, 2]);
        let out = dir.path().join("out");
        let check = |train: &[&PathBuf], val: &[&PathBuf], expected: &str| {
            let owned = |paths: &[&PathBuf]| paths.iter().map(|p| (*p).clone()).collect::<Vec<_>>();
            let error = from_shards(&owned(train), &owned(val), "web", &out).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("\nhint: "), "{error}");
            assert!(!out.exists());
        };
        check(&[], &[&good], "the list of training shards is empty");
        check(&[&good], &[], "the list of validation shards is empty");
        check(&[&alien], &[&good], "holds token 50257 at position 1");
        check(&[&good], &[&alien], "holds token 50257 at position 1");
        check(&[&good], &[&tiny], "is empty");
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that cannot run says so aloud")]
    fn the_sample_of_fineweb_is_the_data_set_that_it_was() {
        let named = std::env::var_os("FORERUNNER_FINEWEB").map(PathBuf::from);
        let beside =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fineweb-sample");
        let sample = named.unwrap_or(beside);
        let train = sample.join("fineweb_train_000001.bin");
        if !train.is_file() {
            eprintln!(
                "SKIPPED: no FineWeb sample; set FORERUNNER_FINEWEB to a folder that has one"
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let val = sample.join("fineweb_val_000000.bin");
        let manifest = from_shards(&[train], &[val], "fineweb", &out).unwrap();
        // As it came out when training shards were copied.
        assert_eq!(manifest.fingerprint(), "ebec55728a00c4577c157ad6f5fa8ffd");
        let dataset = Dataset::open(&out).unwrap();
        dataset.require_documents(1024).unwrap();
        let text = crate::text::Text::new(dataset.part(Part::Train), None);
        let mut stream = crate::stream::Stream::new(text, 1).aligned(crate::Alignment::Documents);
        let request = forerunner_nanogpt_protocol::BatchRequest { batch: 64, length: 1024 };
        let batch = stream.serve(request).unwrap();
        assert!(batch.chunks(1025).all(|sequence| sequence[0] == END_OF_TEXT));
        // Shorter documents are followed by others, and most sequences are sequences of their own.
        assert!(batch.chunks(1025).any(|sequence| sequence[1..].contains(&END_OF_TEXT)));
        let sequences: std::collections::BTreeSet<_> = batch.chunks(1025).collect();
        assert!(sequences.len() > 60, "{}", sequences.len());
    }
}
