//! The choices against llama-quantize's own, recorded in `tests/mixes` for whole and narrow models.

use super::{Mix, Model, Stored, choose, order};
use quant::Format;

/// The columns of the table.
const MIXES: [Mix; 10] = [
    Mix::Q8_0,
    Mix::Q6_K,
    Mix::Q5_K_M,
    Mix::Q5_K_S,
    Mix::Q4_K_M,
    Mix::Q4_K_S,
    Mix::Q4_0,
    Mix::Q5_1,
    Mix::Q5_0,
    Mix::Q4_1,
];

fn format(letter: char) -> Format {
    match letter {
        'f' => Format::F32,
        'h' => Format::F16,
        '0' => Format::Q4_0,
        '1' => Format::Q4_1,
        'n' => Format::Q5_0,
        'm' => Format::Q5_1,
        '4' => Format::Q4_K,
        '5' => Format::Q5_K,
        '6' => Format::Q6_K,
        '8' => Format::Q8_0,
        other => panic!("the table has no format {other}"),
    }
}

/// A tensor of the table and what llama-quantize makes of it, mix by mix.
struct Row {
    name: String,
    shape: Vec<u64>,
    format: Format,
    chosen: Vec<Format>,
}

/// The tensors of one model, in the order of [`order`].
fn rows(lines: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let layers = cells[3].len();
        for layer in 0..layers {
            let letter = |cell: &&str| cell.chars().nth(layer).expect("every column has every layer");
            rows.push(Row {
                name: cells[0].replace('*', &layer.to_string()),
                format: format(cells[1].chars().next().expect("a letter")),
                shape: cells[2].split('x').map(|dim| dim.parse().expect("a number")).collect(),
                chosen: cells[3..].iter().map(letter).map(format).collect(),
            });
        }
    }
    rows.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    rows
}

#[test]
fn every_tensor_gets_the_format_that_llama_quantize_gives_it() {
    let table = include_str!("../../../tests/mixes/choices.tsv");
    let mut seen = 0;
    for part in table.split("model\t").skip(1) {
        let lines: Vec<&str> = part.lines().collect();
        let about: Vec<&str> = lines[0].split('\t').collect();
        let number = |i: usize| about[i].parse().expect("a number");
        let model = Model::of(about[1], number(2), number(3), number(4));
        let rows = rows(&lines[1..]);
        let stored: Vec<Stored<'_>> = rows
            .iter()
            .map(|row| Stored { name: &row.name, shape: &row.shape, format: row.format })
            .collect();
        for (i, mix) in MIXES.into_iter().enumerate() {
            for (row, choice) in rows.iter().zip(choose(mix, model, &stored)) {
                assert_eq!(choice.format, row.chosen[i], "{} of {} for {}", row.name, about[0], mix.name());
                seen += 1;
            }
        }
    }
    assert!(seen > 8000, "the table was read");
}

#[test]
fn a_fallback_says_what_was_wanted() {
    let model = Model::of("llama", 5, 8, 4);
    let stored = [Stored { name: "blk.0.ffn_down.weight", shape: &[172, 64], format: Format::F32 }];
    let choice = choose(Mix::Q4_K_M, model, &stored)[0];
    assert_eq!((choice.format, choice.wanted), (Format::F16, Some(Format::Q4_K)));
    let stored = [Stored { name: "blk.0.ffn_up.weight", shape: &[64, 172], format: Format::F32 }];
    let choice = choose(Mix::Q4_K_M, model, &stored)[0];
    assert_eq!((choice.format, choice.wanted), (Format::Q5_0, Some(Format::Q4_K)));
    let choice = choose(Mix::Q5_0, model, &stored)[0];
    assert_eq!((choice.format, choice.wanted), (Format::Q5_0, None));
}

#[test]
fn values_shared_by_eight_heads_get_more_bits() {
    let stored: Vec<String> = (0..80).map(|layer| format!("blk.{layer}.attn_v.weight")).collect();
    let stored: Vec<Stored<'_>> =
        stored.iter().map(|name| Stored { name, shape: &[8192, 1024], format: Format::F16 }).collect();
    let large = choose(Mix::Q4_K_M, Model::of("llama", 80, 64, 8), &stored);
    assert!(large.iter().all(|choice| matches!(choice.format, Format::Q5_K | Format::Q6_K)));
    let other = choose(Mix::Q4_K_M, Model::of("qwen3", 80, 64, 8), &stored);
    assert!(other.iter().any(|choice| choice.format == Format::Q4_K));
}

#[test]
fn names_are_read_as_people_write_them() {
    assert_eq!(Mix::from_name("q4_k_m"), Some(Mix::Q4_K_M));
    assert_eq!(Mix::from_name("Q4_K"), Some(Mix::Q4_K_M));
    assert_eq!(Mix::from_name("Q5_K"), Some(Mix::Q5_K_M));
    assert_eq!(Mix::from_name("q5_1"), Some(Mix::Q5_1));
    assert_eq!(Mix::from_name("Q9_K"), None);
    assert!(Mix::ALL.iter().all(|&mix| Mix::from_file_type(mix.file_type()) == Some(mix)));
    assert!(Mix::ALL.iter().all(|mix| mix.format().can_encode()));
}
