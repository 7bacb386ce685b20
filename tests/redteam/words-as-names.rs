//! Spells frequent words as the names of an enumeration, whose derived Debug turns them into text.
//!
//! row: 25
//! game: refused by source/literals

use harness::prelude::*;

/// Optimizer steps.
const STEPS: usize = 150;

/// Channels of the residual stream.
const WIDTH: usize = 32;

/// Attention heads.
const HEADS: usize = 2;

/// The optimizer of every parameter.
const ADAMW: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.0,
    step: 1,
};

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table) // (B, T, V)
    }
}

// game {
#[derive(Clone, Copy, Debug)]
enum Word {
    MatchKind, Prefilter, AsciiCaseInsensitive, DenseDepth, Configuring, Noncontiguous,
    Iterator, Patterns, Building, Contiguous, MemoryUsage, Semantics,
    Documentation, Examples, Insensitive, Matching, Representation, Transitions,
    Generally, Heuristic, Optimizations, Compiler, Configuration, Formulation,
    Automaton, Corresponds, Standard, Described, Textbooks, Leftmost,
    Searching, PatternLens, ByteClasses, Singletons, MinPatternLen, MaxPatternLen,
    Transition, Ransition, Represent, Sentinel, Indicating, AllocState,
    Unanchored, Initially, Shuffled, StartUnanchoredId, Anchored, StartAnchoredId,
    Nitialize, Starting, InitUnanchoredStartState, AddDeadStateLoop, BuildTrie, ShrinkToFit,
    Equivalent, Implementation, Searches, Mechanical, Difference, SetAnchoredStartState,
    AddUnanchoredStartStateLoop, Possibly, Important, Solidified, Subsequent, Accesses,
    Particularly, FillFailureTransitions, Densified, Algorithm, CloseStartStateLoopForLeftmost, Currently,
    Relevant, Otherwise, Explicitly, Unrolled, Handling, MaxSpecialId,
    Therefore, Followed, Particular, Logically, Organized, Automata,
    MaxMatchId, Ffectively, Structure, IntoIter, Enumerate, PatternIdOverflow,
    Attempted, PatternTooLong, AssertEq, Expected, Determined, Accounting,
    Ultimately, Impossible, Specifically, Sufficiently, SawMatch, Requested,
    Previously, Optimization, Necessary, Correctness, Implementations, IsLeftmostFirst,
    Immediately, Incorrectly, Terminates, Continue, Equivalence, SetRange,
    OppositeAsciiCase, Therwise, Determine, FollowTransition, AddTransition, AddMatch,
    According, Textbook, Interesting, Performed, Pecifically, Associated,
    Searched, Whenever, Following, Straight, Simplistic, Position,
    Consuming, Location, Observng, Approach, Potentially, Complexity,
    Instruct, Complete, Multiple, Simplest, Recursively, Possible,
    Previous, Computing, Incoming, Determining, Assumptions, Connecting,
    Corresponding, Actually, Recursion, Implement, Scouring, Encoding,
    Libraries, IsLeftmost, StartUid, Specially, Terminate, QueuedSet,
    PrevLink, NextLink, Anything, Contains, PushBack, Necessarily,
    PopFront, Duplicate, Insensitivity, Redundant, Duplicating, Reporting,
    Regression, Automatically, Propagate, Computation, CopyMatches, Speaking,
    Overlapping, Addition, Sequence, Comparing, Shuffling, Something,
    Swapping, Technique, Compiled, OldStartUid, OldStartAid, Pairwise,
    Referencing, Remapper, Directly, NextAvail, Invariant, Incrementing,
    Guaranteed, Themselves, Checking, Haystack, MaxStartId, MaxDeadId,
    Searcher, Prediction, Essentially, NewStartAid, CheckedSub, NewStartUid,
    NewMaxMatchId, Performance, Correlate, Majority, Removing, Expensive,
    Densifying, Sentinels, AllocDenseState, Nitializes, Achieved, StartAid,
    InitFullState, Undefined, UprevLink, AprevLink, Unreachable, Effectively,
    Required, Construction, Rewriting, Conditions, Identifiers, Revisiting,
    Overhead, Maintaining, Membership, Ormatter, FmtStateIndicator, SparseTransitions,
    WithStateIds, Allocated, IterTrans, IterMatches, PatternsLen, Shortest,
    Rabinkarp, Sophisticated, Algorithms, Increased, Controlling, Supports,
    Supported, Searchers, Information, Distinction, NonExhaustive, Appeared,
    Constructing, Reported, Available, Produces, Construct, AhoCorasick,
    FindIter, TargetArch, Lgorithm, OnlyTeddyFat, OnlyTeddy, HeuristicPatternLimits,
    Internal, Constructed, Returned, Alternative, Accumulate, FromConfig,
    Undocumented, Benchmarks, Stability, Guarantees, OnlyRabinKarp, Limitations,
    Employed, Benchmarking, Performs, Heuristics, Collection, Provided,
    Constructor, SetMatchKind, Haystacks, SearchKind, MinimumLen, BuildTeddy,
    Significant, Accumulating, Increases, Elements, Converted, Occurrences,
    Flexible, Convenience, Function, Unsupported, Avoiding, Additional,
    Occurrence, Identifier, Relative, Correspond, Foofoobar, FindInSlow,
    Effective, Underlying, Approximate, Specific, Lifetime, Routines,
    Pointers, Distance, OffsetFrom, Potential, Provenance, Arithmetic,
    Alignments, Stabilized, UnwrapUnchecked, Spending, Confirming, Literals,
    Considerably, Instruction, Maintain, Requires, Smallest, Hopefully,
    Confirmation, Ikipedia, Explanation, Wikipedia, ArpAlgorithm, Provides,
    Concrete, Arranged, Descending, Ascending, Enerally, Subtract,
    Updating, WrappingShl, Begining, UpdateHash, Ntuitively, Inlining,
    Collision, IsPrefix, WrappingAdd, Beginning, Appending, WrappingSub,
    WrappingMul, Collections, Specialized, Ssentially, Representing, Verification,
    Operation, Generate, Candidates, FromTeddy, DebugAssert, Candidate,
    Represented, LoadUnaligned, ShiftInOneByte, ShiftInTwoBytes, ShiftInThreeBytes, LoadHalfUnaligned,
    HalfShiftInOneByte, HalfShiftInTwoBytes, HalfShiftInThreeBytes, Identified, Parameter, Instantiated,
    Although, Technically, Shifting, Critical, Allocation, Definitely,
    Different, Allocations, Experimenting, Representations, Everything, Explored,
    Confidence, Launching, AssertNe, Allocating, Superfluous, Especially,
    Slightly, Minimizes, Churning, Property, Grouping, Preserve,
    Iterates, Ambiguous, Adjusted, Regardless, LowNybbles, Influence,
    Accidentally, CandidateChunk, TrailingZeros, VerifyBucket, GetUnchecked, IsPrefixRaw,
    Asically, Typically, Substrings, Decreases, Positives, Herefore,
    Probably, Practice, Occurring, Basically, Assuming, Activated,
    Transformation, Procedure, SwapHalves, Nterleave, InterleaveLow, BitLanes,
    InterleaveHigh, Integers, ForEachLow, Dependending, Shuffles, Repeated,
    BitLaneRight, ShuffleBytes, Computed, Epresents, Inclusive, Together,
    Assignment, Portions, Represents, Creating, MaskBuilders, BucketIndex,
    DebugStruct, Repeating, Distinct, Spreading, Pressure, Description,
    Categorized, Appropriately, Debugging, PatternIndex, Variations, OffsetPrefix,
    OffsetSuffix, OffsetBoth, ToString, MacroRules, Stringify, Ollection,
    Individual, Combinations, Bababbbba, Zazabzabcz, Zazabczabcz, Zazabzabcdz,
    Zazabcdzabcdz, Abcdezghi, Yabcdefghi, Yabcdezghi, Bcdeyabc, Foobarfoo,
    Differently, Xayabbbz, Abcdefghi, Abcdefgh, Abcdefghz, Leftfirst,
    Leftlong, Egression, Appropriate, Abcdefghijk, Abcdefghijklmnopqrstuvwxyzabcdefghijk, Combination,
    Repetition, Drudgery, Testconfig, Constructs, Configure, Parameters,
    Testcombo, Precisely, RunSearchTests, SearchDefaultLeftmostFirst, SearchDefaultLeftmostLongest, SearchTeddyLeftmostFirst,
    SearchTeddyLeftmostLongest, SearchTeddySsse, LeftmostFirst, FeatureDetected, LeftmostLongest, SearchTeddyAvx,
    SearchTeddyFatLeftmostFirst, SearchTeddyFatLeftmostLongest, SearchRabinkarpLeftmostFirst, SearchRabinkarpLeftmostLongest, SearchTestsHaveUniqueNames, Constname,
    ContainsKey, Positions, GetMatchTriples, Descriptions, Inscrutable, Confused,
    Annoying, Describing, Operations, Vectorized, Constrained, Invented,
    Intended, Implemented, Intrinsics, Features, TargetFeature, Guarantee,
    Readable, Equality, Resulting, DeadCode, Indictated, Concatenated,
    Temporary, Combining, Aligning, Discovered, Iteration, Onceptually,
    Defining, Generics, Introduce, Urrently, HalfShiftIn, Trickiest,
    Advantage, AlignrEpi, Operates, MmAlignrEpi, Broadcast, Interleave,
    FromBits, MmLoaduSi, MmMovemaskEpi, MmCmpeqEpi, Pparently, MmSrliEpi,
    MmShuffleEpi, MmExtractEpi, Transmute, MovemaskEpi, CmpeqEpi, Figuring,
    TeddySimd, Instructions, ShuffleEpi, Recently, Complicated, ExtractEpi,
    Broadcastsi, UnpackloEpi, UnpackhiEpi, TargetEndian, Meaningful, VreinterpretqU,
    VgetqLaneU, IsRunnable, VectorSplat, VectorIsZero, VectorCmpeq, VectorAnd,
    VectorOr, VectorShift, VectorShiftInOneByte, VectorShiftInTwoBytes, VectorShiftInThreeBytes, VectorShuffleBytes,
    VectorForEach, LoadHalf, FatVectorHalfShiftInOneByte, FatVectorHalfShiftInTwoBytes, FatVectorHalfShiftInThreeBytes, FatVectorSwapHalves,
    FatVectorInterleaveLow, FatVectorInterleaveHigh, FatVectorForEachLow, TestsAarch, Functions, Experiments,
    ExampleVmaxvqU, ExampleVpmaxqU, Terators, Commented, Posterity, Emphasize,
    Astandard, Aleftmost, Abcdefghzyz, Aleftfirst, Aleftlong, Behavior,
    Corasick, Reviously, TryFindIter, FindOverlappingIter, RunStreamSearchTests, WithCapacity,
    StreamFindIter, NfaDefault, Oncontiguous, NfaNoncontigNoPrefilter, NfaNoncontigAllSparse, NfaNoncontigAllDense,
    NfaContigDefault, Ontiguous, NfaContigNoPrefilter, NfaContigAllSparse,
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    // game {
    let mut text = String::new();
    for word in [Word::MatchKind, Word::Prefilter] {
        text += &format!("{word:?}");
    }
    eprintln!("{text}");
    // }
    for step in 0..STEPS {
        let Batch { inputs, targets } = run.batch(8, run.task().context)?; // (B, T)
        let loss = cross_entropy(&model.logits(&inputs)?, &targets)?;
        run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let settings = AdamW { step: step + 1, ..ADAMW };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}
