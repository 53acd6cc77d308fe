//! Completions and manual pages.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::program::{engine, text};

#[test]
fn every_shell_gets_a_script_with_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = engine(["completions", shell]).done().stdout;
        // fish writes options without their dashes.
        for word in ["infer", "completions", "max-side", "ply-offset"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = engine(["completions", "bash"]).done().stdout;
    let mut bash = match Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() {
        Err(error) if std::env::var_os("ENGINE_REQUIRE_BASH").is_none() => {
            return println!("skipped: bash does not read its script, since it cannot be run ({error})");
        }
        bash => bash.unwrap(),
    };
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn every_command_gets_a_manual_page() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("share/man1");
    engine(["man", text(&folder)]).done();
    let help = engine(["--help"]).done().stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.len() > 10, "{help}");
    for command in commands.into_iter().filter(|command| !matches!(*command, "help" | "")) {
        let page = fs::read_to_string(folder.join(format!("engine-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains(".SH OPTIONS"), "{command}: {page}");
    }
    let page = fs::read_to_string(folder.join("engine-infer.1")).unwrap();
    assert!(page.contains("max\\-side") && page.contains("Reduce photos by area averaging"), "{page}");
    assert!(folder.join("engine-eval-depth.1").exists() && folder.join("engine.1").exists());
}
