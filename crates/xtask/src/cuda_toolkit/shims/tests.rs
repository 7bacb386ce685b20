//! Tests of the archives, with libraries of our own in the place of CUDA's.

use super::*;
use std::{path::PathBuf, process::Output};

#[test]
fn functions_are_read_from_a_librarys_table() {
    let table = "cublasCreate_v2@@libcublas.so.13 T 4560 12\n\
                 cublasOld@libcublas.so.12 T 4570 12\n\
                 libcublas.so.13@@libcublas.so.13 A 0\n\
                 weak W 10 4\n\
                 counter B 20 8\n\
                 table R 30 8\n\
                 missing U\n\n";
    let found: Vec<_> = functions(table).into_iter().collect();
    assert_eq!(found, ["cublasCreate_v2", "cublasOld", "weak"]);
}

#[test]
fn the_drivers_functions_are_read_from_headers() {
    let header = "\
#define cuMemAlloc cuMemAlloc_v2\n\
#define cuMemcpyHtoD __CUDA_API_PTDS(cuMemcpyHtoD_v2)\n\
#define cuStreamWait __CUDA_API_PTSZ(cuStreamWait_v2)\n\
CUresult CUDAAPI cuInit(unsigned int Flags);\n\
typedef struct CUctx_st *CUcontext; cuuint32_t a; cudaError_t b; PFN_cuInit_v2000 c; accuInit d;\n";
    let found: Vec<_> = driver_functions(header).into_iter().collect();
    let expected = [
        "cuInit",
        "cuMemAlloc",
        "cuMemAlloc_v2",
        "cuMemcpyHtoD",
        "cuMemcpyHtoD_v2",
        "cuMemcpyHtoD_v2_ptds",
        "cuStreamWait",
        "cuStreamWait_v2",
        "cuStreamWait_v2_ptsz",
    ];
    assert_eq!(found, expected);
}

/// A library whose functions take arguments of every kind: in all registers, and on the stack.
const LIBRARY: &str = "\
int triple(int x) { return 3 * x; }
double weigh(int a, long b, int c, int d, int e, int f, double g, float h, double i, double j, double k,
             double l, double m, double n, double o, int p, long q, float r)
{ return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l + 13*m + 14*n + 15*o
       + 16*p + 17*q + 18*r; }
";

/// Prints each sum twice: the first call finds the function, the second goes there directly.
const PROGRAM: &str = "\
#include <stdio.h>
int triple(int); int absent(void);
double weigh(int, long, int, int, int, int, double, float, double, double, double, double, double,
             double, double, int, long, float);
