//! `sluice man DIRECTORY`: a page of the manual for each verb, made of the same words as `--help`. Hidden, since packages ask for it and people read `man sluice`.
//!
//! No date stands in them: two builds of one source are to be the same bytes.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::cli::Failure;

/// Where administrators' tools and daemons stand.
const SECTION: &str = "8";

/// Writes `sluice.8`, `sluice-cluster.8`, `sluice-cluster-init.8` and so on.
pub fn write(command: Command, directory: &Path) -> Result<(), Failure> {
    let mut command = command.disable_help_subcommand(true).name("sluice");
    command.build();
    std::fs::create_dir_all(directory).and_then(|()| each(&command, directory)).map_err(|error| {
        let place = directory.display();
        Failure::Failed(format!("{place}: {error}"))
    })
}

fn each(command: &Command, directory: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        each(below, directory)?;
    }
    let source = concat!("sluice ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).section(SECTION).source(source).manual("sluice").generate_to(directory).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn each_verb_has_a_page_and_hidden_ones_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("man8");
        write(crate::cli::Arguments::command(), &into).unwrap();
        let page = |name: &str| std::fs::read_to_string(into.join(name));
        assert!(page("sluice.8").unwrap().contains("First steps"));
        assert!(page("sluice-cluster-init.8").unwrap().contains(".TH sluice-cluster-init 8"));
        assert!(page("sluice-man.8").is_err() && page("sluice-help.8").is_err());
    }
}
