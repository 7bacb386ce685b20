//! The run files that come with the plugin.

use forerunner_agent::{Agent, Config};

/// The configuration of the mutator `agent` in a run file.
fn config(run: &str) -> Config {
    let run: toml::Table = run.parse().expect("a run file is TOML");
    let mutators = run["mutator"].as_array().expect("mutators");
    let agent = mutators.iter().find(|mutator| mutator["name"].as_str() == Some("agent"));
    agent.expect("one is an agent")["config"].clone().try_into().expect("a configuration")
}

#[test]
fn run_files_configure_the_agent() {
    let claude = config(include_str!("../../runs/claude-code.toml"));
    let codex = config(include_str!("../../runs/codex.toml"));
    assert_eq!((claude.name(), codex.name()), ("claude-code", "codex"));
    for config in [claude, codex] {
        assert!(config.confine && config.command.contains(&"{prompt}".to_owned()));
        Agent::new(config).expect("a configuration that makes sense");
    }
}