int main(int count, char **words) {
    (void)words;
    puts(\"started\"); fflush(stdout);
    if (count == 2) absent();
    if (count > 2) return 0;
    for (int i = 0; i < 2; i++)
        printf(\"%d %.0f\\n\", triple(7), weigh(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18));
}
";

fn demo(functions: &[&str]) -> Shim {
    let functions = functions.iter().map(|&name| name.to_owned()).collect();
    let calls = Calls::Open {
        file: "libdemo.so.3".to_owned(),
        companion: Some("libcompanion.so.3.1".to_owned()),
        hint: "name the folder",
    };
    Shim { name: "demo", functions, calls }
}

/// A program that is linked against an archive in place of `libdemo.so.3`, and the library's folder.
struct Linked {
    scratch: tempfile::TempDir,
}

impl Linked {
    fn new() -> Self {
        let linked = Self { scratch: tempfile::tempdir().unwrap() };
        build(&[demo(&["triple", "weigh", "absent"])], linked.scratch.path()).unwrap();
        fs::write(linked.path("main.c"), PROGRAM).unwrap();
        let mut cc = Command::new("cc");
        cc.arg(linked.path("main.c")).arg("-L").arg(linked.scratch.path()).arg("-ldemo");
        output(cc.arg("-o").arg(linked.path("program"))).unwrap();
        linked
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn make_library(&self) {
        self.compile("lib.c", LIBRARY, "libdemo.so.3");
    }

    fn compile(&self, name: &str, source: &str, library: &str) {
        fs::write(self.path(name), source).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC"]).arg(self.path(name)).arg("-o").arg(self.path(library));
        output(&mut cc).unwrap();
    }

    /// A library that says when it is opened.
    fn make_companion(&self) {
        let source = "#include <stdio.h>\n\
            __attribute__((constructor)) static void say(void) { puts(\"companion\"); fflush(stdout); }\n";
        self.compile("companion.c", source, "libcompanion.so.3.1");
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut program = Command::new(self.path("program"));
        program.args(words).env("FORERUNNER_CUDA_LIBS", self.scratch.path());
        program.output().unwrap()
    }

    #[track_caller]
    fn check(&self, words: &[&str], code: i32, stdout: &str, stderr: &[&str]) {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.lines().count(), stderr.len(), "{said}");
        for (line, start) in said.lines().zip(stderr) {
            assert!(line.starts_with(start), "{said}");
        }
    }
}

#[test]
fn a_program_starts_without_the_library_and_says_what_it_lacks() {
    let linked = Linked::new();
    linked.check(&["do", "nothing"], 0, "started\n", &[]);
    let missing = ["error: libdemo.so.3 cannot be loaded: libdemo.so.3: ", "hint: name the folder"];
    linked.check(&[], 69, "started\n", &missing);
    fs::write(linked.path("libdemo.so.3"), "no library").unwrap();
    let broken = format!(
        "error: libdemo.so.3 cannot be loaded: {}: ",
        linked.path("libdemo.so.3").display()
    );
    linked.check(&[], 69, "started\n", &[&broken, "hint: "]);
}

#[test]
fn calls_reach_the_library_with_all_arguments() {
    let linked = Linked::new();
    linked.make_library();
    // The sum of squares up to 18.
    linked.check(&[], 0, "started\n21 2109\n21 2109\n", &[]);
    linked.make_companion();
    linked.check(&[], 0, "started\ncompanion\n21 2109\n21 2109\n", &[]);
    linked.check(&["do", "nothing"], 0, "started\n", &[]);
    fs::remove_file(linked.path("libcompanion.so.3.1")).unwrap();
    let absent = ["error: libdemo.so.3 has no function absent", "hint: it is older"];
    linked.check(&["absent"], 69, "started\n", &absent);
}

#[test]
fn archives_are_made_again_only_when_their_sources_changed() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("libdemo.a");
    let make = |function: &str| build(&[demo(&[function])], scratch.path()).unwrap();
    make("one");
    fs::write(&archive, "ours").unwrap();
    make("one");
    assert_eq!(fs::read(&archive).unwrap(), b"ours");
    make("two");
    assert_ne!(fs::read(&archive).unwrap(), b"ours");
    fs::remove_file(&archive).unwrap();
    make("two");
    assert!(archive.is_file());
}

#[test]
fn functions_that_are_left_out_say_so_and_others_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        let words = words.iter().map(|&word| match word.contains('.') {
            true => path(word).into_os_string(),
            false => word.into(),
        });
        output(command.args(words)).unwrap();
    };
    fs::write(path("other.c"), "int other(void) { return 5; }").unwrap();
    run("cc", &["-c", "other.c", "-o", "other.o"]);
    run("ar", &["rcs", "libothers.a", "other.o"]);
    let calls = Calls::Refuse { others: Some(path("libothers.a")) };
    let shim = Shim { name: "all", functions: ["heavy".to_owned()].into(), calls };
    build(&[shim], scratch.path()).unwrap();
    let program = "int heavy(int); int other(void);\n\
                   int main(int count, char **words) { (void)words; return count > 1 ? heavy(1) : other(); }";
    fs::write(path("main.c"), program).unwrap();
    run("cc", &["main.c", "liball.a", "-o", "main.out"]);
    let check = |words: &[&str], code: i32, start: &str| {
        let output = Command::new(path("main.out")).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(start), "{said}");
    };
    check(&[], 5, "");
    check(&["heavy"], 69, "error: heavy is no part of this program\nhint: ");
}
