//! `completions` and `man`.

mod common;

use common::run;

#[test]
fn every_shell_gets_a_script() {
    for (shell, part) in
        [("bash", "_jetson__llm()"), ("zsh", "#compdef jetson-llm"), ("fish", "complete -c jetson-llm")]
    {
        let script = run(&["completions", shell]).ok();
        assert!(script.contains(part), "{shell}");
        assert!(script.contains("perplexity") && script.contains("quantize"), "{shell}");
    }
    assert!(run(&["completions", "tcsh"]).refused().contains("possible values: bash, zsh, fish"));
}

#[test]
fn the_manual_has_every_command() {
    let page = run(&["man"]).ok();
    assert!(page.contains(".TH jetson-llm 1") && page.contains("jetson\\-llm\\-quantize(1)"));
    let page = run(&["man", "quantize"]).ok();
    assert!(page.contains("allow\\-requantize"), "{page}");
    assert!(run(&["man", "nothing"]).refused().contains("there is no command nothing; the commands are run"));
}
