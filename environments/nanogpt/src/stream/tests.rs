//! The order of the stream, for every way to begin a sequence and to gather a batch.

use super::*;
use crate::{ShardWriter, Tokens};
use std::{collections::BTreeMap, collections::BTreeSet, path::Path, thread};

fn written(path: &Path, tokens: impl IntoIterator<Item = u16>) -> crate::Shard {
    let mut writer = ShardWriter::create(path).unwrap();
    writer.push(tokens).unwrap();
    writer.finish().unwrap()
}

fn request(batch: u32, length: u32) -> BatchRequest {
    BatchRequest { batch, length }
}

#[test]
fn the_stream_depends_on_the_seed_and_the_requests_alone() {
    let dir = tempfile::tempdir().unwrap();
    let shard = Tokens::from(written(&dir.path().join("x.bin"), 0..1000));
    let request = request(3, 9);
    let text = Text::new(&shard, None);
    let first = |seed| Stream::new(text, seed).serve(request).unwrap();
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
    let mut stream = Stream::new(text, 1);
    let mut starts = BTreeSet::new();
    for _ in 0..200 {
        for sequence in stream.serve(request).unwrap().chunks(10) {
            assert!(sequence.windows(2).all(|pair| pair[1] == pair[0] + 1));
            starts.insert(sequence[0]);
        }
    }
    assert!(starts.len() > 400 && *starts.last().unwrap() <= 990);
    let Ledger { batches, tokens, order } = stream.ledger();
    assert_eq!((batches, tokens), (200, 200 * 27));
    let mut again = Stream::new(text, 1);
    (0..199).for_each(|_| drop(again.serve(request)));
    assert_ne!(again.ledger().order, order);
    again.serve(request).unwrap();
    assert_eq!(again.ledger().order, order);
    assert!(stream.serve(BatchRequest { batch: 1, length: 999 }).is_some(), "all of it");
    assert!(stream.serve(BatchRequest { batch: 1, length: 1000 }).is_none());
    assert!(stream.serve(BatchRequest { batch: 1, length: u32::MAX }).is_none());
}

#[test]
fn results_of_the_past_stay_what_they_are() {
    // Recorded from the stream before shards, documents and reading ahead were there.
    let dir = tempfile::tempdir().unwrap();
    let shard = Tokens::from(written(&dir.path().join("x.bin"), 0..1000));
    let mut stream = Stream::new(Text::new(&shard, None), 1);
    let firsts: Vec<u16> =
        stream.serve(request(3, 9)).unwrap().chunks(10).map(|sequence| sequence[0]).collect();
    assert_eq!((firsts, stream.ledger().order), (vec![296, 36, 555], 14_070_610_154_969_588_482));
    (0..99).for_each(|_| drop(stream.serve(request(3, 9))));
    assert_eq!(stream.ledger().order, 17_045_919_441_600_793_076);
}

#[test]
fn how_tokens_are_divided_into_shards_makes_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, range| written(&dir.path().join(name), range);
    let whole = Tokens::from(file("whole", 0..1000));
    let parts = Tokens::new(vec![file("a", 0..333), file("b", 333..340), file("c", 340..1000)]);
    let serve = |tokens: &Tokens| {
        let mut stream = Stream::new(Text::new(tokens, None), 7);
        let batches: Vec<_> = (0..50).map(|_| stream.serve(request(4, 99)).unwrap()).collect();
        (batches, stream.ledger())
    };
    assert_eq!(serve(&whole), serve(&parts));
}

/// Documents of 3 to 40 words, numbered: 50256, then their own number again and again.
fn documents(numbers: std::ops::Range<u16>) -> Vec<u16> {
    numbers
        .flat_map(|number| {
            let length = 3 + usize::from(number) * 31 % 38;
            std::iter::once(END_OF_TEXT).chain(std::iter::repeat_n(number, length))
        })
        .collect()
}

#[test]
fn aligned_sequences_begin_with_documents_from_all_shards_evenly() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, range| written(&dir.path().join(name), documents(range));
    let tokens = Tokens::new(vec![file("a", 0..100), file("b", 100..200), file("c", 200..400)]);
    let text = Text::new(&tokens, None);
    let stream = |seed| Stream::new(text, seed).aligned(Alignment::Documents);
    let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
    let mut aligned = stream(1);
    for _ in 0..1000 {
        for sequence in aligned.serve(request(4, 15)).unwrap().chunks(16) {
            assert_eq!(sequence[0], END_OF_TEXT);
            // What follows a short document is the next one, its end-of-text between them.
            for pair in sequence.windows(2) {
                let next = if pair[0] == END_OF_TEXT { pair[1] } else { pair[0] };
                assert!(pair[1] == next || pair[1] == END_OF_TEXT, "{sequence:?}");
            }
            *counts.entry(sequence[1]).or_default() += 1;
        }
    }
    assert!(counts.len() > 390, "nearly all documents of {}", counts.len());
    let of = |range: std::ops::Range<u16>| counts.range(range).map(|(_, n)| n).sum::<u32>();
    // Shards come up by their lengths, 1:1:2 of 4,000 within four standard deviations.
    let (a, b, c) = (of(0..100), of(100..200), of(200..400));
    for (count, expected) in [(a, 1000), (b, 1000), (c, 2000)] {
        assert!(count.abs_diff(expected) < 4 * 32, "{a} {b} {c}");
    }
    let serve = |seed| {
        let mut stream = stream(seed);
        let batches: Vec<_> = (0..20).map(|_| stream.serve(request(4, 15)).unwrap()).collect();
        (batches, stream.ledger().order)
    };
    assert_eq!(serve(3), serve(3));
    assert_ne!(serve(3), serve(4));
}

