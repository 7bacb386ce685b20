//! Whether the emulator finds what it promises to find. Each fault has a kernel in
//! `emulator/faults.cuh`.
#![cfg(feature = "emulator")]
#![expect(unsafe_code, reason = "kernels are launched directly, to do what they must not")]

mod support;

use std::collections::BTreeSet;

use forerunner_kernels::{Argument, Launch, Machine, Type};

/// Schedules that are tried where one alone may hide a fault.
const SEEDS: std::ops::Range<u64> = 0..20;

/// Runs one block of 64 threads with a KiB of shared memory.
fn run(machine: &Machine, kernel: &'static str, arguments: &[Argument]) -> Result<(), String> {
    let launch = Launch { shared_bytes: 1024, ..Launch::line(kernel, 1, 64) };
    run_launch(machine, launch, arguments)
}

fn run_launch(machine: &Machine, launch: Launch, arguments: &[Argument]) -> Result<(), String> {
    // SAFETY: buffers are large enough for what the kernels touch, guards included.
    unsafe { machine.launch(&launch, arguments) }.map_err(|error| error.to_string())
}

/// Fails unless the kernel, which writes 64 integers, is refused in these words.
#[track_caller]
fn assert_refused(kernel: &'static str, reason: &str) {
    for seed in SEEDS {
        let machine = Machine::emulated(seed);
        let mut to = machine.upload_u32(&[0; 64]).unwrap();
        let error = run(&machine, kernel, &[(&to.view_mut()).into()]).unwrap_err();
        assert!(error.contains(reason), "under seed {seed}: {error}");
    }
}

#[test]
fn barriers_are_for_the_whole_block() {
    assert_refused(
        "fault_missed_barrier",
        "a thread ended while others wait at the barrier cuda/../emulator/faults.cuh:10",
    );
    assert_refused(
        "fault_different_barriers",
        "threads of a block wait at different barriers: cuda/../emulator/faults.cuh:1",
    );
}

/// What the block makes of 0, 1, 2, … under one schedule.
fn shared_by(kernel: &'static str, threads: u32, waits: bool, seed: u64) -> Vec<u32> {
    let machine = Machine::emulated(seed);
    let mut values = machine.upload_u32(&(0..threads).collect::<Vec<u32>>()).unwrap();
    let launch = Launch { shared_bytes: 1024, ..Launch::line(kernel, 1, threads) };
    let arguments = [(&values.view_mut()).into(), u32::from(waits).into()];
    run_launch(&machine, launch, &arguments).unwrap();
    machine.download_u32(&values.view()).unwrap()
}

#[test]
fn a_missing_barrier_shows_under_some_schedule() {
    let reversed: Vec<u32> = (0..64).rev().collect();
    let twice: Vec<u32> = (0..64).rev().map(|i| 2 * i + 1).collect();
    let moved: Vec<u32> = (0u32..32).map(|i| i.saturating_sub(1)).collect();
    for (kernel, want) in
        [("fault_reverse", reversed), ("fault_reuse", twice), ("fault_neighbour", moved)]
    {
        let threads = want.len() as u32;
        let right =
            |waits| SEEDS.filter(|&seed| shared_by(kernel, threads, waits, seed) == want).count();
        assert_eq!(right(true), SEEDS.count(), "{kernel}, waiting");
        assert!(right(false) < SEEDS.count(), "{kernel}, not waiting");
    }
}

#[test]
fn warp_operations_are_for_the_whole_warp() {
    let lost = "a warp waits at shfl_xor for lanes that never come";
    assert_refused("fault_half_warp", lost);
    assert_refused("fault_half_warp_at_barrier", lost);
    assert_refused("fault_different_operations", "lanes of a warp meet in different operations");
    assert_refused("fault_mask", "a warp operation with mask 0000ffff: only whole warps are run");
}

