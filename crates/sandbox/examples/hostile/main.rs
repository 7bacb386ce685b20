//! The program the sandbox's tests are made with: what a hostile program would try, and the host
//! that starts it.
//!
//! `hostile host MODE` reads a request from standard input and runs it (see `host`), and `hostile
//! denied MODE` does so on a machine that refuses user namespaces to it (see `denied`);
//! `hostile probe NAME [ARGUMENT]` tries one thing (see `probes`) and says `allowed: …` with code 0
//! or `refused: …` with code 3.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]
#![expect(unsafe_code, reason = "hostile programs do not ask")]

mod calls;
mod denied;
mod gpu;
mod honest;
mod host;
mod limits;
mod marks;
mod probes;

fn main() {
    forerunner_sandbox::init();
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |n: usize| arguments.get(n).map_or("", String::as_str);
    match argument(1) {
        "host" => host::serve(argument(2)),
        "denied" => {
            denied::deny_user_namespaces();
            host::serve(argument(2));
        }
        "probe" => {
            let (name, detail) = (argument(2), argument(3));
            let known = [
                probes::attempt,
                calls::attempt,
                marks::attempt,
                limits::attempt,
                honest::attempt,
                gpu::attempt,
            ];
            let result = known.iter().find_map(|attempt| attempt(name, detail));
            match result.unwrap_or_else(|| panic!("unknown probe `{name}`")) {
                Ok(done) => println!("allowed: {done}"),
                Err(error) => {
                    println!("refused: {error}");
                    std::process::exit(3);
                }
            }
        }
        other => panic!("unknown command `{other}` (known: host, denied, probe)"),
    }
}