#[test]
fn aligned_sequences_fit_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    // The last document is short: a long sequence cannot begin there, nor at any that follows.
    let mut tokens = vec![7; 50];
    tokens.extend([END_OF_TEXT; 1].iter().chain(&[1; 30]).chain(&[END_OF_TEXT; 1]).chain(&[2; 5]));
    let shard = Tokens::from(written(&dir.path().join("x.bin"), tokens));
    let text = Text::new(&shard, None);
    let mut stream = Stream::new(text, 1).aligned(Alignment::Documents);
    for _ in 0..50 {
        let sequence = stream.serve(request(1, 30)).unwrap();
        assert_eq!(sequence[..2], [END_OF_TEXT, 1], "the only document that fits");
    }
    assert!(stream.serve(request(1, 36)).is_some(), "from its first token to the end of the text");
    let before = stream.ledger();
    assert!(stream.serve(request(1, 37)).is_none(), "no document is followed by as much");
    assert_eq!(stream.ledger(), before, "what is refused is not counted");
    // In disguise the end-of-text goes by another name, and documents begin where they do.
    let names = crate::text::Disguise::new(3, 50_257);
    let disguised = Text::new(&shard, Some(&names));
    let mut stream = Stream::new(disguised, 1).aligned(Alignment::Documents);
    assert_eq!(stream.serve(request(1, 30)).unwrap()[0], names.of(END_OF_TEXT));
}

#[test]
fn reading_ahead_changes_nothing_but_who_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, range| written(&dir.path().join(name), documents(range));
    let tokens = Tokens::new(vec![file("a", 0..100), file("b", 100..200)]);
    let text = Text::new(&tokens, None);
    // The same shape, other shapes, one that cannot be answered, and the same again.
    let shapes = [(2, 9), (2, 9), (2, 9), (3, 9), (2, 9), (2, 8), (2, 8), (1, 1_000_000), (2, 8)];
    let requests: Vec<_> = shapes.iter().cycle().take(100).map(|&(b, l)| request(b, l)).collect();
    for alignment in [Alignment::Windows, Alignment::Documents] {
        let mut alone = Stream::new(text, 5).aligned(alignment);
        thread::scope(|scope| {
            let mut ahead = Stream::new(text, 5).aligned(alignment).reading_ahead(scope);
            for &request in &requests {
                assert_eq!(ahead.serve(request), alone.serve(request));
                // What was gathered and not served is in no ledger.
                assert_eq!(ahead.ledger(), alone.ledger());
            }
        });
    }
}

#[test]
fn what_was_gathered_is_used_only_for_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let shard = Tokens::from(written(&dir.path().join("x.bin"), 0..1000));
    let stream = Stream::new(Text::new(&shard, None), 1);
    let (expected, _) = stream.draw.batch(request(2, 9), stream.cursor.clone()).unwrap();
    thread::scope(|scope| {
        let mut ahead = Ahead::start(stream.draw, scope);
        assert!(ahead.take(request(2, 9)).is_none(), "nothing was expected");
        ahead.gather(request(2, 9), stream.cursor.clone());
        assert_eq!(ahead.take(request(2, 9)).unwrap().0, expected);
        assert!(ahead.take(request(2, 9)).is_none(), "used up");
        ahead.gather(request(2, 9), stream.cursor.clone());
        assert!(ahead.take(request(3, 9)).is_none(), "another shape");
        ahead.gather(request(2, 9), stream.cursor.clone());
        assert_eq!(
            ahead.take(request(2, 9)).unwrap().0,
            expected,
            "the dropped one is out of the way"
        );
    });
}

#[test]
fn only_documents_are_part_of_a_tracks_fingerprint() {
    let slices = crate::Part::ALL
        .map(|part| (part.name().to_owned(), crate::FileEntry { tokens: 1, sha256: "ab".into() }));
    let manifest = crate::Manifest {
        name: "x".into(),
        kind: crate::TokenKind::Gpt2,
        vocab: 50_257,
        source: String::new(),
        slices: slices.into(),
    };
    let of = |text: &str| {
        let config: crate::Config = serde_json::from_str(text).unwrap();
        crate::Track::new(&config).unwrap().fingerprint(&manifest)
    };
    for track in crate::TRACKS {
        let plain = of(&format!(r#"{{"track": "{track}"}}"#));
        assert_eq!(of(&format!(r#"{{"track": "{track}", "stream": "windows"}}"#)), plain);
        assert_ne!(of(&format!(r#"{{"track": "{track}", "stream": "documents"}}"#)), plain);
    }
    let track = crate::Track::new(&crate::Config::default()).unwrap();
    assert!(!serde_json::to_string(&track).unwrap().contains("stream"));
}
