//! What tests have started in place of themselves when a sandbox needs an init: the harness of a
//! test has a `main` of its own.

fn main() {
    forerunner_sandbox::init();
}
