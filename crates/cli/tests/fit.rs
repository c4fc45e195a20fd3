//! `fit`, `-c auto`, `--reserve` and refusals, on the files of machines that are not here.

mod common;

use std::fs::File;
use std::time::{Duration, Instant};

use common::{Folder, Ran, run};
use gguf::{Gguf, Writer};
use quant::Format;
use serde_json::Value;
use testkit::board::{JetPack, Model, Tree, board, pc};

const MIB: u64 = 1 << 20;
const QUESTION: [&str; 6] = ["-p", "What is 2+2?", "-n", "3", "--temp", "0"];

fn on(tree: &Tree, arguments: &[&str]) -> Ran {
    let sysroot = tree.path().to_str().expect("temporary paths are UTF-8");
    run(&[arguments, &["--sysroot", sysroot]].concat())
}

/// A machine with this much free memory, in bytes, and nothing in reserve unless said.
fn with_free(bytes: u64) -> Tree {
    let tree = Tree::new();
    free(&tree, bytes);
    tree
}

fn free(tree: &Tree, bytes: u64) {
    let kib = bytes.div_ceil(1024);
    tree.write("/proc/meminfo", &format!("MemTotal: 8000000 kB\nMemAvailable: {kib} kB\n"));
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The cell of a type and a context.
fn cell<'a>(about: &'a Value, kv: &str, context: usize) -> &'a Value {
    let table = about["table"].as_array().expect("a list");
    table.iter().find(|cell| cell["kv"] == kv && cell["context"] == context).expect("the cell is there")
}

/// A llama of 8B parameters whose weights are a hole in a file.
fn eight_billion(folder: &Folder) -> String {
    let asset = Gguf::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/chat-7m.gguf").as_ref());
    let mut writer = Writer::new();
    let done = "the writer takes what a reader takes";
    writer.copy_keys(&asset.expect("the asset is whole")).expect(done);
    for (key, value) in [
        ("context_length", 131_072),
        ("embedding_length", 4096),
        ("block_count", 32),
        ("feed_forward_length", 14_336),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 8),
        ("attention.key_length", 128),
        ("attention.value_length", 128),
        ("rope.dimension_count", 128),
    ] {
        writer.set(&format!("llama.{key}"), value as u32).expect(done);
    }
    let mut tensor = |name: String, shape: &[u64]| {
        let format = if shape.len() == 1 { Format::F32 } else { Format::Q8_0 };
        writer.tensor(&name, format, shape).expect(done);
    };
    tensor("token_embd.weight".into(), &[4096, 8192]);
    tensor("output_norm.weight".into(), &[4096]);
    for layer in 0..32 {
        for (name, shape) in [
            ("attn_norm", &[4096][..]),
            ("attn_q", &[4096, 4096]),
            ("attn_k", &[4096, 1024]),
            ("attn_v", &[4096, 1024]),
            ("attn_output", &[4096, 4096]),
            ("ffn_norm", &[4096]),
            ("ffn_gate", &[4096, 14_336]),
            ("ffn_up", &[4096, 14_336]),
            ("ffn_down", &[14_336, 4096]),
        ] {
            tensor(format!("blk.{layer}.{name}.weight"), shape);
        }
    }
    let path = folder.path("8b.gguf");
    let file = File::create(&path).expect("the folder can be written");
    drop(writer.start(&file).expect(done));
    file.set_len(writer.file_bytes().expect(done)).expect("a hole takes no room");
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

#[test]
fn boards_get_the_best_that_fits() {
    let folder = Folder::new();
    let model = eight_billion(&folder);
    for (module, fits) in [(Model::OrinNanoSuper, false), (Model::OrinNx16, true), (Model::AgxOrin, true)] {
        let tree = board(module, JetPack::Six);
        let ran = on(&tree, &["fit", &model, "--json"]);
        assert_eq!(ran.code, Some(i32::from(!fits)), "{module:?}: {}", ran.err);
        let about: Value = serde_json::from_str(&ran.out).expect("the answer is JSON");
        let info = std::fs::read_to_string(tree.path().join("proc/meminfo")).expect("written by the tree");
        let kib = |name: &str| -> u64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
            line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
        };
        assert_eq!(number(&about["free"]), kib("MemAvailable:") * 1024);
        assert_eq!(number(&about["reserve"]), (kib("MemTotal:") * 1024 / 20).min(512 * MIB));
        assert_eq!(about["free_source"], "MemAvailable of /proc/meminfo");
        // There is no GPU of that machine here, and that is said.
        assert!(about["device"].as_str().is_some_and(|name| name.starts_with("cpu")));
        assert!(about["device_reason"].as_str().is_some_and(|why| why.contains("--sysroot")));
        let usable = number(&about["free"]) - number(&about["reserve"]);
        for cell in about["table"].as_array().expect("a list") {
            assert_eq!(cell["fits"], number(&cell["needed"]) <= usable, "{cell}");
            // 32 layers, 8 heads, keys and values of 128 in half floats: 128 KiB a position.
            if cell["kv"] == "f16" {
                assert_eq!(number(&cell["cache"]), number(&cell["context"]) << 17, "{cell}");
            }
        }
        if fits {
            assert_eq!(about["best"]["context"], 32_768, "{}", about["best"]);
            assert_eq!(about["best"]["command"].as_str().map(|line| line.contains(&model)), Some(true));
        } else {
            assert!(about["best"].is_null());
            assert!(
                ran.err.contains("8b.gguf with ") && ran.err.contains("use a smaller model"),
                "{}",
                ran.err
            );
            assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        }
    }
}

