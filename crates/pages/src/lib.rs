//! Writes man pages and shell completions from a program's own command line, for packagers.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

/// Shells whose completions are packaged.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Directories for the pages.
#[derive(Debug, Clone, clap::Args)]
pub struct Pages {
    /// The directory for man pages
    #[arg(value_name = "MAN_DIR")]
    pub man: PathBuf,

    /// The directory for completions of bash, fish and zsh
    #[arg(value_name = "COMPLETIONS_DIR")]
    pub completions: PathBuf,
}

impl Pages {
    /// Writes the pages of a program and of each of its commands.
    ///
    /// # Errors
    /// Fails if a directory does not exist or cannot be written to.
    pub fn write(&self, command: Command) -> io::Result<()> {
        // Without this, `help` would have a page for each command again.
        let mut command = command.disable_help_subcommand(true);
        let name = command.get_name().to_owned();
        for shell in SHELLS {
            clap_complete::generate_to(shell, &mut command, &name, &self.completions)?;
        }
        clap_mangen::generate_to(command, &self.man)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_and_each_of_its_commands_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let pages = Pages { man: dir.path().into(), completions: dir.path().into() };
        let command = Command::new("tool").subcommand(Command::new("make").about("Make it"));
        pages.write(command).unwrap();
        let mut files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["_tool", "tool-make.1", "tool.1", "tool.bash", "tool.fish"]);
    }
}
