//! The official JSON-Schema-Test-Suite: nothing invalid may ever be written.
//!
//! `JSON_SCHEMA_TEST_SUITE` names its folder; `bench/schema-suite.sh` fetches it and sets that.

mod common;

use common::{BUILT_IN, compile, follows, validate};
use grammar::Source;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[test]
fn nothing_invalid_is_accepted() {
    let Some(folder) = std::env::var_os("JSON_SCHEMA_TEST_SUITE").map(PathBuf::from) else {
        eprintln!("skipped: JSON_SCHEMA_TEST_SUITE is not set; bench/schema-suite.sh sets it");
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("tests/draft2020-12"))
        .expect("the suite has this draft")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let (mut compiled, mut refused) = (0, BTreeMap::<String, usize>::new());
    let (mut accepted, mut left_out, mut wrong, mut misjudged) = (0, 0, Vec::new(), Vec::new());
    for path in files {
        let file = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let groups = std::fs::read_to_string(&path).expect("the file can be read");
        let groups: Value = serde_json::from_str(&groups).expect("it is JSON");
        for group in groups.as_array().expect("a list of groups") {
            let schema = &group["schema"];
            let rules = match compile(&Source::Schema(schema.clone())) {
                Ok(rules) => rules,
                Err(error) => {
                    *refused.entry(file.clone()).or_default() += 1;
                    if std::env::var_os("SHOW").is_some() {
                        eprintln!("{file}: {}: {error}", group["description"]);
                    }
                    continue;
                }
            };
            compiled += 1;
            for test in group["tests"].as_array().expect("a list of tests") {
                let (data, good) = (&test["data"], test["valid"] == true);
                let place = format!("{file}: {}: {}", group["description"], test["description"]);
                match follows(&BUILT_IN, &rules, &data.to_string()) {
                    Some(true) if !good => wrong.push(place.clone()),
                    Some(true) => accepted += 1,
                    Some(false) if good => left_out += 1,
                    Some(false) => {}
                    None => panic!("the vocabulary has no tokens for {data}"),
                }
                if validate::valid(schema, schema, data) != good {
                    misjudged.push(place);
                }
            }
        }
    }
    let refused_count: usize = refused.values().sum();
    eprintln!("{compiled} schemas compiled, {refused_count} refused: {refused:?}");
    eprintln!(
        "{accepted} valid instances may be written, {left_out} may not (order of keys, forms of numbers)"
    );
    assert!(misjudged.is_empty(), "the tests' own validator is wrong:\n{}", misjudged.join("\n"));
    assert!(wrong.is_empty(), "{} invalid instances may be written:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compiled >= 150 && accepted >= 350, "so little is supported that the tests say nothing");
}