#[test]
fn the_table_is_for_people_too() {
    let text = on(&board(Model::OrinNanoSuper, JetPack::Seven), &["fit"]).ok();
    for part in [
        "model    chat-7m (built in): 6.82 M parameters, trained on 1024 positions",
        "; planned for the cores: --sysroot names a machine whose GPU is not here",
        "of it stay in reserve for others",
        "     1024 ",
        "best     1024 positions, cache in f16: ",
        "command  jetson-llm -c 1024\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The rule, against sums that `fit` itself names: what needs a byte more than is free is not taken.
#[test]
fn auto_prefers_fine_caches_and_then_long_contexts() {
    let about = on(&with_free(8 << 30), &["fit", "--json", "--reserve", "0"]).json();
    let needed = |kv: &str| number(&cell(&about, kv, 1024)["needed"]);
    let best = |bytes: u64, more: &[&str]| {
        let about = on(&with_free(bytes), &[&["fit", "--json", "--reserve", "0"][..], more].concat());
        let about: Value = serde_json::from_str(&about.out).expect("JSON in any case");
        let best = &about["best"];
        (best["kv"].as_str().unwrap_or("none").to_owned(), best["context"].as_u64().unwrap_or(0))
    };
    assert!(needed("f16") > needed("int8") && needed("int8") > needed("int4"));
    // What is free comes in KiB.
    let less = 4096;
    assert_eq!(best(needed("f16"), &[]), ("f16".to_owned(), 1024));
    assert_eq!(best(needed("f16") - less, &[]), ("int8".to_owned(), 1024));
    assert_eq!(best(needed("int8") - less, &[]), ("int4".to_owned(), 1024));
    let (kv, context) = best(needed("int4") - less, &[]);
    assert!(kv == "int4" && (512..1024).contains(&context) && context % 32 == 0, "{kv} {context}");
    let (kv, context) = best(needed("f16") - less, &["--kv", "f16"]);
    assert!(kv == "f16" && (512..1024).contains(&context) && context % 32 == 0, "{kv} {context}");
    assert_eq!(best(MIB, &[]).0, "none");
}

#[test]
fn a_run_takes_what_fit_found() {
    let about = on(&with_free(8 << 30), &["fit", "--json", "--kv", "f16", "--reserve", "0"]).json();
    let needed = number(&cell(&about, "f16", 1024)["needed"]);
    let tree = with_free(needed + 5 * MIB - 64 * 1024);
    let auto = [&QUESTION[..], &["--kv", "f16", "-c", "auto"]].concat();
    let ran = on(&tree, &[&auto[..], &["--reserve", "4M"]].concat());
    assert!(ran.err.starts_with("note: -c auto takes 1024 positions, cache in f16\n"), "{}", ran.err);
    let whole = ran.ok();
    let ran = on(&tree, &[&auto[..], &["--reserve", "6MiB", "--json"]].concat()).json();
    let context = number(&ran["n_ctx"]);
    assert!((256..1024).contains(&context) && context.is_multiple_of(32), "{context}");
    assert_eq!(ran["text"].as_str().expect("a text").trim_end(), whole.trim_end());
}

/// A refusal says needed, reserve, free and what would fit; each of the offers does.
#[test]
fn what_is_offered_fits() {
    let about = on(&with_free(8 << 30), &["fit", "--json", "--reserve", "0"]).json();
    let sum = cell(&about, "f16", 1024);
    let (needed, cache, buffers) = (number(&sum["needed"]), number(&sum["cache"]), number(&sum["buffers"]));
    let fixed = needed - cache - buffers;
    let mut seen = String::new();
    for free in [needed - MIB, needed - cache, fixed + cache / 2 + buffers / 4, fixed + buffers / 4] {
        let tree = with_free(free);
        let ran = on(&tree, &[&QUESTION[..], &["--reserve", "0"]].concat());
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{}", ran.err);
        assert!(ran.err.starts_with("error: chat-7m (built in) with 1024 positions needs "), "{}", ran.err);
        let (_, offers) = ran.err.trim_end().split_once("is free; ").expect("what is free");
        for offer in offers.strip_suffix(" fits").unwrap_or_else(|| panic!("{offers}")).split(" or ") {
            let words: Vec<&str> = offer.split(' ').collect();
            let asked = [&["fit", "--json", "--reserve", "0"][..], &words].concat();
            let about = on(&tree, &asked).json();
            let context =
                number(&about["table"].as_array().expect("a list").last().expect("a cell")["context"]);
            let positions = words.iter().position(|word| *word == "-c");
            let context = positions.map_or(context, |at| words[at + 1].parse().expect("a number"));
            let kv = words.iter().position(|word| *word == "--kv").map_or("f16", |at| words[at + 1]);
            assert_eq!(cell(&about, kv, context as usize)["fits"], true, "{offer} of {offers}");
            if positions.is_some() {
                let more = (context + 32).to_string();
                let words: Vec<&str> =
                    words.iter().map(|w| if w.parse() == Ok(context) { &more } else { *w }).collect();
                let beyond = on(&tree, &[&["fit", "--json", "--reserve", "0"][..], &words].concat());
                let about: Value = serde_json::from_str(&beyond.out).expect("JSON in any case");
                assert_eq!(cell(&about, kv, context as usize + 32)["fits"], false, "{offer} of {offers}");
            }
        }
        seen += offers;
    }
    for option in ["-c ", "--kv int8", "--batch-size "] {
        assert!(seen.contains(option), "{option} in {seen}");
    }
}

#[test]
fn the_reserve_is_told_and_kept() {
    let tree = pc();
    let told = on(&tree, &[&QUESTION[..], &["--reserve", "23.9G"]].concat());
    // 24,000,000 kB are 22.9 GiB.
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(
        told.err.contains(" beside the 23.9 GiB in reserve and 22.9 GiB is free; --reserve 2"),
        "{}",
        told.err
    );
    let (_, offer) = told.err.trim_end().split_once("is free; ").expect("what is free");
    let words: Vec<&str> = offer.strip_suffix(" fits").expect("an offer").split(' ').collect();
    on(&tree, &[&QUESTION[..], &words].concat()).ok();
    for (size, said) in
        [("1X", "not an amount of memory such as 1G"), ("-1", "not an amount"), ("", "not an amount")]
    {
        let err = run(&[&QUESTION[..], &["--reserve", size]].concat()).refused();
        assert!(err.contains(said), "{err}");
    }
    assert!(run(&[&QUESTION[..], &["-c", "all"]].concat()).refused().contains("nor auto"));
    let err = run(&[&QUESTION[..], &["--sysroot", "/no/such/folder"]].concat()).refused();
    assert!(err.contains("/no/such/folder"), "{err}");
}

#[test]
fn control_groups_and_limits_count() {
    let tree = with_free(8 << 30);
    tree.write("/proc/self/cgroup", "0::/robot.slice\n");
    tree.write("/sys/fs/cgroup/robot.slice/memory.max", "12582912\n");
    tree.write("/sys/fs/cgroup/robot.slice/memory.current", "1048576\n");
    let ran = on(&tree, &QUESTION);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains(" in reserve and 11.0 MiB is free; "), "{}", ran.err);
    let about: Value = serde_json::from_str(&on(&tree, &["fit", "--json"]).out).expect("JSON in any case");
    assert_eq!(about["free_source"], "the control group /sys/fs/cgroup/robot.slice");
    assert_eq!(number(&about["reserve"]), 11 * MIB / 16);
}

#[test]
fn what_cannot_fit_is_refused_at_once() {
    let folder = Folder::new();
    let model = eight_billion(&folder);
    let tree = board(Model::OrinNanoSuper, JetPack::Six);
    for more in [&[][..], &["-c", "auto"], &["--kv", "int4"]] {
        let start = Instant::now();
        let ran = on(&tree, &[&["-m", &model], &QUESTION[..], more].concat());
        let took = start.elapsed();
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{}", ran.err);
        assert!(
            ran.err.contains("8b.gguf with ") && ran.err.contains(" in reserve and 6.1 GiB is free; "),
            "{}",
            ran.err
        );
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

/// On a GPU that shares the machine's memory all is counted once, whatever takes it.
#[test]
fn a_shared_memory_is_counted_once() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let library = library.to_str().expect("UTF-8");
    let tree = board(Model::OrinNanoSuper, JetPack::Six);
    let about =
        on(&tree, &["fit", "--json", "--device", "cuda", "--cuda-library", library, "--kv", "f16"]).json();
    assert_eq!(about["shared_memory"], true);
    // The board's memory for movable pages is not the GPU's.
    assert_eq!(number(&about["free"]), (7_803_904 - 1_400_000 - 901_120) * 1024);
    assert!(about["free_source"].as_str().is_some_and(|source| source.contains("CmaFree")), "{about}");
    let sum = cell(&about, "f16", 1024);
    let parts = ["weights", "cache", "buffers", "pinned", "driver", "program"];
    assert_eq!(number(&sum["needed"]), parts.iter().map(|part| number(&sum[*part])).sum::<u64>());
    assert_eq!(number(&sum["device_needed"]), 0);
    assert!(number(&sum["pinned"]) > 0 && number(&sum["driver"]) > 0, "{sum}");
    free(&tree, 90 * MIB);
    let ran = on(&tree, &[&QUESTION[..], &["--device", "cuda", "--cuda-library", library]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("with 1024 positions on the GPU needs "), "{}", ran.err);
}
