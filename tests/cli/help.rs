//! Help, and what is no command.

use super::*;

#[test]
fn help_is_as_recorded() {
    let place = Place::new();
    assert_snapshot("help.txt", &place.mevae("--help").ok().out);
    assert_snapshot("train-help.txt", &place.mevae("train --help").ok().out);
}

#[test]
fn every_command_has_help_and_no_command_is_wrong_use() {
    let place = Place::new();
    for command in [
        "train",
        "evaluate",
        "decompose",
        "disentanglement",
        "generate",
        "plot",
        "info",
        "reproduce",
        "scenes",
        "study",
        "completions",
    ] {
        let help = place.mevae(&format!("{command} --help")).ok();
        assert!(help.out.contains(&format!("Usage: mevae {command}")), "{}", help.out);
    }
    assert_eq!(place.mevae("").code, Some(2));
    place.refuses("tarin", 2, &["similar subcommand", "train"]);
    place.refuses("train --bacth 4", 2, &["--batch"]);
    place.refuses("train runs/some", 2, &["unexpected argument"]);
    assert!(place.mevae("--version").ok().out.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_commands_and_flags() {
    let place = Place::new();
    let script = place.mevae("completions bash").ok().out;
    for word in ["_mevae()", "complete -F", "decompose", "--print-config"] {
        assert!(script.contains(word), "{word}");
    }
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(place.mevae(&format!("completions {shell}")).ok().out.contains("decompose"), "{shell}");
    }
    place.refuses("completions bsh", 2, &["bash"]);
}