#[test]
fn warp_operations_give_what_a_device_gives() {
    let machine = Machine::emulated(1);
    let mut to = machine.upload_u32(&[0; 9 * 64]).unwrap();
    run(&machine, "fault_free_exchanges", &[(&to.view_mut()).into()]).unwrap();
    let results = machine.download_u32(&to.view()).unwrap();
    let lanes = || (0..2u32).flat_map(|warp| (0..32u32).map(move |lane| (32 * warp, lane)));
    let each = |f: fn(u32, u32) -> u32| lanes().map(|(warp, lane)| f(warp, lane)).collect();
    let want: [(&str, Vec<u32>); 9] = [
        ("shfl", each(|warp, _| 100 + warp + 5)),
        ("shfl_xor", each(|warp, lane| 100 + warp + (lane ^ 3))),
        // Without a source, a lane keeps its own.
        ("shfl_up", each(|warp, lane| 100 + warp + if lane < 2 { lane } else { lane - 2 })),
        ("shfl_down", each(|warp, lane| 100 + warp + if lane > 29 { lane } else { lane + 2 })),
        (
            "ballot",
            each(|warp, _| (0..32).map(|lane| u32::from((warp + lane) % 3 == 0) << lane).sum()),
        ),
        ("warp_sum", each(|warp, _| 32 * (100 + warp) + 31 * 16)),
        ("warp_max", each(|warp, _| 100 + warp + 31)),
        ("block_sum", each(|_, _| 64 * 100 + 63 * 32)),
        ("block_max", each(|_, _| 163)),
    ];
    for ((name, want), got) in want.iter().zip(results.chunks_exact(64)) {
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn writes_beyond_a_buffer_are_found() {
    for (at, reason) in
        [(10, "it wrote after a buffer of 40 bytes"), (-1, "it wrote before a buffer")]
    {
        let machine = Machine::emulated(1);
        let mut to = machine.upload_u32(&[0; 10]).unwrap();
        let error = run(&machine, "fault_write", &[(&to.view_mut()).into(), at.into()]);
        let error = error.unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let machine = Machine::emulated(1);
    let mut to = machine.upload_u32(&[0; 10]).unwrap();
    run(&machine, "fault_write", &[(&to.view_mut()).into(), 9.into()]).unwrap();
    assert_eq!(machine.download_u32(&to.view()).unwrap()[9], 7);
}

#[test]
fn reads_beyond_a_buffer_find_no_number() {
    let machine = Machine::emulated(1);
    let from = machine.upload_u32(&[0; 10]).unwrap();
    for at in [-1, 10] {
        let mut to = machine.scratch(Type::F32, 1).unwrap();
        let arguments = [(&from.view()).into(), at.into(), (&to.view_mut()).into()];
        run(&machine, "fault_read", &arguments).unwrap();
        assert!(machine.download(&to.view()).unwrap()[0].is_nan());
    }
}

#[test]
fn writes_beyond_shared_memory_are_found() {
    let machine = Machine::emulated(1);
    assert_eq!(run(&machine, "fault_write_shared", &[1023u32.into()]), Ok(()));
    let error = run(&machine, "fault_write_shared", &[1024u32.into()]).unwrap_err();
    assert!(error.contains("a block wrote beyond its shared memory"), "{error}");
    // The machine can be used again.
    assert_eq!(run(&machine, "fault_write_shared", &[1023u32.into()]), Ok(()));
}

#[test]
fn shared_memory_holds_no_number_until_written() {
    let machine = Machine::emulated(1);
    let mut to = machine.scratch(Type::F32, 64).unwrap();
    for _ in 0..2 {
        run(&machine, "fault_read_shared", &[(&to.view_mut()).into()]).unwrap();
        assert!(machine.download(&to.view()).unwrap().iter().all(|value| value.is_nan()));
    }
}

#[test]
fn wide_accesses_are_aligned() {
    let machine = Machine::emulated(1);
    let from = machine.zeros(Type::Bf16, 32).unwrap();
    let mut to = machine.zeros(Type::Bf16, 32).unwrap();
    let words = machine.upload_u32(&[0; 32]).unwrap();
    let mut results = machine.upload_u32(&[0; 32]).unwrap();
    let mut load8 = |at: u32| {
        let arguments = [(&from.view()).into(), at.into(), (&to.view_mut()).into()];
        run(&machine, "fault_load8", &arguments)
    };
    assert_eq!(load8(8), Ok(()));
    assert!(load8(4).unwrap_err().contains("a misaligned access of 16 bytes"));
    let copy = |from: u32, to: u32| {
        let arguments = [(&words.view()).into(), from.into(), to.into()];
        run(&machine, "fault_misaligned_copy", &arguments)
    };
    assert_eq!(copy(4, 4), Ok(()));
    assert!(copy(1, 4).unwrap_err().contains("copy_async16 from a misaligned address"));
    assert!(copy(4, 2).unwrap_err().contains("copy_async16 to a misaligned address"));
    let mut load_matrix = |shift: u32| {
        let launch = Launch { shared_bytes: 1024, ..Launch::line("fault_load_matrix", 1, 32) };
        run_launch(&machine, launch, &[shift.into(), (&results.view_mut()).into()])
    };
    assert_eq!(load_matrix(8), Ok(()));
    assert!(load_matrix(2).unwrap_err().contains("a matrix row is misaligned"));
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    const POISON: u32 = u32::MAX;
    let values: Vec<u32> = (1..=256).collect();
    let copied = |most: u32, valid: bool| {
        let machine = Machine::emulated(1);
        let from = machine.upload_u32(&values).unwrap();
        let mut to = machine.upload_u32(&[0; 256]).unwrap();
        let launch = Launch { shared_bytes: 1024, ..Launch::line("fault_copy", 1, 32) };
        let valid = u32::from(valid).into();
        let arguments = [(&from.view()).into(), most.into(), valid, (&to.view_mut()).into()];
        run_launch(&machine, launch, &arguments).unwrap();
        machine.download_u32(&to.view()).unwrap()
    };
    assert_eq!(copied(0, true), values);
    assert_eq!(copied(0, false), [0; 256], "zeros where it is not valid");
    let one_group = copied(1, true);
    assert_eq!(one_group[..128], values[..128], "the older group has arrived");
    assert_eq!(one_group[128..], [POISON; 128], "the younger one has not");
    assert_eq!(copied(2, true), [POISON; 256]);
    assert_eq!(copied(3, true), [POISON; 256]);

    let machine = Machine::emulated(1);
    let from = machine.upload_u32(&values).unwrap();
    let mut to = machine.upload_u32(&[0; 64]).unwrap();
    let arguments = [(&from.view()).into(), (&to.view_mut()).into()];
    run(&machine, "fault_uncommitted_copy", &arguments).unwrap();
    assert_eq!(machine.download_u32(&to.view()).unwrap(), [POISON; 64], "never committed");
}

#[test]
fn orders_differ_from_seed_to_seed() {
    let orders: BTreeSet<Vec<u32>> = SEEDS
        .map(|seed| {
            let machine = Machine::emulated(seed);
            let mut next = machine.upload_u32(&[0]).unwrap();
            let mut to = machine.upload_u32(&[0; 3 * 64]).unwrap();
            let arguments = [(&next.view_mut()).into(), (&to.view_mut()).into()];
            run_launch(&machine, Launch::line("fault_free_tickets", 3, 64), &arguments).unwrap();
            machine.download_u32(&to.view()).unwrap()
        })
        .collect();
    let first_blocks: BTreeSet<usize> = orders
        .iter()
        .map(|tickets| tickets.iter().position(|&ticket| ticket == 0).unwrap() / 64)
        .collect();
    assert_eq!(first_blocks, BTreeSet::from([0, 1, 2]), "every block is the first one sometimes");
    assert!(orders.len() > 10, "{} orders", orders.len());
    for tickets in orders {
        let sorted: BTreeSet<u32> = tickets.into_iter().collect();
        assert!(sorted.into_iter().eq(0..3 * 64), "everybody draws one ticket");
    }
}

#[test]
fn launches_that_a_device_refuses_are_refused() {
    let machine = Machine::emulated(1);
    let mut to = machine.upload_u32(&[0; 64]).unwrap();
    let tickets = Launch::line("fault_write_shared", 1, 32);
    let view = to.view_mut();
    let refusals: [(Launch, &[Argument], &str); 7] = [
        (Launch::line("no_kernel", 1, 32), &[], "no_kernel: the device says: no such kernel"),
        (tickets, &[], "the number of arguments is wrong"),
        (tickets, &[(&view).into(), 0u32.into()], "the number of arguments is wrong"),
        (
            Launch { block: [48, 1, 1], ..tickets },
            &[0u32.into()],
            "a block has whole warps, at most 1,024 threads",
        ),
        (
            Launch { block: [1056, 1, 1], ..tickets },
            &[0u32.into()],
            "a block has whole warps, at most 1,024 threads",
        ),
        (
            Launch { grid: [1, 65_536, 1], ..tickets },
            &[0u32.into()],
            "a grid has at least one block, at most 65,535 along y and z",
        ),
        (
            Launch { shared_bytes: 228 << 10, ..tickets },
            &[0u32.into()],
            "more shared memory than a multiprocessor gives a block",
        ),
    ];
    for (launch, arguments, reason) in refusals {
        let error = run_launch(&machine, launch, arguments).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    // No block at all is nothing to do.
    let nothing = Launch { grid: [0, 1, 1], ..tickets };
    assert_eq!(run_launch(&machine, nothing, &[0u32.into()]), Ok(()));
}
