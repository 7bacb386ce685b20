//! The emulator's matrix instructions and asynchronous copies against what PTX says of them.
#![cfg(feature = "emulator")]

mod support;

use forerunner_kernels::{Argument, Launch, Machine, Type};
use support::{assert_close, noise, rounded, rounded_all};

fn machines() -> [Machine; 2] {
    [Machine::emulated(1), Machine::emulated(2)]
}

/// Runs a kernel of one warp.
fn run(machine: &Machine, kernel: &'static str, shared_bytes: u32, arguments: &[Argument]) {
    let launch = Launch { shared_bytes, ..Launch::line(kernel, 1, 32) };
    // SAFETY: every test here hands in what the kernel of that name reads and writes for 32 lanes.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe { machine.launch(&launch, arguments) }.unwrap();
}

fn pair(low: f32, high: f32) -> u32 {
    rounded(low).to_bits() >> 16 | rounded(high).to_bits() & 0xffff_0000
}

/// PTX, "Matrix Fragments for mma.m16n8k16 with floating point type": which elements a lane has.
#[test]
fn products_have_the_fragments_of_m16n8k16() {
    let (a, b, d) = (noise(16 * 16, 1), noise(16 * 8, 2), noise(16 * 8, 3));
    let (mut a_words, mut b_words, mut d_values) = (Vec::new(), Vec::new(), Vec::new());
    for lane in 0..32 {
        let (group, in_group) = (lane / 4, lane % 4);
        for i in 0..4 {
            let (row, column) = (group + 8 * (i % 2), 2 * in_group + 8 * (i / 2));
            a_words.push(pair(a[16 * row + column], a[16 * row + column + 1]));
        }
        for i in 0..2 {
            let row = 2 * in_group + 8 * i;
            b_words.push(pair(b[8 * row + group], b[8 * (row + 1) + group]));
        }
        for i in 0..4 {
            d_values.push(d[8 * (group + 8 * (i / 2)) + 2 * in_group + i % 2]);
        }
    }
    let (exact_a, exact_b) = (rounded_all(&a), rounded_all(&b));
    for machine in machines() {
        let (a, b) = (machine.upload_u32(&a_words).unwrap(), machine.upload_u32(&b_words).unwrap());
        let mut to = machine.upload_f32(Type::F32, &d_values).unwrap();
        let arguments = [(&a.view()).into(), (&b.view()).into(), (&to.view_mut()).into()];
        run(&machine, "self_test_multiply", 0, &arguments);
        let got = machine.download(&to.view()).unwrap();
        let want: Vec<f64> = (0..128)
            .map(|at| {
                let (lane, i) = (at / 4, at % 4);
                let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
                let product = |k: usize| exact_a[16 * row + k] * exact_b[8 * k + column];
                f64::from(d[8 * row + column]) + (0..16).map(product).sum::<f64>()
            })
            .collect();
        assert_close("fragments", &got, &want, 1e-6);
    }
}

/// PTX, "ldmatrix": lane i of a warp hands in row i % 8 of matrix i / 8, and gets elements 2 (i % 4)
/// and the one after of row i / 4; of that column when transposed.
#[test]
fn matrices_are_loaded_as_by_ldmatrix() {
    let values = noise(32 * 8, 4);
    // An order without a pattern in which neighbours stay neighbours.
    let places: Vec<u32> = (0..32).map(|lane| lane * 13 % 32).collect();
    for machine in machines() {
        let rows = machine.upload_f32(Type::Bf16, &values).unwrap();
        let order = machine.upload_u32(&places).unwrap();
        let mut words = machine.upload_u32(&[0; 32 * 12]).unwrap();
        let arguments = [(&rows.view()).into(), (&order.view()).into(), (&words.view_mut()).into()];
        run(&machine, "self_test_load", 512, &arguments);
        let got = machine.download_u32(&words.view()).unwrap();
        let element = |matrix: usize, row: usize, column: usize| {
            values[8 * places[8 * matrix + row] as usize + column]
        };
        for lane in 0..32 {
            let (major, minor) = (lane / 4, 2 * (lane % 4));
            for matrix in 0..4 {
                let plain = pair(element(matrix, major, minor), element(matrix, major, minor + 1));
                let turned = pair(element(matrix, minor, major), element(matrix, minor + 1, major));
                let got = &got[12 * lane..][..12];
                assert_eq!((got[matrix], got[4 + matrix]), (plain, turned), "lane {lane}");
                if matrix < 2 {
                    assert_eq!((got[8 + matrix], got[10 + matrix]), (plain, turned));
                }
            }
        }
    }
}

#[test]
fn copies_come_when_they_are_waited_for_and_in_order() {
    let values: Vec<u32> = (100..100 + 32 * 4).collect();
    for machine in machines() {
        let from = machine.upload_u32(&values).unwrap();
        let mut seen = machine.upload_u32(&[0; 32 * 16]).unwrap();
        let arguments = [(&from.view()).into(), (&seen.view_mut()).into()];
        run(&machine, "self_test_copy", 32 * 32, &arguments);
        let seen = machine.download_u32(&seen.view()).unwrap();
        for (lane, values) in values.chunks_exact(4).enumerate() {
            let of = &seen[16 * lane..][..14];
            assert_eq!(of[..2], [7, 7], "before anything was waited for");
            assert_eq!(of[2..6], *values, "the first");
            assert_eq!(of[6..10], [7; 4], "the second under way");
            assert_eq!(of[10..], [0; 4], "the second: nothing was to be read");
        }
    }
}
