//! Tells Zed how Plait's language server is started; everything else is the server's.

use zed_extension_api::{self as zed, Command, LanguageServerId, Result, Worktree};

struct Plait;

impl zed::Extension for Plait {
    fn new() -> Self {
        Plait
    }

    fn language_server_command(&mut self, _: &LanguageServerId, worktree: &Worktree) -> Result<Command> {
        let command: &[&str] = &["plait", "lsp"];
        let program = worktree
            .which(command[0])
            .unwrap_or_else(|| command[0].to_string());
        Ok(Command {
            command: program,
            args: command[1..].iter().map(|word| word.to_string()).collect(),
            env: worktree.shell_env(),
        })
    }
}

zed::register_extension!(Plait);
