//! The short form of `make fuzz`: the inputs that were kept, those of the corpora, and changes of both.

use std::path::Path;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::corpus;

/// Changed inputs for each property. `make fuzz` makes a million times more.
const CHANGED: u64 = 4000;
/// Longer inputs are only tried as they are.
const CHANGED_BYTES: usize = 2000;

/// What is put into inputs: whatever has a meaning to one reader or another.
const WORDS: [&[u8]; 36] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"%2f",
    b"%00",
    b"..",
    b"%2e",
    b"/../",
    b"/",
    b"0",
    b"ffffffffffffffff",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0",
    b"http://a",
    b"HEAD",
    b"OPTIONS * ",
    b"\r\nHost: b",
    b"\r\nConnection: close, X",
    b"\r\nContent-Length: 3",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nExpect: 100-continue",
    b"\r\nUpgrade: websocket",
    b"\r\nX_Forwarded_For: a",
    b"\r\nDate: x",
    b"\xff",
];

#[test]
fn what_was_kept_holds() {
    for (name, property) in ALL {
        let seeds = seeds(name);
        assert!(seeds.len() >= 8, "{name} has {} inputs", seeds.len());
        seeds.iter().for_each(|input| holds(name, property, input));
    }
}

#[test]
fn so_do_changes_of_it() {
    for (name, property) in ALL {
        let seeds: Vec<_> = seeds(name).into_iter().filter(|input| input.len() <= CHANGED_BYTES).collect();
        for number in 0..CHANGED {
            let mut chance = SmallRng::seed_from_u64(number);
            let mut input = seeds.choose(&mut chance).expect("some are short").clone();
            for _ in 0..chance.random_range(1..5) {
                change(&mut input, &seeds, &mut chance);
            }
            holds(name, property, &input);
        }
    }
}

/// Runs a property, and shows the input for which it does not hold.
fn holds(name: &str, property: Property, input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| property(input)) {
        eprintln!("the property `{name}` does not hold for: {}", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).expect("a folder of inputs that were kept");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a file")).collect();
    seeds.extend(corpus::seeds(name));
    seeds
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut SmallRng) {
    let at = chance.random_range(0..=input.len());
    let to = chance.random_range(at..=input.len().min(at + 40));
    match chance.random_range(0..6) {
        0 if at < input.len() => input[at] ^= 1 << chance.random_range(0..8),
        1 if at < input.len() => input[at] = chance.random(),
        2 => drop(input.drain(at..to)),
        3 => {
            let part = input[at..to].to_vec();
            input.splice(at..at, part);
        }
        4 => {
            let other = seeds.choose(chance).expect("some are short");
            let from = chance.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let word = WORDS.choose(chance).expect("words");
            input.splice(at..at, word.iter().copied());
        }
    }
}
