//! `forerunner ideas`.

use crate::{
    arguments::{GroupBy, IdeaOrder, Ideas},
    failure::Failure,
    paths::latest_run,
};
use forerunner_report::ideas::{self, By, Order, View};
use forerunner_runtime::store::Store;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Ideas that are listed unless all are asked for.
const LISTED: usize = 20;

pub(crate) fn ideas(arguments: &Ideas) -> Result<ExitCode, Failure> {
    let latest = || Failure::usage("there is no run in runs/\nhint: name the folder of a run");
    let run = arguments.run.clone().or_else(latest_run).ok_or_else(latest)?;
    let ideas = ideas::Ideas::read(&Store::read(&run)?)?;
    let by = arguments.by.map(|by| match by {
        GroupBy::Model => By::Model,
        GroupBy::Stage => By::Stage,
        GroupBy::Island => By::Island,
        GroupBy::Mutator => By::Mutator,
    });
    let mut out = io::stdout();
    if arguments.json {
        writeln!(out, "{}", forerunner_report::to_json(&ideas.json(by))?)?;
    } else {
        let order = match arguments.sort {
            IdeaOrder::Gain => Order::Gain,
            IdeaOrder::Iteration => Order::Iteration,
        };
        let listed = if arguments.all { usize::MAX } else { LISTED };
        write!(out, "{}", ideas.text(&View { order, listed, by }))?;
    }
    Ok(ExitCode::SUCCESS)
}
